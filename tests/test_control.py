"""Messages between supervisor and worker: whole, in order, and never waited for."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fastecho import _control as control
from fastecho._control import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_keep_their_bounds_and_order(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert theirs.receive() is None
    for message in (control.READY, control.PAUSED, control.RESUMED):
        assert ours.send(message)
    assert [theirs.receive() for _ in range(4)] == [
        (control.READY, []), (control.PAUSED, []), (control.RESUMED, []), None,
    ]


def test_a_full_queue_drops_and_does_not_wait(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    sent = 0
    while ours.send(control.ROOM):
        sent += 1
        assert sent < 1_000_000
    received = 0
    while theirs.receive() is not None:
        received += 1
    assert received == sent > 8


def test_the_end_of_the_other_side_is_told(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.close()
    assert theirs.receive() == (b"", [])
    assert not theirs.send(control.READY)


def test_more_sockets_than_one_datagram_takes(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    sockets = [socket.socket() for _ in range(100)]
    assert ours.send(control.ADOPT, sockets)
    received = []
    while (datagram := theirs.receive()) is not None:
        assert datagram[0] == control.ADOPT
        received += datagram[1]
    assert len(received) == 100
    for sock in (*sockets, *received):
        sock.close()


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("tls_cert: no such file", "tls_cert: no such file"),
        ("two\nlines: of it\n", "two lines: of it"),
        ("", "no reason given"),
        ("x" * 10_000, "x" * 2016),
    ],
)
def test_a_failure_is_one_line_with_its_code(reason: str, line: str) -> None:
    assert control.parse_failed(control.failed(78, reason)) == (78, line)


def test_other_messages_are_no_failure() -> None:
    assert control.parse_failed(control.READY) is None
