"""The command `fastecho` as a separate process: started on a free port, watched, killed and stopped."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from clients import Address, connect_blocking, read_exactly
from patience import DEADLINE, wait_until

SUPERVISOR = """
import ast, sys
from fastecho._workers.logs import setup_logging
from fastecho.config import ServerConfig
from fastecho.errors import FastechoError
exec(sys.argv[3])
from fastecho._workers.supervisor import Supervisor
setup_logging("debug", "text")
try:
    sys.exit(Supervisor(ServerConfig(**ast.literal_eval(sys.argv[1])), **ast.literal_eval(sys.argv[2])).run())
except FastechoError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
"""`Supervisor` with parameters that the command line does not have; a third argument runs before it is imported."""

WORKER = re.compile(r"worker (\d+) \(pid (\d+)\) is ready")


class Service:
    """`python -m fastecho` with `--port 0` and `arguments`, ready; killed with its workers at the end of `with`."""

    def __init__(self, *arguments: str, unix: str | None = None, command: list[str] | None = None,
                 **popen: Any) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        ready, theirs = os.pipe()
        where = ["--unix", unix] if unix is not None else ["--port", "0"]
        if command is None:
            command = [sys.executable, "-m", "fastecho", *where, "--ready-fd", str(theirs), *arguments]
        else:
            command = [part.replace("READY_FD", str(theirs)) for part in command]
        self.process = subprocess.Popen(
            command,
            stderr=popen.pop("stderr", self._errors),
            stdin=popen.pop("stdin", subprocess.DEVNULL),
            pass_fds=(theirs, *popen.pop("pass_fds", ())),
            **popen,
        )
        os.close(theirs)
        self.pid = self.process.pid
        self.addresses: list[str] = []
        self._seen: set[int] = set()
        try:
            self.addresses = _read_lines(ready)
            if not self.addresses:
                self.process.wait(DEADLINE)
        except BaseException:
            self.__exit__()
            raise
        finally:
            os.close(ready)

    @classmethod
    def supervisor(cls, parameters: dict[str, Any], before: str = "pass", **options: Any) -> Service:
        """A `Supervisor` with `parameters` (and what `before` does first) instead of the command."""
        shown = repr({"port": 0, **options, "ready_fd": 0}).replace("'ready_fd': 0", "'ready_fd': READY_FD")
        return cls(command=[sys.executable, "-c", SUPERVISOR, shown, repr(parameters), before])

    @property
    def address(self) -> Address:
        return to_address(self.addresses[0])

    @property
    def errors(self) -> str:
        """Everything it has written to standard error so far."""
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode()

    def workers(self) -> list[int]:
        """The pids of its living children."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return []
        living = [pid for pid in map(int, children) if is_alive(pid)]
        self._seen.update(living)
        return living

    def started(self) -> list[tuple[int, int]]:
        """(slot, pid) of every worker that was ever ready, in order."""
        return [(int(slot), int(pid)) for slot, pid in WORKER.findall(self.errors)]

    def current(self) -> dict[int, int]:
        """The pid that became ready last, by slot."""
        return dict(self.started())

    def wait_for(self, text: str, count: int = 1, limit: float = DEADLINE) -> None:
        try:
            wait_until(lambda: self.errors.count(text) >= count, f"{text!r} in the log", limit)
        except AssertionError as exc:
            raise AssertionError(f"{exc}:\n{self.errors}") from None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, limit: float = 2 * DEADLINE) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(limit)

    def stop(self, number: signal.Signals = signal.SIGTERM, limit: float = 2 * DEADLINE) -> int:
        self.send(number)
        return self.wait(limit)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        left = {*self.workers(), *self._seen} if self.process.poll() is None else self._seen
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        for pid in left:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"fastecho" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        self._errors.close()


def _read_lines(descriptor: int) -> list[str]:
    text = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while selector.select(2 * DEADLINE):
            part = os.read(descriptor, 4096)
            if not part:
                return text.decode().splitlines()
            text += part
    raise AssertionError("the service was not ready in time")


def to_address(text: str) -> Address:
    """What connects to `tcp://127.0.0.1:8007`, `tcp://[::1]:8007` or `unix:/path`."""
    if text.startswith("unix:"):
        return re.sub("^@", "\0", text.removeprefix("unix:"))
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    return _state(pid) not in "ZX"


def _state(pid: int) -> str:
    """The letter of proc(5); X for a process that is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def connections_of(pid: int, port: int) -> set[int]:
    """The peers' ports of the TCP connections on local `port` that the process has accepted; none if it has ended."""
    inodes = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(link)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    peers = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and int(fields[1].rpartition(":")[2], 16) == port and fields[3] != "0A":
            peers.add(int(fields[2].rpartition(":")[2], 16))
    return peers


def freeze(pid: int, port: int) -> set[int]:
    """Stop a worker with SIGSTOP; the peers' ports of the connections on `port` that it alone serves."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: not is_alive(pid) or _state(pid) in "tT", "a stopped process")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return connections_of(pid, port)
    return set()


def echoes(sock: socket.socket, data: bytes = b"hello") -> bool:
    """Whether `sock` gives `data` back."""
    sock.sendall(data)
    return read_exactly(sock, len(data)) == data


def one_echo(address: Address, data: bytes = b"hello\0") -> bytes:
    """What a new connection gets back, to its end. The default ends the session."""
    with connect_blocking(address) as sock:
        sock.sendall(data)
        got = b""
        while part := sock.recv(65536):
            got += part
        return got


def milliseconds(since: float) -> float:
    return (time.monotonic() - since) * 1000
