"""What two servers are compared by, read from the whole of a run."""

from collections.abc import Callable
from typing import Final, NamedTuple

from .measure import Server
from .result import LoadResult
from .units import duration, number

Run = tuple[LoadResult, Server | None]


class Metric(NamedTuple):
    """A figure of a run that echoed something; `of` gives None where the run does not have it.

    `beyond_noise` is the ratio of two single runs that no noise between runs of one server explains. It is our
    judgement, from runs on shared machines: their rates differed by up to 1.5, their tails by far more.
    """

    name: str
    more_is_better: bool
    beyond_noise: float
    of: Callable[[LoadResult, Server | None], float | None]
    show: Callable[[float], str] = duration


def _cpu(result: LoadResult, server: Server | None) -> float | None:
    return server.cpu / result.echoes if server is not None and server.cpu else None


METRICS: Final = (
    Metric("rate", True, 2.0, lambda result, _: result.rate, number),
    Metric("p50", False, 2.0, lambda result, _: result.percentiles["p50"]),
    Metric("p99", False, 10.0, lambda result, _: result.percentiles["p99"]),
    Metric("p99.9", False, 20.0, lambda result, _: result.percentiles["p99.9"]),
    Metric("max", False, 50.0, lambda result, _: result.percentiles["max"]),
    Metric("CPU", False, 2.0, _cpu),
)


def values(result: LoadResult, server: Server | None) -> dict[str, float | None]:
    """Every metric of a run, for JSON; None where it is not known."""
    found = {metric.name: metric.of(result, server) if result.echoes else None for metric in METRICS}
    return {name: value if value is not None and value > 0 else None for name, value in found.items()}
