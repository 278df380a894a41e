"""What servers have, however tests wait: where they are, what they do, faults, and who was left at the end."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Generic, TypeVar, overload

from .._faulty import Armed
from ..config import ServerConfig
from ..errors import ConfigError
from ..faults import Fault
from ..stats import Stats
from . import _loop
from ._arming import LAST_BYTES, Arming, arm_all, check_fired, read
from ._leaks import TeardownError, complain, held_up
from ._notes import Event, Notes
from ._options import Options
from ._peer import Peer
from ._reply import Reply
from ._scope import View
from ._session import AsyncSession, Session

__all__ = ["Base"]

S = TypeVar("S", Session, AsyncSession)


class _Peer(Peer):
    def __init__(self, options: Options, kind: type[Session] | type[AsyncSession]) -> None:
        self._kind = kind
        super().__init__(options)

    def seen(self, notes: Notes) -> Any:
        return self._kind(notes)


class Base(View[S], Generic[S]):
    """What servers have, however tests wait. Everything may be called from any thread, and from `reply`."""

    _peer: _Peer

    def __init__(self, options: Options) -> None:
        self._options = options
        self._left: tuple[S, ...] = ()
        self._started = 0.0
        self._armed: tuple[Armed, ...] = ()
        self._running = False
        self._stopping = threading.RLock()
        self._excused = False
        """Something else has failed, and whoever is left is so because of that."""

    def _start(self) -> None:
        if self._started:
            raise RuntimeError("the server was started before")
        self._peer = _Peer(self._options, self._kind)
        self._started = time.monotonic()
        self._running = True
        if self._options.faults:
            try:
                self._armed = arm_all(self._peer, self._options.faults)
            except BaseException:
                self._stop(None)
                raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url if self._started else 'not started'}>"

    def _notes(self) -> Sequence[Notes]:
        return self._live().notes

    def _settle(self) -> Sequence[Notes]:
        self._live()
        return super()._settle()

    # -- where it is -------------------------------------------------------------------------------------------

    @property
    def config(self) -> ServerConfig:
        """The options that are in force."""
        return self._peer.config if self._started else self._options.config

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
        """What the chances of faults are drawn from."""
        return self._options.config.seed

    @property
    def address(self) -> Any:
        """(host, port), or the path of the UNIX socket: what `socket.connect` takes."""
        name = self._name()
        return name[:2] if isinstance(name, tuple) else name

    @property
    def host(self) -> str:
        """The numeric address; for a UNIX socket, its path."""
        address = self.address
        return str(address[0] if isinstance(address, tuple) else address)

    @property
    def port(self) -> int:
        """The TCP port. Raises AttributeError for a UNIX socket, which has none."""
        address = self.address
        if not isinstance(address, tuple):
            raise AttributeError("a UNIX socket has no port")
        return int(address[1])

    @property
    def url(self) -> str:
        """`tcp://127.0.0.1:1234`, `tls://127.0.0.1:1234` or `unix:/path`."""
        text = self._live().listening.texts[0]
        return text.replace("tcp://", "tls://") if self.config.tls_cert is not None else text

    @property
    def sockname(self) -> Any:
        """What `getsockname` says of the first listener."""
        return self._name()

    def _name(self) -> Any:
        return self._live().listening.names[0]

    def _serving(self) -> _Peer:
        peer = self._live()
        if peer.over:
            raise RuntimeError("the server was stopped")
        return peer

    def _live(self) -> _Peer:
        if not self._started:
            raise RuntimeError("the server has not been started")
        return self._peer

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters."""
        peer = self._live()
        return peer.stats if peer.over else peer.call(lambda: peer.stats)

    # -- what it does ------------------------------------------------------------------------------------------

    @property
    def reply(self) -> Reply:
        """`"echo"`, `"discard"`, bytes to send first, or a function of the bytes that a read brought. May be set, for
        what is received from then on; bytes for the connections from then on."""
        return self._live().responder.reply

    @reply.setter
    def reply(self, reply: Reply) -> None:
        self._serving().call(self._peer.set_reply, reply)

    def down(self) -> AbstractContextManager[None]:
        """Refuse connections, as a server that is not running does; the port stays reserved. `up` ends it, or the end
        of a block: `with server.down():`."""
        self._serving().call(self._peer.down)
        return self._until_up()

    def up(self) -> None:
        """Serve again, at the same address, after `down` or `blackhole`."""
        self._serving().call(self._peer.up)

    def blackhole(self) -> AbstractContextManager[None]:
        """Answer no SYN and read from no connection, as behind a firewall that drops, until `up` or the end of a block.
        (UNIX sockets know no SYN: connections to them succeed and are not served.)"""
        self._serving().call(self._peer.blackhole)
        return self._until_up()

    def _up_again(self) -> None:
        if not self._peer.over:
            self.up()

    def _until_up(self) -> AbstractContextManager[None]:
        back = ExitStack()
        back.callback(self._up_again)
        return back  # type: ignore[return-value]

    def close_all(self, how: str = "fin") -> None:
        """End all open connections: `"fin"`, after what is due to them, or `"reset"`."""
        if how not in ("fin", "reset"):
            raise ConfigError("how", how, "must be fin or reset")
        self._serving().call(self._peer.close_all, how)

    # -- faults ------------------------------------------------------------------------------------------------

    @overload
    def fault(self, fault: Fault | str, /, *, must_fire: bool = True) -> Arming[Armed]: ...
    @overload
    def fault(self, *faults: Fault | str, must_fire: bool = True) -> Arming[tuple[Armed, ...]]: ...
    def fault(self, *faults: Fault | str, must_fire: bool = True) -> Arming[Any]:
        """Arm faults for the connections made inside a block: `with server.fault(Fault.reset(after_out=17)) as armed:`.

        At the end of the block one that took effect on no connection raises FaultNotFired, unless `must_fire` is False.
        """
        return Arming(self._serving(), faults, must_fire)

    def arm(self, fault: Fault | str, must_fire: bool = True) -> Armed:
        """Arm a fault for the connections made from now on, until `disarm`. `check_fired` looks at those that must."""
        if len(read(self._serving(), (fault,))) != 1:
            raise ConfigError("fault", fault, "must be one fault")
        (armed,) = arm_all(self._peer, (fault,))
        if must_fire:
            self._armed = (*self._armed, armed)
        return armed

    def disarm(self, armed: Armed) -> None:
        """For the connections made from now on. Those that it was for keep it."""
        self._live().call(self._peer.disarm, armed)

    def check_fired(self) -> None:
        """Raise FaultNotFired if a fault of `faults=`, or one armed by `arm`, has taken effect on no connection."""
        __tracebackhide__ = True
        check_fired(self._live(), self._armed)

    def take_failures(self) -> list[str]:
        """The same as text, once: for a server that many tests share."""
        failures = self._live().failures()
        self._peer.errors.clear()
        return list(map(str, failures))

    def settle(self) -> None:
        """Let what clients have sent be read and answered, for at most a second."""
        self._live().finish_soon(self._peer.until_idle(LAST_BYTES))

    def check_failures(self) -> None:
        """Raise what `reply` or a `where` has raised: it happened on the server's thread, where no test sees it."""
        __tracebackhide__ = True
        self._live().raise_failure()

    @property
    def fault_log(self) -> tuple[str, ...]:
        """A line a fault that took effect, by connection: the same for the same seed and the same connections."""
        return tuple(line for notes in tuple(self._live().notes) for line in notes.faults)

    def events(self) -> list[Event]:
        """What happened, in order of time: connections, reads, sends, faults and ends."""
        found = [event for notes in tuple(self._live().notes) for event in notes.events()]
        return sorted(found, key=lambda event: event.time)

    # -- the end -----------------------------------------------------------------------------------------------

    def _patience(self, timeout: float | None) -> float:
        return self.teardown_timeout if timeout is None else timeout

    def _shut(self, timeout: float) -> Coroutine[Any, Any, list[Notes]]:
        return self._peer.shut(timeout / 2)

    def _stopped(self, left: Sequence[Notes]) -> tuple[S, ...]:
        self._left = tuple(map(self._kind, left))
        if not self._excused:
            complain(left, self.url, self._options.leak)
        return self._left

    def _may_stop(self) -> bool:
        """Once, not in a forked child, which has none of it, and not on the thread that has to do it."""
        if self._running and self._peer.is_called_from_loop:
            raise RuntimeError("a reply or a where() cannot stop the server: it would wait for itself")
        running, self._running = self._running, False
        return running and not self._peer.forked

    def _stop(self, timeout: float | None) -> tuple[S, ...]:
        with self._stopping:  # a second thread that stops it returns when it is stopped
            return self._stop_once(timeout)

    def _stop_once(self, timeout: float | None) -> tuple[S, ...]:
        if not self._may_stop():
            return self._left
        patience = self._patience(timeout)
        latest = time.monotonic() + patience
        future: concurrent.futures.Future[list[Notes]] | None = None
        try:
            if _loop.resident().call(self._peer.shut_at_once, timeout=patience):
                return self._left
            future = _loop.resident().submit(self._shut(patience))
            return self._stopped(future.result(latest - time.monotonic()))
        except BaseException as error:
            if isinstance(error, TeardownError) or (future is not None and future.done()):
                raise
            if future is None:
                _loop.resident().submit(self._shut(patience))  # when its thread comes to it
            self._peer.listening.refuse()
            if isinstance(error, (TimeoutError, concurrent.futures.TimeoutError)):
                raise held_up(patience, tuple(self._peer.open)) from None
            raise  # Ctrl-C
