"""Runs of two servers beside each other: differences with confidence intervals, and a verdict.

Every run gives one value a metric, from its whole histogram. The noise between runs is judged by the runs themselves,
so several of each side are needed. Intervals come from ranks (see `intervals`) of the logarithms; their confidence is
divided among the metrics (Bonferroni), so that all of them hold together. A metric differs when its interval excludes
no change, and the change counts. The change counts only if the ratio of the larger to the smaller value is at least
1 + threshold.

Without an interval a metric also differs if the ranges of A and B do not overlap and the gap between them is at least
`Metric.beyond_noise`, or its square root with three or more runs of each.
The rate and the median latency range over the fifths of each run, so that the variation within a run counts as noise.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Final

from .ab import Turn
from .intervals import Interval, paired, unpaired
from .measure import client_limits
from .metrics import METRICS, Metric, Run
from .verdict import Difference, Verdict

CONFIDENCE: Final = 0.95
# Of turns, which are many and cheap: one false claim in a hundred comparisons.
CONFIDENCE_OF_TURNS: Final = 0.99
_PARTS: Final = 5
_GROUPS: Final = 3
Estimate = Callable[[Sequence[float], Sequence[float], float], Interval]


def compare(a: Sequence[Run], b: Sequence[Run], threshold: float, notes: Sequence[str] = ()) -> Verdict:
    """B against A, made at any time: the runs of each side are taken as independent."""
    good_a, good_b = ([run for run in side if run[0].echoes] for side in (a, b))
    method = "unpaired runs, Mann-Whitney intervals of log ratios"
    verdict = _judge(good_a, good_b, threshold, CONFIDENCE, unpaired, method)
    return _completed(verdict, a, b, notes)


def compare_turns(turns: Sequence[Turn], threshold: float, notes: Sequence[str] = ()) -> Verdict:
    """B against A by the ratio of each turn: what both runs of a turn share, such as a slow minute, cancels."""
    good = [turn for turn in turns if turn.a[0].echoes and turn.b[0].echoes]
    a, b = [turn.a for turn in good], [turn.b for turn in good]
    method = "paired turns, Wilcoxon signed-rank intervals of log ratios"
    verdict = _judge(a, b, threshold, CONFIDENCE_OF_TURNS, paired, method)
    return _completed(verdict, [turn.a for turn in turns], [turn.b for turn in turns], notes)


def _completed(verdict: Verdict, a: Sequence[Run], b: Sequence[Run], notes: Sequence[str]) -> Verdict:
    return dataclasses.replace(
        verdict,
        failures_a=tuple(_failures(a)),
        failures_b=tuple(_failures(b)),
        notes=(*notes, *_limits("A", a), *_limits("B", b)),
    )


def _limits(side: str, runs: Sequence[Run]) -> Iterator[str]:
    if overdue := sum(result.overdue for result, _ in runs):
        yield f"{overdue} messages that were due to {side} were never sent: the latencies are of the others"
    if limited := sum(client_limits(*run) for run in runs):
        yield f"the client was the limit in {limited} of {len(runs)} runs of {side}: it may hide a difference"


def _judge(
    a: Sequence[Run], b: Sequence[Run], threshold: float, confidence: float, estimate: Estimate, method: str
) -> Verdict:
    metrics = [metric for metric in METRICS if a and b and _known(metric, [*a, *b])]
    each_confidence = 1 - (1 - confidence) / max(1, len(metrics))
    differences = []
    for metric in metrics:
        values_a, values_b = ([metric.of(*run) or 0.0 for run in side] for side in (a, b))
        interval = estimate([*map(math.log, values_a)], [*map(math.log, values_b)], each_confidence)
        differences.append(
            Difference(
                metric.name,
                statistics.median(values_a),
                statistics.median(values_b),
                math.expm1(interval.estimate),
                None if interval.low is None else math.expm1(interval.low),
                None if interval.high is None else math.expm1(interval.high),
                _verdict(metric, interval, a, b, math.log1p(threshold)),
            )
        )
    return Verdict(
        tuple(differences),
        runs=(len(a), len(b)),
        runs_needed=next(n for n in count(2) if estimate([0.0] * n, [0.0] * n, each_confidence).low is not None),
        threshold=threshold,
        confidence=confidence,
        method=f"{method} with Hodges-Lehmann estimates, Bonferroni over {len(metrics)} metrics",
    )


def _known(metric: Metric, runs: Sequence[Run]) -> bool:
    return all((metric.of(*run) or 0.0) > 0 for run in runs)


def _verdict(metric: Metric, interval: Interval, a: Sequence[Run], b: Sequence[Run], least: float) -> str:
    estimate, low, high = interval
    differs = low is not None and high is not None and not low <= 0 <= high and abs(estimate) >= least
    if not differs:
        gap = _gap(_range(metric, a), _range(metric, b))
        # What repeats in three groups on either side needs a smaller difference than what was seen once.
        beyond = math.log(metric.beyond_noise) / (2 if min(len(a), len(b)) >= _GROUPS else 1)
        differs, estimate = abs(gap) >= max(beyond, least), gap
    if differs:
        return "better" if (estimate > 0) == metric.more_is_better else "worse"
    return "same" if low is not None and high is not None and -least < low and high < least else "unclear"


def _range(metric: Metric, runs: Sequence[Run]) -> tuple[float, float]:
    """From the least to the greatest logarithm among the runs, and among the parts of each where they are known."""
    values = [metric.of(*run) or 0.0 for run in runs]
    if metric.name == "max":
        # A stall that is rarer than the runs are long does not touch each run, but each group of them.
        values = [max(group) for k in range(_GROUPS) if (group := values[k::_GROUPS])]
    for result, _ in runs:
        size = max(1, -(-len(result.samples) // _PARTS))
        for start in range(0, len(result.samples), size):
            part = result.samples[start : start + size]
            if metric.name == "rate":
                values.append(sum(sample.echoes for sample in part) / sum(sample.seconds for sample in part))
            elif metric.name == "p50" and (medians := [sample.p50 for sample in part if sample.p50 > 0]):
                values.append(statistics.median(medians))
    logs = [math.log(value) if value else -math.inf for value in values]
    return min(logs), max(logs)


def _gap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """How far the range `b` lies above `a`, or below (negative); 0 where they meet."""
    return max(b[0] - a[1], 0.0) - max(a[0] - b[1], 0.0)


def _failures(runs: Sequence[Run]) -> Iterator[str]:
    for kind in dict.fromkeys(kind for result, _ in runs for kind in result.errors):
        if times := sum(result.errors.get(kind, 0) for result, _ in runs):
            yield f"errors: {kind} {times}"
    if silent := sum(not result.echoes for result, _ in runs):
        yield f"no echoes in {silent} of {len(runs)} runs"
    stopped = dict.fromkeys(result.stopped for result, _ in runs if result.stopped and not result.partial)
    yield from (f"a run that ended before its time: {reason}" for reason in stopped)
