"""Which runs may be compared or added up: those of one load, each once."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ..errors import EX_USAGE, FastechoError
from .measure import Report
from .spec import LoadSpec
from .target import Target
from .text import churn_text, size_text
from .units import number

# What a load is made of, each with the words for it.
_LOAD: Final[Mapping[str, Callable[[LoadSpec], str]]] = {
    "loop": lambda spec: "a closed loop" if spec.rate is None else "an open loop",
    "rate": lambda spec: "no rate" if spec.rate is None else f"{number(spec.rate)}/s",
    "arrivals": lambda spec: "a closed loop" if spec.rate is None else f"{spec.arrivals} arrivals",
    "size": lambda spec: f"messages of {size_text(spec.size)} B",
    "connections": lambda spec: f"{spec.connections} connections",
    "depth": lambda spec: f"depth {spec.depth}",
    "churn": churn_text,
    "proxy_protocol": lambda spec: f"PROXY header {spec.proxy_protocol}" if spec.proxy_protocol else "no PROXY header",
    "tls": lambda spec: "TLS" if Target.parse(spec.target).tls else "no TLS",
    "threads": lambda spec: f"{spec.threads} client threads",
    "verify": lambda spec: "bytes compared" if spec.verify else "bytes not compared",
}
# Clients on several hosts may divide the load as they like.
_DIVIDED: Final = frozenset({"rate", "connections", "threads"})


class ComparabilityError(FastechoError):
    """Runs cannot be compared or added up."""

    exit_code = EX_USAGE


def check_same_load(runs: Mapping[str, Report], *, divided: bool = False) -> None:
    """Raise ComparabilityError for the first of `runs`, by name, whose load differs from that of the first.

    With `divided`, connections, threads and rate may differ, as they do between hosts that share a load.
    """
    (first, report), *others = runs.items()
    for name, other in others:
        for part, words in _LOAD.items():
            if divided and part in _DIVIDED:
                continue
            ours, theirs = words(report.result.spec), words(other.result.spec)
            if ours != theirs:
                raise ComparabilityError(f"{name} has {theirs}, {first} has {ours}: the loads must be alike")


def load_each_once(paths: Sequence[str]) -> dict[str, Report]:
    """The runs in the files `paths`, by path.

    Raises ReportError for a file that `--json` did not write, and ComparabilityError when a run is there twice: under
    one path, under two, as a copy, or as part of a merged run.
    """
    reports: dict[str, Report] = {}
    seen: dict[str, str] = {}
    for path in paths:
        report = Report.load(path)
        for part in parts_of(report):
            if part in seen:
                both = f"{seen[part]} and {path} hold the same run" if path != seen[part] else f"{path} is there twice"
                raise ComparabilityError(f"{both}: each run counts once")
        seen |= dict.fromkeys(parts_of(report), path)
        reports[path] = report
    return reports


def parts_of(report: Report) -> tuple[str, ...]:
    """What identifies the runs that make up `report`."""
    result = report.result
    return report.parts or (hashlib.sha256(f"{result.started:.6f} {result.histogram}".encode()).hexdigest()[:16],)


def differing_circumstances(runs: Mapping[str, Report]) -> list[str]:
    """Lines on what may explain a difference besides the server: machine, versions, transport, length, CPUs."""
    found = []
    for what, of in _CIRCUMSTANCES.items():
        values = dict.fromkeys(of(report) for report in runs.values())
        if len(values) > 1:
            found.append(f"the runs differ in {what}: {' and '.join(values)}")
    return found + incomplete(runs)


def incomplete(runs: Mapping[str, Report]) -> list[str]:
    """A line for each run that was interrupted."""
    partial = (name for name, report in runs.items() if report.result.partial)
    return [f"{name} is partial: the run was interrupted" for name in partial]


def _transport(target: Target) -> str:
    return "UNIX sockets" if target.unix else "UDP" if target.udp else "TCP"


_CIRCUMSTANCES: Final[Mapping[str, Callable[[Report], str]]] = {
    "the client's machine": lambda report: str(report.machine.get("host", "unknown")),
    "its CPU": lambda report: str(report.machine.get("cpu", "unknown")),
    "its number of CPUs": lambda report: str(report.machine.get("cpus", "unknown")),
    "the version of the client": lambda report: report.versions.get("fastecho", "unknown"),
    "transport": lambda report: _transport(Target.parse(report.result.spec.target)),
    "the client's CPUs": lambda report: str(list(report.result.spec.cpus or ()) or "any"),
    "duration": lambda report: f"{report.result.spec.duration:g} s",
    "warm-up": lambda report: f"{report.result.spec.warmup:g} s",
}
