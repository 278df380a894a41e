"""The intervals from ranks against the tables, against every outcome of small cases, and on noise of any shape."""

import itertools
import random

import pytest

from fastecho.bench.intervals import paired, unpaired


def test_paired_bounds_leave_out_what_the_published_table_leaves_out():
    """Critical values of the signed-rank test, two-sided 5 %."""
    for pairs, critical in ((6, 0), (8, 3), (10, 8), (15, 25), (20, 52)):
        differences = [2.0**k for k in range(pairs)]
        shifts = sorted((x + y) / 2 for x, y in itertools.combinations_with_replacement(differences, 2))
        found = paired([0.0] * pairs, differences, 0.95)
        assert (found.low, found.high) == (shifts[critical], shifts[-critical - 1])


def test_unpaired_bounds_leave_out_what_the_published_table_leaves_out():
    """Critical values of the rank-sum test, two-sided 5 %."""
    for few, more, critical in ((4, 4, 0), (5, 5, 2), (3, 8, 2), (10, 10, 23)):
        a, b = [100.0 * 3**k for k in range(few)], [1.7**k for k in range(more)]
        shifts = sorted(y - x for x in a for y in b)
        found = unpaired(a, b, 0.95)
        assert (found.low, found.high) == (shifts[critical], shifts[-critical - 1])


@pytest.mark.parametrize("pairs", [6, 8, 10])
def test_paired_excludes_zero_for_no_more_sign_choices_than_allowed(pairs):
    sizes = [1.5**k for k in range(pairs)]
    wrong = 0
    for signs in itertools.product((1, -1), repeat=pairs):
        found = paired([0.0] * pairs, [sign * size for sign, size in zip(signs, sizes, strict=True)], 0.95)
        wrong += not found.low < 0 < found.high
    assert 0 < wrong <= 0.05 * 2**pairs


def test_unpaired_excludes_zero_for_no_more_arrangements_than_allowed():
    values = [1.5**k for k in range(10)]
    wrong = 0
    for chosen in itertools.combinations(range(10), 5):
        a, b = ([v for k, v in enumerate(values) if (k in chosen) is side] for side in (True, False))
        found = unpaired(a, b, 0.95)
        wrong += not found.low < 0 < found.high
    assert 0 < wrong <= 0.05 * 252


@pytest.mark.parametrize(("estimate", "enough"), [(paired, 6), (unpaired, 4)])
def test_too_few_values_have_an_estimate_and_no_bounds(estimate, enough):
    for size in range(1, 8):
        found = estimate([1.0] * size, [3.0] * size, 0.95)
        assert found.estimate == 2.0
        assert (found.low is None, found.high is None) == (size < enough, size < enough)


@pytest.mark.parametrize("estimate", [paired, unpaired])
def test_heavy_tails_do_not_widen_what_the_interval_misses(estimate):
    draw = random.Random(5)
    missed = 0
    for _ in range(400):
        a, b = ([shift + draw.paretovariate(1.1) for _ in range(12)] for shift in (0.0, 3.0))
        found = estimate(a, b, 0.95)
        missed += not found.low <= 3.0 <= found.high
    assert missed <= 0.08 * 400
