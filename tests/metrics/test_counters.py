"""The shared counters and the published state, as another process sees them."""

from __future__ import annotations

import os

from fastecho._counters import SharedCounters
from fastecho._metrics.state import RESTART_CAUSES, Phase, ServiceState, WorkerState
from fastecho.server import EchoServer


def test_totals_of_a_process_that_has_ended_stay_and_its_gauges_go(run) -> None:
    shared = SharedCounters(2)

    async def serve() -> None:
        async with EchoServer(port=0, counters=shared.counters_of(1)) as server:
            server.sessions.stats()

    run(serve())
    assert shared.totals()["buffers_total"] > 0
    shared.retire(1)
    assert shared.totals()["buffers_total"] == shared.counters_of(1).heartbeat == shared.counters_of(1).pid == 0


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
