"""Two runs beside each other: differences with a confidence interval, and a verdict.

The interval comes from the samples of the two runs by a moving-block bootstrap: whole stretches of neighbouring
samples are drawn, since neighbours are alike and drawing them one by one would make the interval too narrow. It speaks
of the variation within these two runs; what changes from one run to the next is not in it.
"""

import random
import statistics
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from .result import LoadResult, Sample

DRAWS: Final = 2000
FEWEST_SAMPLES: Final = 8
_METRICS: Final[tuple[tuple[str, bool, Callable[[Sample], float]], ...]] = (
    ("rate", True, lambda sample: sample.rate),
    ("p50", False, lambda sample: sample.p50),
    ("p99", False, lambda sample: sample.p99),
)


class Difference(NamedTuple):
    """How a metric of B stands to that of A: `change` 0.05 is 5 % more; `low` and `high` bound it at 95 %."""

    metric: str
    a: float
    b: float
    change: float
    low: float
    high: float
    more_is_better: bool

    def verdict(self, threshold: float) -> str:
        """`better`, `worse`, or `same`: not told apart, or by less than `threshold`."""
        if self.low <= 0.0 <= self.high or abs(self.change) < threshold:
            return "same"
        return "better" if (self.change > 0) == self.more_is_better else "worse"


def compare(a: LoadResult, b: LoadResult, *, seed: int = 1, draws: int = DRAWS) -> list[Difference]:
    """B against A by rate (mean of the samples), p50 and p99 (median of the samples').

    Raises ValueError when a run has too few samples that saw an echo.
    """
    found = []
    draw = random.Random(seed)
    for metric, more_is_better, of in _METRICS:
        before, after = _values(a, of, metric), _values(b, of, metric)
        middle = statistics.fmean if metric == "rate" else statistics.median
        ratios = sorted(
            middle(_resample(after, draw)) / max(middle(_resample(before, draw)), 1e-12) - 1 for _ in range(draws)
        )
        low, high = ratios[int(0.025 * draws)], ratios[min(draws - 1, int(0.975 * draws))]
        old, new = middle(before), middle(after)
        found.append(Difference(metric, old, new, new / max(old, 1e-12) - 1, low, high, more_is_better))
    return found


def _values(result: LoadResult, of: Callable[[Sample], float], metric: str) -> list[float]:
    values = [of(sample) for sample in result.samples if sample.echoes or metric == "rate"]
    if len(values) < FEWEST_SAMPLES:
        raise ValueError(f"{len(values)} samples with echoes, {FEWEST_SAMPLES} are needed: run it longer")
    return values


def _resample(values: Sequence[float], draw: random.Random) -> list[float]:
    size = len(values)
    block = max(1, round(size ** (1 / 3)))
    found: list[float] = []
    while len(found) < size:
        start = draw.randrange(size - block + 1)
        found += values[start : start + block]
    return found[:size]
