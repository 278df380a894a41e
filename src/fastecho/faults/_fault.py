"""`Fault`: one thing that goes wrong, when, and on which connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _kinds, _select

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True, repr=False)
class Fault:
    """One fault: made by one of the functions below, narrowed by selectors, immutable and hashable.

    `str()` gives the text form, which `parse_faults` reads (all but `where`). Offsets and sizes are bytes, times
    are seconds. What ends or stops a connection has at most one *trigger*, and without one acts at once:

    - `after_sent`: so many bytes have been sent to the client;
    - `after_received`: so many have been received from it;
    - `on`: these bytes have been received, in any segmentation.

    Attributes:
        kind: the name of the function that made it.
        arguments: what was given to it, by name, in the order of its signature; no defaults.
        selectors: names and values, such as `("nth", 1)`; a connection must suit them all.

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
        """RST. With `after_sent` exactly so many bytes can be read before it."""
        return _make("reset", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def close(*, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None) -> Fault:
        """A clean FIN, even while data of the client is unread; with `after_sent` after exactly so many bytes."""
        return _make("close", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def abort(*, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None) -> Fault:
        """The socket is closed immediately, as when a process is killed; the kernel sends FIN or RST."""
        return _make("abort", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def half_close(
        *, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None
    ) -> Fault:
        """FIN, and reading goes on until the client's FIN."""
        return _make("half_close", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def stall(*, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None) -> Fault:
        """Neither reads nor writes any more, and stays open."""
        return _make("stall", after_sent=after_sent, after_received=after_received, on=on)

    @staticmethod
    def stop_reading(
        window: int = 9216, *, after_sent: int | None = None, after_received: int | None = None, on: bytes | None = None
    ) -> Fault:
        """Reads no more; the socket's buffers are so small that the client blocks after about `window` bytes."""
        return _make("stop_reading", window=window, after_sent=after_sent, after_received=after_received, on=on)

    # What becomes of the bytes that are sent to the client. Offsets count the bytes of the echo.

    @staticmethod
    def latency(mean: float, jitter: float = 0.0) -> Fault:
        """Each piece, and the end, leaves `mean` +- `jitter` (uniform) later, in order. Throughput stays."""
        return _make("latency", mean=mean, jitter=jitter)

    @staticmethod
    def bandwidth(bytes_per_s: float, burst: int | None = None) -> Fault:
        """A token bucket that holds `burst` bytes, by default a tenth of a second's worth."""
        return _make("bandwidth", bytes_per_s=bytes_per_s, burst=burst)

    @staticmethod
    def slice(sizes: int | Sequence[int], interval: float = 0.005) -> Fault:
        """Pieces of these sizes in turn, each sent by itself, `interval` apart. Without an interval (0) the client
        mostly finds several of them together."""
        return _make("slice", sizes=sizes, interval=interval)

    @staticmethod
    def coalesce(n: int) -> Fault:
        """Held back until `n` bytes are together or the stream ends, then one send."""
        return _make("coalesce", n=n)

    @staticmethod
    def corrupt(at: int, xor: int = 0xFF) -> Fault:
        """The byte at offset `at` is changed: exclusive or with `xor`."""
        return _make("corrupt", at=at, xor=xor)

    @staticmethod
    def drop(at: int, count: int = 1) -> Fault:
        """`count` bytes from offset `at` are left out."""
        return _make("drop", at=at, count=count)

    @staticmethod
    def duplicate(at: int, count: int = 1) -> Fault:
        """`count` bytes from offset `at` are sent twice."""
        return _make("duplicate", at=at, count=count)

    @staticmethod
    def inject(at: int, data: bytes) -> Fault:
        """`data` is sent before the byte at offset `at`."""
        return _make("inject", at=at, data=data)

    # At the accept.

    @staticmethod
    def refuse() -> Fault:
        """Accepted, and reset at once."""
        return _make("refuse")

    @staticmethod
    def blackhole() -> Fault:
        """Reads everything, answers nothing."""
        return _make("blackhole")

    @staticmethod
    def slow_accept(delay: float) -> Fault:
        """Nothing is read, and no TLS handshake begins, for `delay` seconds."""
        return _make("slow_accept", delay=delay)

    # TLS only.

    @staticmethod
    def tls_abort() -> Fault:
        """RST after the ClientHello."""
        return _make("tls_abort")

    @staticmethod
    def tls_stall() -> Fault:
        """The ClientHello is read and never answered."""
        return _make("tls_stall")

    @staticmethod
    def no_close_notify() -> Fault:
        """Ends with a FIN and no close_notify, which a client must take for a truncation (RFC 8446, 6.1)."""
        return _make("no_close_notify")

    # Which connections: they are counted from 1, since the fault was armed. Each returns a new fault.

    def nth(self, n: int) -> Fault:
        """The connection number `n` only."""
        return self._narrowed("nth", n)

    def first(self, n: int) -> Fault:
        """The first `n` connections."""
        return self._narrowed("first", n)

    def every(self, n: int) -> Fault:
        """Connections n, 2n, 3n and so on."""
        return self._narrowed("every", n)

    def where(self, f: Callable[[Any], object]) -> Fault:
        """Those for which `f(session)` is true. Has no text form."""
        return self._narrowed("where", f)

    def chance(self, p: float) -> Fault:
        """Each with the probability `p`, drawn from the seed, the arming and the connection's number."""
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

    def selects(self, number: int, seed: int, arming: int, session: object) -> bool:
        """Whether it takes the connection `number`. Selectors are asked in the order given, as far as they hold."""
        return all(_select.holds(*each, number, seed, arming, session) for each in self.selectors)

    def random(self, seed: int, arming: int, number: int) -> Random:
        """What else is left to chance on that connection (jitter): always the same sequence."""
        return _select.stream(seed, arming, number)

    def __str__(self) -> str:
        bare = _kinds.required(self.kind)
        given = [(name, _kinds.write_value(value)) for name, value in self.arguments]
        shown = ", ".join(text if name in bare else f"{name}={text}" for name, text in given)
        return ".".join([f"{self.kind}({shown})", *(_select.write(*each) for each in self.selectors)])

    def __repr__(self) -> str:
        return f"Fault.{self}"


def _make(kind: str, **arguments: object) -> Fault:
    return Fault(kind, tuple(arguments.items()))
