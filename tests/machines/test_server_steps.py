"""A whole server on real sockets, moved by hypothesis through any sequence of steps of its clients and its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

import fastecho
from clients import pinned_listener
from patience import until
from stream_steps import StreamSteps, clients
from streams_sent import Stream

STEPS = 40


class ServerSteps(StreamSteps):
    """The server has small kernel buffers, so that tails are queued. Its loop runs within steps only."""

    loop: Any = None
    connections = bytes = 0

    def __init__(self) -> None:
        super().__init__()
        self.server: fastecho.EchoServer | None = None
        self.closing: asyncio.Future[None] | None = None
        self.arrived: dict[int, int] = {}

    def go(self, body: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(body, 30))

    @initialize(pinned=st.booleans(), size=st.sampled_from([512, 4096, 65536]))
    def begin(self, pinned: bool, size: int) -> None:
        self.options = {"terminator": None, "pin_buffers": pinned, "buffer_size": size, "buffers": 2}
        self.options["drain_grace"] = 0.02
        self.start()
        self.connect()

    def start(self) -> None:
        self.server = fastecho.EchoServer(sockets=[pinned_listener()], **self.options)
        self.go(self.server.start())

    @rule()
    def connect(self) -> None:
        if self.closing is None and len(self.streams) < 20:
            self.streams.append(Stream(self.server.address, len(self.streams)))
            type(self).connections += 1

    @rule(client=clients, count=st.integers(1, 20_000))
    def send(self, client: int, count: int) -> None:
        # What comes after the server began to drain, it may discard.
        if (stream := self.stream(client)) is not None and self.closing is None:
            stream.send(count)

    @rule(times=st.integers(1, 5))
    def turn(self, times: int) -> None:
        """The server's loop runs; clients that do not read are paused clients meanwhile."""

        async def turns() -> None:
            for _ in range(times):
                await asyncio.sleep(0)

        self.go(turns())

    @rule(seldom=st.integers(0, 9))
    def drain(self, seldom: int) -> None:
        """The server begins to close; clients go on. Bytes that have arrived are due. A client's kernel may hold others
        back for longer than `drain_grace`, because the window is too small: the server may discard those."""
        if seldom == 5 and self.closing is None:
            self.arrived = {stream.number: stream.acknowledged() for stream in self.streams if stream.end is None}
            self.closing = asyncio.ensure_future(self.server.close(), loop=self.loop)

    def teardown(self) -> None:
        if self.server is None:
            return
        try:
            self.go(self.to_the_end())
            stats = self.server.stats
            assert (stats.active, stats.buffers_in_use) == (0, 0)
        finally:
            for stream in self.streams:
                stream.close()
            type(self).bytes += sum(stream.received for stream in self.streams)

    async def to_the_end(self) -> None:
        """Each client reads to the end. A server that drains sends its FIN by itself."""
        for stream in self.streams if self.closing is None else ():
            stream.half_close()
        open_streams = [stream for stream in self.streams if stream.end is None]

        def read_all() -> bool:
            for stream in open_streams:
                while stream.read(65536):
                    pass
            return all(stream.end is not None for stream in open_streams)

        await until(read_all, "the end of all connections")
        for stream in open_streams:
            assert stream.end == "fin", f"client {stream.number} was reset"
            due = stream.sent if self.closing is None else self.arrived[stream.number]
            assert stream.received >= due, f"client {stream.number} lacks bytes: {stream.received} of {due}"
        for stream in self.streams:
            stream.close()
        await (self.closing or self.server.close())


@pytest.mark.proof("Over real sockets a client gets what it sent, in order, once, also while the server drains.")
def test_any_steps_of_any_clients_and_a_drain(loop, amount, record_property):
    steps = amount(suite=320, proof=6_000, release=200_000)

    class Steps(ServerSteps):
        pass

    Steps.loop = loop
    chosen = settings(max_examples=steps // STEPS, stateful_step_count=STEPS, derandomize=steps == 320)
    run_state_machine_as_test(Steps, settings=chosen)
    record_property("steps", Steps.total)
    record_property("connections", Steps.connections)
    record_property("bytes", Steps.bytes)
    assert Steps.bytes > 0, f"{Steps.total} steps of {Steps.connections} connections echoed nothing"
