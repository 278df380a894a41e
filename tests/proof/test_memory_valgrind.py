"""A server under valgrind's memcheck while it echoes: no leak, and no access to memory that is not its own.

The server is the build that is installed, as users run it. Errors count whose stack has a frame in one of its modules.
"""

import os
import random
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import fastecho
from children import ChildServer
from clients import connect_blocking, read_exactly
from memory_checks import build_leaking, memcheck, memcheck_errors

PACKAGE = Path(fastecho.__file__).parent
RESET = struct.pack("ii", 1, 0)
AT_ONCE, EACH = 20, 50
ENVIRONMENT = {**os.environ, "PYTHONMALLOC": "malloc"}
pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(autouse=True)
def _valgrind(amount):
    if not amount(suite=False, proof=True):
        pytest.skip("valgrind starts for ten seconds: runs with --amount proof")
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")


def echo(address, count, seed):
    """Send messages over connections that end in each way; return how many came back."""
    chosen, done = random.Random(seed), 0
    while done < count:
        clients = [connect_blocking(address, 120) for _ in range(AT_ONCE)]
        for _ in range(EACH):
            size = chosen.choice([1, 64, 64, 64, 64, 1000, 70_000])
            message = bytes([chosen.randrange(1, 256)]) * size
            for client in clients:
                client.sendall(message)
            for client in clients:
                assert read_exactly(client, size) == message
            done += len(clients)
        for number, client in enumerate(clients):
            end_one(client, number % 4)
    return done


def end_one(client, way):
    if way == 0:  # the server closes first
        client.sendall(b"end\0after")
        assert read_exactly(client, 4) == b"end\0"
        assert client.recv(1) == b""
    elif way == 1:  # the client closes first
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    elif way == 2:  # a reset while the server has a tail that this client does not read
        client.setblocking(False)
        try:
            while True:
                client.send(b"x" * 65536)
        except BlockingIOError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


def exchange_datagrams(address, count):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(120)
        client.connect(address)
        for number in range(count):
            client.send(b"%d" % number)
            assert client.recv(100) == b"%d" % number
    return count


@pytest.mark.proof(
    "A server leaks nothing and touches no memory that is not its own while it echoes, whichever way its connections "
    "end: valgrind has nothing to report of its modules."
)
@pytest.mark.parametrize(
    ("loop_name", "pinned", "proof"), [("uvloop", False, 10_000), ("uvloop", True, 0), ("asyncio", False, 0)]
)
def test_ten_thousand_echoes_under_memcheck(loop_name, pinned, proof, amount, tmp_path, record_property):
    if not (echoes := amount(suite=0, proof=proof, release=10_000)):
        pytest.skip("runs with --amount release")
    report = tmp_path / "report.xml"
    options = {"terminator": b"\0", "match": "anywhere", "udp": True, "pin_buffers": pinned, "linger_timeout": 60.0}
    server = ChildServer(loop_name, options, lambda command: memcheck(report, command), ENVIRONMENT)
    try:
        address = server.ready().address
        done = echo(address, echoes, seed=1)
        datagrams = exchange_datagrams(address, echoes // 10)
        code, errors = server.stop(300)
    finally:
        server.kill()
    assert (code, errors) == (0, "")
    assert [str(error) for error in memcheck_errors(report, PACKAGE)] == []
    record_property("echoes", done)
    record_property("datagrams", datagrams)


# The check finds what it is for.


def test_a_leak_and_a_read_after_free_made_on_purpose_are_reported(tmp_path):
    folder, report = build_leaking(tmp_path / "leaking"), tmp_path / "report.xml"
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from leaking import *; leak(48); read_after_free(16)"
    command = memcheck(report, [sys.executable, "-S", "-c", code])
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, timeout=120)
    assert {error.kind for error in memcheck_errors(report, folder)} == {"InvalidRead", "Leak_DefinitelyLost"}
    assert memcheck_errors(report, PACKAGE) == [], "an error that is not of these modules was counted"
