"""`Fault`: one thing that goes wrong, when, and on which connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _kinds, _select

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: what the server does wrong, when, and on which connections. Immutable and hashable.

    The functions below make a fault; the selectors restrict it to some connections. `str()` gives the text form, which
    `parse_faults` reads (except `where`). Offsets and sizes are bytes, times are seconds. A fault that ends or stops a
    connection takes at most one *trigger*; without one, it acts at the accept:

    - `after_sent`: this many bytes have been sent to the client;
    - `after_received`: this many bytes have been received from the client;
    - `on`: these bytes have been received, in any segmentation.

    Attributes:
        kind: the name of the function that made the fault.
        arguments: the arguments of that function, by name, without defaults.
        selectors: names and values, such as `("nth", 1)`; a connection must match all of them.

    Raises:
        ValueError: an argument is invalid; the message states what is accepted.
    """

    kind: str
    arguments: tuple[tuple[str, Any], ...] = ()
    selectors: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", _kinds.normalize(self.kind, self.arguments))
        object.__setattr__(self, "selectors", _select.normalize(self.selectors))

    # What ends or stops a connection.

    @staticmethod
    def reset(*, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None) -> Fault:
        """Reset the connection (RST). With `after_sent`, the client can read exactly this many bytes before."""
        return _make("reset", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def close(*, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None) -> Fault:
        """Close in order (FIN), even if data of the client is unread. With `after_sent`, exactly this many bytes come
        before."""
        return _make("close", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def abort(*, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None) -> Fault:
        """Close the socket at once, as for a process that is killed; the kernel sends FIN or RST."""
        return _make("abort", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def half_close(
        *, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None
    ) -> Fault:
        """Send FIN, and go on reading until the client closes."""
        return _make("half_close", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def stall(*, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None) -> Fault:
        """Neither read nor write any more, and keep the connection open."""
        return _make("stall", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def stop_reading(
        window: int = 9216, *, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None
    ) -> Fault:
        """Read no more, with a receive window so small that the client blocks after about `window` bytes."""
        return _make("stop_reading", window=window, after_sent=after_sent, after_received=after_received, on=on)

    # What becomes of the bytes that are sent to the client. Offsets count the bytes of the echo.

    @staticmethod
    def latency(mean: float, jitter: float = 0.0) -> Fault:
        """Send each piece, and the end, `mean` +- `jitter` (uniform) later, in order. Throughput does not change."""
        return _make("latency", mean=mean, jitter=jitter)

    @staticmethod
    def bandwidth(bytes_per_s: float, burst: int | None = None) -> Fault:
        """Limit the throughput by a token bucket of `burst` bytes, by default a tenth of a second's worth."""
        return _make("bandwidth", bytes_per_s=bytes_per_s, burst=burst)

    @staticmethod
    def slice(sizes: int | Sequence[int], interval: float = 0.005) -> Fault:
        """Send pieces of these sizes in turn, `interval` apart. With an interval of 0, the client mostly receives
        several pieces together."""
        return _make("slice", sizes=sizes, interval=interval)

    @staticmethod
    def coalesce(n: int) -> Fault:
        """Hold bytes back until there are `n` or the stream ends, then send them at once."""
        return _make("coalesce", n=n)

    @staticmethod
    def corrupt(at: int, xor: int = 0xFF) -> Fault:
        """Change the byte at offset `at`: exclusive or with `xor`."""
        return _make("corrupt", at=at, xor=xor)

    @staticmethod
    def drop(at: int, count: int = 1) -> Fault:
        """Leave out `count` bytes from offset `at`."""
        return _make("drop", at=at, count=count)

    @staticmethod
    def duplicate(at: int, count: int = 1) -> Fault:
        """Send `count` bytes from offset `at` twice."""
        return _make("duplicate", at=at, count=count)

    @staticmethod
    def inject(at: int, data: bytes) -> Fault:
        """Send `data` before the byte at offset `at`."""
        return _make("inject", at=at, data=data)

    # At the accept.

    @staticmethod
    def refuse() -> Fault:
        """Accept the connection, and reset it at once."""
        return _make("refuse")

    @staticmethod
    def blackhole() -> Fault:
        """Read everything, answer nothing."""
        return _make("blackhole")

    @staticmethod
    def slow_accept(delay: float) -> Fault:
        """Read nothing, and begin no TLS handshake, for `delay` seconds."""
        return _make("slow_accept", delay=delay)

    # TLS only.

    @staticmethod
    def tls_abort() -> Fault:
        """Reset the connection after the ClientHello."""
        return _make("tls_abort")

    @staticmethod
    def tls_stall() -> Fault:
        """Read the ClientHello, and never answer."""
        return _make("tls_stall")

    @staticmethod
    def no_close_notify() -> Fault:
        """End with FIN and no close_notify, which a client must treat as a truncation (RFC 8446, 6.1)."""
        return _make("no_close_notify")

    # Which connections: they are counted from 1, since the fault was armed. Each returns a new fault.

    def nth(self, n: int) -> Fault:
        """Connection number `n` only."""
        return self._narrowed("nth", n)

    def first(self, n: int) -> Fault:
        """The first `n` connections."""
        return self._narrowed("first", n)

    def every(self, n: int) -> Fault:
        """Connections n, 2n, 3n and so on."""
        return self._narrowed("every", n)

    def where(self, f: Callable[[Any], object]) -> Fault:
        """The connections for which `f(session)` is true. It has no text form."""
        return self._narrowed("where", f)

    def chance(self, p: float) -> Fault:
        """Each connection with probability `p`, drawn from the seed, the arming and the number of the connection."""
        return self._narrowed("chance", p)

    def _narrowed(self, name: str, value: object) -> Fault:
        return Fault(self.kind, self.arguments, (*self.selectors, (name, value)))

    # For fault injection.

    @property
    def needs_tls(self) -> bool:
        """Whether it means nothing without TLS."""
        return self.kind in _kinds.TLS_KINDS

    @property
    def needs_tcp(self) -> str:
        """What it needs of TCP ("stop_reading(window) sets the TCP window"); empty where it suits a UNIX socket too."""
        if self.kind == "stop_reading" and dict(self.arguments).get("window") is None:
            return ""
        return _kinds.TCP_NEEDS.get(self.kind, "")

    def get(self, name: str) -> Any:
        """The value of an argument, default included; `sizes` is always a tuple. Raises KeyError."""
        given = dict(self.arguments)
        if name in given:
            return given[name]
        if name not in [each.name for each in _kinds.KINDS[self.kind]]:
            raise KeyError(name)
        return _kinds.default(self.kind, name, given)

    def selects(self, number: int, seed: int, arm_number: int, session: object) -> bool:
        """Whether it takes the connection `number`. Selectors are asked in the order given, as far as they hold."""
        return all(_select.holds(*each, number, seed, arm_number, session) for each in self.selectors)

    def random(self, seed: int, arm_number: int, number: int) -> Random:
        """What else is left to chance on that connection (jitter): always the same sequence."""
        return _select.stream(seed, arm_number, number)

    def __str__(self) -> str:
        bare = _kinds.required(self.kind)
        given = [(name, _kinds.format_value(value)) for name, value in self.arguments]
        shown = ", ".join(text if name in bare else f"{name}={text}" for name, text in given)
        return ".".join([f"{self.kind}({shown})", *(_select.write(*each) for each in self.selectors)])

    def __repr__(self) -> str:
        return f"Fault.{self}"


def _make(kind: str, **arguments: object) -> Fault:
    return Fault(kind, tuple(arguments.items()))
