"""Clients that misbehave while the service ends: none of them keeps it longer than its time-outs."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clients import connect_blocking, reset_socket
from evidence import greatest
from hostility import TROUBLE, Table, Visit, push
from load import Load
from patience import DEADLINE
from processes import Service, one_echo

DRAIN = Table()
"""What each does before the signal."""
STORM = Table()
"""What each does again and again, from before the signal until the service has ended."""


@DRAIN
def holds_a_silent_connection_through_the_drain(visit: Visit) -> None:
    """It neither sends nor closes."""
    visit.connect()


@DRAIN
def never_reads_through_the_drain(visit: Visit) -> None:
    """Its echo is due, and it takes none of it."""
    push(visit.connect())


@DRAIN
def reads_the_fin_and_keeps_its_side_open(visit: Visit) -> None:
    """The server lingers."""
    sock = visit.connect()
    sock.sendall(b"hello\0")
    assert sock.recv(100) == b"hello\0"


@DRAIN
def sends_an_urgent_byte_before_the_drain(visit: Visit) -> None:
    """It is urgent, and stays in the queue of the session."""
    visit.connect().send(b"!", socket.MSG_OOB)


@STORM
def sends_a_byte_again_and_again(visit: Visit) -> None:
    """It is never quiet for the grace of the drain."""
    if not visit.open:
        visit.connect()
    visit.open[0].sendall(b"x")
    visit.open[0].recv(100)


@STORM
def floods_in_the_drain(visit: Visit) -> None:
    """Megabytes, and no end."""
    if not visit.open:
        visit.connect()
    visit.open[0].sendall(b"x" * 65536)
    visit.open[0].recv(1 << 20)


@STORM
def connects_and_closes_in_the_drain(visit: Visit) -> None:
    """Again and again, also when the service accepts no more."""
    visit.connect().close()
    visit.open.clear()


@STORM
def connects_and_resets_in_the_drain(visit: Visit) -> None:
    """Again and again, with RST."""
    reset_socket(visit.connect())
    visit.open.clear()


@contextlib.contextmanager
def repeated(misbehaviour: Callable[[Visit], None], visit: Visit) -> Iterator[threading.Event]:
    """A thread that does it until the block ends; the event is set once it was done."""
    done, stop = threading.Event(), threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            try:
                misbehaviour(visit)
            except OSError:
                visit.close()
            done.set()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(DEADLINE)
        visit.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["stop", "rolling restart"])
@pytest.mark.proof(
    "Clients that hold their connections, flood or connect in a storm while the service drains do not keep it: with a "
    "drain_timeout of 1 s it ends within 10 s, with exit code 0 and without a traceback."
)
def test_hostile_clients_do_not_hold_up_a_drain(number: signal.Signals, amount: Any, record_property: Any) -> None:
    times = amount(suite=2, proof=20)
    with Service("--drain-timeout", "1", "--write-timeout", "5") as service, contextlib.ExitStack() as stack:
        visits = []
        for misbehaviour in DRAIN.values():
            visits.append(stack.enter_context(contextlib.closing(Visit(service.address))))
            for _ in range(times):
                misbehaviour(visits[-1])
        for misbehaviour in STORM.values():
            visits.append(Visit(service.address))
            assert stack.enter_context(repeated(misbehaviour, visits[-1])).wait(DEADLINE)
        if number == signal.SIGHUP:
            service.send(number)
            service.wait_for("is ready", 2)
            assert one_echo(service.address) == b"hello\0"
        assert service.stop(limit=DEADLINE) == 0
        assert not TROUBLE.search(service.errors), service.errors
    record_property("misbehaviours", greatest(len(DRAIN) + len(STORM)))
    record_property("connections", sum(visit.accepted for visit in visits))


def test_a_client_that_was_served_before_a_storm_keeps_its_echo_in_the_drain() -> None:
    """The others get theirs to the end."""
    with Service() as service, connect_blocking(service.address) as sock:
        visit = Visit(service.address)
        with repeated(STORM["connects and resets in the drain"], visit) as done, Load(service.address, 1, 20) as load:
            assert done.wait(DEADLINE)
            load.join()
            sock.sendall(b"hello")
            service.send(signal.SIGTERM)
            service.wait_for("stopping")
            sock.sendall(b" again\0")
            got = b""
            while part := sock.recv(100):
                got += part
            assert got == b"hello again\0"
        assert not load.failures
        assert service.wait() == 0
