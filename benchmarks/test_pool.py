"""The buffer pool: pinned sessions begin and end, each with a buffer, warm and at the edge of a slab."""

from __future__ import annotations

import asyncio

import pytest

from fastecho import ServerConfig
from fastecho._session import EchoSession, Sessions


@pytest.fixture
def sessions():
    loop = asyncio.new_event_loop()
    sessions = Sessions(ServerConfig(buffers=64, buffer_size=65536, pin_buffers=True), loop)
    yield sessions
    sessions.close()
    loop.close()


def begin(sessions: Sessions) -> EchoSession:
    session = sessions.new_session()
    session.connection_made(asyncio.Transport())
    return session


@pytest.mark.parametrize("held", [0, 32, 63, 64], ids=lambda held: f"{held} of 64 held")
def test_acquire_and_release(benchmark, sessions, held):
    benchmark.group = "acquire and release 64 KiB"
    for _ in range(held):
        begin(sessions)

    def acquire_and_release() -> None:
        begin(sessions).connection_lost(None)

    benchmark(acquire_and_release)
    assert sessions.pool.in_use == held


def test_fresh_bytearray(benchmark):
    benchmark.group = "acquire and release 64 KiB"
    benchmark(bytearray, 65536)


def test_burst(benchmark, sessions):
    """A thousand sessions begin and end: fifteen slabs are mapped, and unmapped."""
    benchmark.group = "1000 acquire, then 1000 release"

    def burst() -> None:
        for session in [begin(sessions) for _ in range(1000)]:
            session.connection_lost(None)

    benchmark(burst)
    assert sessions.pool.capacity == sessions.pool.preallocated
