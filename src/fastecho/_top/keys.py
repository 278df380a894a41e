"""Keys that are pressed while the panel is shown."""

import os
import select
import sys
import termios
import tty
from types import TracebackType
from typing import Any


class Keys:
    """Reads the terminal at standard input key by key inside `with`. Without a terminal there are no keys."""

    def __init__(self) -> None:
        stdin = sys.__stdin__
        self._descriptor = stdin.fileno() if stdin is not None and stdin.isatty() else None
        self._before: list[Any] = []

    def __enter__(self) -> "Keys":
        if self._descriptor is not None:
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor, termios.TCSANOW)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._descriptor is not None:
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)

    @property
    def can_be_pressed(self) -> bool:
        return self._descriptor is not None

    def wait(self, seconds: float) -> str:
        """The keys that are pressed within `seconds`; "q" when the terminal has gone."""
        watched = [] if self._descriptor is None else [self._descriptor]
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if self._descriptor is None or not ready:
            return ""
        try:
            return os.read(self._descriptor, 64).decode(errors="replace") or "q"
        except OSError:
            return "q"
