"""Which loop this is, its clock, and a new one for a thread of ours."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from ..errors import FastechoError
from .kernel import monotonic

__all__ = ["check_threads", "clock_of", "new_loop", "runs_on_uvloop"]


def runs_on_uvloop(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether `loop` is uvloop's, where the session may send(2) by itself."""
    return type(loop).__module__.partition(".")[0] == "uvloop"


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The clock that the timers of `loop` run on, for what a millisecond matters to: uvloop's own `time()` is in whole
    milliseconds, and does not advance while callbacks run."""
    return monotonic if runs_on_uvloop(loop) else loop.time


class _SteadyLoop(asyncio.SelectorEventLoop):
    """Asyncio's loop, whose timers fire although a test has stopped `time.monotonic` (freezegun)."""

    def time(self) -> float:
        return monotonic()


def check_threads() -> None:
    """A server in a thread needs a real one: a greenlet in its place would wait for itself.

    Raises:
        FastechoError: gevent or eventlet has replaced them.
    """
    _check_module("threading", "thread")


def _check_module(name: str, in_eventlet: str) -> None:
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched(name):
        by, call = "gevent", "monkey.patch_all"
    elif eventlet is not None and eventlet.is_monkey_patched(in_eventlet):
        by, call = "eventlet", "monkey_patch"
    else:
        return
    raise FastechoError(
        f"{by} has replaced {name}, and the server needs the real one: call {call}({in_eventlet}=False), or run the "
        "command fastecho as a process"
    )


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, or stock asyncio's where there is none. No test can stop its clock.

    Raises:
        FastechoError: there is no uvloop, and gevent or eventlet has replaced what asyncio's loop needs.
    """
    try:
        import uvloop
    except ImportError:  # no wheel and no compiler for this platform: slower, but the same server
        _check_module("select", "select")
        return _SteadyLoop()
    return uvloop.new_event_loop()
