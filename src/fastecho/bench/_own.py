"""A fastecho server of the load generator's own, on a CPU of its own, met through its command line only."""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator

from .spec import LoadError

_START_SECONDS = 20.0
_STOP_SECONDS = 15.0


def split_cpus() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The CPUs for the server and for the load: apart when there are two, else no choice to make (both empty)."""
    if not hasattr(os, "sched_getaffinity"):
        return (), ()
    usable = sorted(os.sched_getaffinity(0))
    return ((usable[0],), tuple(usable[1:])) if len(usable) > 1 else ((), ())


@contextlib.contextmanager
def own_server(cpus: tuple[int, ...], workers: int = 1) -> Iterator[tuple[str, int]]:
    """Its address and process id. Raises LoadError when it does not start."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "fastecho", "--port", "0", "--terminator", "none", "--log-level", "warning"]
    command += ["--workers", str(workers), "--ready-fd", str(writer)]
    try:
        with _affinity(cpus):
            server = subprocess.Popen(command, pass_fds=(writer,), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except OSError as error:
        os.close(reader)
        raise LoadError(f"cannot start a server: {error}") from None
    finally:
        os.close(writer)
    with server:
        try:
            yield _address(server, reader), server.pid
        finally:
            os.close(reader)
            _end(server)


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


def _address(server: "subprocess.Popen[bytes]", reader: int) -> str:
    ready, _, _ = select.select([reader], [], [], _START_SECONDS)
    line = os.read(reader, 4096).decode().split("\n")[0] if ready else ""
    if line:
        return line
    _end(server)
    assert server.stderr is not None
    said = server.stderr.read().decode(errors="replace").strip().splitlines()
    raise LoadError(f"the server did not start: {said[-1] if said else 'it said nothing'}")


def _end(server: "subprocess.Popen[bytes]") -> None:
    if server.poll() is None:
        server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
