"""Several runs of one load at the same time, from several hosts, as one."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Final

from . import hdr
from .comparable import ComparabilityError, check_same_load, incomplete, parts_of
from .measure import Report
from .result import LoadResult, Sample, percentiles_of, seconds_or_nan

# Hosts that were started by one command begin within a tenth of a run of each other.
_TOGETHER: Final = 0.9


def merge_results(results: Sequence[LoadResult]) -> LoadResult:
    """One result of all: echoes, rates, errors and histograms add up. At least one is needed.

    The window is as long as makes the rate the sum of the rates. Of two samples of the same interval the worse
    percentiles stand, since percentiles do not add; those of the whole come from the merged histogram and are exact.
    """
    echoes, rate = sum(r.echoes for r in results), sum(r.rate for r in results)
    histogram = hdr.merge(r.latencies for r in results)
    first = results[0]
    rates = [r.spec.rate for r in results]
    spec = dataclasses.replace(
        first.spec,
        connections=sum(r.spec.connections for r in results),
        threads=sum(r.spec.threads for r in results),
        rate=None if None in rates else sum(rate for rate in rates if rate is not None),
    )
    return LoadResult(
        spec=spec,
        started=min(r.started for r in results),
        echoes=echoes,
        bytes=sum(r.bytes for r in results),
        seconds=echoes / rate if rate else max(r.seconds for r in results),
        min=seconds_or_nan(histogram, histogram.min),
        mean=sum(r.mean * len(r.latencies) for r in results if len(r.latencies)) / len(histogram) if len(histogram)
        else math.nan,
        percentiles=percentiles_of(histogram),
        errors={kind: sum(r.errors.get(kind, 0) for r in results) for kind in first.errors},
        error_details=tuple(dict.fromkeys(line for r in results for line in r.error_details)),
        thread_cpu=tuple(cpu for r in results for cpu in r.thread_cpu),
        overdue=sum(r.overdue for r in results),
        histogram=hdr.encode(histogram),
        samples=_merge_samples([r.samples for r in results]),
        stopped=next((r.stopped for r in results if r.stopped), None),
        partial=any(r.partial for r in results),
    )


def _merge_samples(series: Sequence[tuple[Sample, ...]]) -> tuple[Sample, ...]:
    return tuple(
        Sample.combine(group, group[0].at, max(s.seconds for s in group)) for group in zip(*series, strict=False)
    )


def merge_reports(runs: Mapping[str, Report], command: tuple[str, ...]) -> Report:
    """The merged result of `runs`, by name, with the circumstances of the first.

    The server's CPU is left out: it would count twice. Raises ComparabilityError when the loads differ, or when the
    runs were not made at the same time.
    """
    check_same_load(runs, divided=True)
    _check_overlap({name: report.result for name, report in runs.items()})
    reports = list(runs.values())
    return dataclasses.replace(
        reports[0],
        result=merge_results([report.result for report in reports]),
        server=None,
        command=command,
        runs=sum(report.runs for report in reports),
        parts=tuple(part for report in reports for part in parts_of(report)),
    )


def notes(runs: Mapping[str, Report]) -> list[str]:
    """What a reader of the merged run has to know about `runs`: partial ones, and how long all ran at once."""
    results = [report.result for report in runs.values()]
    together = min(_end(result) for result in results) - max(result.started for result in results)
    longest = max(result.seconds for result in results)
    found = incomplete(runs)
    if together < _TOGETHER * longest:
        found.append(
            f"the runs overlap for {together:.1f} s of {longest:.1f} s: the sum of their rates was not reached"
        )
    return found


def _check_overlap(results: Mapping[str, LoadResult]) -> None:
    late = max(results, key=lambda name: results[name].started)
    early = min(results, key=lambda name: _end(results[name]))
    gap = results[late].started - _end(results[early])
    if gap >= 0:
        why = f"{late} began {gap:.1f} s after {early} had ended: only runs made at the same time add up"
        raise ComparabilityError(why)


def _end(result: LoadResult) -> float:
    return result.started + result.seconds
