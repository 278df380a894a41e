"""Confidence intervals from ranks: how much more B is than A, for noise of any distribution.

Both are exact and assume no distribution. `paired` inverts the Wilcoxon signed-rank test: it needs only that the
difference of a pair is as likely to be +d as -d when A and B are alike, which drawing the order of each pair ensures.
`unpaired` inverts the Mann-Whitney test: it needs only that the runs of both sides are exchangeable when A and B are
alike. The estimates are those of Hodges and Lehmann. Source: M. Hollander, D. A. Wolfe, E. Chicken, "Nonparametric
Statistical Methods", 3rd edition (2014), sections 3.1 to 3.3 and 4.1 to 4.3.
"""

import functools
import statistics
from collections.abc import Sequence
from itertools import accumulate, combinations_with_replacement
from typing import NamedTuple


class Interval(NamedTuple):
    """An estimate, and the bounds that hold the truth with the confidence asked for; no bounds: too few values."""

    estimate: float
    low: float | None
    high: float | None


def paired(a: Sequence[float], b: Sequence[float], confidence: float) -> Interval:
    """By how much each value of `b` lies above that of `a` at the same place."""
    differences = [y - x for x, y in zip(a, b, strict=True)]
    shifts = [(one + other) / 2 for one, other in combinations_with_replacement(differences, 2)]
    return _bounded(shifts, _signed_rank_counts(len(differences)), confidence)


def unpaired(a: Sequence[float], b: Sequence[float], confidence: float) -> Interval:
    """By how much the values of `b` lie above those of `a`."""
    return _bounded([y - x for x in a for y in b], _rank_sum_counts(len(a), len(b)), confidence)


def _bounded(shifts: list[float], counts: Sequence[int], confidence: float) -> Interval:
    """Leave out as many shifts at each end as the statistic, distributed by `counts`, reaches rarely enough."""
    shifts.sort()
    allowed = (1 - confidence) / 2 * sum(counts)
    cut = sum(reached <= allowed for reached in accumulate(counts))
    middle = statistics.median(shifts)
    return Interval(middle, shifts[cut - 1], shifts[-cut]) if cut else Interval(middle, None, None)


@functools.lru_cache(maxsize=16)
def _signed_rank_counts(pairs: int) -> Sequence[int]:
    """How many of the 2**pairs choices of signs give each sum of positive ranks."""
    counts = [1]
    for rank in range(1, pairs + 1):
        longer = counts + [0] * rank
        for total, count in enumerate(counts):
            longer[total + rank] += count
        counts = longer
    return counts


@functools.lru_cache(maxsize=16)
def _rank_sum_counts(few: int, more: int) -> Sequence[int]:
    """How many of the ways to choose `few` of all ranks give each rank sum, counted from the least one."""
    # by_size[k][s]: choices of k of the ranks seen so far whose sum exceeds 1 + .. + k by s.
    by_size = [[1] + [0] * (few * more)] + [[0] * (few * more + 1) for _ in range(few)]
    for rank in range(1, few + more + 1):
        for size in range(min(few, rank), 0, -1):
            excess = rank - size
            before, counts = by_size[size - 1], by_size[size]
            for total in range(few * more - excess, -1, -1):
                counts[total + excess] += before[total]
    return by_size[few]
