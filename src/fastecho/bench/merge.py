"""Several runs of one load at the same time, from several hosts, as one."""

import dataclasses
from collections.abc import Sequence

from . import hdr
from .measure import Report
from .result import LoadResult, Sample, percentiles_of


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
        min=min((r.min for r in results if r.echoes), default=0.0),
        mean=sum(r.mean * len(r.latencies) for r in results) / max(1, len(histogram)),
        percentiles={**percentiles_of(histogram), "max": max(r.percentiles["max"] for r in results)},
        errors={kind: sum(r.errors.get(kind, 0) for r in results) for kind in first.errors},
        error_details=tuple(dict.fromkeys(line for r in results for line in r.error_details)),
        thread_cpu=tuple(cpu for r in results for cpu in r.thread_cpu),
        overdue=sum(r.overdue for r in results),
        histogram=hdr.encode(histogram),
        samples=_merge_samples([r.samples for r in results]),
        stopped=next((r.stopped for r in results if r.stopped), None),
    )


def _merge_samples(series: Sequence[tuple[Sample, ...]]) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            at=group[0].at,
            seconds=max(s.seconds for s in group),
            echoes=sum(s.echoes for s in group),
            bytes=sum(s.bytes for s in group),
            p50=max(s.p50 for s in group),
            p99=max(s.p99 for s in group),
            max=max(s.max for s in group),
        )
        for group in zip(*series, strict=False)
    )


def merge_reports(reports: Sequence[Report], command: tuple[str, ...]) -> Report:
    """The merged result with the circumstances of the first; the server's CPU is left out, it would count twice."""
    return dataclasses.replace(
        reports[0],
        result=merge_results([report.result for report in reports]),
        server=None,
        command=command,
        runs=sum(report.runs for report in reports),
    )
