"""Worker slots: when one serves, and when a process counts as silent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastecho._workers.channel import Channel
from fastecho._workers.restarts import RestartPolicy
from fastecho._workers.slots import WorkerProcess, WorkerSlot


@pytest.fixture
def process() -> Iterator[Any]:
    channels: list[Channel] = []

    def make(slot: WorkerSlot, **fields: Any) -> WorkerProcess:
        counters = cast(Any, SimpleNamespace(heartbeat=fields.pop("heartbeat", 0)))
        channels.extend(Channel.pair())
        started = fields.pop("started", 0.0)
        return WorkerProcess(1, slot, channels[-2], None, counters, 0, started=started, **fields)

    yield make
    for channel in channels:
        channel.close()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"started": 100.0}, 130.0),
        ({"started": 50.0}, 120.0),
        ({"ready_at": 100.0, "heartbeat": 101_000}, 106.0),
        ({"ready_at": 10.0, "heartbeat": 11_000}, 95.0),
        ({"ready_at": 100.0, "heartbeat": 101_000, "killed": True}, math.inf),
    ],
    ids=["starting", "starting before the watch", "beating", "beating before the watch", "killed already"],
)
def test_silence_counts_from_the_start_the_heartbeat_or_the_watch(
    process: Any, fields: dict[str, Any], expected: float
) -> None:
    watched = process(WorkerSlot(0, []), **fields)
    assert watched.silent_at(since=90.0, start_timeout=30.0, heartbeat_timeout=5.0) == expected


def test_a_worker_slot_serves_while_its_current_process_is_ready(process: Any) -> None:
    slot = WorkerSlot(0, [])
    assert not slot.is_serving
    slot.current = process(slot)
    assert not slot.is_serving
    slot.current.ready_at = 1.0
    assert slot.is_serving
    slot.successor = process(slot)
    assert slot.is_serving


def test_a_killed_process_serves_no_slot(process: Any) -> None:
    slot = WorkerSlot(0, [])
    slot.current = process(slot, ready_at=1.0, killed=True)
    assert not slot.is_serving


def test_a_process_has_served_since_it_was_ready(process: Any) -> None:
    slot = WorkerSlot(3, [])
    assert process(slot, started=1.0).served(now=9.0) == 0.0
    assert process(slot, started=1.0, ready_at=2.5).served(now=9.0) == 6.5


def test_a_process_is_named_by_its_slot_and_its_pid(process: Any) -> None:
    assert str(process(WorkerSlot(3, []))) == "worker 3 (pid 1)"


def test_a_new_process_and_a_new_slot_have_nothing_pending(process: Any) -> None:
    slot = WorkerSlot(3, [])
    made = process(slot)
    assert (made.killed, made.retiring, made.ready_at) == (False, False, None)
    assert made.kill_at == made.leave_at == math.inf
    assert (slot.current, slot.successor, slot.restart_at, slot.delay) == (None, None, math.inf, 0.0)
    assert slot.policy == RestartPolicy()
    assert not hasattr(made, "__dict__")
    assert not hasattr(slot, "__dict__")


def test_two_processes_and_two_slots_are_never_equal(process: Any) -> None:
    slot = WorkerSlot(3, [])
    assert slot != WorkerSlot(3, [])
    channel = process(slot).channel
    one, other = (WorkerProcess(1, slot, channel, None, cast(Any, None), 0, started=0.0) for _ in range(2))
    assert one != other


def delays(policy: RestartPolicy, lives: list[float]) -> list[float]:
    slot = WorkerSlot(0, [], policy)
    return [slot.delay_after_death(lived) for lived in lives]


def test_the_first_restart_is_at_once_and_then_the_delay_doubles_to_five_seconds() -> None:
    found = delays(RestartPolicy(jitter=lambda: 0.0), [1.0] * 10)
    assert found == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_jitter_shortens_a_delay_by_a_quarter_at_most() -> None:
    assert delays(RestartPolicy(jitter=lambda: 1.0), [1.0] * 3) == pytest.approx([0.0, 0.0375, 0.075])


@pytest.mark.parametrize("long", [10.0, 11.0])
def test_a_worker_that_was_stable_is_restarted_at_once_again(long: float) -> None:
    assert delays(RestartPolicy(jitter=lambda: 0.0), [1.0, 1.0, 1.0, long, 1.0]) == [0.0, 0.05, 0.1, 0.0, 0.05]
