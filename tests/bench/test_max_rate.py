"""The search for the highest rate, against simulated servers whose probes fail now and then without a reason."""

import dataclasses
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fastecho.bench._errors import LoadError
from fastecho.bench.estimate import LimitEstimate
from fastecho.bench.measure import Server
from fastecho.bench.search import find_max_rate
from fastecho.bench.slo import Slo
from made_runs import SPEC, run_of

P99 = Slo.latency_bound("@p99=1ms", "find_max_rate")


class Simulated:
    """A server that holds up to about `limit`; `hiccups` is the share of runs that fail at any rate."""

    def __init__(self, seed, limit=100_000.0, hiccups=0.1, **changes):
        self.draw = random.Random(seed)
        self.limit, self.hiccups, self.changes = limit, hiccups, changes
        self.runs = []

    def __call__(self, spec):
        slower = self.draw.uniform(0, 0.4) if self.draw.random() < self.hiccups else self.draw.gauss(0, 0.01)
        reached = self.limit * (1 - slower)
        rate = reached if spec.rate is None else min(spec.rate, reached)
        held = spec.rate is None or spec.rate < reached
        latency = 0.0005 if held else 0.005
        changes = {"spec": spec, "overdue": 0 if held else 9, **self.changes}
        run = run_of({latency: 100}, rate=rate, cpu=0.9 / self.limit, encoded=False, **changes)
        self.runs.append(run)
        return run


def found_by(measure, slo=P99):
    said = []
    result, _, found = find_max_rate(SPEC, slo, measure, said.append, probe_seconds=1.0)
    assert result.spec.rate == found.rate
    assert result.spec.duration == SPEC.duration, "the result is of a run in full"
    assert sum("in full" not in line and "held" in line for line in said) == found.probes
    return found


@pytest.mark.slow
@pytest.mark.parametrize("hiccups", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("limit", [500.0, 100_000.0])
def test_five_searches_agree_within_a_tenth_though_probes_fail_by_chance(hiccups, limit):
    for seed in range(0, 50, 5):
        rates = [found_by(Simulated(seed + k, limit, hiccups)).rate for k in range(5)]
        assert max(rates) <= 1.1 * min(rates)
        assert 0.88 * limit <= min(rates)
        assert max(rates) <= 1.02 * limit


@pytest.mark.parametrize(("first", "length"), [(3, 12), (8, 6), (15, 10)])
def test_a_spell_in_which_every_probe_fails_is_outvoted(first, length):
    for seed in range(8):
        simulated = Simulated(seed)
        calls = []

        def measure(spec, simulated=simulated, calls=calls):
            calls.append(spec)
            busy = first < len(calls) <= first + length
            result, server = simulated(spec)
            return (dataclasses.replace(result, overdue=1), server) if busy else (result, server)

        assert found_by(measure).rate == pytest.approx(97_000, rel=0.05)


@pytest.mark.slow
def test_the_spread_holds_the_limit_nineteen_times_of_twenty():
    held = 0
    for seed in range(60):
        found = found_by(Simulated(seed))
        assert found.low < found.high <= 1.25 * found.low
        held += 0.98 * found.low <= 100_000 <= 1.02 * found.high
    assert held >= 57


def test_a_limit_far_below_what_a_closed_loop_reaches_is_found():
    """Latency may be missed long before throughput is."""

    def measure(spec):
        late = spec.rate is not None and spec.rate > 3000
        return run_of({0.01 if late else 1e-4: 100}, rate=spec.rate or 100_000, encoded=False, spec=spec)

    assert found_by(measure).rate == pytest.approx(3000, rel=0.05)


def test_a_ceiling_that_was_measured_too_low_does_not_bound_the_search():
    simulated = Simulated(1, hiccups=0.0)

    def measure(spec):
        if spec.rate is None:
            return run_of({1e-4: 100}, rate=85_000, encoded=False, spec=spec)
        return simulated(spec)

    assert found_by(measure).rate > 93_000


def test_what_is_held_at_no_rate_is_an_error():
    def measure(spec):
        return run_of({0.5: 100}, rate=spec.rate or 100_000, encoded=False, spec=spec)

    with pytest.raises(LoadError, match=r"p99 <= 1.00 ms is not held even at [0-9,]+/s"):
        find_max_rate(SPEC, P99, measure, lambda line: None, 1.0)


def test_what_holds_in_short_runs_only_is_an_error_that_says_so():
    def measure(spec):
        late = spec.duration == SPEC.duration or (spec.rate or 0) > 50_000
        return run_of({0.5 if late else 1e-4: 100}, rate=spec.rate or 100_000, encoded=False, spec=spec)

    with pytest.raises(LoadError, match=r"held in short probes, but in no full run down to 2[0-9],[0-9]{3}/s"):
        find_max_rate(SPEC, P99, measure, lambda line: None, 1.0)


def test_a_closed_loop_that_fails_is_an_error_only_when_it_always_does():
    simulated = Simulated(2)
    calls = []

    def measure(spec):
        calls.append(spec)
        errors = {"reset": 1} if len(calls) < 3 else {"reset": 0}
        result, server = simulated(spec)
        return dataclasses.replace(result, errors=errors, error_details=("one was reset",)), server

    assert found_by(measure).rate > 90_000
    with pytest.raises(LoadError, match="the closed loop that finds the ceiling failed: one was reset"):
        find_max_rate(
            SPEC, P99, lambda spec: run_of({1: 1}, errors={"reset": 1}, error_details=("one was reset",)), print, 1.0
        )


@pytest.mark.parametrize(
    ("client", "server", "limit", "said"),
    [(0.99, 0.5, "client", "the client is the limit"), (0.5, 0.99, None, None), (0.99, 0.99, None, None),
     (0.99, None, "client", "the client is the limit"), (0.5, 0.5, "connections", "the connections are the limit"),
     (0.5, None, None, None)],
)  # fmt: skip
def test_it_says_when_the_server_is_not_the_limit(client, server, limit, said):
    simulated = Simulated(3, thread_cpu=(client,))

    def measure(spec):
        result, _ = simulated(spec)
        return result, None if server is None else Server((1,), "server", server, server)

    found = found_by(measure)
    assert found.limit == limit
    lines = " ".join(found.lines())
    assert (said in lines) if said else "limit," not in lines.replace("the limit lies", "")


def test_one_wrong_outcome_moves_the_belief_and_others_move_it_back():
    estimate = LimitEstimate(100, 10_000)
    for _ in range(4):
        estimate.learn(4000, held=True)
    before = estimate.quantile(0.5)
    estimate.learn(4500, held=False)
    assert estimate.quantile(0.05) < 4500 < estimate.quantile(0.5) < before
    for _ in range(4):
        estimate.learn(4500, held=True)
    assert estimate.quantile(0.05) > 4500


@pytest.mark.slow
def test_the_belief_stays_finite_after_many_outcomes():
    estimate = LimitEstimate(1, 1e6)
    for k in range(2000):
        estimate.learn(1000 * (1 + k % 2), held=k % 2 == 0)
    assert math.isfinite(estimate.quantile(0.5))
    assert 950 < estimate.quantile(0.05) <= estimate.quantile(0.95) < 2050


@pytest.mark.alone
@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("verdicts.py", ["--same", "1", "--different", "0", "--rounds", "2", "--seconds", "0.05"],
         "0 of 1 comparisons of one server with itself claim a difference"),
        ("max_rate.py", ["--runs", "1", "--seconds", "0.2", "--objective", "@p50=100ms"],
         "the greatest is 1.000 times the least"),
    ],
)  # fmt: skip
def test_the_scripts_that_measure_the_yardstick_run(script, arguments, said):
    path = Path(__file__).parents[2] / "benchmarks" / script
    done = subprocess.run([sys.executable, path, *arguments], capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
