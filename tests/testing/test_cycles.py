"""Nothing is left behind, however often it is started: no descriptor, no thread, no warning."""

from __future__ import annotations

import subprocess
import sys

import pytest

from patience import WITHOUT_SLOW_CALLBACKS

CYCLES = """
import gc, os, socket, sys, threading
from fastecho.testing import echo_server

def left():
    gc.collect()
    return len(os.listdir("/dev/fd")), threading.active_count()

def cycle(number):
    with echo_server(family=("tcp", "unix", "dual", "tcp6")[number % 4]) as server:
        if number % 10 == 0 and number % 4 == 0:
            with socket.create_connection(server.address) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"

for number in range(40):        # the loop thread, and what is imported at first use
    cycle(number)
before = left()
for number in range(int(sys.argv[1])):
    cycle(number)
after = left()
assert before == after, f"descriptors and threads: {before} before, {after} after"
print("cycles:", number + 1)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_cycles_leave_nothing() -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", WITHOUT_SLOW_CALLBACKS + CYCLES, "10000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cycles: 10000\n"
