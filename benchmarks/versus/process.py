"""A server process: started on its core, asked for its CPU time and its memory, ended. Linux only (/proc)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.versus.certificate import pem_file
from benchmarks.versus.peers import Peer

# The state of a listening socket in /proc/PID/net/tcp.
LISTEN = "0A"
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0


class ServerError(Exception):
    """A server that did not start, or that died while it was measured; one line."""


def process_tree(pid: int) -> Iterator[int]:
    """The process and all its descendants."""
    yield pid
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for child in (task / "children").read_text().split():
                    yield from process_tree(int(child))


@contextlib.contextmanager
def taking_turns(wanted: bool = True) -> Iterator[None]:
    """Threads and processes that start inside have one fixed priority (SCHED_FIFO): on one core, each runs until it
    sleeps.

    A server and a load with N connections then take turns: each gets the work of all N at once, and wakes up once for
    it. With the default scheduler, or on two cores, how often a server wakes up depends on its speed, on the
    machine and on chance, and a wake-up can cost as much as a connection.
    """
    if not wanted:
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        raise ServerError("SCHED_FIFO is not permitted: run as root, or with the limit of `ulimit -r 1`") from None
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def cpu_clock(pid: int) -> int:
    """The id of a process's CPU clock (clock_getcpuclockid(3)): all threads, user and system, in nanoseconds.

    The counters of /proc/PID/stat step by 10 ms, those of schedstat lag a running thread by a tick; this does
    neither.
    """
    return (~pid << 3) | 2


def listening_port(pid: int) -> int | None:
    """The port of the listening IPv4 socket of the process; None without one."""
    sockets = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sockets.add(os.readlink(descriptor))
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            _, address, _, state, *fields = line.split()
            if state == LISTEN and f"socket:[{fields[5]}]" in sockets:
                return int(address.rpartition(":")[2], 16)
    return None


class Server:
    """A running peer; a context manager that ends it."""

    def __init__(
        self, peer: Peer, cpu: int | None, extra: Sequence[str] = (), take_turns: bool = False
    ) -> None:
        if (reason := peer.missing()) is not None:
            raise ServerError(reason)
        self.peer = peer
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the server
        ready, ready_write = os.pipe()
        words = {"PORT": "0", "READY_FD": str(ready_write)}
        if "CERT" in peer.command:
            words["CERT"] = pem_file()
        command = [words.get(word, word) for word in (*peer.command, *extra)]
        own_pipe = "READY_FD" in peer.command
        # Pinned by inheritance, so that runtimes that count CPUs as they start (Go) see the one core.
        before = os.sched_getaffinity(0)
        try:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            with taking_turns(take_turns):
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL if own_pipe else ready_write,
                    stderr=self._errors,
                    pass_fds=(ready_write,) if own_pipe else (),
                )
        except (OSError, ServerError) as error:
            os.close(ready)
            self._errors.close()
            if isinstance(error, ServerError):
                raise
            raise ServerError(f"cannot start {Path(command[0]).name}: {error.strerror}") from None
        finally:
            os.sched_setaffinity(0, before)
            os.close(ready_write)
        try:
            self.port = self._look_up_port() if peer.silent else self._read_port(ready)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(ready)

    def _read_port(self, ready: int) -> int:
        said = b""
        until = time.monotonic() + START_TIMEOUT
        while not said.endswith(b"\n"):
            readable, _, _ = select.select([ready], [], [], max(0.0, until - time.monotonic()))
            chunk = os.read(ready, 4096) if readable else b""
            if not chunk:
                why = "ended before it was ready" if readable else f"not ready within {START_TIMEOUT:g} s"
                raise ServerError(f"{why}{self.last_words()}")
            said += chunk
        if not (match := re.search(rb"(\d+)\s*$", said)):
            raise ServerError(f"no port in its ready line {said!r}")
        return int(match[1])

    def _look_up_port(self) -> int:
        until = time.monotonic() + START_TIMEOUT
        while self._process.poll() is None and time.monotonic() < until:
            if (port := listening_port(self._process.pid)) is not None:
                return port
            time.sleep(0.005)
        ended = self._process.poll() is not None
        why = "ended before it was ready" if ended else f"not ready within {START_TIMEOUT:g} s"
        raise ServerError(f"{why}{self.last_words()}")

    def last_words(self) -> str:
        """The last line of its standard error, as the end of a message; empty without one."""
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f" ({lines[-1]})" if lines else ""

    def check_alive(self) -> None:
        if (code := self._process.poll()) is not None:
            raise ServerError(f"ended with {code} while in use{self.last_words()}")

    def processes(self) -> tuple[int, ...]:
        """The ids of the server and its descendants now."""
        return tuple(process_tree(self._process.pid))

    def cpu_seconds(self, processes: Sequence[int]) -> float:
        """CPU time, user and system, that these processes have used since they started."""
        try:
            return sum(time.clock_gettime_ns(cpu_clock(pid)) for pid in processes) / 1e9
        except OSError:
            raise ServerError(f"a process of it ended{self.last_words()}") from None

    def wakeups(self, processes: Sequence[int]) -> int:
        """How often the threads of these processes have gone to sleep; those of threads that have ended are lost."""
        total = 0
        for pid in processes:
            for task in Path(f"/proc/{pid}/task").glob("*/status"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", task.read_text(), re.MULTILINE)
                    total += int(found[1]) if found else 0
        return total

    def resident_bytes(self) -> int:
        """Bytes of anonymous memory (not of files) resident in the server and its descendants.

        Proportional: a page that a fork shares counts once, and code pages that another run of the same
        program happens to share do not move the figure.
        """
        total = 0
        for pid in self.processes():
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            found = re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", text, re.MULTILINE)
            total += sum(int(kib) for kib in found)
        return total * 1024

    def close(self) -> None:
        """Ends it with SIGTERM, after a while with SIGKILL; no descendant outlives it."""
        processes = self.processes()
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in processes[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._errors.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
