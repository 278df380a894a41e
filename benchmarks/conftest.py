"""The servers that the suites measure, each a separate process, pinned to the first usable CPU; we take the last."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

FASTECHO = [sys.executable, "-m", "fastecho", "--port", "0", "--terminator", "none", "--log-level", "error"]
SERVERS = {
    "EchoServer": [sys.executable, str(HERE / "servers.py"), "leased"],
    "EchoServer-pinned": [sys.executable, str(HERE / "servers.py"), "pinned"],
    "workers-1": [*FASTECHO, "--workers", "1"],
    "workers-4": [*FASTECHO, "--workers", "4"],
    "plain-python": [sys.executable, str(HERE / "servers.py"), "plain"],
}


@contextlib.contextmanager
def running_command(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int]]]:
    """Start a server, wait until it says where it listens, stop it at the end."""
    ready, theirs = os.pipe()
    pin = (lambda: os.sched_setaffinity(0, CPUS[:1])) if len(CPUS) > 1 else None
    command = [*command, "--ready-fd", str(theirs)]
    with subprocess.Popen(command, pass_fds=[theirs], preexec_fn=pin) as process:
        os.close(theirs)
        with os.fdopen(ready) as lines:
            address = lines.readline().strip()
        try:
            assert address, f"{' '.join(command)} did not start"
            host, _, port = address.removeprefix("tcp://").rpartition(":")
            yield process, (host, int(port))
        finally:
            process.terminate()


@pytest.fixture(scope="session", autouse=True)
def _load_has_a_cpu_of_its_own() -> Iterator[None]:
    if len(CPUS) > 1:
        os.sched_setaffinity(0, CPUS[-1:])
    yield
    if len(CPUS) > 1:
        os.sched_setaffinity(0, CPUS)


@pytest.fixture(scope="module")
def address(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    with running_command(SERVERS[request.param]) as (_, address):
        yield address
