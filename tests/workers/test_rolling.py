"""Which slot a rolling restart gives its new process next. tests/workers/test_replacing.py has the service."""

from __future__ import annotations

import errno
import logging
import math
from typing import Any, cast

import pytest

from fastecho._workers.rolling import RollingRestart
from fastecho._workers.slots import WorkerProcess, WorkerSlot


class Processes:
    """Stands in for `WorkerProcesses`: remembers for which slots it was to start a process."""

    def __init__(self) -> None:
        self.forked: list[WorkerSlot] = []
        self.has_spare_counters = True
        self.error: OSError | None = None

    def fork(self, slot: WorkerSlot) -> WorkerProcess:
        if self.error is not None:
            raise self.error
        self.forked.append(slot)
        return a_process(slot)


def a_process(slot: WorkerSlot, **fields: Any) -> WorkerProcess:
    return WorkerProcess(1, slot, cast(Any, None), None, cast(Any, None), 0, started=0.0, **fields)


@pytest.fixture
def processes() -> Processes:
    return Processes()


@pytest.fixture
def rolling(processes: Processes) -> RollingRestart:
    return RollingRestart(cast(Any, processes))


@pytest.fixture
def slots() -> list[WorkerSlot]:
    made = [WorkerSlot(index, []) for index in range(3)]
    for slot in made:
        slot.current = a_process(slot, ready_at=1.0)
    return made


def test_one_slot_after_another_gets_a_successor(
    rolling: RollingRestart, processes: Processes, slots: list[WorkerSlot]
) -> None:
    assert not rolling.is_active
    before = [slot.current for slot in slots]
    rolling.request(slots)
    for count, slot in enumerate(slots, 1):
        assert processes.forked == slots[:count]
        assert slot.successor is not None
        assert rolling.is_active
        rolling.started(slot)
    assert not rolling.is_active
    assert [slot.current for slot in slots] == before


def test_only_the_slot_that_is_starting_moves_the_rolling_restart_on(
    rolling: RollingRestart, processes: Processes, slots: list[WorkerSlot]
) -> None:
    rolling.request(slots)
    rolling.started(slots[2])
    rolling.failed(slots[2], "worker 2 has died")
    assert processes.forked == slots[:1]
    assert rolling.is_active


def test_it_is_active_while_the_last_process_is_starting_and_while_a_slot_waits(
    rolling: RollingRestart, processes: Processes, slots: list[WorkerSlot]
) -> None:
    processes.has_spare_counters = False
    rolling.request(slots[:1])
    assert rolling.is_active
    assert processes.forked == []
    processes.has_spare_counters = True
    rolling.advance()
    assert rolling.is_active
    assert processes.forked == slots[:1]


def test_a_slot_that_waits_is_queued_once_and_one_that_is_starting_again(
    rolling: RollingRestart, processes: Processes, slots: list[WorkerSlot]
) -> None:
    rolling.request(slots)
    rolling.request(slots)
    for slot in (slots[0], slots[1], slots[2], slots[0]):
        rolling.started(slot)
    assert processes.forked == [*slots, slots[0]]
    assert not rolling.is_active


def test_a_slot_without_a_process_gets_one_at_once_and_no_restart_later(
    rolling: RollingRestart, slots: list[WorkerSlot]
) -> None:
    slots[0].current, slots[0].restart_at = None, 7.0
    rolling.request(slots[:1])
    assert slots[0].current is not None
    assert slots[0].successor is None
    assert slots[0].restart_at == math.inf


@pytest.mark.parametrize(
    ("error", "why"),
    [(OSError(errno.EAGAIN, "no more processes"), "no more processes"), (OSError("too many"), "too many")],
)
def test_a_process_that_cannot_be_started_ends_it_and_the_old_ones_stay(
    rolling: RollingRestart,
    processes: Processes,
    slots: list[WorkerSlot],
    caplog: pytest.LogCaptureFixture,
    error: OSError,
    why: str,
) -> None:
    processes.error = error
    with caplog.at_level(logging.ERROR, "fastecho"):
        rolling.request(slots)
    assert caplog.messages == [f"worker 0 cannot be started: {why}; the old workers stay"]
    assert not rolling.is_active
    assert all(slot.successor is None for slot in slots)


def test_a_successor_that_dies_ends_it_and_the_next_one_begins_anew(
    rolling: RollingRestart, processes: Processes, slots: list[WorkerSlot], caplog: pytest.LogCaptureFixture
) -> None:
    rolling.request(slots)
    with caplog.at_level(logging.ERROR, "fastecho"):
        rolling.failed(slots[0], "worker 0 has died")
    assert caplog.messages == ["worker 0 has died; the old workers stay"]
    assert not rolling.is_active
    rolling.request(slots[1:])
    assert processes.forked == slots[:2]
