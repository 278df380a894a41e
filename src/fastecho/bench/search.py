"""The highest rate at which an objective still holds."""

import dataclasses
from collections.abc import Callable

from ..errors import EX_OBJECTIVE_MISSED, EX_WRONG_ECHO
from ._errors import LoadError
from .estimate import LimitEstimate
from .max_rate import MaxRate
from .measure import SATURATED, Server, client_limits
from .result import LoadResult
from .slo import Slo
from .spec import LoadSpec
from .units import duration

Measure = Callable[[LoadSpec], tuple[LoadResult, Server | None]]
Say = Callable[[str], None]

_CEILINGS = 3  # closed loops; the fastest is the ceiling
_ABOVE_CEILING = 1.25  # times the ceiling: the highest rate that the estimate considers
_LOWEST = 1 / 1000  # times the ceiling: the lowest
_FEWEST_PROBES, _MOST_PROBES = 12, 50
_NARROW = 1.04  # the limit is known well enough when the ends of its range differ by this factor
_ABOVE_LIMIT = 1.1  # times the upper end of that range: the rate of the probe that must fail
_SURE = 0.05  # the chance that the limit lies below the range, and that it lies above it
_FULL_RUNS = 2  # at each rate, until one holds
_STEPS_DOWN = (0.0, 0.02, 0.04, 0.08, 0.16, 0.32)  # each relative to the rate before
_KEPT = 0.99  # of the rate asked for must come back


def holds(result: LoadResult, slo: Slo) -> bool:
    """The objective is met, nothing went wrong, and the rate asked for is the rate that came."""
    rate = result.spec.rate or 0.0
    return result.ok and not result.overdue and result.rate >= _KEPT * rate and slo.met(result)


def find_max_rate(
    spec: LoadSpec, slo: Slo, measure: Measure, say: Say, probe_seconds: float
) -> tuple[LoadResult, Server | None, MaxRate]:
    """Probe where the limit most likely is, until that is narrow enough; then measure the rate found in full.

    No outcome is final (see `LimitEstimate`): a probe that failed by chance is outvoted by those after it. The result's
    `spec.rate` is the rate found. Raises LoadError when the server cannot hold it at any rate tried.
    """
    search = _Search(spec, slo, measure, say, probe_seconds)
    estimate = search.narrow()
    low, high = estimate.quantile(_SURE), estimate.quantile(1 - _SURE)
    result, server = search.confirm(low)
    found = MaxRate(str(slo), result.spec.rate or 0.0, low, high, search.probes, search.limit(high))
    return result, server, found


class _Search:
    def __init__(self, spec: LoadSpec, slo: Slo, measure: Measure, say: Say, probe_seconds: float) -> None:
        self.spec, self.slo, self.measure, self.say = spec, slo, measure, say
        self.short = dataclasses.replace(spec, duration=probe_seconds, warmup=min(spec.warmup, probe_seconds / 4))
        self.probes = 0
        # The rate of each probe that failed, and what was used up then.
        self.failures: list[tuple[float, str | None]] = []

    def narrow(self) -> LimitEstimate:
        """Probe until the limit is known to _NARROW, or _MOST_PROBES have not been enough."""
        ceiling = self._ceiling()
        estimate = LimitEstimate(ceiling * _LOWEST, ceiling * _ABOVE_CEILING)
        held_once = checked = False
        while self.probes < _MOST_PROBES and not checked:
            high = estimate.quantile(1 - _SURE)
            narrow = self.probes >= _FEWEST_PROBES and high <= _NARROW * estimate.quantile(_SURE)
            # Failures in a row may have one cause that is over: only a failure above the limit confirms it.
            rate = high * _ABOVE_LIMIT if narrow else estimate.quantile(0.5)
            held = self._held(dataclasses.replace(self.short, rate=rate), "")[0]
            estimate.learn(rate, held=held)
            held_once |= held
            checked = narrow and not held
            self.probes += 1
        if not held_once:
            raise LoadError(f"{self.slo} is not held even at {rate:,.0f}/s", EX_OBJECTIVE_MISSED)
        return estimate

    def _ceiling(self) -> float:
        """What a closed loop reaches, the best of a few: the noise only takes from it."""
        results = [self.measure(dataclasses.replace(self.short, rate=None))[0] for _ in range(_CEILINGS)]
        rates = [result.rate for result in results if result.ok]
        if not rates:
            why = ", ".join(results[-1].error_details) or "nothing was echoed"
            raise LoadError(f"the closed loop that finds the ceiling failed: {why}", EX_WRONG_ECHO)
        self.say(f"closed loop: {max(rates):,.0f}/s")
        return max(rates)

    def confirm(self, rate: float) -> tuple[LoadResult, Server | None]:
        """The first full run that holds, lower by growing steps after _FULL_RUNS that do not."""
        for step in _STEPS_DOWN:
            rate *= 1 - step
            for _ in range(_FULL_RUNS):
                held, result, server = self._held(dataclasses.replace(self.spec, rate=rate), " in full")
                if held:
                    return result, server
        why = f"{self.slo} held in short probes, but in no full run down to {rate:,.0f}/s"
        raise LoadError(why, EX_OBJECTIVE_MISSED)

    def _held(self, spec: LoadSpec, length: str) -> tuple[bool, LoadResult, Server | None]:
        result, server = self.measure(spec)
        held = holds(result, self.slo)
        if not held:
            self.failures.append((spec.rate or 0.0, self._used_up(result, server)))
        seen = f"{self.slo.metric} {duration(self.slo.value(result))}, {result.rate:,.0f}/s came back"
        self.say(f"{spec.rate:,.0f}/s{length}: {seen}, {'held' if held else 'not held'}")
        return held, result, server

    def _used_up(self, result: LoadResult, server: Server | None) -> str | None:
        if client_limits(result, server):
            return "client"
        idle = server is not None and max(server.utilisation, result.client_utilisation) < SATURATED
        rate_missed = result.overdue or result.rate < _KEPT * (result.spec.rate or 0.0)
        return "connections" if idle and rate_missed and result.ok else None

    def limit(self, high: float) -> str | None:
        """What most failures near the limit have in common."""
        near = [limit for rate, limit in self.failures if rate >= high / 1.1]
        return next((limit for limit in ("client", "connections") if 2 * near.count(limit) > len(near)), None)
