"""Runs that were never run: results with chosen figures, and series of them with the noise of a shared machine."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping

from fastecho.bench import LoadResult, LoadSpec, Sample, hdr
from fastecho.bench._hdr import Histogram
from fastecho.bench.measure import Report, Server
from fastecho.bench.result import percentiles_of

Run = tuple[LoadResult, Server | None]
SPEC = LoadSpec(target="127.0.0.1:7")


def run_of(
    latencies: Mapping[float, int],
    *,
    rate: float = 1000.0,
    cpu: float | None = None,
    encoded: bool = True,
    **changes: object,
) -> Run:
    """A run of one second with so many echoes of each latency; `cpu` is the server's for an echo.

    Encoding the histogram takes a millisecond, and only what saves or merges runs needs it.
    """
    histogram = Histogram()
    for seconds, times in latencies.items():
        histogram.record(round(seconds * 1e9), times)
    echoes = round(rate)
    samples = tuple(
        Sample(k / 10, 0.1, round(rate / 10), 64, histogram.percentile(50) / 1e9, 1e-3, 1e-3) for k in range(10)
    )
    result = LoadResult(
        spec=SPEC, started=0.0, echoes=echoes, bytes=64 * echoes, seconds=1.0,
        min=histogram.min / 1e9, mean=histogram.mean / 1e9, percentiles=percentiles_of(histogram),
        errors=dict.fromkeys(("connect", "corrupt"), 0), error_details=(), thread_cpu=(0.5,), overdue=0,
        histogram=hdr.encode(histogram) if encoded else "", samples=samples,
    )  # fmt: skip
    server = None if cpu is None else Server((1,), "server", cpu * echoes, cpu * echoes)
    return dataclasses.replace(result, **changes), server


def report_of(run: Run, **changes: object) -> Report:
    return dataclasses.replace(Report(*run, {"host": "here"}, {"fastecho": "1"}, ()), **changes)


class Machine:
    """Runs one after the other on a machine with drift, slow spells, and now and then something that takes the CPU.

    Each figure wanders by an autoregressive process (3 % a step, a tenth of it forgotten), bears 2 % of noise that
    is drawn for each run, and is slower by up to half in one run of twenty.
    """

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.slope = self.draw.uniform(-0.004, 0.004)
        self.level = 0.0

    def run(self, slower: float = 1.0, *, stall: bool = False) -> Run:
        """The next run, of a server that takes `slower` times as long for an echo."""
        draw = self.draw
        self.level = 0.9 * self.level + draw.gauss(0, 0.01) + self.slope
        disturbed = draw.uniform(0, 0.5) if draw.random() < 0.05 else 0.0
        time = 1e-5 * slower * math.exp(self.level + draw.gauss(0, 0.02) + disturbed)
        middle = 50 * time * math.exp(draw.gauss(0, 0.01))
        tail = middle * 2 * math.exp(abs(draw.gauss(0, 0.2)) + 3 * disturbed)
        highest = tail * 2 * math.exp(abs(draw.gauss(0, 0.7)))
        latencies = {middle * 0.9: 500, middle: 500, middle * 1.2: 960, tail: 35, tail * 1.5: 4, highest: 1}
        if stall:
            latencies[0.2] = 3
        return run_of(latencies, rate=1 / time, cpu=time * math.exp(draw.gauss(0, 0.01)), encoded=False)

    def runs(self, count: int, slower: float = 1.0) -> Iterator[Run]:
        return (self.run(slower) for _ in range(count))
