"""The shared counters and the published state, as another process sees them."""

from __future__ import annotations

import asyncio
import os

import pytest

from fastecho._counters import SharedCounters
from fastecho._metrics.state import RESTART_CAUSES, Phase, ServiceState, WorkerState
from fastecho.server import EchoServer
from patience import until


def test_the_counts_of_a_process_that_has_ended_stay_where_they_are_and_its_gauges_go(run) -> None:
    shared = SharedCounters(2)
    counters = shared.counters_of(1)

    async def serve() -> None:
        async with EchoServer(port=0, counters=counters) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(b"hello\0")
            assert await reader.read() == b"hello\0"
            writer.close()
            await writer.wait_closed()
            await until(lambda: server.stats.active == 0, "its end")

    run(serve())
    counters.beat()
    counters.pid = 1
    before = counters.snapshot()
    assert before["accepted"] == before["ends"]["terminator"] == 1
    assert before["buffers_total"] > 0
    shared.retire(1)
    # Another process that sums them meanwhile sees neither more nor less.
    assert counters.snapshot() == shared.totals() == {**before, "buffers_total": 0}
    assert counters.heartbeat == counters.pid == 0


@pytest.mark.parametrize(("size", "index"), [(0, None), (-1, None), (2, 2), (2, -1)])
def test_counters_that_there_are_not_are_refused(size: int, index: int | None) -> None:
    if index is None:
        with pytest.raises(ValueError, match=f"size={size}: must be at least 1"):
            SharedCounters(size)
    else:
        with pytest.raises(IndexError, match=f"counters {index}: there are {size}"):
            SharedCounters(size).counters_of(index)


def test_the_state_is_shared_with_a_child() -> None:
    state = ServiceState()
    assert (state.phase, state.workers(), state.unready()) == (Phase.STARTING, [], "starting")
    if os.fork() == 0:
        state.publish(Phase.READY, [WorkerState(True, 7), WorkerState(False, 0)])
        state.count_restart("hang")
        os._exit(0)
    os.wait()
    assert (state.phase, state.unready()) == (Phase.READY, None)
    assert state.workers() == [WorkerState(True, 7), WorkerState(False, 0)]
    assert state.restarts == {cause: int(cause == "hang") for cause in RESTART_CAUSES}


def test_a_service_is_unready_without_a_worker_and_when_it_stops() -> None:
    state = ServiceState()
    state.publish(Phase.READY, [WorkerState(False, 0)])
    assert state.unready() == "no worker is up"
    state.publish(Phase.STOPPING, [WorkerState(True, 0)])
    assert state.unready() == "stopping"


def test_workers_that_are_taken_away_are_gone() -> None:
    state = ServiceState()
    state.publish(Phase.READY, [WorkerState(True, index) for index in range(4)])
    state.publish(Phase.READY, [WorkerState(True, 3)])
    assert state.workers() == [WorkerState(True, 3)]
    state.publish(Phase.READY, [WorkerState(True, 0)] * 5000)
    assert len(state.workers()) == 1024
