"""What a comparison of B with A concludes, for people and as JSON."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from ..errors import EX_FAILURE, EX_OK
from .metrics import METRICS

SCHEMA = "fastecho-verdict/1"


@dataclasses.dataclass(frozen=True)
class Difference:
    """A metric of B relative to that of A.

    Attributes:
        a, b: the medians over the runs.
        change: 0.05 is 5 % more; `low` and `high` bound it, and are None when there are too few runs.
        verdict: `better`, `worse`, `same` (surely below the threshold) or `unclear`.
    """

    metric: str
    a: float
    b: float
    change: float
    low: float | None
    high: float | None
    verdict: str

    def __str__(self) -> str:
        return f"{self.metric} {percent(self.change)}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The conclusion from all metrics.

    Attributes:
        runs: how many of A and of B.
        runs_needed: how many of each the intervals need.
        confidence: that all intervals hold together.
        failures_a: what went wrong in the runs of A.
        failures_b: what went wrong in the runs of B, which is worse then.
        notes: what a reader has to know before the verdict.
    """

    differences: tuple[Difference, ...]
    runs: tuple[int, int]
    runs_needed: int
    threshold: float
    confidence: float
    method: str
    failures_a: tuple[str, ...] = ()
    failures_b: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def _with(self, verdict: str) -> list[Difference]:
        return [each for each in self.differences if each.verdict == verdict]

    @property
    def enough_runs(self) -> bool:
        return any(each.low is not None for each in self.differences)

    @property
    def outcome(self) -> str:
        """`worse`, `better`, `mixed`, `same`, `unclear` (all metrics are), or `not enough runs`."""
        worse, better = bool(self._with("worse") or self.failures_b), bool(self._with("better"))
        if worse or better:
            return "mixed" if worse and better else "worse" if worse else "better"
        if not self.enough_runs:
            return "not enough runs"
        return "same" if self._with("same") else "unclear"

    @property
    def exit_code(self) -> int:
        """1 when B is worse in any respect."""
        return EX_FAILURE if self.outcome in ("worse", "mixed") else EX_OK

    @property
    def summary(self) -> str:
        worse = ", ".join([*map(str, self._with("worse")), *self.failures_b])
        better = ", ".join(map(str, self._with("better")))
        if self.outcome == "mixed":
            return f"mixed: B is worse ({worse}) and better ({better})"
        if self.outcome == "not enough runs":
            a, b = self.runs
            return f"not enough runs to decide ({a} of A, {b} of B; {self.runs_needed} of each are needed)"
        if self.outcome == "same":
            unclear = ", ".join(each.metric for each in self._with("unclear"))
            return "no difference" + (f" (unclear: {unclear})" if unclear else "")
        if self.outcome == "unclear":
            return f"no difference found, but the noise would hide one of {self.threshold * 100:g}%"
        return f"B is {self.outcome} ({worse or better})"

    def lines(self) -> Iterator[str]:
        """A table, the notes, and the summary."""
        shown = {metric.name: metric.show for metric in METRICS}
        yield f"{'':<6}{'A':>12}{'B':>12}{'change':>10}   {f'{self.confidence:.0%} interval':<22}"
        for each in self.differences:
            show = shown[each.metric]
            bounds = "-" if each.low is None or each.high is None else f"{percent(each.low)} .. {percent(each.high)}"
            line = f"{each.metric:<6}{show(each.a):>12}{show(each.b):>12}{percent(each.change):>10}   {bounds:<22}"
            yield f"{line}{each.verdict}"
        if self.differences and not self.enough_runs:
            yield "Too few runs for intervals: only a difference beyond any noise between runs is called one."
        for side, failures in (("A", self.failures_a), ("B", self.failures_b)):
            yield from (f"{side} had {failure}" for failure in failures)
        yield from (f"note: {note}" for note in self.notes)
        yield f"verdict: {self.summary}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "verdict": self.outcome,
            "summary": self.summary,
            "threshold": self.threshold,
            "confidence": self.confidence,
            "method": self.method,
            "runs": {"a": self.runs[0], "b": self.runs[1], "needed": self.runs_needed},
            "metrics": [dataclasses.asdict(each) for each in self.differences],
            "failures": {"a": list(self.failures_a), "b": list(self.failures_b)},
            "notes": list(self.notes),
        }


def percent(change: float) -> str:
    """`+3.1%`; from tenfold on, the factor: `x280`."""
    return f"{change:+.1%}" if change < 9 else f"x{change + 1:,.0f}"
