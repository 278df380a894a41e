"""A load, checked when it is made."""

import dataclasses
import functools
import ipaddress
import random
import re
import socket
from typing import Any, NamedTuple

from ..errors import ConfigError
from .target import Address, Target

MAX_SIZE = 16 << 20
MAX_IN_FLIGHT = 1 << 22
MIN_DATAGRAM, MAX_DATAGRAM = 16, 65507  # bytes: a sequence and a tag; what IPv4 takes
PERIOD = 64 * 1021
_SIZE_TABLE = 8192


@functools.lru_cache(maxsize=4)
def _period(seed: int, avoided: int | None) -> bytes:
    """Drawn once: a comparison in turns makes dozens of runs with one payload."""
    letters = bytes(b for b in range(256) if b != avoided)
    return bytes(random.Random(seed).choices(letters, k=PERIOD))


def parse_rate(text: str) -> float:
    """`20000`, `20k`, `1.5M` a second. Raises ValueError that says what is accepted."""
    match = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kKmM]?)(?:/s)?", text.strip())
    if match is None:
        raise ValueError("must be a number of echoes a second, such as 20000, 20k or 1.5M")
    return float(match[1]) * {"": 1.0, "k": 1e3, "m": 1e6}[match[2].lower()]


def _listed(texts: "tuple[str, ...] | None") -> str:
    return ", ".join(texts or ())


class SizeRange(NamedTuple):
    """Message sizes drawn from `low` to `high` bytes, both included, each as likely as the others."""

    low: int
    high: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadSpec:
    """A load. Times are seconds, sizes bytes. Raises ConfigError for what cannot be.

    Attributes:
        target: see `Target.parse`.
        connections: how many at once.
        size: of a message: a number, several (equally likely), or a SizeRange.
        depth: messages in flight a connection.
        rate: echoes a second offered in all, latency counted from when each was due (open loop); None sends the next
            message when the last one is back (closed loop).
        arrivals: `constant` or `poisson`, in an open loop.
        churn: a connection for each message: connect, echo, close; latency counts from before the connect.
        server_closes: with churn, who closes first. False: the client closes after the echo, with FIN. True: each
            message ends in the terminator; after the echo, the client waits for the server's EOF, then closes
            with RST. Latency counts to the end of the echo; the next connection begins after EOF.
        proxy_protocol: version (1 or 2) of the PROXY protocol, with whose header each connection begins; None: none.
        duration: seconds measured; warmup: seconds of load before them.
        threads: engine threads, among which the connections are split.
        cpus: thread i is pinned to cpus[i % len(cpus)], where the system can (Linux).
        verify: compare every byte echoed.
        terminator: the payload never holds the last byte of it, except where server_closes ends a message in it; None
            allows any byte.
        timeout: seconds without an answer before a connection counts as one that timed out; with a udp:// target,
            before a datagram counts as lost.
        sources: local addresses to connect from, in turn; None chooses some on loopback when ports would run out.
        interval: seconds a sample of the series; None is a fiftieth of the duration, within 0.05 and 1.
        seed: of the payload, the sizes and the Poisson arrivals.
        tls_ca: PEM file with the authority that a TLS target is checked against; tls_insecure: check nothing.
    """

    target: str
    connections: int = 50
    size: int | tuple[int, ...] | SizeRange = 64
    depth: int = 1
    rate: float | None = None
    arrivals: str = "constant"
    churn: bool = False
    server_closes: bool = False
    proxy_protocol: int | None = None
    duration: float = 10.0
    warmup: float = 1.0
    threads: int = 1
    cpus: tuple[int, ...] | None = None
    verify: bool = True
    terminator: bytes | None = b"\0"
    timeout: float = 5.0
    sources: tuple[str, ...] | None = None
    interval: float | None = None
    seed: int = 1
    tls_ca: str | None = None
    tls_insecure: bool = False

    def __post_init__(self) -> None:
        Target.parse(self.target)
        self._within("connections", 1, 1_000_000)
        self._within("depth", 1, 65536)
        self._within("threads", 1, 256)
        self._within("duration", 0.01, 86400)
        self._within("warmup", 0, 3600)
        self._within("timeout", 0.05, 3600)
        for size in self._size_bounds():
            if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
                raise ConfigError("size", size, f"must be between 1 and {MAX_SIZE} bytes")
        if isinstance(self.size, SizeRange) and self.size.low > self.size.high:
            raise ConfigError("size", f"{self.size.low}-{self.size.high}", "must begin with the smaller one")
        if Target.parse(self.target).udp:
            self._check_datagrams()
        if self.rate is not None:
            self._within("rate", 0.01, 1e8)
        if self.interval is not None:
            self._within("interval", 0.01, 60)
        if self.arrivals not in ("constant", "poisson"):
            raise ConfigError("arrivals", self.arrivals, "must be constant or poisson")
        if self.connections * self.depth > MAX_IN_FLIGHT:
            raise ConfigError("depth", self.depth, f"must be at most {MAX_IN_FLIGHT // self.connections} here")
        if self.threads > self.connections:
            raise ConfigError("threads", self.threads, f"must be at most the connections, {self.connections}")
        if self.churn and self.depth != 1:
            raise ConfigError("depth", self.depth, "must be 1 with churn: a connection carries one message")
        if self.sources is not None:
            self._check_sources()
        if self.terminator == b"":
            raise ConfigError("terminator", self.terminator, "must have a byte at least, or be None")
        if self.proxy_protocol is not None:
            self._within("proxy_protocol", 1, 2)
        if self.server_closes:
            self._check_server_closes()

    def _within(self, name: str, low: float, high: float) -> None:
        value: Any = getattr(self, name)
        kinds = (int, float) if isinstance(low, float) or name in ("duration", "warmup", "timeout") else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            raise ConfigError(name, value, f"must be between {low:g} and {high:g}")

    def _check_server_closes(self) -> None:
        if not self.churn:
            raise ConfigError("server_closes", True, "needs churn: other connections stay open")
        if self.terminator is None:
            raise ConfigError("server_closes", True, "needs a terminator, at which the server closes")
        if min(self._size_bounds()) < len(self.terminator):
            must = f"must be at least that of the terminator, {len(self.terminator)}, which ends the message"
            raise ConfigError("size", min(self._size_bounds()), must)

    def _check_datagrams(self) -> None:
        for size in self._size_bounds():
            if not MIN_DATAGRAM <= size <= MAX_DATAGRAM:
                must = f"must be between {MIN_DATAGRAM} and {MAX_DATAGRAM} bytes with a udp:// target"
                raise ConfigError("size", size, must)
        if self.churn:
            raise ConfigError("churn", self.churn, "must not be given with a udp:// target: it has no connections")

    def _check_sources(self) -> None:
        if Target.parse(self.target).unix:
            raise ConfigError("sources", _listed(self.sources), "must not be given with a UNIX target")
        try:
            versions = {ipaddress.ip_address(source).version for source in self.sources or ()}
        except ValueError:
            versions = set()
        if len(versions) != 1:
            raise ConfigError("sources", _listed(self.sources), "must be numeric addresses, all IPv4 or all IPv6")

    def usable(self, addresses: list[Address]) -> list[Address]:
        """Those of `addresses` that can be reached from `sources`. Raises ConfigError when there are none."""
        if self.sources is None:
            return addresses
        family = socket.AF_INET6 if ":" in self.sources[0] else socket.AF_INET
        found = [address for address in addresses if address.family == family]
        if not found:
            has = ", ".join(map(str, addresses))
            raise ConfigError("sources", _listed(self.sources), f"must be of the family of the target, which has {has}")
        return found

    def _size_bounds(self) -> tuple[int, ...]:
        if not self.size and not isinstance(self.size, int):
            raise ConfigError("size", self.size, "must have one size at least")
        return (self.size,) if isinstance(self.size, int) else tuple(self.size)

    @property
    def largest(self) -> int:
        return max(self._size_bounds())

    @property
    def sample_seconds(self) -> float:
        return self.interval or min(1.0, max(0.05, self.duration / 50))

    def size_table(self) -> list[int]:
        """The sizes that the engine goes through, again and again."""
        if isinstance(self.size, int):
            return [self.size]
        draw = random.Random(self.seed)
        if isinstance(self.size, SizeRange):
            return [draw.randint(self.size.low, self.size.high) for _ in range(_SIZE_TABLE)]
        # Each as often as the others, so that the mean is exact.
        table = list(self.size) * max(1, _SIZE_TABLE // len(self.size))
        draw.shuffle(table)
        return table

    @property
    def ending(self) -> bytes:
        """The bytes in which every message ends, at which the server closes; empty if the client closes."""
        return self.terminator if self.server_closes and self.terminator else b""

    @property
    def chunk(self) -> int:
        """Bytes of one read or write. A whole round of one connection fits with room, so a read comes back short."""
        return min(max(self.largest * self.depth, 4096), 256 << 10) + 64

    def payload(self, chunk: int) -> bytes:
        """The table of pseudo-random bytes that every connection walks: PERIOD of them, and `chunk` more."""
        period = _period(self.seed, None if self.terminator is None else self.terminator[-1])
        return (period * (2 + chunk // PERIOD))[: PERIOD + chunk]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` is its inverse."""
        plain = dataclasses.asdict(self)
        if isinstance(self.size, SizeRange):
            plain["size"] = {"low": self.size.low, "high": self.size.high}
        plain["terminator"] = None if self.terminator is None else self.terminator.hex()
        return plain

    @classmethod
    def from_dict(cls, plain: "dict[str, Any]") -> "LoadSpec":
        known = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        size = values.get("size", 64)
        if isinstance(size, dict):
            values["size"] = SizeRange(size["low"], size["high"])
        elif not isinstance(size, int):
            values["size"] = tuple(size)
        for name in ("cpus", "sources"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        if values.get("terminator") is not None:
            values["terminator"] = bytes.fromhex(values["terminator"])
        return cls(**values)
