"""What servers have, however tests wait: where they are, what they do, faults, and who was left at the end."""

from __future__ import annotations

import time
import warnings
from collections.abc import Coroutine, Iterable
from typing import Any, Generic, TypeVar

from .._faulty import Armed
from ..config import ServerConfig
from ..errors import ConfigError, FastechoError
from ..faults import Fault
from ..stats import Stats
from . import _loop
from ._arming import Arming, arm_all, check_fired
from ._conditions import waits_for
from ._notes import Event, Notes
from ._options import Options
from ._peer import Peer
from ._reply import Reply
from ._scope import View
from ._session import AsyncSession, Session

__all__ = ["Base", "LeakWarning", "TeardownError"]

S = TypeVar("S", Session, AsyncSession)


class LeakWarning(UserWarning):
    """A client still held a connection open when the server was stopped."""


class TeardownError(FastechoError, AssertionError):
    """The server could not be stopped in `teardown_timeout`, or, with `leak="error"`, clients held connections open."""


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
        self._excused = False
        """Something else has failed, and whoever is left is so because of that."""

    def _start(self) -> None:
        if self._started:
            raise RuntimeError("the server was started before")
        self._started = time.monotonic()
        self._peer = _Peer(self._options, self._kind)
        self._running = True
        if self._options.faults:
            self._armed = arm_all(self._peer, self._options.faults)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url if self._started else 'not started'}>"

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
        self._live().call(self._peer.set_reply, reply)

    def down(self) -> None:
        """Refuse connections, as a server that is not running does; the port stays reserved. `up` ends it."""
        self._live().call(self._peer.down)

    def up(self) -> None:
        """Serve again, at the same address, after `down` or `blackhole`."""
        self._live().call(self._peer.up)

    def blackhole(self) -> None:
        """Answer no SYN and read from no connection, as behind a firewall that drops, until `up`. (UNIX sockets know no
        SYN: connections to them succeed and are not served.)"""
        self._live().call(self._peer.blackhole)

    def close_all(self, how: str = "fin") -> None:
        """End all open connections: `"fin"`, after what is due to them, or `"reset"`."""
        if how not in ("fin", "reset"):
            raise ConfigError("how", how, "must be fin or reset")
        self._live().call(self._peer.close_all, how)

    # -- faults ------------------------------------------------------------------------------------------------

    def fault(self, *faults: Fault | str, must_fire: bool = True) -> Arming:
        """Arm faults for the connections made inside a block: `with server.fault(Fault.reset(after_out=17)) as armed:`.

        At the end of the block one that took effect on no connection raises FaultNotFired, unless `must_fire` is False.
        """
        return Arming(self._live(), faults, must_fire)

    def arm(self, fault: Fault | str, must_fire: bool = True) -> Armed:
        """Arm a fault for the connections made from now on, until `disarm`. `check_fired` looks at those that must."""
        (armed,) = arm_all(self._live(), (fault,))
        if must_fire:
            self._armed = (*self._armed, armed)
        return armed

    def disarm(self, armed: Armed) -> None:
        """For the connections made from now on. Those that it was for keep it."""
        self._live().call(self._peer.disarm, armed)

    def check_fired(self) -> None:
        """Raise FaultNotFired if a fault of `faults=`, or one armed by `arm`, has taken effect on no connection."""
        check_fired(self._live(), self._armed)

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

    def _stopped(self, left: Iterable[Notes]) -> tuple[S, ...]:
        lines = [waits_for(notes) for notes in left]
        self._left = tuple(map(self._kind, left))
        if lines and not self._excused and self._options.leak != "ignore":
            text = f"{len(lines)} connection(s) left open on {self.url}:\n  " + "\n  ".join(lines[:20])
            if self._options.leak == "error":
                raise TeardownError(text)
            warnings.warn(LeakWarning(text), stacklevel=4)
        return self._left

    def _held_up(self, timeout: float) -> TeardownError:
        left = [waits_for(notes) for notes in tuple(self._peer.open)]
        who = "; ".join(left) or "none"
        return TeardownError(f"not stopped within {timeout:g} s: {_loop.HELD_UP}; left open: {who}")

    def _may_stop(self) -> bool:
        """Once, and not in a forked child, which has none of it."""
        running, self._running = self._running, False
        return running and not self._peer.forked
