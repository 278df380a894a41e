"""When a dead worker is replaced, who counts as silent, and who serves for whom."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastecho._control import ADOPT, Channel
from fastecho._slot import DEATH_WINDOW, Process, RestartPolicy, Slot, SlotState, place_orphans

OPEN: list[Channel] = []


@pytest.fixture(autouse=True)
def close_channels() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def never() -> float:
    return 0.0


def pair() -> tuple[Channel, Channel]:
    OPEN.extend(ends := Channel.pair())
    return ends


def process(slot: Slot, channel: Channel | None = None, **fields: Any) -> Process:
    counters = cast(Any, SimpleNamespace(heartbeat=fields.pop("heartbeat", 0)))
    return Process(1, slot, channel or pair()[0], None, counters, 0, started=fields.pop("started", 0.0),
                   **fields)


def test_the_first_restart_is_at_once_and_then_the_delay_doubles_to_five_seconds() -> None:
    policy = RestartPolicy(never)
    # Deaths too rare to give up on, of processes too young to be forgiven.
    delays = [policy.died(20.0 * count, lived=1.0) for count in range(10)]
    assert delays == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_jitter_shortens_a_delay_by_a_quarter_at_most() -> None:
    policy = RestartPolicy(lambda: 1.0)
    assert [policy.died(20.0 * count, 1.0) for count in range(3)] == pytest.approx([0.0, 0.0375, 0.075])


def test_the_fifth_death_within_the_window_gives_up() -> None:
    policy = RestartPolicy(never)
    assert None not in [policy.died(count, 0.0) for count in range(4)]
    assert policy.died(9.9, 0.0) is None


def test_five_deaths_over_more_than_the_window_do_not() -> None:
    policy = RestartPolicy(never)
    assert None not in [policy.died(2.5 * count, 0.0) for count in range(20)]


def test_a_long_life_forgives_what_was_before() -> None:
    policy = RestartPolicy(never)
    for _ in range(4):
        policy.died(0.0, 0.0)
    assert policy.died(1.0, lived=DEATH_WINDOW) == 0.0


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"started": 100.0}, 130.0),
        ({"started": 50.0}, 120.0),
        ({"ready_at": 100.0, "heartbeat": 101_000}, 106.0),
        ({"ready_at": 10.0, "heartbeat": 11_000}, 95.0),
        ({"ready_at": 100.0, "heartbeat": 101_000, "killed": True}, None),
    ],
    ids=["starting", "starting before the watch", "beating", "beating before the watch", "killed already"],
)
def test_silence_counts_from_the_start_the_beat_or_the_watch(
    fields: dict[str, Any], expected: float | None
) -> None:
    watched = process(Slot(0, []), **fields)
    assert watched.silent_at(since=90.0, start_timeout=30.0, heartbeat_timeout=5.0) == expected


def test_the_states_of_a_slot() -> None:
    slot = Slot(0, [])
    assert slot.state is SlotState.WAITING
    slot.current = process(slot)
    assert slot.state is SlotState.STARTING
    assert slot.serving is None
    slot.current.ready_at = 1.0
    assert slot.state is SlotState.SERVING
    slot.successor = process(slot)
    assert slot.state is SlotState.REPLACING
    assert slot.serving is slot.current
    slot.current = slot.successor = None
    slot.degraded = True
    assert slot.state is SlotState.DEGRADED


def serving_slot(index: int, sock: socket.socket) -> tuple[Slot, Channel]:
    ours, theirs = pair()
    slot = Slot(index, [sock])
    slot.current = process(slot, ours, ready_at=1.0)
    return slot, theirs


def test_orphans_are_spread_over_the_siblings_that_serve() -> None:
    with socket.socket() as first, socket.socket() as second, socket.socket() as third, socket.socket() as last:
        slots = [Slot(0, [first], degraded=True), Slot(1, [second], degraded=True)]
        (one, one_end), (two, two_end) = serving_slot(2, third), serving_slot(3, last)
        place_orphans([*slots, one, two], SlotState.DEGRADED)
        assert {slot.keeper for slot in slots} == {one, two}
        for end in (one_end, two_end):
            received = end.receive()
            assert received is not None
            message, sockets = received
            assert message == ADOPT
            assert len(sockets) == 1
            sockets[0].close()
        place_orphans([*slots, one, two], SlotState.DEGRADED)
        assert one_end.receive() is two_end.receive() is None


def test_a_socket_that_all_share_is_not_sent() -> None:
    with socket.socket() as shared:
        orphan = Slot(0, [shared], degraded=True)
        sibling, end = serving_slot(1, shared)
        place_orphans([orphan, sibling], SlotState.DEGRADED)
        assert orphan.keeper is sibling
        assert end.receive() is None


def test_orphans_wait_while_nobody_serves() -> None:
    with socket.socket() as sock:
        orphan = Slot(0, [sock], degraded=True)
        place_orphans([orphan, Slot(1, [])], SlotState.DEGRADED)
        assert orphan.keeper is None
