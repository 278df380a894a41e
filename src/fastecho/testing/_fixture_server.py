"""The server of the fixture. It has an `EchoServer`, which runs on the loop of a `LoopThread`, and a log of each
connection.

Tests call it from their own threads and loops. What waits comes in pairs: `wait` blocks the calling thread,
`wait_async` is awaited in the caller's loop, and both run the same coroutine on the loop's thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from .._injection import Armed, ArmedFaults, FaultySession
from .._net.kernel import monotonic
from .._net.tls import server_context
from ..config import check_transport
from ..errors import ConfigError
from ..faults import Fault, validate_faults
from ..server import EchoServer
from ..stats import Stats
from ._connection import ConnectionLog
from ._failures import (
    LOOP_BLOCKED,
    Failures,
    Statements,
    Unseen,
    check_fired,
    failing_place,
    report_leaks,
    stop_timeout_error,
    without_package_frames,
)
from ._files import SOCKET, remove_folder, socket_folder
from ._listeners import BLACKHOLE, UP, FixtureListeners, bind_by_number
from ._loop_thread import loop_thread, register, unregister
from ._options import Options
from ._record import Record, RecordingSession, Steering, Watch, recording_session
from ._reply import Reply, Responder

if TYPE_CHECKING:
    from ._blocks import Outage
    from ._conditions import Condition

__all__ = ["NOT_ASYNCIO", "FixtureServer"]

T = TypeVar("T")
WaitOutcome = tuple[Any, BaseException | Unseen | None]

NOT_ASYNCIO = "async_echo_server is for asyncio, and none runs here: use echo_server (in pytest: fastecho_server)"
_POLL_SECONDS = 0.001
"""Seconds between two checks whether bytes are still in flight: the kernel notifies of no acknowledgement."""
_READ_SECONDS = 1.0
"""Seconds at most for reading what clients have sent."""
_GRACE = 1.0
"""Seconds beyond `timeout` before the loop's thread counts as held up."""


class FixtureServer:
    """One server of the fixture, listening when the constructor returns. Construct it in the thread of the test.

    Args:
        options: checked by `_options.check`.
        new_session: makes what a test sees of a connection (a `Session` or an `AsyncSession`) from its log.

    Raises:
        AddressInUseError, AddressError, PermissionDeniedError, TLSError: it cannot listen.
    """

    def __init__(self, options: Options, new_session: Callable[[ConnectionLog, FixtureServer], Any]) -> None:
        self.options = options
        self.timeout = options.timeout
        self.watch = Watch()
        self.failures = Failures()
        self.statements = Statements()
        self.stopping = self.finished = self.forked = False
        self._new_session = new_session
        self._thread = loop_thread()
        self._folder: str | None = None
        context = server_context(options.config)
        self.config = options.config
        if options.needs_folder:
            self._folder = socket_folder()
            self.config = replace(self.config, unix=os.path.join(self._folder, SOCKET))
        try:
            self._bound = bind_by_number(self.config)
        except BaseException:
            self.remove_files()
            raise
        served = replace(self.config, fault=()) if self.config.fault else self.config  # faults are armed below
        self._echo_server = EchoServer(served, listeners=self._bound, on_connection=self._on_connection)
        streams = [sock for sock in self._bound.sockets[0] if sock.type == socket.SOCK_STREAM]  # those of UDP follow
        self.listeners = FixtureListeners(streams, self._bound.addresses[: len(streams)], self.config)
        self.connections: list[ConnectionLog] = []
        self.open: dict[ConnectionLog, None] = {}
        self.armed_faults = ArmedFaults(self.config.seed)
        self.responder = Responder(options.reply)
        self.accepted = 0
        """Connections accepted since the start, also those that `start_over` has forgotten."""
        self._begun = 0
        """`accepted` at the last `start_over`."""
        self._context = context
        self._outages: list[Outage] = []
        self._paused_by_blackhole: dict[ConnectionLog, None] = {}
        self._stop_lock = threading.RLock()
        self._left: tuple[ConnectionLog, ...] = ()
        self._stop_begun = False
        register(self)
        self._thread.post(self._begin)

    def _begin(self) -> None:
        try:
            acceptor = self._echo_server.prepare(self._thread.loop, self._context)
            self.set_reply(self.options.reply)
            self.listeners.open(acceptor)
            self._echo_server.start_datagrams()
        except BaseException as error:  # no memory, no descriptor: the first call from the test raises it
            self.failures.add(-1, error)

    # -- called from tests, in any thread ----------------------------------------------------------------------

    @property
    def is_called_from_loop(self) -> bool:
        """Whether the caller is on the loop's thread: a `reply`, a `where` or a predicate."""
        return self._thread.is_current_thread

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call `work` on the loop's thread, and return what it returns or raise what it raises.

        Raises:
            TimeoutError: the loop's thread is held up.
        """
        self._check_caller()
        return self._thread.call(work, *arguments, timeout=self.timeout + _GRACE)

    def validate_faults(self, faults: Sequence[Fault | str]) -> tuple[Fault, ...]:
        """The `faults`, parsed. Raises ConfigError for text that is no fault, and for a fault that needs TLS or TCP
        where the server has none."""
        if not faults:
            raise TypeError("fault() needs a fault, such as Fault.reset(after_sent=17)")
        try:
            found = validate_faults(list(faults))
        except ValueError as error:
            raise ConfigError("fault", faults, str(error)) from None
        config = self.config
        check_transport(
            found, tls=config.tls_cert is not None, unix=config.unix is not None, proxy_protocol=config.proxy_protocol
        )
        return found

    def arm_all(self, faults: Sequence[Fault | str]) -> tuple[Armed, ...]:
        """Arm `faults` for the connections that are made from now on. Raises as `validate_faults`."""
        return self.call(self._arm, self.validate_faults(faults))

    def disarm_all(self, armed: Sequence[Armed]) -> None:
        """Disarm them for the connections that are made from now on."""
        self.call(self._disarm, armed)

    def check_fired(self, armed: Sequence[Armed]) -> None:
        """Raises FaultNotFired for those that have taken effect on no connection."""
        __tracebackhide__ = True
        check_fired(armed, len(self.connections))

    def wait(self, condition: Condition[T]) -> T:
        """Block until `condition` holds, and return its result. Raises the error of the condition when time is up."""
        __tracebackhide__ = True
        result: T = _result(self.run(self._watch(condition)), _hint_of_blocked_loop())
        return result

    async def wait_async(self, condition: Condition[T]) -> T:
        """`wait` for a caller on an asyncio loop."""
        __tracebackhide__ = True
        result: T = _result(await self.run_async(self._watch(condition)))
        return result

    def run(self, work: Coroutine[Any, Any, T], grace: float = _GRACE) -> T:
        """Run `work` on the loop's thread, block until it has ended, and return what it returns.

        Args:
            work: ends by itself within `timeout` seconds.
            grace: seconds beyond `timeout`, after which the loop's thread counts as held up.

        Raises:
            TimeoutError: the loop's thread is held up.
        """
        __tracebackhide__ = True
        future = self._submit(work)
        try:
            result: T = future.result(self.timeout + grace)
            return result
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            raise TimeoutError(LOOP_BLOCKED) from None

    async def run_async(self, work: Coroutine[Any, Any, T], grace: float = _GRACE) -> T:
        """`run` for a caller on an asyncio loop."""
        __tracebackhide__ = True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            work.close()
            raise RuntimeError(NOT_ASYNCIO) from None
        future = asyncio.wrap_future(self._submit(work), loop=loop)
        try:
            await asyncio.wait([future], timeout=self.timeout + grace)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not future.done():
            raise TimeoutError(LOOP_BLOCKED)
        result: T = future.result()
        return result

    def _submit(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            self._check_caller()
            if self.is_called_from_loop:
                raise RuntimeError("a reply or a where() must not wait: nothing can happen meanwhile")
        except RuntimeError:
            work.close()
            raise
        return self._thread.submit(work)

    def _check_caller(self) -> None:
        if self.forked:
            raise RuntimeError("this server belongs to the process that started it; start another in this one")
        if not self._thread.is_alive:
            raise RuntimeError("the interpreter is ending, and the thread of the servers has ended")

    async def _watch(self, condition: Condition[T]) -> WaitOutcome:
        """The result of `condition`, or the error to raise in the test, without frames of the loop's thread."""
        deadline, failures_before = monotonic() + self.timeout, len(self.failures)
        if condition.when_idle and not self.finished and not await self.until_idle(self.timeout):
            return None, condition.timeout_error()
        changed = asyncio.Event()
        self.watch.add(changed.set)
        try:
            self.accept_all()
            while True:
                changed.clear()
                if (unseen := self.failures.unseen(failures_before)) is not None:
                    return None, unseen
                try:
                    value = condition.check()
                except BaseException as error:  # of a predicate; SystemExit must not end the thread of all servers
                    return None, error.with_traceback(without_package_frames(error.__traceback__))
                if value is not None:
                    return value, None
                if self.finished:
                    return None, _stopped(condition.timeout_error())
                try:
                    await asyncio.wait_for(changed.wait(), deadline - monotonic())
                except asyncio.TimeoutError:
                    return None, condition.timeout_error()
        finally:
            self.watch.remove(changed.set)

    def raise_failure(self) -> None:
        """Raise what a function of the test has raised on the loop's thread, once."""
        __tracebackhide__ = True
        if (unseen := self.failures.unseen()) is not None:
            raise unseen.exception()

    def read_pending(self) -> None:
        """Wait until everything that clients have sent was read and answered, for at most a second."""
        self.run(self.until_idle(_READ_SECONDS))

    async def read_pending_async(self) -> None:
        """`read_pending` for a caller on an asyncio loop."""
        await self.run_async(self.until_idle(_READ_SECONDS))

    def logs_up_to_date(self) -> Sequence[ConnectionLog]:
        """The logs of all connections, after reading what clients have sent, for at most a second."""
        if not (self.stopping or self.forked or self.is_called_from_loop):
            with contextlib.suppress(TimeoutError):  # its thread is held up: the logs so far are better than an error
                self.run(self._until_all_read(_READ_SECONDS), 2 * _READ_SECONDS - self.timeout)
        return tuple(self.connections)

    def count_accepted(self) -> int:
        """Connections accepted since the start, those that wait in the backlog included."""
        if not self.stopping:
            self.call(self.accept_all)
        return self.accepted

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters."""
        return self._echo_server.stats if self.stopping else self.call(lambda: self._echo_server.stats)

    # -- each connection, on the loop's thread -----------------------------------------------------------------

    def _on_connection(self, server: EchoServer, connection: socket.socket, client: Any) -> RecordingSession | None:
        log = None
        try:
            self.listeners.prepare(connection)
            record = Record(self.watch, self.options.record_limit)
            log = ConnectionLog(self, self._index, self.accepted, client, connection, record)
            self.accepted += 1
            self.connections.append(log)
            self.open[log] = None
            log.session = self._new_session(log, self)
            return self._start_session(log, connection)
        except BaseException as error:  # ours, or of the system: an accept has no caller that could handle it
            self.failures.add(-1, error)
            connection.close()
            if log is not None:
                log.closed("error")
            self.watch.notify_all()
            return None

    @property
    def _index(self) -> int:
        """The index of the next connection."""
        return self.accepted - self._begun

    def _start_session(self, log: ConnectionLog, connection: socket.socket) -> RecordingSession | None:
        sessions, faults = self._echo_server.sessions, []
        try:
            faults = self.armed_faults.choose(self._index, log.session)
        except BaseException as error:  # raised by a `where` of the test
            log.failed(error)
        greeting = self.responder.greeting
        if not faults:
            session = recording_session(sessions, log.record, log, self.responder.mode, greeting)
            log.driver = Steering(session)
            self.watch.notify_all()
            return session
        faulty = FaultySession(
            connection, faults, sessions, context=self._context, observer=log, greeting=greeting, reply=log.answer
        )
        log.driver = faulty
        faulty.start()
        self.watch.notify_all()
        return None

    def respond(self, log: ConnectionLog, data: bytes) -> bytes:
        """The answer to `data`. Raises what the test's `reply` raises."""
        return self.responder.respond(data, log.session)

    def connection_failed(self, log: ConnectionLog, error: BaseException) -> None:
        """Called by the log when a function of the test has raised `error`."""
        self.failures.add(log.index, error)
        log.add_event(f"reply or where() raised {type(error).__name__}: {error}{failing_place(error)}")
        self.watch.notify_all()

    def connection_closed(self, log: ConnectionLog) -> None:
        """Called by the log when its connection has ended."""
        self.open.pop(log, None)
        self.watch.notify_all()

    def set_reply(self, reply: Reply) -> None:
        """Answer with `reply` from now on. Raises ConfigError."""
        self.accept_all()  # a greeting is for the connections from now on
        self.responder.set(reply)

    # -- faults ------------------------------------------------------------------------------------------------

    def _arm(self, faults: Sequence[Fault]) -> tuple[Armed, ...]:
        self.accept_all()  # connections in the backlog were made before
        armed = tuple([self.armed_faults.arm(fault, self._index) for fault in faults])
        self._set_windows()
        return armed

    def _disarm(self, armed: Sequence[Armed]) -> None:
        self.accept_all()
        for each in armed:
            self.armed_faults.disarm(each)
        self._set_windows()

    def _set_windows(self) -> None:
        self.listeners.set_windows(self._armed_faults())

    def _armed_faults(self) -> list[Fault]:
        return [armed.fault for armed in self.armed_faults.armed]

    # -- the listeners -----------------------------------------------------------------------------------------

    def accept_all(self) -> None:
        """Accept every client that has connected."""
        self.listeners.accept_all()

    def begin_outage(self, outage: Outage) -> None:
        """Begin an outage. While several are active, the one that began last decides."""
        if outage not in self._outages:
            self._outages.append(outage)
            try:
                self._apply_outages()
            except BaseException:
                self._outages.remove(outage)
                raise

    def end_outage(self, outage: Outage) -> None:
        if outage in self._outages:
            self._outages.remove(outage)
            self._apply_outages()

    def end_outages(self) -> None:
        self._outages.clear()
        self._apply_outages()

    def _apply_outages(self) -> None:
        state = self._outages[-1].state if self._outages else UP
        self.listeners.change_to(state, self._armed_faults())
        if state == BLACKHOLE:
            for log in self.open:
                if log.driver is not None:
                    log.driver.pause()
                    self._paused_by_blackhole[log] = None
        else:
            for log in self._paused_by_blackhole:
                if log.driver is not None and not log.paused:
                    log.driver.resume()
            self._paused_by_blackhole.clear()

    # -- the end -----------------------------------------------------------------------------------------------

    def close_all(self, how: str) -> None:
        """End all connections: "fin" or "reset"."""
        self.accept_all()
        for log in tuple(self.open):
            if log.driver is not None:
                log.by_order = log.by_order or "test"
                (log.reset if how == "reset" else log.driver.finish)()
        self._reset_handshakes()

    def _reset_handshakes(self) -> None:
        """A session that has not begun cannot end itself."""
        for log in tuple(self.open) if self._context is not None or self.config.proxy_protocol else ():
            if log.in_handshake:
                log.reset()

    async def start_over(self) -> None:
        """Return to the state after the start: connections reset, logs and failures forgotten, faults as in
        `options`."""
        self.end_outages()
        self.set_reply(self.options.reply)
        self.close_all("reset")
        before = tuple(self.open)
        self.armed_faults = ArmedFaults(self.config.seed)
        for fault in self.options.faults:
            self.armed_faults.arm(fault, 0)
        self._set_windows()
        self.connections, self.failures, self._begun = [], Failures(), self.accepted
        await _until(lambda: all(log.closed_at is not None for log in before), self.timeout)

    def stop(self, timeout: float, test_failed: bool = False) -> tuple[ConnectionLog, ...]:
        """Stop within `timeout` seconds, and return the connections that clients had not closed.

        A second call returns the same connections; it waits if the first still runs in another thread.

        Args:
            test_failed: the test has failed, so open connections are not reported.

        Raises:
            TeardownError: the loop's thread is held up; or, with `leak="error"`, a connection was left open.
            RuntimeError: called on the loop's thread.
        """
        with self._stop_lock:
            if not self._may_stop():
                return self._left
            deadline = monotonic() + timeout
            future: concurrent.futures.Future[tuple[ConnectionLog, ...]] | None = None
            try:
                if self._thread.call(self._stop_if_no_connection, timeout=timeout):
                    return self._left
                future = self._thread.submit(self.shut_down(timeout / 2))
                self._left = future.result(deadline - monotonic())
            except BaseException as error:
                if future is not None and future.done():
                    raise
                if future is None:
                    self._thread.submit(self.shut_down(timeout / 2))  # it runs when the thread is no longer held up
                self.listeners.refuse()
                if isinstance(error, (TimeoutError, concurrent.futures.TimeoutError)):
                    raise stop_timeout_error(timeout, tuple(self.open), ConnectionLog.describe_open) from None
                raise  # Ctrl-C
            return self._report_leaks(test_failed)

    async def stop_async(self, timeout: float, test_failed: bool = False) -> tuple[ConnectionLog, ...]:
        """`stop` for a caller on an asyncio loop."""
        if not self._may_stop():
            return self._left
        try:
            self._left = await self.run_async(self.shut_down(timeout / 2), timeout - self.timeout)
        except TimeoutError:
            self.listeners.refuse()
            raise stop_timeout_error(timeout, tuple(self.open), ConnectionLog.describe_open) from None
        return self._report_leaks(test_failed)

    def _may_stop(self) -> bool:
        if not self._stop_begun and self.is_called_from_loop:
            raise RuntimeError("a reply or a where() cannot stop the server: it would wait for itself")
        first, self._stop_begun = not self._stop_begun, True
        return first and not self.forked

    def _report_leaks(self, test_failed: bool) -> tuple[ConnectionLog, ...]:
        if not test_failed:
            report_leaks(self._left, ConnectionLog.describe_open, self.listeners.url, self.options.leak)
        return self._left

    async def shut_down(self, timeout: float) -> tuple[ConnectionLog, ...]:
        """Stop, on the loop's thread. Reset the connections that clients have not closed, and wait up to `timeout`
        seconds for the rest to end."""
        self.accept_all()
        left = tuple(log for log in self.open if not log.client_has_closed())
        self._close_listeners()
        for log in left:
            if log.driver is not None:
                log.by_order = log.by_order or "server_stopped"
                log.undelivered = log.driver.undelivered()
                log.update_unread()
                log.reset()
        self._reset_handshakes()
        await _until(self._is_idle, timeout)
        await self._echo_server.close(drain=False)
        self._finish()
        return left

    def _stop_if_no_connection(self) -> bool:
        """Stop at once if no connection is open. Else return False."""
        self.accept_all()
        if self.open or not self.listeners.opened:
            return False
        self._close_listeners()
        self._echo_server.close_now()
        self._finish()
        return True

    def _close_listeners(self) -> None:
        self.stopping = True
        self.listeners.close()
        self._echo_server.close_datagrams()
        self._bound.unlink()
        self._bound.close()

    def _finish(self) -> None:
        self.finished = True
        self.watch.notify_all()
        self.remove_files()
        unregister(self)

    def remove_files(self) -> None:
        """Remove the folder of the UNIX socket."""
        if self._folder is not None:
            remove_folder(self._folder)

    async def until_idle(self, timeout: float) -> bool:
        """Whether, within `timeout` seconds, everything that clients have sent was answered, and each answer has been
        acknowledged."""

        def idle() -> bool:
            self.accept_all()
            return self._is_idle()

        self.accept_all()
        return await _until(idle, timeout)

    async def _until_all_read(self, timeout: float) -> bool:
        def read() -> bool:
            self.accept_all()
            return all(log.caught_up() for log in self.open)

        return await _until(read, timeout)

    def _is_idle(self) -> bool:
        return all(log.driver is None or log.driver.idle() for log in self.open)

    # -- in a forked child -------------------------------------------------------------------------------------

    def close_copies(self) -> None:
        """In a forked child: close the child's copies of all descriptors."""
        self.forked = True
        self.listeners.close_copies()
        for sock in self._bound.sockets[0]:  # those of UDP: while uvloop reads from a socket, its `close` does nothing
            if (descriptor := sock.detach()) >= 0:
                with contextlib.suppress(OSError):
                    socket.close(descriptor)
        with contextlib.suppress(OSError):
            self._bound.close()
        for log in tuple(self.open):
            log.close_copy()


async def _until(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether `condition` came to hold within `timeout` seconds."""
    deadline = monotonic() + timeout
    for _ in range(3):  # events that the kernel has reported already are handled in two turns of the loop
        await asyncio.sleep(0)
    while not condition():
        if monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


def _stopped(timeout_error: BaseException) -> BaseException:
    timeout_error.args = (f"the server was stopped: {timeout_error}",)
    return timeout_error


def _result(outcome: WaitOutcome, hint: str = "") -> Any:
    __tracebackhide__ = True
    value, error = outcome
    if error is None:
        return value
    if isinstance(error, Unseen):
        raise error.exception()
    if hint:
        error.args = (f"{error}{hint}",)
    raise error


def _hint_of_blocked_loop() -> str:
    """What to add to the error of a wait that has blocked an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return ""
    return "\n(an event loop runs in this thread and stood still: use async_echo_server or fastecho_async_server)"
