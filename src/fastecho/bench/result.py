"""What came of a run."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from . import hdr
from ._hdr import Histogram
from .spec import LoadSpec

PERCENTILES = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9, "p99.99": 99.99}
_LATENCIES = ("p50", "p99", "max")  # of a sample


@dataclasses.dataclass(frozen=True)
class Sample:
    """An interval of the series. Times are seconds; `at` is its end, counted from the start of the window.

    Without an echo in it `p50`, `p99` and `max` are NaN.
    """

    at: float
    seconds: float
    echoes: int
    bytes: int
    p50: float
    p99: float
    max: float
    measuring: bool = True

    @classmethod
    def combine(cls, samples: "Sequence[Sample]", at: float, seconds: float) -> "Sample":
        """`samples` as one. Of percentiles the worst stands: those of all echoes together cannot be known from them."""
        return cls(
            at=at,
            seconds=seconds,
            echoes=sum(s.echoes for s in samples),
            bytes=sum(s.bytes for s in samples),
            p50=_worst(s.p50 for s in samples),
            p99=_worst(s.p99 for s in samples),
            max=_worst(s.max for s in samples),
        )

    @property
    def rate(self) -> float:
        return self.echoes / self.seconds if self.seconds else 0.0


def _worst(latencies: Iterable[float]) -> float:
    """The greatest, leaving out NaN; NaN when nothing is left."""
    return max((each for each in latencies if not math.isnan(each)), default=math.nan)


def seconds_or_nan(histogram: Histogram, nanoseconds: float) -> float:
    """A figure of `histogram` in seconds; NaN when nothing was counted, for which every comparison is false."""
    return nanoseconds / 1e9 if len(histogram) else math.nan


def percentiles_of(histogram: Histogram) -> dict[str, float]:
    """The usual percentiles of a histogram of nanoseconds, and `max`, in seconds; NaN when it is empty."""
    found = {name: seconds_or_nan(histogram, histogram.percentile(percent)) for name, percent in PERCENTILES.items()}
    return {**found, "max": seconds_or_nan(histogram, histogram.max)}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(plain: float | None) -> float:
    return math.nan if plain is None else plain


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadResult:
    """A run, in seconds and bytes. `echoes`, `bytes` and `client_cpu` are of the measured window, errors of all of it.

    Attributes:
        started: the wall clock at the start of the window.
        echoes: messages whose last byte came back inside the window; `bytes` are theirs.
        seconds: the length of the window.
        min, mean, percentiles: of the latency; in an open loop that of the messages *due* inside the window. NaN when
            there is no latency (null in JSON).
        errors: by kind, every kind there.
        error_details: a line for the first error of each kind.
        thread_cpu: CPU seconds of each engine thread.
        overdue: in an open loop, arrivals due inside the window that could not be sent until a second after it.
        histogram: of the latencies, see `hdr.encode`.
        stopped: why the run ended before its time, or None.
        partial: it was interrupted by its user, and the figures are of the part before that.
        address: the numeric address, of the target's name, that the connections went to.
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
    partial: bool = False
    address: str | None = None

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
    def client_cores(self) -> float:
        """CPU seconds of all engine threads a second of the window: 1.5 is one core and a half."""
        return self.client_cpu / self.seconds if self.seconds else 0.0

    @property
    def client_utilisation(self) -> float:
        """The share of one core that the busiest engine thread used, 0 to 1."""
        return max(self.thread_cpu, default=0.0) / self.seconds if self.seconds else 0.0

    @cached_property
    def latencies(self) -> Histogram:
        """The histogram, decoded: nanoseconds."""
        most = self.percentiles["max"]
        return hdr.decode(self.histogram, None if math.isnan(most) else round(most * 1e9))

    def latency(self, percentile: float) -> float:
        """The latency that `percentile` (0 to 100) of the echoes did not exceed, in seconds; NaN without echoes."""
        return seconds_or_nan(self.latencies, self.latencies.percentile(percentile))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is its inverse."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["spec"] = self.spec.to_dict()
        plain["samples"] = [
            {**dataclasses.asdict(sample), **{name: _plain(getattr(sample, name)) for name in _LATENCIES}}
            for sample in self.samples
        ]
        plain["percentiles"] = {name: _plain(value) for name, value in self.percentiles.items()}
        plain["min"], plain["mean"] = _plain(self.min), _plain(self.mean)
        derived = {
            "rate": self.rate,
            "megabytes_per_second": self.megabytes_per_second,
            "client_threads": len(self.thread_cpu),
            "client_cpu": self.client_cpu,
            "client_cores": self.client_cores,
            "client_utilisation": self.client_utilisation,
            "ok": self.ok,
        }
        return {**plain, **derived, "histogram_unit": hdr.UNIT}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "LoadResult":
        """Raises KeyError, TypeError or ValueError for what `to_dict` never made."""
        required = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
        names = required | {field.name for field in dataclasses.fields(cls) if field.name in plain}
        values = {name: plain[name] for name in names}
        values["spec"] = LoadSpec.from_dict(values["spec"])
        values["samples"] = tuple(
            Sample(**{**sample, **{name: _number(sample[name]) for name in _LATENCIES}}) for sample in values["samples"]
        )
        values["percentiles"] = {name: _number(value) for name, value in values["percentiles"].items()}
        values["min"], values["mean"] = _number(values["min"]), _number(values["mean"])
        for name in ("error_details", "thread_cpu"):
            values[name] = tuple(values[name])
        return cls(**values)
