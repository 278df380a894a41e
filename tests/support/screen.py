"""A pseudo-terminal for commands, and what they have shown there."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable
from typing import Any

from patience import DEADLINE, wait_until

MARK = "\x1e"


class Screen:
    """`theirs` is the descriptor for a command, `ours` that of the keyboard, `shown` the text so far."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()
        self.shown = ""

    def read(self) -> None:
        """Take what has been shown since."""
        while select.select([self.ours], [], [], 0)[0]:
            self.shown += os.read(self.ours, 65536).decode(errors="replace")

    def wait_for(self, state: Callable[[str], Any], what: str, limit: float = 2 * DEADLINE) -> None:
        def reached() -> bool:
            self.read()
            return bool(state(self.shown))

        wait_until(reached, what, limit)

    def wait_for_end(self, process: subprocess.Popen[Any]) -> int:
        """Wait for the end of the command, and take the rest; its exit code."""
        self.wait_for(lambda _: process.poll() is not None, "its end", 3 * DEADLINE)
        # A thread of the kernel passes on what was written, in order, and later: a mark comes behind the rest.
        os.write(self.theirs, MARK.encode())
        self.wait_for(lambda shown: shown.endswith(MARK), "the rest of what it has shown")
        self.shown = self.shown.removesuffix(MARK)
        return int(process.returncode)

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.theirs)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
