"""An EchoServer in a separate Python process, so that its memory and descriptors can be counted alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("child_server.py")


class ChildServer:
    """`address` and `pid` once `ready()`; `stats()` asks it; `stop()` drains it and gives its exit code.

    `under` changes its command, for a program that runs it; `environment` is that of this process by default.
    """

    def __init__(
        self,
        loop_name: str,
        options: dict[str, Any],
        under: Callable[[list[str]], list[str]] = lambda command: command,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            under([sys.executable, "-W", "error", str(SCRIPT), loop_name, repr(options)]),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self.address: Any = None
        self.started: dict[str, Any] = {}

    def ready(self) -> ChildServer:
        self.started = self._answer()
        address = self.started["address"]
        self.address = address if isinstance(address, str) else tuple(address)
        return self

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(f"the child server died: {self.process.stderr.read()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stats(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("stats\n")
        self.process.stdin.flush()
        return self._answer()

    def stop(self, timeout: float = 20) -> tuple[int, str]:
        """End its input, which makes it drain; exit code and what it wrote to standard error."""
        _, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, err

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
