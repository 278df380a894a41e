"""What tests see of the fixture: `echo_server`, the server, its connections.

Generated from `_async.py` by scripts/generate-sync: change that file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, overload

from .._injection import Armed
from ..config import ServerConfig
from ..errors import ConfigError
from ..faults import Fault
from ..stats import Stats
from . import _conditions as conditions
from ._blocks import Arming, Block, BothWays, OnlyWith, Outage
from ._connection import Chunk, ConnectionLog, Event, client_name
from ._failures import (
    TeardownError,
)
from ._fixture_server import (
    FixtureServer,
)
from ._listeners import BLACKHOLE, DOWN
from ._options import Options, check_seconds
from ._options import check as check_options
from ._reply import Reply

__all__ = ["Capture", "Server", "Session", "echo_server"]


class Session:
    """One connection of a server. What waits is bounded by the server's `timeout`."""

    def __init__(self, log: ConnectionLog, server: FixtureServer) -> None:
        self._log = log
        self._server = server

    def __repr__(self) -> str:
        state = "open" if self.is_open else f"closed: {self.close_reason}"
        went = f"{self.bytes_in} B in, {self.bytes_out} B out"
        return f"<connection {self.index} of {client_name(self.peer)}, {went}, {state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Session) and other._log is self._log

    def __hash__(self) -> int:
        return hash(id(self._log))

    # -- what happened -----------------------------------------------------------------------------------------

    @property
    def index(self) -> int:
        """0 for the first connection of the server, in the order of accept."""
        return self._log.index

    @property
    def peer(self) -> Any:
        """The client's address. Clients of a UNIX socket mostly have an empty one."""
        return self._log.client

    @property
    def tls(self) -> str | None:
        """The TLS version, such as `TLSv1.3`, after the handshake; else None."""
        return self._log.tls

    @property
    def opened(self) -> float:
        """When the connection was accepted, in seconds of `time.monotonic`."""
        return self._log.opened

    @property
    def closed(self) -> float | None:
        """When the connection ended, in seconds of `time.monotonic`; None while it is open."""
        return self._log.closed_at

    @property
    def is_open(self) -> bool:
        """Whether the connection has not ended."""
        return self._log.closed_at is None

    @property
    def received(self) -> bytes:
        """The bytes received from the client, the first `record_limit` of them."""
        return self._log.record.data(0)

    @property
    def sent(self) -> bytes:
        """The bytes sent to the client, the first `record_limit` of them."""
        return self._log.record.data(1)

    @property
    def bytes_in(self) -> int:
        """The number of bytes received."""
        return self._log.record.total(0)

    @property
    def bytes_out(self) -> int:
        """The number of bytes sent."""
        return self._log.record.total(1)

    @property
    def truncated(self) -> bool:
        """Whether there were more bytes than `record_limit` keeps."""
        return self._log.record.truncated

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The reads that brought `received`."""
        return tuple(Chunk(*each) for each in self._log.record.chunks(0))

    @property
    def sent_chunks(self) -> tuple[Chunk, ...]:
        """The sends that `sent` went out in."""
        return tuple(Chunk(*each) for each in self._log.record.chunks(1))

    @property
    def half_closed(self) -> bool:
        """Whether the client has sent its FIN (TLS: its close_notify)."""
        return self._log.half_closed_at is not None

    @property
    def close_reason(self) -> str | None:
        """None while the connection is open. Then a cause of `Stats.ends`, "tls_handshake" (the handshake failed),
        "test" (the test ended it), or "server_stopped"."""
        return self._log.cause

    @property
    def faults_fired(self) -> tuple[str, ...]:
        """The faults that took effect on the connection, as text, in order."""
        return tuple(self._log.faults_fired)

    # -- control -----------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send `data` to the client. Raises BrokenPipeError when nothing can be sent any more."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"{data!r}: must be bytes, not {type(data).__name__}")
        self._control("push", bytes(data))

    def reset(self) -> None:
        """End the connection with RST. RuntimeError on a UNIX socket, which has none."""
        if self._server.config.unix is not None:
            raise RuntimeError("a UNIX socket has no RST: use close(), or TCP")
        self._end("reset")

    def close(self) -> None:
        """Send what is queued, then FIN; then linger, as the server does."""
        self._end("finish")

    def shutdown_write(self) -> None:
        """Send what is queued, then FIN, and go on reading until the client closes."""
        self._end("shutdown_write")

    def pause(self) -> None:
        """Stop reading until `resume`: the client cannot send on once the kernel's buffers are full."""
        self._log.paused = True
        self._control("pause")

    def resume(self) -> None:
        """Read again."""
        self._log.paused = False
        self._control("resume")

    def _end(self, how: str) -> None:
        log = self._log

        def work() -> None:
            if log.driver is not None:
                log.by_order = "test"
                getattr(log if how == "reset" else log.driver, how)()

        self._server.call(work)

    def _control(self, how: str, *arguments: Any) -> None:
        log = self._log

        def work() -> None:
            if log.driver is None:
                raise BrokenPipeError(f"connection {log.index} is closed")
            getattr(log.driver, how)(*arguments)

        self._server.call(work)

    # -- waits and assertions ----------------------------------------------------------------------------------

    def wait_received(self, what: conditions.Wanted) -> bytes:
        """Wait for a number of bytes, for these bytes, or for bytes that a predicate accepts; return all received so
        far.

        Raises:
            TimeoutError: they have not arrived within `timeout` seconds.
        """
        __tracebackhide__ = True
        return self._server.wait(conditions.received(self._server.timeout, self._logs, what))

    def wait_closed(self) -> None:
        """Wait until the connection has ended. Raises TimeoutError."""
        __tracebackhide__ = True
        self._server.wait(conditions.all_closed(self._server.timeout, self._logs))

    def assert_received(self, expected: bytes) -> None:
        """Assert that exactly these bytes are received. Raises AssertionError with the first difference."""
        __tracebackhide__ = True
        self._server.wait(conditions.received_exactly(self._server.timeout, self._logs, expected))

    def assert_sent_in(self, chunks: int) -> None:
        """Assert that what was sent went out in so many sends. Raises AssertionError."""
        __tracebackhide__ = True
        self._server.wait(conditions.sent_in(self._server.timeout, self._logs, chunks))

    def _logs(self) -> tuple[ConnectionLog]:
        return (self._log,)


class Connections:
    """Some connections of a server, all of them or those of a block: counts, waits and assertions.

    Waits raise TimeoutError after the server's `timeout`, assertions AssertionError.
    """

    @property
    def _fixture(self) -> FixtureServer:
        raise NotImplementedError

    def _logs(self) -> Sequence[ConnectionLog]:
        return self._fixture.connections

    def _accepted_logs(self) -> Sequence[ConnectionLog]:
        """The logs, after accepting the clients in the backlog."""
        self._fixture.count_accepted()
        return self._logs()

    @property
    def connections(self) -> tuple[Session, ...]:
        """All connections, in the order of accept."""
        return tuple(Session(log, self._fixture) for log in self._accepted_logs())

    @property
    def open_connections(self) -> tuple[Session, ...]:
        """The connections that have not ended."""
        return tuple(session for session in self.connections if session.is_open)

    @property
    def connection_count(self) -> int:
        """The number of connections."""
        return len(self._accepted_logs())

    @property
    def bytes_in(self) -> int:
        """The number of bytes received on all connections."""
        return sum(log.record.total(0) for log in self._logs())

    @property
    def bytes_out(self) -> int:
        """The number of bytes sent on all connections."""
        return sum(log.record.total(1) for log in self._logs())

    def wait_connections(self, n: int) -> tuple[Session, ...]:
        """Wait for at least `n` connections, and return all."""
        __tracebackhide__ = True
        self._fixture.wait(conditions.connections(self._fixture.timeout, self._logs, n))
        return self.connections

    def wait_received(self, what: conditions.Wanted) -> bytes:
        """Wait for a number of bytes, for these bytes, or for bytes that a predicate accepts, on all connections one
        after another; return all received so far."""
        __tracebackhide__ = True
        return self._fixture.wait(conditions.received(self._fixture.timeout, self._logs, what))

    def wait_closed(self) -> None:
        """Wait until every connection has ended."""
        __tracebackhide__ = True
        self._fixture.wait(conditions.all_closed(self._fixture.timeout, self._logs))

    def wait_idle(self) -> None:
        """Wait until everything received was answered, and the clients have acknowledged the answers."""
        __tracebackhide__ = True
        self._fixture.wait(conditions.idle(self._fixture.timeout, self._logs))

    def assert_connections(self, n: int) -> None:
        """Assert that exactly `n` connections are made; waits for missing ones."""
        __tracebackhide__ = True
        self._fixture.wait(conditions.exactly(self._fixture.timeout, self._logs, n))

    def assert_no_connections(self) -> None:
        """Assert that no client has connected."""
        __tracebackhide__ = True
        self._fixture.wait(conditions.exactly(self._fixture.timeout, self._logs, 0))

    def assert_all_closed(self) -> None:
        """Assert that every connection ends."""
        __tracebackhide__ = True
        self._fixture.wait(conditions.all_closed(self._fixture.timeout, self._logs, AssertionError))

    def assert_received(self, expected: bytes) -> None:
        """Assert that exactly these bytes are received, on all connections one after another."""
        __tracebackhide__ = True
        self._fixture.wait(conditions.received_exactly(self._fixture.timeout, self._logs, expected))

    def assert_sent_in(self, chunks: int) -> None:
        """Assert that what was sent went out in so many sends; waits until nothing is in flight."""
        __tracebackhide__ = True
        self._fixture.wait(conditions.sent_in(self._fixture.timeout, self._logs, chunks))


class Capture(BothWays, Connections):
    """The connections made in a block: `with server.capture() as captured:`. It can be read after the block too."""

    def __init__(self, fixture: FixtureServer) -> None:
        self._of = fixture
        self._first: int | None = None
        self._end: int | None = None

    @property
    def _fixture(self) -> FixtureServer:
        return self._of

    def _logs(self) -> Sequence[ConnectionLog]:
        if self._first is None:
            return []
        end = self._of.accepted if self._end is None else self._end
        return [log for log in self._of.connections if self._first <= log.number < end]

    def __enter__(self) -> Capture:
        self._first, self._end = self._of.count_accepted(), None
        return self

    def __exit__(self, *_: object) -> None:
        self._end = self._of.count_accepted()


class Server(Connections, OnlyWith):
    """A server for tests. It may be used from any thread, and from `reply`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._started: FixtureServer | None = None
        self._armed: tuple[Armed, ...] = ()
        self._excused = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url if self._started is not None else 'not started'}>"

    @property
    def _fixture(self) -> FixtureServer:
        if self._started is None:
            raise RuntimeError("the server has not been started")
        return self._started

    def _serving(self) -> FixtureServer:
        if self._fixture.stopping:
            raise RuntimeError("the server was stopped")
        return self._fixture

    # -- start and stop ----------------------------------------------------------------------------------------

    def start(self) -> Server:
        """Bind and listen. `with` does it.

        Raises:
            AddressInUseError, AddressError, PermissionDeniedError, TLSError: it cannot listen.
            RuntimeError: the server was started before.
        """
        return self._start()

    def _start(self) -> Server:
        if self._started is not None:
            raise RuntimeError("the server was started before")
        self._started = started = FixtureServer(self._options, Session)
        if self._options.faults:
            try:
                self._armed = started.arm_all(self._options.faults)
            except BaseException:
                self._started = None
                with contextlib.suppress(TeardownError):  # the loop's thread is held up: the first error says so too
                    started.stop(self.teardown_timeout, test_failed=True)
                raise
        return self

    def stop(self, timeout: float | None = None) -> tuple[Session, ...]:
        """Stop: the port is free, and all connections are closed.

        Args:
            timeout: seconds that this may take. Default: `teardown_timeout`.

        Returns:
            The connections whose clients had not closed them. They were reset. A second call returns the same.

        Raises:
            TeardownError: a function of the test holds up the loop's thread; or, with `leak="error"`, a connection was
                left open.
            AssertionError: a `fault` has no block.
        """
        __tracebackhide__ = True
        left = self._stop(timeout)
        if self._started is not None and not self._excused:
            self.check_unused()
        return left

    def _stop(self, timeout: float | None = None) -> tuple[Session, ...]:
        __tracebackhide__ = True
        seconds = self._stop_timeout(timeout)
        return self._left(self._started.stop(seconds, self._excused)) if self._started else ()

    def _stop_timeout(self, timeout: float | None) -> float:
        if timeout is None:
            return self.teardown_timeout
        check_seconds("timeout", timeout)
        return timeout

    def _left(self, logs: Sequence[ConnectionLog]) -> tuple[Session, ...]:
        return tuple(Session(log, self._fixture) for log in logs)

    def reset(self) -> None:
        """Return to the state after the start: connections reset and forgotten, no faults armed but those of
        `faults=`."""
        self._serving().run(self._fixture.start_over())
        self._armed = tuple(self._fixture.armed_faults.armed)

    def __enter__(self) -> Server:
        return self if self._started is not None and not self._started.stopping else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        self._excused = error is not None
        self._stop()
        if error is None:
            self.check_failures()
            self.check_unused()

    # -- address and options -----------------------------------------------------------------------------------

    @property
    def config(self) -> ServerConfig:
        """The options in force."""
        return self._started.config if self._started is not None else self._options.config

    @property
    def timeout(self) -> float:
        """Seconds that a wait may take."""
        return self._options.timeout

    @property
    def teardown_timeout(self) -> float:
        """Seconds that a stop may take."""
        return self._options.teardown_timeout

    @property
    def seed(self) -> int:
        """The seed for probabilistic faults and jitter."""
        return self._options.config.seed

    @property
    def address(self) -> Any:
        """What `socket.connect` takes: (host, port), or the path of the UNIX socket."""
        name = self.sockname
        return name[:2] if isinstance(name, tuple) else name

    @property
    def host(self) -> str:
        """The numeric address; the path of a UNIX socket."""
        address = self.address
        return str(address[0] if isinstance(address, tuple) else address)

    @property
    def port(self) -> int:
        """The TCP port. Raises AttributeError for a UNIX socket."""
        address = self.address
        if not isinstance(address, tuple):
            raise AttributeError("a UNIX socket has no port")
        return int(address[1])

    @property
    def url(self) -> str:
        """`tcp://127.0.0.1:1234`, `tls://127.0.0.1:1234` or `unix:/path`."""
        return self._fixture.listeners.url

    @property
    def sockname(self) -> Any:
        """What `getsockname` returns for the first listener."""
        return self._fixture.listeners.names[0]

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters."""
        return self._fixture.stats

    # -- behaviour ---------------------------------------------------------------------------------------------

    @property
    def reply(self) -> Reply:
        """What the server answers: `"echo"`, `"discard"`, bytes (sent first, then echo), or a function of the bytes
        that a read brought. A new value holds for what is received from then on; bytes, for the connections from then
        on."""
        return self._fixture.responder.reply

    @reply.setter
    def reply(self, reply: Reply) -> None:
        self._serving().call(self._fixture.set_reply, reply)

    def down(self) -> Block[None]:
        """Refuse connections, as if no server ran, and keep the port reserved. Ends with `up`, or with a block:
        `with server.down():`. Of nested blocks the one that began last decides."""
        return self._outage(DOWN)

    def up(self) -> None:
        """Serve again at the same address: ends every `down` and `blackhole`, blocks included."""
        self._serving().call(self._fixture.end_outages)

    def blackhole(self) -> Block[None]:
        """Answer no SYN and read from no connection, as behind a firewall that drops packets. Ends with `up`, or with a
        block. Of nested blocks the one that began last decides. (UNIX sockets have no SYN: clients connect, and are not
        served.)"""
        return self._outage(BLACKHOLE)

    def _outage(self, state: str) -> Outage:
        return Outage(self._begin_outage, self._end_outage, state)

    def _begin_outage(self, outage: Outage) -> None:
        self._serving().call(self._fixture.begin_outage, outage)

    def _end_outage(self, outage: Outage) -> None:
        if not self._fixture.stopping and not self._fixture.forked:
            self._fixture.call(self._fixture.end_outage, outage)

    def close_all(self, how: str = "fin") -> None:
        """End all open connections.

        Args:
            how: "fin" (default), after what is queued for the client; or "reset", not on a UNIX socket.
        """
        if how not in ("fin", "reset"):
            raise ConfigError("how", how, "must be fin or reset")
        if how == "reset" and self._fixture.config.unix is not None:
            raise ConfigError("how", how, "must be fin on a UNIX socket, which has no RST")
        self._serving().call(self._fixture.close_all, how)

    def capture(self) -> Capture:
        """A block whose connections are counted, waited for and asserted alone: `with server.capture() as
        captured:`."""
        return Capture(self._fixture)

    # -- faults ------------------------------------------------------------------------------------------------

    @overload
    def fault(self, fault: Fault | str, /, *, must_fire: bool = True) -> Arming[Armed]: ...
    @overload
    def fault(self, *faults: Fault | str, must_fire: bool = True) -> Arming[tuple[Armed, ...]]: ...
    def fault(self, *faults: Fault | str, must_fire: bool = True) -> Arming[Any]:
        """Arm faults for the connections made in a block: `with server.fault(Fault.reset(after_sent=17)) as armed:`.

        Args:
            must_fire: at the end of the block, raise FaultNotFired for a fault that took effect on no connection.
                Default True.
        """
        return Arming(self._serving(), faults, must_fire)

    def arm(self, fault: Fault | str, must_fire: bool = True) -> Armed:
        """Arm a fault for the connections made from now on, until `disarm`.

        Args:
            must_fire: `check_fired` raises if it takes effect on no connection. Default True.
        """
        if len(self._serving().validate_faults((fault,))) != 1:
            raise ConfigError("fault", fault, "must be one fault")
        (armed,) = self._fixture.arm_all((fault,))
        if must_fire:
            self._armed = (*self._armed, armed)
        return armed

    def disarm(self, armed: Armed) -> None:
        """Disarm a fault for the connections made from now on. Connections that it was chosen for keep it."""
        if not isinstance(armed, Armed):
            raise TypeError(f"{armed!r}: must be what arm() returned, not {type(armed).__name__}")
        self._fixture.disarm_all((armed,))

    def check_fired(self) -> None:
        """Raise FaultNotFired if a fault of `faults=`, or one armed by `arm`, has taken effect on no connection."""
        __tracebackhide__ = True
        self._fixture.check_fired(self._armed)

    def check_failures(self) -> None:
        """Raise what `reply` or a `where` has raised on the server's thread, where no test sees it. What a wait or an
        assertion has raised already is not raised again."""
        __tracebackhide__ = True
        self._fixture.raise_failure()

    def check_unused(self) -> None:
        """Raise AssertionError for a `fault` without its
        block."""
        __tracebackhide__ = True
        if unused := self._fixture.statements.unused():
            raise AssertionError("\n".join(unused))

    def take_failures(self) -> list[str]:
        """All failures that were not raised yet, as text, once: for a server that several tests share."""
        return self._fixture.failures.texts() + self._fixture.statements.unused()

    def read_pending(self) -> None:
        """Block until what clients have sent was read and answered, for at most a second."""
        self._fixture.read_pending()

    @property
    def fault_log(self) -> tuple[str, ...]:
        """One line for each fault that took effect, by connection. Equal for equal seeds and connections."""
        return tuple(line for log in self._fixture.logs_up_to_date() for line in log.faults)

    def events(self) -> list[Event]:
        """What happened, in order of time: connections, reads, sends, faults and ends. What clients have sent before is
        read first, for at most a second."""
        found = [event for log in self._fixture.logs_up_to_date() for event in log.events()]
        return sorted(found, key=lambda event: event.time)


def echo_server(
    config: ServerConfig | None = None,
    *,
    family: str = "tcp",
    tls: Any = None,
    reply: Reply = "echo",
    faults: Any = (),
    timeout: float = 5.0,
    teardown_timeout: float = 1.0,
    record_limit: int = 1 << 20,
    leak: str = "ignore",
    **options: Any,
) -> Server:
    """A server for a test: `with echo_server() as server:`. It listens when the block begins.

    Args:
        config: the options of the server. Default: made from `options`.
        family: "tcp" (127.0.0.1), "tcp6" (::1), "dual" (both, on one port), or "unix" (in a new folder).
        tls: True, a kind of certificate ("valid", "expired", "wrong_host", "self_signed", or "client", which asks the
            client for a certificate), or one of `certificates()`. Default None: no TLS.
        reply: "echo", "discard", bytes (sent first, then echo), or a function of the bytes that a read brought, which
            returns the answer. It is called on the server's thread, and must not wait.
        faults: `Fault`s, or their text, that are armed from the start.
        timeout: seconds that a wait or an assertion may take. Default 5.
        teardown_timeout: seconds that `stop` may take. Default 1.
        record_limit: bytes kept of each direction of each connection. Default 1 MiB; 0 keeps none.
        leak: for a connection that its client has not closed when the server stops: "ignore" (default), "warn"
            (LeakWarning) or "error" (TeardownError). The connection is reset in any case.
        options: the options of `ServerConfig`. The defaults here: `port` 0, `terminator` None (plain echo). Options of
            the command's process (workers, user, ready_fd, stats, metrics, log_*, ...) are refused; in `config` they
            are ignored.

    Raises:
        ConfigError: an option is wrong.
    """
    checked = check_options(
        config, options, family, tls, reply, faults, timeout, teardown_timeout, record_limit, leak
    )
    return Server(checked)
