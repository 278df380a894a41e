"""A run with what can be seen of the server beside it, and the document that `--json` writes."""

import dataclasses
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import FastechoError
from ._procfs import Tasks, process_name, server_pids, spent, tasks_cpu
from .result import LoadResult
from .run import ProgressHook, run_load
from .spec import LoadSpec, Target

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


@dataclasses.dataclass(frozen=True)
class Report:
    """A result with its circumstances."""

    result: LoadResult
    server: Server | None
    machine: dict[str, Any]
    versions: dict[str, str]
    command: tuple[str, ...]
    runs: int = 1

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
            "result": self.result.to_dict(),
            "server": None if self.server is None else dataclasses.asdict(self.server),
            "warnings": list(self.warnings()),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Report":
        server = plain["server"]
        return cls(
            result=LoadResult.from_dict(plain["result"]),
            server=None if server is None else Server(**{**server, "pids": tuple(server["pids"])}),
            machine=plain["machine"],
            versions=plain["versions"],
            command=tuple(plain["command"]),
            runs=plain["runs"],
        )

    def save(self, path: str) -> None:
        """Raises ReportError when the file cannot be written."""
        try:
            Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n")
        except OSError as error:
            raise ReportError(f"{path}: cannot be written: {error.strerror}") from None

    @classmethod
    def load(cls, path: str) -> "Report":
        """Raises ReportError when the file cannot be read, or is not of `save`."""
        try:
            plain = json.loads(Path(path).read_text())
            if plain.get("schema") != SCHEMA:
                raise ValueError("its schema is another")
            report = cls.from_dict(plain)
            _ = report.result.latencies
        except OSError as error:
            raise ReportError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReportError(f"{path}: not written by fastecho bench --json ({error})") from None
        return report


def measure(
    spec: LoadSpec, *, pids: tuple[int, ...] | None = None, on_progress: ProgressHook | None = None
) -> tuple[LoadResult, Server | None]:
    """Run the load, reading the CPU of the server's processes (`pids`; None looks for them) around the window."""
    seen = server_pids(Target.parse(spec.target)) if pids is None else pids
    readings: dict[str, Tasks] = {}

    def on_window(event: str) -> None:
        if seen and event in ("start", "end"):
            readings[event] = tasks_cpu(seen)

    result = run_load(spec, on_window, on_progress)
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
        for line in Path("/proc/cpuinfo").read_text().splitlines():
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


def _warnings(result: LoadResult, server: Server | None) -> list[str]:
    found = []
    if result.stopped:
        found.append(f"the run ended before its time: {result.stopped}")
    if result.echoes == 0:
        found.append("nothing was echoed inside the measured window")
    if result.client_utilisation > SATURATED:
        busy = f"the client used {result.client_utilisation:.0%} of its core"
        if server is None:
            found.append(f"{busy}: it may be the bottleneck (the server's CPU cannot be seen); try --threads")
        elif server.utilisation < SATURATED:
            found.append(f"the client is the bottleneck: {busy}, the server {server.utilisation:.0%}; try --threads")
    if result.overdue:
        offered = result.spec.rate or 0.0
        found.append(
            f"the rate was not met: {result.overdue} of the messages due at {offered:.0f}/s were never sent, "
            "and the latencies are of the others"
        )
    return found
