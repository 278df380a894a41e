"""Messages between supervisor and worker: whole, in order, and never waited for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastecho._workers import channel
from fastecho._workers.channel import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_keep_their_bounds_and_order(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert theirs.receive() is None
    for message in (channel.READY, channel.LEAVING, channel.RETIRE):
        assert ours.send(message)
    assert [theirs.receive() for _ in range(4)] == [channel.READY, channel.LEAVING, channel.RETIRE, None]


def test_a_full_queue_drops_and_does_not_wait(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    sent = 0
    while ours.send(channel.RETIRE):
        sent += 1
        assert sent < 1_000_000
    received = 0
    while theirs.receive() is not None:
        received += 1
    assert received == sent > 8


def test_the_end_of_the_other_side_is_told(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.close()
    assert theirs.receive() == b""
    assert not theirs.send(channel.READY)


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
    assert channel.parse_failed(channel.failed(78, reason)) == (78, line)
