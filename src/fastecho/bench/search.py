"""The highest rate at which an objective still holds."""

import dataclasses
from collections.abc import Callable

from .measure import Server
from .result import LoadResult
from .slo import Slo
from .spec import LoadError, LoadSpec

Measure = Callable[[LoadSpec], tuple[LoadResult, Server | None]]
Say = Callable[[str], None]

_STEPS = 7
_CONFIRMATIONS = 4
_KEPT = 0.99


def holds(result: LoadResult, slo: Slo) -> bool:
    """The objective is met, nothing went wrong, and the rate asked for is the rate that came."""
    rate = result.spec.rate or 0.0
    return result.ok and not result.overdue and result.rate >= _KEPT * rate and slo.met(result)


def find_max_rate(
    spec: LoadSpec, slo: Slo, measure: Measure, say: Say, probe_seconds: float
) -> tuple[LoadResult, Server | None]:
    """Bisect between nothing and what a closed loop reaches, by short probes; then measure the rate found in full.

    The result's `spec.rate` is the rate found. Raises LoadError when the server cannot hold it at any rate tried.
    """
    probe = dataclasses.replace(spec, duration=probe_seconds, warmup=min(spec.warmup, probe_seconds / 4))
    ceiling, _ = measure(dataclasses.replace(probe, rate=None))
    if not ceiling.ok:
        raise LoadError(f"the closed loop that finds the ceiling failed: {', '.join(ceiling.error_details)}")
    say(f"closed loop: {ceiling.rate:,.0f}/s")
    low, high = 0.0, ceiling.rate * 1.1
    for _ in range(_STEPS):
        rate = (low + high) / 2
        result, _ = measure(dataclasses.replace(probe, rate=rate))
        held = holds(result, slo)
        say(f"{rate:,.0f}/s: {_seen(result, slo)}, {'held' if held else 'not held'}")
        low, high = (rate, high) if held else (low, rate)
    if low == 0.0:
        raise LoadError(f"{slo} is not held even at {high:,.0f}/s")
    for _ in range(_CONFIRMATIONS):
        result, server = measure(dataclasses.replace(spec, rate=low))
        if holds(result, slo):
            return result, server
        say(f"{low:,.0f}/s in full: {_seen(result, slo)}, not held")
        low *= 0.95
    raise LoadError(f"{slo} held in short probes, but in no full run down to {low:,.0f}/s")


def _seen(result: LoadResult, slo: Slo) -> str:
    from .text import duration

    return f"{slo.metric} {duration(slo.value(result))}, {result.rate:,.0f}/s came back"
