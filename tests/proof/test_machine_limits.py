"""A machine that gives no more descriptors or memory: what is refused, and what comes back with them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checked import Client, exchange, fill, finish
from clients import connect_blocking, make_socket
from patience import DEADLINE, UNIT, wait_until
from processes import Service, is_alive

Amount = Callable[..., Any]
Record = Callable[[str, object], None]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="changes the limits of another process")


@contextlib.contextmanager
def limited(pid: int, what: int, value: int) -> Iterator[None]:
    """Give the process a lower soft limit for the block."""
    soft, hard = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (value, hard))
    try:
        yield
    finally:
        if is_alive(pid):
            resource.prlimit(pid, what, (soft, hard))


def address_space(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


@pytest.mark.proof("A supervisor without descriptors tries again, and its clients wait until it has some.")
def test_a_supervisor_without_descriptors_replaces_a_worker_when_it_has_some(
    amount: Amount, record_property: Record
) -> None:
    attempts = amount(suite=6, proof=8, release=12)
    with Service("--terminator", "none") as service:
        [pid] = service.workers()
        with limited(service.pid, resource.RLIMIT_NOFILE, 3):
            os.kill(pid, signal.SIGKILL)
            # Five deaths of a worker would be a crash loop.
            service.wait_for("cannot be started: Too many open files", attempts, 4 * DEADLINE)
            sock = connect_blocking(service.address)
            sock.sendall(b"x")
        with sock:
            assert sock.recv(1) == b"x"
            exchange([sock], 10_000)
        assert service.stop() == 0
        assert "Traceback" not in service.errors
    record_property("attempts", attempts)


def served_at_once(clients: list[Client]) -> bool:
    try:
        return not finish(clients, 3.0, may_be_reset=True)
    except AssertionError:
        return False


@pytest.mark.proof(
    "A worker at its memory limit resets a client or serves it to the last byte; then it is replaced."
)
def test_a_worker_at_its_memory_limit(amount: Amount, record_property: Record) -> None:
    slow, quick = amount(suite=(0, 0), proof=(40, 5000), release=(60, 10_000))
    if not quick:
        pytest.skip("only in a proof run: it takes some thousand connections")
    # A client that is left alone shows: the write time-out would only end it later.
    options = ("--terminator", "none", "--write-timeout", "300", "--buffers", "2", "--drain-timeout", "5")
    with Service(*options) as service, contextlib.ExitStack() as stack:
        [pid] = service.workers()
        clients = []
        for number in range(slow):
            sock = stack.enter_context(make_socket(service.address, rcvbuf=4096))
            sock.connect(service.address)
            clients.append(Client(sock, 6 << 20, number, window=8 << 20))
        with limited(pid, resource.RLIMIT_AS, address_space(pid)):
            fill(clients)
            others: list[Client] = []
            while len(others) < quick:
                sockets = [stack.enter_context(connect_blocking(service.address)) for _ in range(50)]
                others += (new := [Client(sock, 100, number) for number, sock in enumerate(sockets)])
                if not served_at_once(new):
                    break
            else:
                pytest.skip(f"{quick} connections do not exhaust what the allocator has kept")
        # At the latest when the old worker ends: 10 s, the drain time-out, and the start of its successor.
        reset = finish([client for client in others if not client.done], 60 * UNIT, may_be_reset=True)
        reset += finish(clients, 60 * UNIT, may_be_reset=True)
        for client in others:
            client.sock.close()
        for _ in range(10):
            with connect_blocking(service.address) as sock:
                exchange([sock], 100_000)
        service.wait_for("out of memory: connections were lost, or have had to wait")
        wait_until(lambda: pid not in service.workers(), "the worker that has lacked memory is replaced", 60 * UNIT)
        with connect_blocking(service.address) as sock:
            exchange([sock], 100_000)
        assert service.stop() == 0
        assert "Traceback" not in service.errors
    record_property("clients", slow + len(others))
    record_property("reset", len(reset))

