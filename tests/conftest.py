"""Fixtures for all tests: both event loops, one time limit, one way to wait, and no error of a loop unseen.

The body of a behavioural test is an `async def` that the `run` fixture runs on uvloop and then on stock asyncio. Tests
wait for a state (`until`), never for a length of time. `FASTECHO_TEST_UNIT=3` makes each time limit three times as
long.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from children import ChildServer
from patience import DEADLINE

pytest_plugins = ["pytester", "evidence"]

# A background job of a script has SIGINT ignored, and a job of nohup SIGHUP. The processes that the tests start would
# inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# `make` passes its variables to its commands. A `make` that a test runs must not see them.
for name in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHON", "VENV"):
    os.environ.pop(name, None)

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Runner = Callable[..., Any]

settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False)
settings.load_profile(os.environ.get("FASTECHO_HYPOTHESIS", "ci"))

LOOPS: dict[str, LoopFactory] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}


@pytest.fixture(params=list(LOOPS))
def loop_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def loop_factory(loop_name: str) -> LoopFactory:
    return LOOPS[loop_name]


@pytest.fixture(params=[False, True], ids=["leased", "pinned"])
def pinned(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def loop(loop_factory: LoopFactory) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that is not running; what reaches its exception handler fails the test."""
    loop = loop_factory()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        yield loop
        leftovers = [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in leftovers:
            task.cancel()
        if leftovers:
            loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    assert not complaints, f"the loop's exception handler was called: {complaints}"


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop) -> Runner:
    """Run an `async def` body on the loop, with a limit in seconds (scaled by the time unit)."""

    def run(body: Coroutine[Any, Any, T], limit: float = 2 * DEADLINE) -> T:
        return loop.run_until_complete(asyncio.wait_for(body, limit))

    return run


@pytest.fixture
def child(loop_name: str) -> Iterator[Callable[..., ChildServer]]:
    """Start an EchoServer in a separate Python process; stopped when the test ends."""
    started: list[ChildServer] = []

    def start(**options: Any) -> ChildServer:
        server = ChildServer(loop_name, options)
        started.append(server)
        return server.ready()

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def only_uvloop(loop_name: str) -> None:
    if loop_name != "uvloop":
        pytest.skip("states a figure of uvloop")


def pytest_report_header() -> str:
    return f"time unit: {DEADLINE / 10:g} s, at {time.strftime('%H:%M:%S')}"
