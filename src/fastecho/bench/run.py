"""One run: engines in threads, and the thread that opens and closes the measured window around them."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from . import hdr
from ._faults import describe, reason
from ._hdr import Histogram
from ._load import ERROR_KINDS, Engine, now
from ._local import raise_descriptor_limit, source_addresses
from .result import LoadResult, Sample, percentiles_of
from .spec import LoadError, LoadSpec, Target

CONNECT, WARM_UP, MEASURE, DRAIN, STOP = range(5)
WindowHook = Callable[[str], None]
ProgressHook = Callable[[Sample], None]


class AnyEngine(Protocol):
    """What `_load.Engine` and the slower one for TLS have in common."""

    def run(self) -> None: ...
    def close(self) -> None: ...
    def enter_phase(self, phase: int, at: int) -> None: ...
    @property
    def histogram(self) -> Histogram: ...
    @property
    def connected(self) -> int: ...
    @property
    def counts(self) -> tuple[int, int, int, int]: ...
    @property
    def cpu(self) -> float: ...
    @property
    def errors(self) -> dict[str, int]: ...
    @property
    def first_errors(self) -> dict[str, tuple[int, int, int, int, int]]: ...


def run_load(
    spec: LoadSpec, on_window: WindowHook | None = None, on_progress: ProgressHook | None = None
) -> LoadResult:
    """Load the target of `spec` and measure it.

    `on_window` is called in this thread with `connected`, `start`, `end` and `drained`: the window is exactly the time
    between the return from `start` and the call with `end`. `on_progress` gets a Sample an interval.

    Raises LoadError when no connection can be made, MissingExtraError without the hdrhistogram package. Errors during
    the run raise nothing: they are in the result.
    """
    hdr.require()
    raise_descriptor_limit(spec.connections)
    run = _Run(spec, on_window or (lambda event: None), on_progress or (lambda sample: None))
    try:
        return run.measure()
    finally:
        run.stop()


class _Run:
    def __init__(self, spec: LoadSpec, on_window: WindowHook, on_progress: ProgressHook) -> None:
        self.spec, self.on_window, self.on_progress = spec, on_window, on_progress
        self.target = Target.parse(spec.target)
        self.engines = list(self._make_engines())
        self.threads = [
            threading.Thread(target=self._work, args=(k, engine), name=f"fastecho-bench-{k}", daemon=True)
            for k, engine in enumerate(self.engines)
        ]
        self.samples: list[Sample] = []
        self.stopped: str | None = None
        self.window_from = 0
        self._seen = (0, 0)
        self._histogram = Histogram()
        self._alive = (0, 0)
        self._failure: BaseException | None = None

    def _make_engines(self) -> Iterator[AnyEngine]:
        spec = self.spec
        family, host, port = self.target.resolve()
        if self.target.tls:
            from ._tls import TLSEngine

            yield TLSEngine(spec, family, host, port, server_name=self.target.host)
            return
        sizes, chunk = spec.size_table(), spec.chunk
        table = spec.payload(chunk)
        for k in range(spec.threads):
            mine = spec.connections // spec.threads + (k < spec.connections % spec.threads)
            rate = spec.rate * mine / spec.connections if spec.rate else 0.0
            try:
                yield Engine(
                    family=family,
                    host=host,
                    port=port,
                    sources=source_addresses(spec, host),
                    connections=mine,
                    depth=spec.depth,
                    sizes=sizes,
                    table=table,
                    chunk=chunk,
                    verify=spec.verify,
                    churn=spec.churn,
                    rate=rate,
                    poisson=spec.arrivals == "poisson",
                    offset=1e9 / rate * k / spec.threads if rate else 0.0,
                    timeout=spec.timeout,
                    seed=spec.seed,
                    index=k,
                )
            except ValueError as error:
                raise LoadError(str(error)) from None

    def _work(self, k: int, engine: AnyEngine) -> None:
        try:
            if self.spec.cpus and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, {self.spec.cpus[k % len(self.spec.cpus)]})
            engine.run()
        except BaseException as error:
            self._failure = error

    def measure(self) -> LoadResult:
        spec = self.spec
        for thread in self.threads:
            thread.start()
        if not spec.churn:
            self._wait_for_connections()
            self.on_window("connected")
        self._enter(WARM_UP)
        self._pass(spec.warmup, measuring=False)
        self._sample(0.0, measuring=False)
        self.on_window("start")
        started = time.time()
        self.window_from = self._enter(MEASURE)
        if self.stopped is None:
            self._pass(spec.duration, measuring=True)
        window_to = self._enter(DRAIN)
        self.on_window("end")
        for thread in self.threads:
            thread.join(2 * spec.timeout + 2)
        if any(thread.is_alive() for thread in self.threads):
            self.stopped = self.stopped or "replies were still coming in long after the end"
        self.on_window("drained")
        self.stop()
        return self._result(started, (window_to - self.window_from) / 1e9)

    def stop(self) -> None:
        for engine in self.engines:
            engine.enter_phase(STOP, now())
        for thread in self.threads:
            if thread.ident is not None:
                thread.join()
        for engine in self.engines:
            engine.close()

    def _enter(self, phase: int) -> int:
        at = now()
        for engine in self.engines:
            engine.enter_phase(phase, at)
        return at

    def _check(self) -> None:
        if self._failure is not None:
            raise LoadError(f"the load engine failed: {self._failure}") from self._failure

    def _wait_for_connections(self) -> None:
        """Until all are up; fewer will do once the rest has failed or timed out, none will not."""
        spec, deadline = self.spec, now() + int((self.spec.timeout + 1) * 1e9)
        while (up := sum(engine.connected for engine in self.engines)) < spec.connections:
            self._check()
            failed = sum(sum(engine.errors.values()) for engine in self.engines)
            if (failed >= min(spec.connections, 3) and up == 0) or now() > deadline:
                break
            time.sleep(0.002)
        if up == 0:
            reasons = self._details()
            raise LoadError(f"cannot connect to {self.target}: {reason(reasons) or 'no answer'}")

    def _pass(self, seconds: float, *, measuring: bool) -> None:
        """Let `seconds` go by, a sample an interval; less when the target has died."""
        start = last = now()
        end = start + int(seconds * 1e9)
        step = int(self.spec.sample_seconds * 1e9)
        due = start + step
        while (at := now()) < end:
            # An interval that would be cut short at the end is part of the one before.
            time.sleep(max(0, (due if due + step // 2 < end else end) - at) / 1e9)
            at = now()
            self._check()
            if at >= due:
                self._sample((at - last) / 1e9, measuring=measuring)
                last, due = at, max(due + step, at)
            if self._dead():
                return
        if last < now() - step // 4:
            self._sample((now() - last) / 1e9, measuring=measuring)

    def _dead(self) -> bool:
        """Whether every connection has failed and nothing has come back for as long as the time-out."""
        echoes = sum(engine.counts[0] for engine in self.engines)
        if echoes != self._alive[0] or not self._alive[1]:
            self._alive = (echoes, now())
            return False
        failed = sum(sum(engine.errors.values()) for engine in self.engines)
        silent = (now() - self._alive[1]) / 1e9
        if silent > self.spec.timeout and failed >= self.spec.connections:
            self.stopped = f"no answer for {silent:.1f} s: given up"
        return self.stopped is not None

    def _sample(self, seconds: float, *, measuring: bool) -> None:
        whole = Histogram()
        for engine in self.engines:
            whole.add(engine.histogram)
        fresh = whole.since(self._histogram)
        counts = [engine.counts for engine in self.engines]
        place = (1, 2) if measuring else (0, 0)
        seen = (sum(c[place[0]] for c in counts), sum(c[place[1]] for c in counts))
        echoes, size = seen[0] - self._seen[0], seen[1] - self._seen[1]
        self._seen = seen
        if not seconds:
            self._seen = (0, 0)
            return
        sample = Sample(
            at=(now() - self.window_from) / 1e9 if measuring else 0.0,
            seconds=seconds,
            echoes=echoes,
            bytes=size if measuring else 0,
            p50=fresh.percentile(50) / 1e9,
            p99=fresh.percentile(99) / 1e9,
            max=fresh.max / 1e9,
            measuring=measuring,
        )
        if measuring:
            self.samples.append(sample)
        self.on_progress(sample)

    def _details(self) -> tuple[str, ...]:
        found: dict[str, str] = {}
        for engine in self.engines:
            for kind, first in engine.first_errors.items():
                found.setdefault(kind, describe(kind, *first, timeout=self.spec.timeout))
        return tuple(found[kind] for kind in ERROR_KINDS if kind in found)

    def _result(self, started: float, seconds: float) -> LoadResult:
        self._check()
        histogram = hdr.merge(engine.histogram for engine in self.engines)
        counts = [engine.counts for engine in self.engines]
        errors = {kind: sum(engine.errors[kind] for engine in self.engines) for kind in ERROR_KINDS}
        return LoadResult(
            spec=self.spec,
            started=started,
            echoes=sum(c[1] for c in counts),
            bytes=sum(c[2] for c in counts),
            seconds=seconds,
            min=histogram.min / 1e9,
            mean=histogram.mean / 1e9,
            percentiles=percentiles_of(histogram),
            errors=errors,
            error_details=self._details(),
            thread_cpu=tuple(engine.cpu for engine in self.engines),
            overdue=sum(c[3] for c in counts),
            histogram=hdr.encode(histogram),
            samples=tuple(self.samples),
            stopped=self.stopped,
        )
