"""What came of a run."""

import dataclasses
from functools import cached_property
from typing import Any

from . import hdr
from ._hdr import Histogram
from .spec import LoadSpec

PERCENTILES = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9, "p99.99": 99.99}


@dataclasses.dataclass(frozen=True)
class Sample:
    """An interval of the series. Times are seconds; `at` is its end, counted from the start of the window."""

    at: float
    seconds: float
    echoes: int
    bytes: int
    p50: float
    p99: float
    max: float
    measuring: bool = True

    @property
    def rate(self) -> float:
        return self.echoes / self.seconds if self.seconds else 0.0


def percentiles_of(histogram: Histogram) -> dict[str, float]:
    """The usual percentiles of a histogram of nanoseconds, and `max`, in seconds."""
    found = {name: histogram.percentile(percent) / 1e9 for name, percent in PERCENTILES.items()}
    return {**found, "max": histogram.max / 1e9}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadResult:
    """A run, in seconds and bytes. `echoes`, `bytes` and `client_cpu` are of the measured window, errors of all of it.

    Attributes:
        started: the wall clock at the start of the window.
        echoes: messages whose last byte came back inside the window; `bytes` are theirs.
        seconds: the length of the window.
        percentiles: of the latency; in an open loop that of the messages *due* inside the window.
        errors: by kind, every kind there.
        error_details: a line for the first error of each kind.
        thread_cpu: CPU seconds of each engine thread.
        overdue: in an open loop, arrivals due inside the window that could not be sent until a second after it.
        histogram: of the latencies, see `hdr.encode`.
        stopped: why the run ended before its time, or None.
    """

    spec: LoadSpec
    started: float
    echoes: int
    bytes: int
    seconds: float
    min: float
    mean: float
    percentiles: dict[str, float]
    errors: dict[str, int]
    error_details: tuple[str, ...]
    thread_cpu: tuple[float, ...]
    overdue: int
    histogram: str
    samples: tuple[Sample, ...]
    stopped: str | None = None

    @property
    def rate(self) -> float:
        """Echoes a second."""
        return self.echoes / self.seconds if self.seconds else 0.0

    @property
    def megabytes_per_second(self) -> float:
        """Millions of bytes echoed a second, counted once."""
        return self.bytes / self.seconds / 1e6 if self.seconds else 0.0

    @property
    def error_count(self) -> int:
        return sum(self.errors.values())

    @property
    def ok(self) -> bool:
        """Something was echoed and nothing went wrong."""
        return self.echoes > 0 and self.error_count == 0

    @property
    def client_cpu(self) -> float:
        return sum(self.thread_cpu)

    @property
    def client_utilisation(self) -> float:
        """The share of one core that the busiest engine thread used, 0 to 1."""
        return max(self.thread_cpu, default=0.0) / self.seconds if self.seconds else 0.0

    @cached_property
    def latencies(self) -> Histogram:
        """The histogram, decoded: nanoseconds."""
        return hdr.decode(self.histogram)

    def latency(self, percentile: float) -> float:
        """The latency that `percentile` (0 to 100) of the echoes did not exceed, in seconds."""
        return self.latencies.percentile(percentile) / 1e9

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is its inverse."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["spec"] = self.spec.to_dict()
        plain["samples"] = [dataclasses.asdict(sample) for sample in self.samples]
        derived = {
            "rate": self.rate,
            "megabytes_per_second": self.megabytes_per_second,
            "client_cpu": self.client_cpu,
            "client_utilisation": self.client_utilisation,
            "ok": self.ok,
        }
        return {**plain, **derived, "histogram_unit": hdr.UNIT}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "LoadResult":
        """Raises KeyError, TypeError or ValueError for what `to_dict` never made."""
        values = {field.name: plain[field.name] for field in dataclasses.fields(cls)}
        values["spec"] = LoadSpec.from_dict(values["spec"])
        values["samples"] = tuple(Sample(**sample) for sample in values["samples"])
        for name in ("error_details", "thread_cpu"):
            values[name] = tuple(values[name])
        return cls(**values)
