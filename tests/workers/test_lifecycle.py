"""What becomes of the workers, step by step and without processes. tests/workers/test_supervisor.py has the service."""

from __future__ import annotations

import errno
import logging
import math
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastecho._metrics.state import Phase
from fastecho._workers.channel import DRAINED, LEAVING, READY, REMOVE, RETIRE, STOP, failed
from fastecho._workers.lifecycle import (
    DRAIN_MARGIN,
    GROUP_DELAY,
    HEARTBEAT_TIMEOUT,
    SAME_SIGNAL,
    START_TIMEOUT,
    Lifecycle,
    describe_end,
)  # fmt: skip
from fastecho._workers.restarts import RestartPolicy
from fastecho._workers.slots import WorkerProcess, WorkerSlot
from fastecho.config import ServerConfig
from fastecho.errors import CrashLoopError, WorkerStartError

POLICY = RestartPolicy(first_delay=0.5, longest_delay=2.0, stable_after=10.0, deaths=2, jitter=lambda: 0.0)
DRAIN_TIMEOUT = 7.0
BEGIN = 100.0
FULL = OSError(errno.EAGAIN, "Resource temporarily unavailable")
EXITED_1 = 1 << 8


class World:
    """Stands in for the processes, the listeners and the metrics, and writes down what is asked of them.

    diverts_syns: a stop waits for the workers. error: no process can be started. spare: a rolling restart may go on.
    """

    def __init__(self, workers: int = 2, shutdown_delay: float = 0.0) -> None:
        self.said: list[Any] = []
        self.now = BEGIN
        self.diverts_syns, self.spare = False, True
        self.error: OSError | None = None
        self.processes: list[WorkerProcess] = []
        self.workers, self.most_workers = workers, 9
        self.sockets = [cast(Any, [f"socket {index}"]) for index in range(workers)]
        itself = cast(Any, self)
        config = ServerConfig(workers=workers, drain_timeout=DRAIN_TIMEOUT, shutdown_delay=shutdown_delay)
        self.lifecycle = Lifecycle(config, itself, itself, itself, self.on_phase, POLICY, clock=lambda: self.now)
        self.slots = self.lifecycle.slots

    # What is asked of it

    def on_phase(self) -> None:
        self.said.append((self.lifecycle.phase, self.lifecycle.is_draining))

    def fork(self, slot: WorkerSlot) -> WorkerProcess:
        if self.error is not None:
            raise self.error
        channel = SimpleNamespace(send=lambda message: self.said.append((message, process)))
        counters = SimpleNamespace(heartbeat=0)
        pid = 10 * (slot.index + 1) + sum(each.slot is slot for each in self.processes)
        process = WorkerProcess(pid, slot, cast(Any, channel), None, cast(Any, counters), 0, started=self.now)
        self.processes.append(process)
        self.said.append(("fork", slot.index))
        return process

    @property
    def has_spare_counters(self) -> bool:
        return self.spare

    def kill(self, process: WorkerProcess) -> None:
        process.killed, process.kill_at = True, math.inf
        self.said.append(("kill", process))

    def send_all(self, message: bytes) -> None:
        for process in self.processes:
            process.channel.send(message)

    def count_restart(self, cause: str) -> None:
        self.said.append(("count", cause))

    def drop_syns(self) -> None:
        self.said.append("drop_syns")

    def unlink(self) -> None:
        self.said.append("unlink")

    def close(self) -> None:
        self.said.append("close")

    def add_copy(self, _backlog: int) -> list[str]:
        return ["another socket"]

    def remove_copy(self, sockets: list[str]) -> None:
        self.said.append(("remove_copy", *sockets))

    def prefer(self, _copies: int) -> None:
        pass

    def shares(self, _sockets: list[str]) -> bool:
        return False

    # What happens

    def start(self) -> World:
        """All workers are ready."""
        for slot in self.slots:
            self.lifecycle.start(slot)
        for process in tuple(self.processes):
            self.say(process, READY)
        self.said.clear()
        return self

    def say(self, process: WorkerProcess, message: bytes) -> None:
        if message == READY:
            self.beat(process)
        self.lifecycle.on_message(process, message)

    def beat(self, *processes: WorkerProcess) -> None:
        for process in processes or self.processes:
            cast(Any, process.counters).heartbeat = int(self.now * 1000)

    def end(self, process: WorkerProcess, status: int | None = EXITED_1) -> None:
        self.processes.remove(process)
        self.lifecycle.on_end(process, status)

    def wait(self, seconds: float) -> None:
        """Every process has a heartbeat at the end of that time, and what is due is done."""
        self.now += seconds
        self.beat()
        self.lifecycle.on_time(self.now)

    def of(self, index: int) -> WorkerProcess:
        """The current process of a slot."""
        process = self.slots[index].current
        assert process is not None
        return process

    def told(self) -> list[Any]:
        """What was said since the last call."""
        said, self.said = self.said, []
        return said


@pytest.fixture
def world() -> World:
    return World().start()


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines of the log since the last call, each behind its level."""
    caplog.set_level(logging.DEBUG, "fastecho")

    def since() -> list[str]:
        lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return lines

    return since


def test_the_times() -> None:
    assert (HEARTBEAT_TIMEOUT, START_TIMEOUT, DRAIN_MARGIN, SAME_SIGNAL, GROUP_DELAY) == (5.0, 30.0, 2.0, 0.05, 0.1)


# The start


def test_the_service_is_ready_once_when_all_workers_are(messages: Callable[[], list[str]]) -> None:
    world = World()
    assert (world.lifecycle.phase, world.lifecycle.serving) == (Phase.STARTING, 0)
    for slot in world.slots:
        world.lifecycle.start(slot)
    assert world.told() == [("fork", 0), ("fork", 1)]
    world.now += 5.0
    world.say(world.of(1), READY)
    assert (world.lifecycle.phase, world.lifecycle.serving, world.told()) == (Phase.STARTING, 1, [])
    world.say(world.of(0), READY)
    assert (world.lifecycle.phase, world.lifecycle.serving) == (Phase.READY, 2)
    assert world.told() == [(Phase.READY, False)]
    assert messages() == ["INFO worker 1 (pid 20) is ready", "INFO worker 0 (pid 10) is ready"]
    assert world.of(0).ready_at == BEGIN + 5.0
    assert not world.lifecycle.is_over
    assert not world.lifecycle.is_draining
    assert world.lifecycle.exit_code == 0


def test_workers_that_are_ready_only_in_a_stop_are_told_all_the_same() -> None:
    world = World(1)
    world.lifecycle.start(world.slots[0])
    world.lifecycle.stop(signal.SIGTERM)
    assert not world.lifecycle.is_ready
    world.told()
    world.say(world.of(0), READY)
    assert world.lifecycle.is_ready
    assert world.told() == [(Phase.STOPPING, True)]


def test_a_worker_that_cannot_be_forked_ends_the_start() -> None:
    world = World()
    world.error = FULL
    with pytest.raises(WorkerStartError, match=r"^worker 1 cannot be started: Resource temporarily unavailable$"):
        world.lifecycle.start(world.slots[1])
    world.error = OSError("without a number")
    with pytest.raises(WorkerStartError, match=r"^worker 0 cannot be started: without a number$"):
        world.lifecycle.start(world.slots[0])


def test_a_worker_that_says_why_it_cannot_start_ends_the_start_with_its_exit_code() -> None:
    world = World()
    world.lifecycle.start(world.slots[0])
    with pytest.raises(WorkerStartError, match=r"^worker 0 \(pid 10\) cannot start: no TLS$") as raised:
        world.say(world.of(0), failed(78, "no TLS"))
    assert raised.value.exit_code == 78


def test_a_worker_that_dies_before_the_service_is_ready_ends_the_start() -> None:
    world = World()
    world.lifecycle.start(world.slots[0])
    with pytest.raises(WorkerStartError, match=r"^worker 0 \(pid 10\) cannot start: exited with code 3$") as raised:
        world.end(world.of(0), 3 << 8)
    assert raised.value.exit_code == 1


def test_a_worker_that_cannot_start_in_a_stop_is_no_error(messages: Callable[[], list[str]]) -> None:
    world = World()
    world.lifecycle.start(world.slots[0])
    world.lifecycle.stop(signal.SIGTERM)
    process = world.of(0)
    world.say(process, failed(78, "no TLS"))
    world.end(process)
    assert messages()[-1] == "WARNING worker 0 (pid 10) no TLS"
    assert world.lifecycle.is_over


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "has ended"), (0, "exited with code 0"), (3 << 8, "exited with code 3"),
        (signal.SIGHUP, "was killed by SIGHUP"), (signal.SIGKILL, "was killed by SIGKILL"),
        (40, "was killed by signal 40"),
    ],
)  # fmt: skip
def test_the_end_of_a_process_in_words(status: int | None, words: str) -> None:
    assert describe_end(status) == words


# Silence


@pytest.mark.parametrize(("starts", "timeout"), [(True, START_TIMEOUT), (False, HEARTBEAT_TIMEOUT)])
def test_a_silent_worker_is_killed(starts: bool, timeout: float, messages: Callable[[], list[str]]) -> None:
    world = World(1)
    world.lifecycle.start(world.slots[0])
    process = world.of(0)
    if not starts:
        world.say(process, READY)
    assert world.lifecycle.due_at == BEGIN + timeout
    world.told(), messages()
    world.lifecycle.on_time(BEGIN + timeout - 0.001)
    assert world.told() == []
    world.lifecycle.on_time(BEGIN + timeout)
    assert world.told() == [("kill", process)]
    assert messages() == ["ERROR worker 0 (pid 10) does not answer: killing it"]
    assert world.lifecycle.due_at == math.inf
    world.lifecycle.on_time(BEGIN + 2 * timeout)
    assert world.told() == []


def test_the_time_in_which_the_supervisor_did_not_run_is_no_silence(world: World) -> None:
    world.now += 60.0
    world.lifecycle.on_standstill(world.now)
    world.lifecycle.on_time(world.now)
    assert world.told() == []
    world.lifecycle.on_time(world.now + HEARTBEAT_TIMEOUT)
    assert world.told() == [("kill", world.of(0)), ("kill", world.of(1))]


def test_what_is_overdue_is_done() -> None:
    world = World(shutdown_delay=60.0).start()
    world.say(world.of(0), LEAVING)
    world.wait(GROUP_DELAY + 1.0)
    assert world.told() == [("fork", 0)]
    old = world.of(0)
    world.say(cast(WorkerProcess, world.slots[0].successor), READY)
    world.told()
    world.wait(DRAIN_TIMEOUT + DRAIN_MARGIN + 1.0)
    assert world.told() == [("kill", old)]
    world.wait(POLICY.stable_after)
    for _ in range(2):
        world.end(world.of(0))
    world.told()
    world.wait(POLICY.first_delay + 1.0)
    assert world.told() == [("fork", 0)]
    world.lifecycle.stop(signal.SIGTERM)
    world.told()
    world.wait(61.0)
    assert (Phase.STOPPING, True) in world.told()
    world.lifecycle.on_time(world.now + HEARTBEAT_TIMEOUT + 1.0)
    assert ("kill", world.of(1)) in world.told()


# Deaths


def test_a_dead_worker_is_replaced_at_once_and_then_after_growing_delays(
    world: World, messages: Callable[[], list[str]]
) -> None:
    world.wait(POLICY.stable_after)  # the other worker has served for long: this is no crash loop
    for delay in (0.0, 0.5, 1.0, 2.0, 2.0):
        dead = world.of(0)
        world.end(dead)
        assert messages()[-1] == f"WARNING {dead} exited with code 1"
        if delay:
            assert world.told() == [("count", "crash")]
            assert (world.slots[0].current, world.slots[0].restart_at) == (None, world.now + delay)
            assert world.lifecycle.due_at <= world.now + delay
            world.wait(delay / 2)
            assert world.told() == []
            world.wait(delay / 2)
            assert world.told() == [("fork", 0)]
        else:
            assert world.told() == [("count", "crash"), ("fork", 0)]
        assert world.slots[0].restart_at == math.inf
        assert world.of(0) is not dead
        world.wait(1.0)
        world.say(world.of(0), READY)
        assert world.told() == [], "the service is announced once"


def test_a_worker_that_had_served_for_long_is_replaced_at_once_again(world: World) -> None:
    world.wait(POLICY.stable_after)
    world.end(world.of(0))
    world.say(world.of(0), READY)
    world.wait(POLICY.stable_after)
    world.told()
    world.end(world.of(0))
    assert world.told() == [("count", "crash"), ("fork", 0)]


def test_a_worker_that_was_killed_for_its_silence_counts_as_a_hang(world: World) -> None:
    world.wait(POLICY.stable_after)
    world.now += HEARTBEAT_TIMEOUT
    world.beat(world.of(1))
    world.lifecycle.on_time(world.now)
    dead = world.of(0)
    assert world.told() == [("kill", dead)]
    world.end(dead, signal.SIGKILL)
    assert world.told() == [("count", "hang"), ("fork", 0)]


def test_a_worker_that_cannot_be_forked_is_tried_again_and_is_no_crash_loop(
    world: World, messages: Callable[[], list[str]]
) -> None:
    world.error = FULL
    world.end(world.of(0))
    assert messages()[1:] == ["ERROR worker 0 cannot be started: Resource temporarily unavailable"]
    world.told()
    for _ in range(3 * POLICY.deaths):
        before = world.now
        world.wait(world.slots[0].restart_at - before)
        assert messages() == ["ERROR worker 0 cannot be started: Resource temporarily unavailable"]
        assert world.now < world.slots[0].restart_at <= world.now + POLICY.longest_delay
    assert world.told() == [], "it is not counted as a restart"
    world.error = OSError("without a number")
    world.wait(world.slots[0].restart_at - world.now)
    assert messages() == ["ERROR worker 0 cannot be started: without a number"]
    world.error = None
    world.wait(world.slots[0].restart_at - world.now)
    assert world.told() == [("fork", 0)]


def die_again_and_again(world: World) -> None:
    for _ in range(2 * POLICY.deaths):
        for index in range(2):
            if world.slots[index].current is None:
                world.wait(max(0.0, world.slots[index].restart_at - world.now))
            world.end(world.of(index))


def test_when_all_workers_die_the_service_gives_up(world: World) -> None:
    with pytest.raises(CrashLoopError, match=r"^every worker has died 2 times in 10 s; see the log above for the reas"):
        die_again_and_again(world)


def test_while_another_worker_has_served_for_long_the_service_goes_on(world: World) -> None:
    world.wait(POLICY.stable_after)
    for _ in range(6):
        world.end(world.of(0))
        world.wait(max(0.0, world.slots[0].restart_at - world.now) if world.slots[0].current is None else 0.0)
    assert world.lifecycle.serving == 1


# Replacements


def test_each_worker_is_replaced_by_a_successor_that_is_ready(world: World) -> None:
    old = [world.of(0), world.of(1)]
    world.lifecycle.rolling.request(world.slots)
    assert world.told() == [("fork", 0)]
    assert world.of(0) is old[0]
    new = world.slots[0].successor
    assert new is not None
    world.wait(3.0)
    world.say(new, READY)
    assert world.told() == [(RETIRE, old[0]), ("count", "rolling"), ("fork", 1)]
    assert (world.of(0), world.slots[0].successor) == (new, None)
    assert (old[0].retiring, old[0].kill_at) == (True, world.now + DRAIN_TIMEOUT + DRAIN_MARGIN)
    assert world.lifecycle.serving == 2
    world.end(old[0], 0)
    assert world.told() == [], "one that was retired is not replaced"


def test_a_retired_worker_that_does_not_end_is_killed_and_the_service_goes_on(
    world: World, messages: Callable[[], list[str]]
) -> None:
    old = world.of(0)
    world.lifecycle.rolling.request(world.slots[:1])
    world.say(cast(WorkerProcess, world.slots[0].successor), READY)
    world.told(), messages()
    world.wait(DRAIN_TIMEOUT + DRAIN_MARGIN - 0.001)
    assert world.told() == []
    assert world.lifecycle.due_at == BEGIN + DRAIN_TIMEOUT + DRAIN_MARGIN
    world.wait(0.001)
    assert world.told() == [("kill", old)]
    assert messages() == [f"ERROR {old} has not ended within the drain time-out: killing it"]
    world.end(old, signal.SIGKILL)
    assert messages() == [f"WARNING {old} was killed by SIGKILL"]
    assert (world.told(), world.lifecycle.exit_code) == ([], 0)


def test_a_retired_worker_that_ends_in_order_is_no_warning(world: World, messages: Callable[[], list[str]]) -> None:
    old = world.of(0)
    world.lifecycle.rolling.request(world.slots[:1])
    world.say(cast(WorkerProcess, world.slots[0].successor), READY)
    messages()
    world.end(old, 0)
    assert messages() == [f"DEBUG {old} exited with code 0"]


def test_a_successor_that_dies_leaves_the_old_workers(world: World, messages: Callable[[], list[str]]) -> None:
    old = world.of(0)
    world.lifecycle.rolling.request(world.slots)
    new = cast(WorkerProcess, world.slots[0].successor)
    world.say(new, failed(78, "no TLS"))
    world.told()
    world.end(new)
    assert (world.of(0), world.slots[0].successor, world.told()) == (old, None, [])
    assert messages() == [f"WARNING {new} no TLS", f"ERROR {new}: no TLS; the old workers stay"]
    assert not world.lifecycle.rolling.is_active


def test_a_successor_takes_the_place_of_a_worker_that_dies_meanwhile(world: World) -> None:
    world.lifecycle.rolling.request(world.slots[:1])
    new = cast(WorkerProcess, world.slots[0].successor)
    world.told()
    world.end(world.of(0))
    assert world.told() == [("count", "crash")]
    assert (world.of(0), world.slots[0].successor, world.slots[0].restart_at) == (new, None, math.inf)
    world.say(new, READY)
    assert world.told() == [], "nothing is retired"
    assert not world.lifecycle.rolling.is_active


def test_when_successor_and_worker_die_the_rolling_restart_ends(
    world: World, messages: Callable[[], list[str]]
) -> None:
    world.wait(POLICY.stable_after)
    world.lifecycle.rolling.request(world.slots)
    world.end(world.of(0))
    messages()
    world.end(world.of(0))
    assert "ERROR worker 0 did not start; the old workers stay" in messages()
    assert not world.lifecycle.rolling.is_active


def test_a_rolling_restart_goes_on_when_a_retired_worker_has_ended(world: World) -> None:
    old = world.of(0)
    world.lifecycle.rolling.request(world.slots)
    world.spare = False
    world.say(cast(WorkerProcess, world.slots[0].successor), READY)
    assert world.told()[-1] == ("count", "rolling")
    world.spare = True
    world.end(old, 0)
    assert world.told() == [("fork", 1)]


def test_a_worker_that_asks_for_it_is_replaced_after_a_moment(world: World) -> None:
    world.say(world.of(0), LEAVING)
    due_at = BEGIN + GROUP_DELAY
    assert world.of(0).leave_at == world.lifecycle.due_at == due_at
    world.lifecycle.on_time(due_at - 0.001)
    assert world.told() == []
    world.lifecycle.on_time(due_at)
    assert world.told() == [("fork", 0)]
    assert world.slots[0].successor is not None
    world.say(world.slots[0].successor, READY)
    world.told()
    world.wait(1.0)
    assert world.told() == [], "it is asked for once"


def being_replaced(world: World) -> WorkerProcess:
    world.lifecycle.rolling.request(world.slots[:1])
    return world.of(0)


def retired(world: World) -> WorkerProcess:
    old = being_replaced(world)
    world.say(cast(WorkerProcess, world.slots[0].successor), READY)
    return old


def draining(world: World) -> WorkerProcess:
    world.lifecycle.stop(signal.SIGTERM)
    return world.of(0)


def leaving(world: World) -> WorkerProcess:
    """The worker of a slot that was removed: it is still the current one of the slot."""
    process = world.of(1)
    world.lifecycle.scaling.remove()
    world.wait(0.0)
    assert process.retiring
    return process


@pytest.mark.parametrize("state", [being_replaced, retired, draining, leaving])
def test_a_worker_that_ends_in_any_case_is_not_replaced_once_more(
    world: World, state: Callable[[World], WorkerProcess]
) -> None:
    process = state(world)
    forked = len(world.processes)
    world.say(process, LEAVING)
    world.wait(GROUP_DELAY)
    assert len(world.processes) == forked
    if state is being_replaced:  # nor when the rolling restart is over
        world.say(cast(WorkerProcess, world.slots[0].successor), READY)
        assert len(world.processes) == forked


def test_workers_are_added_when_the_service_is_ready_and_no_slot_is_being_replaced() -> None:
    world = World()
    world.lifecycle.scaling.add()
    world.lifecycle.on_time(world.now)
    assert world.told() == []
    world.start()
    world.lifecycle.rolling.request(world.slots[:1])
    world.told()
    world.wait(0.0)
    assert world.told() == []
    world.say(cast(WorkerProcess, world.slots[0].successor), READY)
    world.told()
    world.wait(0.0)
    assert world.told() == [("fork", 2)]


def test_no_worker_is_added_in_a_stop(world: World) -> None:
    world.lifecycle.stop(signal.SIGTERM)
    world.lifecycle.scaling.add()
    world.told()
    world.wait(0.0)
    assert world.told() == []


def test_the_sockets_of_a_slot_that_leaves_are_closed_when_its_worker_has_drained_them(world: World) -> None:
    process = leaving(world)
    assert world.told() == [(REMOVE, process)]
    world.say(process, DRAINED)
    assert world.told() == [("remove_copy", "socket 1")]
    world.end(process, 0)
    assert world.told() == []


def test_another_worker_accepts_what_waits_for_a_slot_that_leaves(
    world: World, messages: Callable[[], list[str]]
) -> None:
    process = leaving(world)
    world.told(), messages()
    world.end(process, signal.SIGKILL)
    assert world.told() == [("fork", 1)]
    assert messages() == [f"WARNING {process} was killed by SIGKILL"]
    another = world.processes[-1]
    world.say(another, READY)
    assert world.told() == [(REMOVE, another)]
    world.end(another, 0)
    assert world.told() == [("fork", 1)], "it has not drained them"


def test_one_that_was_replaced_before_its_slot_left_ends_without_a_successor(world: World) -> None:
    old = world.of(1)
    world.lifecycle.rolling.request(world.slots[1:])
    world.say(cast(WorkerProcess, world.slots[1].successor), READY)
    leaving(world)
    world.told()
    world.end(old, 0)
    assert world.told() == []


# The end


def test_a_stop_has_the_workers_drain(world: World, messages: Callable[[], list[str]]) -> None:
    first, second = world.of(0), world.of(1)
    world.now += 1.0
    world.lifecycle.stop(signal.SIGINT)
    assert world.told() == [
        (Phase.STOPPING, False), (Phase.STOPPING, True), "drop_syns", "unlink", "close", (STOP, first), (STOP, second),
    ]  # fmt: skip
    assert messages() == ["INFO SIGINT: stopping"]
    assert (world.lifecycle.phase, world.lifecycle.is_draining) == (Phase.STOPPING, True)
    assert first.kill_at == second.kill_at == world.now + DRAIN_TIMEOUT + DRAIN_MARGIN
    world.end(first, 0)
    assert not world.lifecycle.is_over
    world.end(second, 2 << 8)
    assert messages() == [f"DEBUG {first} exited with code 0", f"WARNING {second} exited with code 2"]
    assert world.told() == []
    assert (world.lifecycle.is_over, world.lifecycle.exit_code, world.lifecycle.killed_by) == (True, 0, None)


def test_a_worker_that_does_not_drain_is_killed_and_the_exit_code_says_so(world: World) -> None:
    process = world.of(1)
    world.lifecycle.stop(signal.SIGTERM)
    world.end(world.of(0), 0)
    world.told()
    world.wait(DRAIN_TIMEOUT + DRAIN_MARGIN - 0.001)
    assert (world.told(), world.lifecycle.exit_code) == ([], 0)
    world.wait(0.001)
    assert (world.told(), world.lifecycle.exit_code) == ([("kill", process)], 1)


def test_a_worker_that_hangs_in_a_drain_is_killed_without_a_change_of_the_exit_code(world: World) -> None:
    world.lifecycle.stop(signal.SIGTERM)
    world.told()
    world.lifecycle.on_time(world.now + HEARTBEAT_TIMEOUT)
    assert world.told() == [("kill", world.of(0)), ("kill", world.of(1))]
    assert world.lifecycle.exit_code == 0


def test_no_worker_is_started_in_a_stop(world: World) -> None:
    world.wait(POLICY.stable_after)
    for _ in range(2):
        world.end(world.of(0))
    assert world.slots[0].restart_at < math.inf
    world.lifecycle.rolling.request(world.slots[1:])
    world.lifecycle.stop(signal.SIGTERM)
    assert world.slots[0].restart_at == math.inf
    world.told()
    for process in tuple(world.processes):
        world.say(process, READY)
        world.end(process, 0)
    world.wait(POLICY.longest_delay)
    assert ("fork", 0) not in world.said
    assert ("fork", 1) not in world.said
    assert world.lifecycle.is_over


@pytest.mark.parametrize("says", [True, False])
def test_the_listeners_stay_open_until_the_last_worker_has_accepted_what_waits(world: World, says: bool) -> None:
    world.diverts_syns = True
    first, second = world.of(0), world.of(1)
    world.lifecycle.stop(signal.SIGTERM)
    assert "close" not in world.told()
    world.say(first, DRAINED)
    assert world.told() == []
    if says:
        world.say(second, DRAINED)
    else:
        world.end(second, 0)
    assert world.told() == ["close"]
    world.end(first, 0)
    assert world.told() == []


def test_a_stop_that_would_wait_for_workers_waits_for_none_where_there_are_none() -> None:
    world = World()
    world.diverts_syns = True
    world.lifecycle.stop(signal.SIGTERM)
    assert "close" in world.told()
    assert world.lifecycle.is_over


def test_sigterm_waits_for_the_shutdown_delay(messages: Callable[[], list[str]]) -> None:
    world = World(shutdown_delay=3.0).start()
    world.beat()
    messages()
    world.lifecycle.stop(signal.SIGTERM)
    assert world.told() == [(Phase.STOPPING, False)]
    assert messages() == ["INFO SIGTERM: stopping in 3 s"]
    assert (world.lifecycle.phase, world.lifecycle.is_draining) == (Phase.STOPPING, False)
    assert world.lifecycle.due_at == BEGIN + 3.0
    world.wait(2.999)
    assert world.told() == []
    world.wait(0.001)
    assert world.told()[:2] == [(Phase.STOPPING, True), "drop_syns"]
    world.wait(0.001)
    assert world.told() == [], "it drains once"


def test_a_worker_that_dies_in_the_shutdown_delay_is_replaced() -> None:
    world = World(shutdown_delay=3.0).start()
    world.lifecycle.stop(signal.SIGTERM)
    world.told()
    world.end(world.of(0))
    assert world.told() == [("count", "crash"), ("fork", 0)]


@pytest.mark.parametrize(("number", "ready"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_without_readiness_or_by_another_signal_the_stop_comes_at_once(number: signal.Signals, ready: bool) -> None:
    world = World(shutdown_delay=3.0)
    if ready:
        world.start()
    world.lifecycle.stop(number)
    assert world.lifecycle.is_draining


def test_a_stop_can_have_another_reason_than_its_signal(world: World, messages: Callable[[], list[str]]) -> None:
    world.lifecycle.stop(signal.SIGHUP, "the terminal is closed")
    assert messages() == ["INFO the terminal is closed: stopping"]


@pytest.mark.parametrize("delay", [0.0, 60.0])
@pytest.mark.parametrize(
    ("first", "second", "later", "counts"),
    [
        (signal.SIGTERM, signal.SIGTERM, 0.0, False),
        (signal.SIGTERM, signal.SIGTERM, SAME_SIGNAL, False),
        (signal.SIGTERM, signal.SIGTERM, SAME_SIGNAL + 0.001, True),
        (signal.SIGTERM, signal.SIGINT, 0.0, True),
        (signal.SIGTERM, signal.SIGINT, 1.0, True),
        (signal.SIGINT, signal.SIGTERM, 0.0, True),
    ],
)
def test_a_second_signal_ends_the_service_unless_it_is_the_same_one(
    first: signal.Signals,
    second: signal.Signals,
    later: float,
    counts: bool,
    delay: float,
    messages: Callable[[], list[str]],
) -> None:
    world = World(shutdown_delay=delay).start()
    world.lifecycle.stop(first)
    world.told(), messages()
    world.now += later
    world.lifecycle.stop(second)
    assert world.lifecycle.killed_by == (second if counts else None)
    assert messages() == ([f"ERROR a second signal, {second.name}: ending at once"] if counts else [])
    assert world.told() == []


def test_nothing_is_due_without_processes() -> None:
    assert World().lifecycle.due_at == math.inf
