"""From kill -9 of the only worker to the first echo of its replacement, as a client sees it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from conftest import FASTECHO, running_command

ROUNDS = 10


@pytest.mark.skipif(sys.platform != "linux", reason="finds the worker in /proc")
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_replacement(benchmark, round_):
    """A new service each time: from the second death on there is a back-off."""
    with running_command([*FASTECHO, "--workers", "1"]) as (process, address):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

        def kill() -> None:
            with socket.create_connection(address, 10) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)

        def first_echo() -> None:
            with socket.create_connection(address, 10) as client:
                client.sendall(b"y")
                assert client.recv(1) == b"y"

        benchmark.pedantic(first_echo, setup=kill, rounds=1)
