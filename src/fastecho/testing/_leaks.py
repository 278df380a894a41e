"""Who is left when a server is stopped, and what is said of it."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Sequence

from ..errors import FastechoError
from ._conditions import waits_for
from ._loop import HELD_UP
from ._notes import Notes

__all__ = ["LeakWarning", "TeardownError", "complain", "held_up"]

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_MOST_LINES = 20


class LeakWarning(UserWarning):
    """A client still held a connection open when the server was stopped."""


class TeardownError(FastechoError, AssertionError):
    """The server could not be stopped in `teardown_timeout`, or, with `leak="error"`, clients held connections open."""


def complain(left: Sequence[Notes], url: str, leak: str) -> None:
    """Ignore, warn of, or raise for the connections that are `left`."""
    if not left or leak == "ignore":
        return
    lines = [waits_for(notes) for notes in left[:_MOST_LINES]]
    text = f"{len(left)} connection(s) left open on {url}:\n  " + "\n  ".join(lines)
    if leak == "error":
        raise TeardownError(text)
    warnings.warn(LeakWarning(text), stacklevel=_callers_level())


def held_up(timeout: float, left: Sequence[Notes]) -> TeardownError:
    """The error of a stop that took longer than `timeout` seconds."""
    who = "; ".join(map(waits_for, left[:_MOST_LINES])) or "none"
    return TeardownError(f"not stopped within {timeout:g} s: {HELD_UP}; left open: {who}")


def _callers_level() -> int:
    """For a warning: how far up the code is that is neither ours nor of what calls it at the end of a block."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_PACKAGE, contextlib.__file__)):
        frame, level = frame.f_back, level + 1
    return level
