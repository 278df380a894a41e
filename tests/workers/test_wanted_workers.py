"""How worker slots are added and removed, step by step. tests/workers/test_scaling.py has the service."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Any, cast

import pytest

from fastecho._workers.channel import REMOVE, RETIRE
from fastecho._workers.restarts import CrashLoop, RestartPolicy
from fastecho._workers.scaling import Scaling
from fastecho._workers.slots import WorkerProcess, WorkerSlot

MOST = 4
BACKLOG = 77
POLICY = RestartPolicy(deaths=2)


class World:
    """Stands in for the listeners and the processes of a service with two slots, and writes down what is asked of them.

    `shared`: the slots share their sockets. `error`: no process can be started.
    """

    def __init__(self) -> None:
        self.said: list[object] = []
        self.shared = False
        self.error: OSError | None = None
        self.workers, self.most_workers = 2, MOST
        self.slots = [WorkerSlot(index, cast(Any, [f"socket {index}"])) for index in range(2)]
        self.crash_loop = CrashLoop(POLICY, 2)
        for slot in self.slots:
            slot.current = self.process(slot, ready_at=1.0)
        itself = cast(Any, self)
        self.scaling = Scaling(self.slots, itself, itself, POLICY, self.crash_loop, BACKLOG, self.retire)

    def process(self, slot: WorkerSlot, **fields: Any) -> WorkerProcess:
        return WorkerProcess(1, slot, cast(Any, None), None, cast(Any, None), 0, started=0.0, **fields)

    def fork(self, slot: WorkerSlot) -> WorkerProcess:
        if self.error is not None:
            raise self.error
        self.said.append(("fork", slot.index))
        return self.process(slot)

    def add_copy(self, backlog: int) -> list[str]:
        self.said.append(("add_copy", backlog))
        return ["another socket"]

    def remove_copy(self, sockets: list[str]) -> None:
        self.said.append(("remove_copy", *sockets))

    def prefer(self, copies: int) -> None:
        self.said.append(("prefer", copies))

    def shares(self, _sockets: list[str]) -> bool:
        return self.shared

    def retire(self, process: WorkerProcess, message: bytes) -> None:
        self.said.append((message, process.slot.index))


@pytest.fixture
def world() -> World:
    return World()


def crashes_until_detected(loop: CrashLoop) -> int:
    for count in range(1, 100):
        loop.record_death(0.0, 0.0)
        if loop.detected(0.0, 0.0):
            return count
    raise AssertionError("it is never detected")


def test_nothing_happens_while_there_are_as_many_as_wanted(world: World) -> None:
    world.scaling.advance()
    assert world.said == []
    assert (len(world.slots), world.workers) == (2, 2)


def test_an_added_worker_has_sockets_a_process_and_the_policy_of_the_service(world: World) -> None:
    world.scaling.add()
    assert world.said == []
    world.scaling.advance()
    assert world.said == [("add_copy", BACKLOG), ("fork", 2)]
    added = world.slots[2]
    assert (added.index, added.sockets, added.policy) == (2, ["another socket"], POLICY)
    assert added.current is not None
    assert world.workers == 3
    assert crashes_until_detected(world.crash_loop) == 3 * POLICY.deaths


def test_several_are_added_in_one_turn_up_to_the_most(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastecho"):
        for _ in range(3):
            world.scaling.add()
        world.scaling.advance()
    assert [slot.index for slot in world.slots] == [0, 1, 2, 3]
    assert caplog.messages == [
        "SIGTTIN: adding a worker, 3 in all",
        "SIGTTIN: adding a worker, 4 in all",
        "SIGTTIN: there are 4 workers, the most that can be added to",
    ]


@pytest.mark.parametrize("error", [OSError(errno.EAGAIN, "no more processes"), OSError("no more processes")])
def test_a_worker_that_cannot_be_started_is_given_up(
    world: World, caplog: pytest.LogCaptureFixture, error: OSError
) -> None:
    world.error = error
    world.scaling.add()
    with caplog.at_level(logging.ERROR, "fastecho"):
        world.scaling.advance()
        world.scaling.advance()
    assert world.said == [("add_copy", BACKLOG), ("remove_copy", "another socket")]
    assert caplog.messages == [f"worker 2 cannot be started: {error.strerror or error}"]
    assert (len(world.slots), world.workers) == (2, 2)


def test_a_worker_with_sockets_of_its_own_leaves_when_it_has_drained_their_queues(world: World) -> None:
    leaving, stays = world.slots[1], world.slots[0]
    world.scaling.remove()
    assert world.said == []
    world.scaling.advance()
    assert world.said == [("prefer", 1), (REMOVE, 1)]
    assert world.slots == [stays]
    assert world.workers == 1
    assert crashes_until_detected(world.crash_loop) == POLICY.deaths
    assert world.scaling.is_leaving(leaving)
    assert not world.scaling.is_leaving(stays)
    world.scaling.on_drained(leaving)
    assert world.said[2:] == [("remove_copy", "socket 1"), ("prefer", 1)]
    assert not world.scaling.is_leaving(leaving)


def test_a_slot_that_does_not_leave_has_nothing_to_drain(world: World) -> None:
    world.scaling.on_drained(world.slots[0])
    assert world.said == []


def test_a_worker_that_shares_its_sockets_leaves_at_once(world: World) -> None:
    world.shared = True
    leaving = world.slots[1]
    world.scaling.remove()
    world.scaling.advance()
    assert world.said == [("remove_copy", "socket 1"), (RETIRE, 1)]
    assert not world.scaling.is_leaving(leaving)


def test_the_last_worker_stays_whatever_is_wanted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastecho"):
        world.scaling.remove()
        world.scaling.remove()
        world.scaling.advance()
    assert caplog.messages == ["SIGTTOU: removing a worker, 1 left", "SIGTTOU: the last worker stays"]
    assert len(world.slots) == 1


def test_several_are_removed_in_one_turn(world: World) -> None:
    world.scaling.add()
    world.scaling.advance()
    world.slots[2].current = world.process(world.slots[2], ready_at=1.0)
    world.said.clear()
    world.scaling.remove()
    world.scaling.remove()
    world.scaling.advance()
    assert world.said == [("prefer", 2), (REMOVE, 2), ("prefer", 1), (REMOVE, 1)]


@pytest.mark.parametrize("why", ["starting", "being replaced"])
def test_a_slot_is_not_removed_while_it(world: World, why: str) -> None:
    last = world.slots[1]
    if why == "starting":
        last.current = world.process(last)
    else:
        last.successor = world.process(last)
    world.scaling.remove()
    world.scaling.advance()
    assert world.said == []
    assert len(world.slots) == 2


@pytest.mark.parametrize("why", ["starting", "being replaced"])
def test_the_last_slot_is_removed_although_another(world: World, why: str) -> None:
    world.scaling.add()
    world.scaling.advance()
    other, last = world.slots[1:]
    last.current = world.process(last, ready_at=1.0)
    if why == "starting":
        other.current = world.process(other)
    else:
        other.successor = world.process(other)
    world.scaling.remove()
    world.scaling.advance()
    assert last not in world.slots
    assert len(world.slots) == 2


def test_no_slot_is_added_while_another_leaves(world: World) -> None:
    leaving = world.slots[1]
    world.scaling.remove()
    world.scaling.advance()
    world.scaling.add()
    world.scaling.advance()
    assert len(world.slots) == 1
    world.scaling.on_drained(leaving)
    world.scaling.advance()
    assert [slot.index for slot in world.slots] == [0, 1]


@pytest.fixture
def left(world: World) -> Callable[..., WorkerSlot]:
    """The slot that leaves, whose process has ended too early."""

    def make(**fields: Any) -> WorkerSlot:
        slot = world.slots[1]
        world.scaling.remove()
        world.scaling.advance()
        slot.current = None
        world.said.clear()
        world.scaling.on_end(world.process(slot, **fields))
        return slot

    return make


def test_another_process_accepts_what_a_dead_one_left_in_its_queues(
    world: World, left: Callable[..., WorkerSlot]
) -> None:
    slot = left(ready_at=1.0)
    assert world.said == [("fork", 1)]
    assert slot.current is not None
    assert world.scaling.is_leaving(slot)
    world.scaling.on_ready(slot.current)
    assert world.said == [("fork", 1), (REMOVE, 1)]


def test_clients_are_lost_only_when_the_other_process_does_not_start_either(
    world: World, left: Callable[..., WorkerSlot], caplog: pytest.LogCaptureFixture
) -> None:
    slot = left()
    assert caplog.messages[-1] == "the clients that wait for worker 1 are lost: a new process cannot start"
    assert world.said == [("remove_copy", "socket 1"), ("prefer", 1)]
    assert not world.scaling.is_leaving(slot)


def test_clients_are_lost_when_there_is_no_other_process(
    world: World, left: Callable[..., WorkerSlot], caplog: pytest.LogCaptureFixture
) -> None:
    world.error = OSError(errno.EAGAIN, "no more processes")
    left(ready_at=1.0)
    assert caplog.messages[-1] == "the clients that wait for worker 1 are lost: no more processes"
