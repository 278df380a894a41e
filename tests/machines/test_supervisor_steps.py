"""A service of two workers, moved by hypothesis through any sequence of steps of its clients, kills and reloads."""

from __future__ import annotations

import os
import select
import signal
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from patience import DEADLINE, wait_until
from processes import Service, connections_of
from stream_steps import StreamSteps, clients
from streams_sent import Stream

STEPS = 30
WORKERS = 2
OPTIONS = ("--terminator", "none", "--drain-grace", "0.05", "--log-level", "info")


class SupervisorSteps(StreamSteps):
    """Each sequence starts its service: one that is killed again and again waits longer and longer.

    A stream in `killed` may have lost the end of its echo, no other. Streams in `drained` send nothing more.
    """

    total_kills = total_reloads = connections = 0

    def __init__(self) -> None:
        super().__init__()
        self.killed: set[int] = set()
        self.drained: set[int] = set()
        self.kills = self.reloads = 0
        self.service = Service("--workers", str(WORKERS), *OPTIONS)

    def workers(self) -> list[int]:
        """The pids of all workers, once each is ready."""

        def all_ready() -> list[int] | None:
            ready = {pid for _, pid in self.service.started()}
            pids = self.service.workers()
            return pids if len(pids) == WORKERS and set(pids) <= ready else None

        return wait_until(all_ready, "all workers", 2 * DEADLINE)

    @rule()
    def connect(self) -> None:
        if len(self.streams) < 20:
            self.streams.append(Stream(self.service.address, len(self.streams), None))
            type(self).connections += 1

    @rule(client=clients, count=st.integers(1, 20_000))
    def send(self, client: int, count: int) -> None:
        stream = self.stream(client)
        if stream is not None and stream.number not in self.drained:
            stream.send(count)

    @rule(which=st.integers(0, WORKERS - 1), seldom=st.integers(0, 2))
    def kill_a_worker(self, which: int, seldom: int) -> None:
        if seldom != 1 or not self.streams or self.kills == 2:
            return
        self.kills += 1
        self.await_accepts()
        pid = sorted(self.workers())[which]
        ports = connections_of(pid, self.service.address[1])
        os.kill(pid, signal.SIGKILL)
        self.killed |= {stream.number for stream in self.streams if stream.port in ports}
        wait_until(lambda: pid not in self.service.workers(), "the end of the worker")

    @rule(seldom=st.integers(0, 2))
    def reload(self, seldom: int) -> None:
        """All workers are replaced. What was sent before is due. The clients send FIN: an old worker leaves a client
        that says nothing connected until `drain_timeout`."""
        if seldom != 1 or not self.streams or self.reloads == 2:
            return
        self.reloads += 1
        self.await_accepts()
        before = set(self.workers())
        self.service.send(signal.SIGHUP)
        self.drained |= {stream.number for stream in self.streams}

        def replaced() -> bool:
            # An old worker waits for the clients that have not got all of their echo.
            for stream in self.streams:
                stream.half_close()
                while stream.read(65536):
                    pass
            return len(workers := self.service.workers()) == WORKERS and not before & set(workers)

        wait_until(replaced, "new workers", 3 * DEADLINE)

    def await_accepts(self) -> None:
        """Until each connection has been accepted by a worker, so that its worker is known."""

        def accepted() -> bool:
            for stream in self.streams:
                # The server may have closed it already.
                while stream.fin_sent and stream.read(65536):
                    pass
            port, known = self.service.address[1], set()
            for pid in self.workers():
                known |= connections_of(pid, port)
            gone = self.killed | self.drained
            return all(s.port in known or s.number in gone or s.end is not None for s in self.streams)

        wait_until(accepted, "all connections are accepted")

    def teardown(self) -> None:
        try:
            for stream in self.streams:
                stream.half_close()
            left = [stream for stream in self.streams if stream.end is None]
            end = time.monotonic() + 2 * DEADLINE
            while left and time.monotonic() < end:
                select.select([stream.sock for stream in left], [], [], 1)
                for stream in left:
                    while stream.read(65536):
                        pass
                left = [stream for stream in left if stream.end is None]
            assert not left, f"clients {[stream.number for stream in left]} do not end"
            for stream in self.streams:
                if stream.end != "own reset" and stream.number not in self.killed:
                    assert stream.received == stream.sent, f"client {stream.number} lacks bytes, {stream.end}"
                    assert stream.end == "fin", f"client {stream.number} was reset"
            assert self.service.stop() == 0
            assert "Traceback" not in self.service.errors
        finally:
            for stream in self.streams:
                stream.close()
            self.service.__exit__()
            kind = type(self)
            kind.total_kills += self.kills
            kind.total_reloads += self.reloads


@pytest.mark.proof("A client whose worker was killed gets a prefix of its echo; every other client gets all of it.")
def test_any_steps_with_killed_and_replaced_workers(amount, record_property):
    steps = amount(suite=60, proof=600, release=30_000)

    class Steps(SupervisorSteps):
        pass

    chosen = settings(max_examples=steps // STEPS, stateful_step_count=STEPS, derandomize=steps == 60)
    run_state_machine_as_test(Steps, settings=chosen)
    record_property("steps", Steps.total)
    record_property("connections", Steps.connections)
    record_property("workers_killed", Steps.total_kills)
    record_property("reloads", Steps.total_reloads)
