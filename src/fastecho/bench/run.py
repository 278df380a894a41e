"""One run: engines in threads, and the thread that opens and closes the measured window around them."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ..errors import EX_WRONG_ECHO
from . import hdr
from ._connect import cannot_connect, choose_address, choose_answering, no_answer
from ._errors import DATAGRAM_KINDS, ERROR_KINDS, FirstError, LoadError, describe
from ._hdr import Histogram
from ._load import Engine, Phase, now
from ._local import check_descriptor_limit, source_addresses
from ._threads import NativeThread
from .result import LoadResult, Sample, percentiles_of, seconds_or_nan
from .spec import LoadSpec
from .stop import Interrupted, Stop
from .target import Target

_INTERRUPTED_PATIENCE = 1.5  # seconds for the replies under way, and to count what an open loop could not send
WindowHook = Callable[[str], None]
ProgressHook = Callable[[Sample], None]


class AnyEngine(Protocol):
    """What `_load.Engine` and the slower one for TLS have in common."""

    def run(self) -> None: ...
    def close(self) -> None: ...
    def enter_phase(self, phase: Phase, at: int) -> None: ...
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
    def first_errors(self) -> dict[str, FirstError]: ...


def run_load(
    spec: LoadSpec,
    on_window: WindowHook | None = None,
    on_progress: ProgressHook | None = None,
    *,
    stop: Stop | None = None,
    count_all: bool = False,
) -> LoadResult:
    """Load the target of `spec` and measure it.

    `on_window` is called in this thread with `connected`, `start`, `end` and `drained`: the window is exactly the time
    between the return from `start` and the call with `end`. `on_progress` gets a Sample an interval.

    `stop` ends the run early: what was measured by then is a result with `partial` set.

    With `count_all`, the result has all echoes of the run: those of the warm-up, and those of messages that
    were in flight when the window ended, too.

    Raises LoadError when no connection can be made or the limit of open files is too low for all of them, ConfigError
    when no address of the target is of the family of `spec.sources`, Interrupted when it was stopped before it
    measured, MissingExtraError without the hdrhistogram package. Errors during the run raise nothing: they are in the
    result.
    """
    return Run(spec, on_window, on_progress, stop=stop, count_all=count_all).run()


class Run:
    """`run_load` in two steps: the constructor resolves the target, `run()` loads it, once.

    `run()` uses nothing that gevent replaces, unless the target is a TLS server.
    """

    def __init__(
        self,
        spec: LoadSpec,
        on_window: WindowHook | None = None,
        on_progress: ProgressHook | None = None,
        *,
        stop: Stop | None = None,
        count_all: bool = False,
    ) -> None:
        hdr.require()
        check_descriptor_limit(spec.connections)
        self.spec, self.stop_request, self.count_all = spec, stop or Stop(), count_all
        self.on_window = on_window or (lambda event: None)
        self.on_progress = on_progress or (lambda sample: None)
        self.target = Target.parse(spec.target)
        if self.target.tls:
            from ._tls import client_context

            client_context(spec.tls_ca, spec.tls_insecure)  # raises before a connection is tried
        self.kinds = DATAGRAM_KINDS if self.target.udp else ERROR_KINDS
        choose = choose_answering if self.target.udp else choose_address
        self.address = choose(self.target, spec.usable(self.target.addresses()), spec.timeout)
        self.engines = list(self._make_engines())
        self.threads = [
            NativeThread(self._work, k, engine)
            for k, engine in enumerate(self.engines)
        ]
        self.samples: list[Sample] = []
        self.stopped: str | None = None
        self.partial = False
        self.window_from = 0
        self._seen = (0, 0)
        self._histogram = Histogram()
        self._alive = (0, 0)
        self._failure: BaseException | None = None
        self._errors: dict[str, int] | None = None

    def _make_engines(self) -> Iterator[AnyEngine]:
        spec = self.spec
        family, host, port = self.address
        if self.target.tls:
            from ._tls import TLSEngine

            yield TLSEngine(spec, self.address, server_name=self.target.host, count_all=self.count_all)
            return
        sizes, chunk = spec.size_table(), (1 << 16 if self.target.udp else spec.chunk)
        table = spec.payload(chunk)
        for k in range(spec.threads):
            mine = spec.connections // spec.threads + (k < spec.connections % spec.threads)
            rate = spec.rate * mine / spec.connections if spec.rate else 0.0
            if self.target.udp:
                yield self._datagram_engine(k, mine, rate, sizes, table)
                continue
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
                    terminator=spec.ending,
                    rate=rate,
                    poisson=spec.arrivals == "poisson",
                    offset=1e9 / rate * k / spec.threads if rate else 0.0,
                    timeout=spec.timeout,
                    seed=spec.seed,
                    index=k,
                    proxy_protocol=spec.proxy_protocol or 0,
                    count_all=self.count_all,
                )
            except ValueError as error:
                raise LoadError(str(error)) from None

    def _datagram_engine(self, k: int, sockets: int, rate: float, sizes: list[int], table: bytes) -> AnyEngine:
        from ._datagram_load import DatagramEngine

        spec = self.spec
        family, host, port = self.address
        try:
            return DatagramEngine(
                address=(host, port),
                family=family,
                sources=source_addresses(spec, host),
                connections=sockets,
                depth=spec.depth,
                sizes=sizes,
                table=table,
                verify=spec.verify,
                rate=rate,
                poisson=spec.arrivals == "poisson",
                offset=1e9 / rate * k / spec.threads if rate else 0.0,
                timeout=spec.timeout,
                seed=spec.seed,
                index=k,
            )
        except OSError as error:
            raise cannot_connect(self.target, [(self.address, error)]) from None

    def _work(self, k: int, engine: AnyEngine) -> None:
        try:
            if self.spec.cpus and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, {self.spec.cpus[k % len(self.spec.cpus)]})
            engine.run()
        except BaseException as error:
            self._failure = error

    def run(self) -> LoadResult:
        try:
            return self._measure()
        finally:
            self._stop()

    def _measure(self) -> LoadResult:
        spec = self.spec
        for thread in self.threads:
            thread.start()
        if not spec.churn:
            self._wait_for_connections()
            self.on_window("connected")
        self._enter(Phase.WARM_UP)
        self._pass(spec.warmup, measuring=False)
        if self.stop_request.requested and not self.count_all:
            raise Interrupted("interrupted in the warm-up: nothing was measured yet")
        self._sample(0.0, measuring=False)
        self.on_window("start")
        started = time.time()
        self.window_from = self._enter(Phase.MEASURE)
        if self.stopped is None:
            self._pass(spec.duration, measuring=True)
        window_to = self._enter(Phase.DRAIN)
        self.on_window("end")
        if self.stop_request.requested:
            # The server may have got the same signal: what it does from now on is not its fault.
            self.partial, self.stopped = True, "interrupted"
            self._errors = self._count_errors()
        patience = _INTERRUPTED_PATIENCE if self.partial else 2 * spec.timeout + 2
        until = time.monotonic() + patience
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self.threads):
            self.stopped = self.stopped or "replies were still coming in long after the end"
        self.on_window("drained")
        self._stop()
        return self._result(started, (window_to - self.window_from) / 1e9)

    def _stop(self) -> None:
        for engine in self.engines:
            engine.enter_phase(Phase.STOP, now())
        for thread in self.threads:
            thread.join()
        for engine in self.engines:
            engine.close()

    def _enter(self, phase: Phase) -> int:
        at = now()
        for engine in self.engines:
            engine.enter_phase(phase, at)
        return at

    def _check(self) -> None:
        if self._failure is not None:
            raise LoadError(f"the load engine failed: {self._failure}") from self._failure
        if self.spec.churn and not any(engine.counts[0] for engine in self.engines):
            errors = self._count_errors()
            if sum(errors.values()) == errors["connect"] >= min(self.spec.connections, 3):
                self._refuse()

    def _count_errors(self) -> dict[str, int]:
        return {kind: sum(engine.errors[kind] for engine in self.engines) for kind in self.kinds}

    def _first_error(self, kind: str) -> FirstError | None:
        return next((engine.first_errors[kind] for engine in self.engines if kind in engine.first_errors), None)

    def _wait_for_connections(self) -> None:
        """Wait for all connections. Continue with fewer once the others have failed or timed out.

        Raises:
            LoadError: there are none.
        """
        spec, deadline = self.spec, now() + int((self.spec.timeout + 1) * 1e9)
        while (up := sum(engine.connected for engine in self.engines)) < spec.connections:
            self._check()
            failed = sum(self._count_errors().values())
            if (failed >= min(spec.connections, 3) and up == 0) or now() > deadline:
                break
            if self.stop_request.wait(0.002):
                raise Interrupted("interrupted while connecting: nothing was measured yet")
        if up == 0:
            self._refuse()

    def _refuse(self) -> None:
        """Raise LoadError: no connection could be made, or none was kept."""
        first = self._first_error("connect")
        details = self._details()
        if first is None and details:
            raise LoadError(f"{self.target} is no echo server: {details[0]}", EX_WRONG_ECHO)
        raise cannot_connect(self.target, [(self.address, first.as_os_error() if first else no_answer())])

    def _pass(self, seconds: float, *, measuring: bool) -> None:
        """Let `seconds` go by, a sample an interval; less when the target has died."""
        start = last = now()
        end = start + int(seconds * 1e9)
        step = int(self.spec.sample_seconds * 1e9)
        due_at = start + step
        while (at := now()) < end:
            # An interval that would be cut short at the end is part of the one before.
            self.stop_request.wait(((due_at if due_at + step // 2 < end else end) - at) / 1e9)
            at = now()
            self._check()
            if self.stop_request.requested:
                break
            if at >= due_at:
                self._sample((at - last) / 1e9, measuring=measuring)
                last, due_at = at, max(due_at + step, at)
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
        silent = (now() - self._alive[1]) / 1e9
        if silent > self.spec.timeout and sum(self._count_errors().values()) >= self.spec.connections:
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
            p50=seconds_or_nan(fresh, fresh.percentile(50)),
            p99=seconds_or_nan(fresh, fresh.percentile(99)),
            max=seconds_or_nan(fresh, fresh.max),
            measuring=measuring,
        )
        if measuring:
            self.samples.append(sample)
        self.on_progress(sample)

    def _details(self) -> tuple[str, ...]:
        counts = self._errors or self._count_errors()
        found = ((kind, self._first_error(kind)) for kind in self.kinds if counts[kind])
        plain = not self.target.tls and not self.target.unix
        return tuple(describe(kind, first, timeout=self.spec.timeout, plain=plain) for kind, first in found if first)

    def _result(self, started: float, seconds: float) -> LoadResult:
        self._check()
        histogram = hdr.merge(engine.histogram for engine in self.engines)
        counts = [engine.counts for engine in self.engines]
        return LoadResult(
            spec=self.spec,
            started=started,
            echoes=sum(c[1] for c in counts),
            bytes=sum(c[2] for c in counts),
            seconds=seconds,
            min=seconds_or_nan(histogram, histogram.min),
            mean=seconds_or_nan(histogram, histogram.mean),
            percentiles=percentiles_of(histogram),
            errors=self._errors or self._count_errors(),
            error_details=self._details(),
            thread_cpu=tuple(engine.cpu for engine in self.engines),
            overdue=sum(c[3] for c in counts),
            histogram=hdr.encode(histogram),
            samples=tuple(self.samples),
            stopped=self.stopped,
            partial=self.partial,
            address=str(self.address),
        )
