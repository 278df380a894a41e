"""A Locust user whose load comes from the engine in C: Locust's master and workers distribute it and show the results.

Importing this module imports Locust, which replaces Python's threads and sockets by those of gevent.
"""

import dataclasses
import logging
import time
from collections import Counter
from typing import Any, Final

from ..errors import ConfigError, FastechoError, MissingExtraError
from ._errors import ERROR_KINDS
from ._threads import NativeThread
from .result import LoadResult
from .run import Run
from .spec import LoadSpec, SizeRange
from .stop import Interrupted, Stop
from .target import Target

try:
    import gevent
    from gevent.event import Event
    from locust import User, task
    from locust.exception import StopUser
    from locust.stats import StatsEntry, StatsError
except ImportError as error:
    raise MissingExtraError(f"{error.name or 'locust'} is missing: pip install 'fastecho[locust]'") from None

__all__ = ["EchoUser"]

_NOT_SET_BY_USER: Final = {"target", "duration", "warmup", "interval", "tls_ca", "tls_insecure"}
_FIELDS: Final = [field.name for field in dataclasses.fields(LoadSpec) if field.name not in _NOT_SET_BY_USER]
_SAMPLES: Final = 10  # a window, so that the echoes are counted in the seconds in which they came back
_MEANINGS: Final = {
    "connect": "cannot connect",
    "reset": "reset by the server",
    "short": "closed by the server before the end of the echo",
    "corrupt": "echo with wrong bytes",
    "excess": "more bytes than were sent",
    "timeout": "no answer in time",
}

logger = logging.getLogger(__name__)


class EchoUser(User):
    """One engine, with `connections` connections. Locust's --host is the target, such as `tcp://127.0.0.1:8007`.

    The load is set by class attributes that have the names, the meanings and the defaults of the fields of `LoadSpec`.
    `rate` is that of one user.

    Attributes:
        window: the task loads the target for so many seconds, then reports. Each window opens its own connections.
        name: of the row in Locust's table. None: what is sent, such as `echo 64 B`.
    """

    abstract = True
    window: float = 1.0
    name: str | None = None

    connections: int
    size: int | tuple[int, ...] | SizeRange
    depth: int
    rate: float | None
    arrivals: str
    churn: bool
    server_closes: bool
    threads: int
    cpus: tuple[int, ...] | None
    verify: bool
    terminator: bytes | None
    timeout: float
    sources: tuple[str, ...] | None
    seed: int

    def on_start(self) -> None:
        self._shown: set[str] = set()  # kinds of errors
        self._spec: LoadSpec | None = None
        try:
            self._spec = self._load()
        except FastechoError as error:
            logger.error("%s", error)
            self._fail(error)

    def on_result(self, result: LoadResult) -> None:
        """Called with the result of each window, after it has been reported to Locust. Does nothing by default."""

    @task
    def load(self) -> None:
        """Load the target for one window, in a thread of its own. If the user is stopped, the window ends early."""
        if self._spec is None:
            raise StopUser  # here, since Locust logs a traceback of one that on_start raises
        try:
            window = _Window(self._spec)
        except FastechoError as error:
            self._fail(error)
            gevent.sleep(self.window)
            return
        try:
            window.wait()
        except gevent.GreenletExit:
            window.stop()
            self._finish(window)
            raise
        if not self._finish(window):
            gevent.sleep(self.window)

    def _load(self) -> LoadSpec:
        given = {name: getattr(self, name) for name in _FIELDS if hasattr(self, name)}
        target = self.host or ""
        if Target.parse(target).tls:
            raise ConfigError("target", self.host, "must not be a TLS server: gevent has replaced the ssl module")
        if Target.parse(target).udp:
            raise ConfigError("target", self.host, "must not be a UDP server: only streams are loaded")
        return LoadSpec(
            target=target, duration=self.window, warmup=0, interval=max(self.window / _SAMPLES, 0.01), **given
        )

    def _finish(self, window: "_Window") -> bool:
        """Report the result of a window that has ended. False if nothing could be sent."""
        try:
            result = window.result()
        except Interrupted:  # before anything was sent
            return True
        except FastechoError as error:
            self._fail(error)
            return False
        errors = Counter({f"{kind}: {_MEANINGS[kind]}": result.errors[kind] for kind in ERROR_KINDS})
        self._show(result)
        self._report(+errors, at=result.started, result=result)
        self.on_result(result)
        return True

    def _fail(self, error: FastechoError) -> None:
        self._report(Counter({str(error): 1}), at=time.time())

    def _show(self, result: LoadResult) -> None:
        """Log the first error of each kind: its connection and bytes are too particular for a row of the table."""
        for line in result.error_details:
            kind = line.partition(":")[0]
            if kind not in self._shown:
                self._shown.add(kind)
                logger.warning("%s: %s", self.host, line)

    def _report(self, errors: "Counter[str]", *, at: float, result: LoadResult | None = None) -> None:
        """Add a window that began `at` to Locust's statistics. An event for each echo would cost more than the echo."""
        stats, method, name = self.environment.stats, self._method(), self._name()
        entry = StatsEntry(stats, name, method)
        entry.start_time = at
        entry.last_request_timestamp = at
        if result is not None:
            _add_echoes(entry, result)
        _add_errors(entry, errors)
        stats.total.extend(entry)
        stats.get(name, method).extend(entry)
        for text, count in errors.items():
            key = StatsError.create_key(method, name, text)
            error = stats.errors.setdefault(key, StatsError(method, name, text))
            error.occurred()
            error.occurrences += count - 1

    def _method(self) -> str:
        return (self.host or "").partition(":")[0].upper() if "://" in (self.host or "") else "TCP"

    def _name(self) -> str:
        if self.name is not None:
            return self.name
        size = getattr(self, "size", LoadSpec.size)
        if isinstance(size, SizeRange):
            shown = f"{size.low}-{size.high}"
        else:
            shown = str(size) if isinstance(size, int) else ",".join(map(str, size))
        return f"{'connect and echo' if getattr(self, 'churn', False) else 'echo'} {shown} B"


class _Window:
    """A run in a thread of the operating system, and the greenlet that waits for it."""

    def __init__(self, spec: LoadSpec) -> None:
        self._stop = Stop()
        self._run = Run(spec, stop=self._stop, count_all=True)  # resolves the name in this greenlet
        self._outcome: list[LoadResult | BaseException] = []
        self._ended = Event()
        # Events of gevent belong to one thread: the other one can only wake this loop.
        self._wake = gevent.get_hub().loop.async_()
        self._wake.start(self._ended.set)
        self._thread = NativeThread(self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._outcome.append(self._run.run())
        except BaseException as error:
            self._outcome.append(error)
        finally:
            self._wake.send()

    def wait(self) -> None:
        """Let other greenlets run until the window has ended."""
        self._ended.wait()

    def stop(self) -> None:
        """End the window now, with the replies under way: the server has counted them, too."""
        self._stop.request()
        self._ended.wait()

    def result(self) -> LoadResult:
        self._thread.join()
        self._wake.stop()
        self._wake.close()
        (outcome,) = self._outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def _add_echoes(entry: Any, result: LoadResult) -> None:
    entry.num_requests = result.echoes
    entry.total_content_length = result.bytes
    latencies = result.latencies
    # An echo without a latency was due before the window of an open loop.
    entry.num_none_requests = result.echoes - len(latencies)
    if len(latencies):
        entry.total_response_time = result.mean * len(latencies) * 1e3
        entry.min_response_time, entry.max_response_time = result.min * 1e3, result.percentiles["max"] * 1e3
        for nanoseconds, count in latencies.items():
            entry.response_times[_milliseconds(nanoseconds)] += count
    for second, count in _by_second(result).items():
        entry.num_reqs_per_sec[second] += count
    entry.last_request_timestamp = result.started + result.seconds


def _add_errors(entry: Any, errors: "Counter[str]") -> None:
    """Each error is a request that failed, without a response time."""
    failed, second = sum(errors.values()), int(entry.last_request_timestamp)
    entry.num_requests += failed
    entry.num_none_requests += failed
    entry.num_failures += failed
    if failed:
        entry.num_reqs_per_sec[second] += failed
        entry.num_fail_per_sec[second] += failed


def _milliseconds(nanoseconds: int) -> float:
    """Two significant digits, as Locust keeps them, but also below a millisecond, where Locust has none."""
    return float(f"{nanoseconds / 1e6:.2g}")


def _by_second(result: LoadResult) -> "Counter[int]":
    """The echoes by the second of the clock. Those after the last sample count in the last second."""
    counts: Counter[int] = Counter()
    for sample in result.samples:
        counts[int(result.started + sample.at - sample.seconds / 2)] += sample.echoes
    counts[int(result.started + result.seconds)] += result.echoes - sum(counts.values())
    return +counts
