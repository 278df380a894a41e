"""How long a test waits, in one place, and the only two ways to wait: for a state, never for a time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

UNIT = float(os.environ.get("FASTECHO_TEST_UNIT", "1"))
DEADLINE = 10 * UNIT
TICK = 0.002

T = TypeVar("T")


async def until(state: Callable[[], T], what: str, limit: float = DEADLINE) -> T:
    """Turn the loop until `state()` is true; AssertionError that says `what` did not come."""
    end = time.monotonic() + limit
    while not (value := state()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:g} s: {what}")
        await asyncio.sleep(TICK)
    return value


def wait_until(state: Callable[[], T], what: str, limit: float = DEADLINE) -> T:
    """The same for code without a loop."""
    end = time.monotonic() + limit
    while not (value := state()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit:g} s: {what}")
        time.sleep(TICK)
    return value


# For the beginning of a script of `python -X dev`. In debug mode asyncio reports callbacks that took more than
# 0.1 s, and on a busy machine any callback may take that long.
WITHOUT_SLOW_CALLBACKS = """
import logging
logging.getLogger("asyncio").addFilter(lambda record: " took " not in record.getMessage())
"""
