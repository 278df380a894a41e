"""The fastecho server that the load generator starts, on a separate CPU, through the command line only."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

from .._options.text import format_terminator
from ._errors import LoadError

_START_SECONDS = 20.0
_STOP_SECONDS = 15.0
# Not `-m`, which puts the working directory first on the import path: the server imports what this process imports.
# While it still starts, it cannot watch --exit-fd, so Linux is asked to end it with its parent (PR_SET_PDEATHSIG is 1).
_CODE = """\
import sys
sys.path[:] = {path}
import os
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, {sigkill})
if os.getppid() == {parent}: from fastecho.cli.main import main; sys.exit(main())
"""


def split_cpus() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The CPUs for the server and for the load: apart when there are two, else no choice to make (both empty)."""
    if not hasattr(os, "sched_getaffinity"):
        return (), ()
    usable = sorted(os.sched_getaffinity(0))
    return ((usable[0],), tuple(usable[1:])) if len(usable) > 1 else ((), ())


@contextlib.contextmanager
def own_server(cpus: tuple[int, ...], workers: int = 1, terminator: bytes = b"") -> Iterator[tuple[str, int]]:
    """Its address and process id. Raises LoadError when it does not start.

    The server ends when this process ends, however that comes: only this process holds the other end of `--exit-fd`.
    """
    with contextlib.ExitStack() as ours:
        try:
            ready, ready_theirs = socket.socketpair()
            ours.enter_context(ready)
            with ready_theirs:
                ending, ending_theirs = socket.socketpair()
                ours.enter_context(ending)
                with ending_theirs, _affinity(cpus):
                    server = _start(workers, terminator, ready_theirs.fileno(), ending_theirs.fileno())
            ours.enter_context(server)
        except OSError as error:
            raise LoadError(f"cannot start a server: {error}") from None
        try:
            yield _address(server, ready, ending), server.pid
        finally:
            _end(server, ending)


def _start(workers: int, terminator: bytes, ready_fd: int, exit_fd: int) -> "subprocess.Popen[bytes]":
    """Start the server, out of reach of our environment's options and of signals that our terminal sends."""
    path = ascii([os.fspath(each) for each in sys.path])
    code = _CODE.format(path=path, parent=os.getpid(), sigkill=int(signal.SIGKILL))
    shown = format_terminator(terminator) if terminator else "none"
    arguments = ["--port", "0", "--terminator", shown, "--log-level", "warning", "--log-format", "json"]
    arguments += ["--workers", str(workers), "--ready-fd", str(ready_fd), "--exit-fd", str(exit_fd)]
    return subprocess.Popen(
        # It gets our path as it is. With -S Python reads no `.pth` files: in an ASCII locale it does not start where
        # one of them names a folder outside ASCII.
        [sys.executable, "-S", "-c", code, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("FASTECHO_")},
        pass_fds=(ready_fd, exit_fd),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@contextlib.contextmanager
def _affinity(cpus: tuple[int, ...]) -> Iterator[None]:
    """Children started inside inherit `cpus`; this thread gets its own back."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _address(server: "subprocess.Popen[bytes]", ready: socket.socket, ending: socket.socket) -> str:
    assert server.stderr is not None
    ready.settimeout(_START_SECONDS)
    with contextlib.suppress(OSError):
        if line := ready.recv(4096).decode().split("\n")[0]:
            # Nothing reads its log from here on: a full pipe would block it, one without a reader does not.
            server.stderr.close()
            return line
    _end(server, ending)
    lines = server.stderr.read().decode(errors="replace").strip().splitlines()
    raise LoadError(f"the server did not start: {_message(lines[-1]) if lines else 'it logged nothing'}")


def _message(line: str) -> str:
    """The message of a line of the log; the line where it is none, such as one of the interpreter's."""
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return line


def _end(server: "subprocess.Popen[bytes]", ending: socket.socket) -> None:
    ending.close()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
