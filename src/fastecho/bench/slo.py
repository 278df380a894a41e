"""Objectives such as `p99<1ms`, and what a run says to them."""

import operator
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from ..errors import ConfigError
from .result import LoadResult
from .spec import parse_rate
from .units import duration, number

_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "==": operator.eq,
}  # fmt: skip
_TIMES: Final = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_FORM = re.compile(r"@?\s*([a-z]+[0-9.]*)\s*(<=|>=|==|<|>|=)\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*([a-zµ/]*)")
_MUST = "must be a metric, a comparison and a bound, such as p99<1ms, max<=20ms, rate>100k or errors=0"


class Slo(NamedTuple):
    """An objective: `metric` (`p99`, `p99.9`, `max`, `mean`, `rate`, `errors`) compared with a bound."""

    metric: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str, option: str = "slo") -> "Slo":
        """Times have a unit (us, ms, s), rates may have one (k, M). Raises ConfigError naming `option`."""
        match = _FORM.fullmatch(text.strip().lower())
        if match is None:
            raise ConfigError(option, text, _MUST)
        metric = match[1]
        percent = metric[1:] if metric.startswith("p") else "0"
        known = metric in ("rate", "errors", "max", "min", "mean")
        if not known and not (re.fullmatch(r"p[0-9]+(\.[0-9]+)?", metric) and 0 <= float(percent) <= 100):
            raise ConfigError(option, text, _MUST)
        if metric == "rate":
            try:
                return cls(metric, match[2], parse_rate(match[3] + match[4]))
            except ValueError as error:
                raise ConfigError(option, text, str(error)) from None
        units = {"": 1.0} if metric == "errors" else _TIMES
        if match[4] not in units:
            must = "must be a number of errors, such as errors=0" if metric == "errors" else \
                "must have a unit of time: us, ms or s"
            raise ConfigError(option, text, must)
        return cls(metric, match[2], float(match[3]) * units[match[4]])

    @classmethod
    def latency_bound(cls, text: str, option: str) -> "Slo":
        """An objective that a rate is searched for: an upper bound of a latency, `@p99=1ms`. Raises ConfigError."""
        slo = cls.parse(text, option)
        if slo.metric in ("rate", "errors") or slo.comparison in (">", ">="):
            raise ConfigError(option, text, "must bound a latency from above, such as @p99=1ms")
        return slo._replace(comparison="<=")

    def value(self, result: LoadResult) -> float:
        if self.metric == "rate":
            return result.rate
        if self.metric == "errors":
            return result.error_count
        if self.metric in ("min", "mean"):
            return {"min": result.min, "mean": result.mean}[self.metric]
        if self.metric in result.percentiles:
            return result.percentiles[self.metric]
        return result.latency(float(self.metric[1:]))

    def seen(self, result: LoadResult) -> str:
        """The value as a clause: `it is 1.20 ms`."""
        if not result.echoes:
            return "nothing was echoed"
        value = self.value(result)
        return f"it is {number(value) if self.metric in ('rate', 'errors') else duration(value)}"

    def met(self, result: LoadResult) -> bool:
        """Whether the run meets it; a run that echoed nothing meets nothing."""
        return result.echoes > 0 and _OPERATORS[self.comparison](self.value(result), self.bound)

    def __str__(self) -> str:
        if self.metric in ("rate", "errors"):
            return f"{self.metric} {self.comparison} {self.bound:g}"
        return f"{self.metric} {self.comparison} {duration(self.bound)}"
