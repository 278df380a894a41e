"""A soak as evidence, and all soaks as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from proof.record import FAILED, NOT_RUN, PASSED, Evidence, Run
from proof.soak.growth import SHORTEST, Sample, is_long_enough, per_hour, thinned, warm
from proof.soak.service import DISTURBED, STEADY

if TYPE_CHECKING:
    from proof.soak.rounds import Tally

TEST = "proof/soak"
BYTES = "Every echoed byte of a mixed load is the byte that was sent."
ENDS = "A connection ends only where its worker was killed or replaced."
MEMORY = "Resident memory grows by at most 1 MB an hour under load."
DESCRIPTORS = "The number of open descriptors stays flat under load."
WRONG_BYTES = ("corrupt", "excess", "altered", "duplicated")
MOST_BYTES = 1e6  # an hour
MOST_DESCRIPTORS = 1.0  # an hour


def growth(samples: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, float]]:
    """By service: growth an hour of each value of a sample, after the warm-up."""
    names = ("supervisor", "workers", "supervisor_descriptors", "worker_descriptors")
    return {
        service: {name: round(per_hour([(each.at, getattr(each, name)) for each in warm(found)]), 3) for name in names}
        for service, found in samples.items()
    }


def figures(tally: Tally) -> dict[str, Any]:
    return {
        "rounds": tally.rounds,
        "bytes": tally.bytes,
        "echoes": tally.echoes,
        "loads": {
            f"{service}, {load}": {"echoes": found.echoes, "bytes": found.bytes}
            for (service, load), found in tally.loads.items()
        },
        "kills": tally.kills,
        "reloads": tally.reloads,
        "ended": tally.ended,
        "could end": tally.could_end,
        "datagrams lost": tally.lost,
        "datagrams reordered": tally.reordered,
        "pauses": tally.pauses,
        "paused timeouts": tally.paused_timeouts,
        "errors": dict(tally.errors),
        "details": tally.details,
        "growth": growth(tally.samples),
        "samples": {name: [asdict(each) for each in thinned(found)] for name, found in tally.samples.items()},
    }


def evidence(tally: Tally) -> tuple[Evidence, ...]:
    seconds = round(tally.seconds, 1)
    wrong = {kind: count for kind, count in tally.errors.items() if kind in WRONG_BYTES}
    other = {kind: count for kind, count in tally.errors.items() if kind not in WRONG_BYTES}
    first = tally.details[0] if tally.details else ""

    def held(promise: str, failure: str, amounts: Mapping[str, float]) -> Evidence:
        return Evidence(promise, TEST, FAILED if failure else PASSED, amounts, failure, seconds)

    def failure(found: Mapping[str, int]) -> str:
        return f"{', '.join(f'{count} {kind}' for kind, count in found.items())}: {first}" if found else ""

    verified = {"MB_verified": tally.bytes // 1_000_000, "echoes": tally.echoes, "datagrams_lost": tally.lost}
    ends = {"workers_killed": tally.kills, "reloads": tally.reloads, "connections_ended_by_them": tally.ended}
    return (
        held(BYTES, failure(wrong), verified), held(ENDS, failure(other), ends), *_growth_evidence(tally, seconds),
    )  # fmt: skip


def _growth_evidence(tally: Tally, seconds: float) -> list[Evidence]:
    if not tally.samples or not all(map(is_long_enough, tally.samples.values())):
        reason = f"a run shorter than {SHORTEST / 60:g} minutes after its warm-up says nothing about growth"
        return [Evidence(promise, TEST, NOT_RUN, {}, reason, seconds) for promise in (MEMORY, DESCRIPTORS)]
    found = growth(tally.samples)
    # The workers of the disturbed service are young: their memory is that of their warm-up.
    memory = {f"{service} {name}": found[service][name] / 1e3 for service in found for name in ("supervisor", "workers")
              if (service, name) != (DISTURBED, "workers")}  # fmt: skip
    opened = {f"{service} {name}": found[service][name] for service in found
              for name in ("supervisor_descriptors", "worker_descriptors")}  # fmt: skip
    return [
        _bounded(MEMORY, memory, MOST_BYTES / 1e3, "kB_an_hour", seconds),
        _bounded(DESCRIPTORS, opened, MOST_DESCRIPTORS, "descriptors_an_hour", seconds),
    ]


def _bounded(promise: str, values: Mapping[str, float], most: float, unit: str, seconds: float) -> Evidence:
    name, value = max(values.items(), key=lambda item: item[1])
    reason = f"{name.replace('_', ' ')}: {value:.1f} {unit.replace('_', ' ')}" if value > most else ""
    return Evidence(promise, TEST, FAILED if reason else PASSED, {unit: round(value, 2)}, reason, seconds)


def rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """A line for each run, and one for the sum."""
    keys = ("kills", "reloads", "ended", "datagrams lost")
    lines = []
    for run in runs:
        found = run.figures
        memory = max(found["growth"].get(STEADY, {}).get(name, 0.0) for name in ("supervisor", "workers"))
        long_enough = not any(each.outcome == NOT_RUN for each in run.evidence)
        lines.append(
            (
                run.started, f"{run.seconds / 3600:.2f}", f"{found['bytes'] / 1e9:,.1f}",
                *(f"{found[key]:,}" for key in keys), f"{sum(found['errors'].values()):,}",
                f"{memory / 1e6:+.2f} MB" if long_enough else "too short",
            )
        )  # fmt: skip
    if len(runs) > 1:
        total = [sum(run.figures[key] for run in runs) for key in keys]
        errors = sum(sum(run.figures["errors"].values()) for run in runs)
        lines.append(
            (
                "all", f"{sum(run.seconds for run in runs) / 3600:.2f}",
                f"{sum(run.figures['bytes'] for run in runs) / 1e9:,.1f}",
                *(f"{value:,}" for value in total), f"{errors:,}", "",
            )
        )  # fmt: skip
    return lines


HEAD = ("run", "hours", "GB verified", "workers killed", "reloads", "connections ended by them", "datagrams lost",
        "errors", "memory an hour")  # fmt: skip
