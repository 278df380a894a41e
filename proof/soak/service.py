"""One fastecho service as a child of this process. Linux only (/proc)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

from benchmarks.procfs import descriptors

# The services of a soak.
STEADY, DISTURBED, SECURE = "steady", "disturbed", "TLS"
START_TIMEOUT, STOP_TIMEOUT = 30.0, 60.0


class ServiceError(Exception):
    """A service that did not start, or did not end as it should; one line."""


class Service:
    """`fastecho` with `arguments` on a free port of loopback; a context manager that stops it.

    It ends with this process, however that comes: only this process holds the other end of `--exit-fd`.
    """

    def __init__(self, name: str, workers: int, *arguments: str) -> None:
        self.name, self.workers = name, workers
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the service
        ready, ready_theirs = os.pipe()
        ending_theirs, self._ending = os.pipe()
        command = [sys.executable, "-m", "fastecho", "--port", "0", "--workers", str(workers), "--log-level", "warning"]
        command += ["--terminator", "none", "--ready-fd", str(ready_theirs), "--exit-fd", str(ending_theirs)]
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            pass_fds=(ready_theirs, ending_theirs),
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("FASTECHO_")},
        )
        os.close(ready_theirs)
        os.close(ending_theirs)
        try:
            self.port = self._read_port(ready)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            os.close(ready)

    def _read_port(self, ready: int) -> int:
        readable, _, _ = select.select([ready], [], [], START_TIMEOUT)
        said = os.read(ready, 4096) if readable else b""
        if not (match := re.search(rb":(\d+)\s", said)):
            raise ServiceError(f"{self.name} did not start: {self.last_words()}")
        return int(match[1])

    @property
    def supervisor(self) -> int:
        return self._process.pid

    def worker_pids(self) -> list[int]:
        children = Path(f"/proc/{self.supervisor}/task/{self.supervisor}/children").read_text()
        return [int(pid) for pid in children.split()]

    def log(self) -> str:
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def last_words(self) -> str:
        return (self.log().strip().splitlines() or ["it logged nothing"])[-1]

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self, pid: int) -> int:
        """Kill a worker with SIGKILL; how many descriptors it had."""
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(pid, signal.SIGSTOP)  # it takes no more while they are counted
            had = descriptors(pid)
            os.kill(pid, signal.SIGKILL)
            return had
        return 0

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def await_workers(self, other_than: Collection[int], seconds: float) -> bool:
        """Wait until it has all its workers, none of them in `other_than`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.is_alive():
            pids = self.worker_pids()
            if len(pids) == self.workers and not set(pids) & set(other_than):
                return True
            time.sleep(0.1)
        return False

    def stop(self) -> None:
        """End it with SIGTERM. Raises ServiceError unless it drains and exits with 0."""
        if self.is_alive():
            self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ServiceError(f"{self.name} did not end within {STOP_TIMEOUT:g} s of SIGTERM") from None
        if code:
            raise ServiceError(f"{self.name} ended with exit code {code}: {self.last_words()}")

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            os.close(self._ending)
        if self.is_alive():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
            self._process.kill()
            self._process.wait()
        self._log.close()
