"""A run with what can be seen of the server beside it, and the document that `--json` writes."""

import contextlib
import dataclasses
import errno
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import FastechoError
from ._procfs import Tasks, process_name, server_pids, spent, tasks_cpu
from .max_rate import MaxRate
from .result import LoadResult
from .run import ProgressHook, run_load
from .spec import LoadSpec
from .stop import Stop
from .target import Target

SCHEMA = "fastecho-bench/1"
SATURATED = 0.95


class ReportError(FastechoError):
    """A file is not what `--json` writes."""


@dataclasses.dataclass(frozen=True)
class Server:
    """The server's side: its processes, their CPU seconds inside the window, and the busiest thread's share of it."""

    pids: tuple[int, ...]
    name: str
    cpu: float
    utilisation: float

    def to_dict(self, seconds: float) -> dict[str, Any]:
        """With `cores`: CPU seconds of all processes a second of a window of `seconds`."""
        return {**dataclasses.asdict(self), "cores": self.cpu / seconds if seconds else 0.0}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Server":
        return cls(tuple(plain["pids"]), plain["name"], plain["cpu"], plain["utilisation"])


@dataclasses.dataclass(frozen=True)
class Report:
    """A result with its circumstances.

    `parts` names the runs that it was merged from (see `comparable.parts_of`); `max_rate` is there after a search.
    """

    result: LoadResult
    server: Server | None
    machine: dict[str, Any]
    versions: dict[str, str]
    command: tuple[str, ...]
    runs: int = 1
    parts: tuple[str, ...] = ()
    max_rate: MaxRate | None = None

    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures has to know, a line each."""
        return tuple(_warnings(self.result, self.server))

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "command": list(self.command),
            "machine": self.machine,
            "versions": self.versions,
            "runs": self.runs,
            "parts": list(self.parts),
            "max_rate": None if self.max_rate is None else dataclasses.asdict(self.max_rate),
            "result": self.result.to_dict(),
            "server": None if self.server is None else self.server.to_dict(self.result.seconds),
            "warnings": list(self.warnings()),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Report":
        server = plain["server"]
        return cls(
            result=LoadResult.from_dict(plain["result"]),
            server=None if server is None else Server.from_dict(server),
            machine=plain["machine"],
            versions=plain["versions"],
            command=tuple(plain["command"]),
            runs=plain["runs"],
            parts=tuple(plain.get("parts", ())),
            max_rate=MaxRate(**plain["max_rate"]) if plain.get("max_rate") else None,
        )

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def save(self, path: str) -> None:
        """Raises ReportError when the file cannot be written."""
        write_file(path, self.to_json())

    @classmethod
    def load(cls, path: str) -> "Report":
        """Raises ReportError when the file cannot be read, or is not of `save`."""
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
            if plain.get("schema") != SCHEMA:
                raise ValueError("its schema is another")
            report = cls.from_dict(plain)
            _ = report.result.latencies
        except OSError as error:
            raise ReportError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReportError(f"{path}: not written by fastecho bench --json ({error})") from None
        return report


def write_file(path: str, text: str) -> None:
    """Write all of `text` or leave the file as it was; what is no regular file (a pipe, a device) is written to.

    Raises ReportError when it cannot be written.
    """
    try:
        real, exists = os.path.realpath(path), os.path.exists(path)
        if _is_special(path) or not os.access(os.path.dirname(real), os.W_OK):
            with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return
        beside = f"{real}.{os.getpid()}.tmp"
        try:
            with open(beside, "x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            if exists:
                shutil.copymode(real, beside)
            os.replace(beside, real)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
    except (OSError, ValueError) as error:
        raise ReportError(f"{path or repr(path)}: cannot be written: {getattr(error, 'strerror', error)}") from None


def _is_special(path: str) -> bool:
    """No regular file, or one that another program holds open: `/dev/stdout` may be either."""
    return path.startswith(("/dev/", "/proc/")) or (os.path.exists(path) and not os.path.isfile(path))


def check_writable(path: str) -> None:
    """Raise ReportError before a run whose report could not be written after it."""
    try:
        folder = os.path.dirname(os.path.realpath(path))
        if not path or os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR) if path else "its name is empty")
        if not os.path.exists(path) and not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, f"no directory {folder}")
        if not os.access(path if os.path.exists(path) else folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path or repr(path)}: cannot be written: {getattr(error, 'strerror', error)}") from None


def measure(
    spec: LoadSpec,
    *,
    pids: tuple[int, ...] | None = None,
    on_progress: ProgressHook | None = None,
    stop: Stop | None = None,
) -> tuple[LoadResult, Server | None]:
    """Run the load, reading the CPU of the server's processes (`pids`; None looks for them) around the window.

    `stop` ends it early, see `run_load`.
    """
    seen = server_pids(Target.parse(spec.target)) if pids is None else pids
    readings: dict[str, Tasks] = {}

    def on_window(event: str) -> None:
        if seen and event in ("start", "end"):
            readings[event] = tasks_cpu(seen)

    result = run_load(spec, on_window, on_progress, stop=stop)
    if not readings.get("start") or not readings.get("end"):
        return result, None
    cpu, busiest = spent(readings["start"], readings["end"])
    return result, Server(seen, process_name(seen[0]), cpu, busiest / result.seconds)


def report_of(result: LoadResult, server: Server | None) -> Report:
    return Report(result, server, machine(), versions(), tuple(sys.argv))


def machine() -> dict[str, Any]:
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cpus": len(usable) or os.cpu_count() or 1,
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def versions() -> dict[str, str]:
    from importlib import metadata

    found = {"fastecho": __version__, "python": platform.python_version()}
    for name in ("hdrhistogram", "uvloop"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def client_limits(result: LoadResult, server: Server | None) -> bool:
    """Whether the client used up its core, and the server, as far as it can be seen, did not."""
    return result.client_utilisation > SATURATED and (server is None or server.utilisation < SATURATED)


def _warnings(result: LoadResult, server: Server | None) -> list[str]:
    found = []
    if result.stopped:
        found.append(f"the run ended before its time: {result.stopped}")
    if result.echoes == 0:
        found.append("nothing was echoed inside the measured window")
    if client_limits(result, server):
        busy = f"the client used {result.client_utilisation:.0%} of its core"
        tls = Target.parse(result.spec.target).tls
        remedy = "TLS is offered from Python, on one thread" if tls else "try --threads"
        if server is None:
            found.append(f"{busy}: it may be the bottleneck (the server's CPU cannot be seen); {remedy}")
        else:
            found.append(f"the client is the bottleneck: {busy}, the server {server.utilisation:.0%}; {remedy}")
    if result.overdue:
        offered = result.spec.rate or 0.0
        found.append(
            f"the rate was not met: {result.overdue} of the messages due at {offered:.0f}/s were never sent, "
            "and the latencies are of the others"
        )
    return found
