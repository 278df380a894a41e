"""What to measure: a target and a load, checked when they are made."""

import dataclasses
import random
import re
import socket
from typing import Any, NamedTuple

from ..errors import ConfigError, FastechoError

MAX_SIZE = 16 << 20
MAX_IN_FLIGHT = 1 << 22
PERIOD = 64 * 1021
_SIZE_TABLE = 8192


class LoadError(FastechoError):
    """Nothing could be measured: the target cannot be reached, or this machine has not what the load needs."""


class SizeRange(NamedTuple):
    """Message sizes drawn from `low` to `high` bytes, both included, each as likely as the others."""

    low: int
    high: int


class Target(NamedTuple):
    """Where the server is: `tls` or not, a host and port, or the path of a UNIX stream socket."""

    host: str
    port: int
    tls: bool = False
    unix: bool = False

    @classmethod
    def parse(cls, text: str) -> "Target":
        """`HOST:PORT`, `tcp://HOST:PORT`, `tls://HOST:PORT`, `unix:PATH`; an IPv6 address stands in brackets.

        Raises ConfigError.
        """
        must = "must be HOST:PORT, [IPV6]:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:PATH"
        if text.startswith(("unix:", "/")):
            path = text.removeprefix("unix:")
            path = path.removeprefix("//") if path.startswith("//") else path
            if not path or "\0" in path:
                raise ConfigError("target", text, must)
            return cls(path, 0, unix=True)
        match = re.fullmatch(r"(?:(tcp|tls)://)?(?:\[([^\]]+)\]|([^:/\[\]]+)):([0-9]{1,5})/?", text)
        if match is None or not 1 <= int(match[4]) <= 65535:
            raise ConfigError("target", text, must)
        return cls(match[2] or match[3], int(match[4]), tls=match[1] == "tls")

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'tcp'}://{host}:{self.port}"

    def resolve(self) -> tuple[int, str, int]:
        """The address family, the numeric host (or the path) and the port. Raises LoadError."""
        if self.unix:
            return socket.AF_UNIX, self.host, 0
        try:
            family, _, _, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError) as error:
            raise LoadError(f"cannot resolve {self.host}: {error}") from None
        return family, str(address[0]).partition("%")[0], self.port


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
        duration: seconds measured; warmup: seconds of load before them.
        threads: engine threads, among which the connections are split.
        cpus: thread i is pinned to cpus[i % len(cpus)], where the system can (Linux).
        verify: compare every byte echoed.
        terminator: the payload never holds the last byte of it; None allows any byte.
        timeout: seconds without an answer before a connection counts as one that timed out.
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
        if self.terminator == b"":
            raise ConfigError("terminator", self.terminator, "must have a byte at least, or be None")

    def _within(self, name: str, low: float, high: float) -> None:
        value: Any = getattr(self, name)
        kinds = (int, float) if isinstance(low, float) or name in ("duration", "warmup", "timeout") else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
            raise ConfigError(name, value, f"must be between {low:g} and {high:g}")

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
    def chunk(self) -> int:
        """Bytes of one read or write. A whole round of one connection fits with room, so a read comes back short."""
        return min(max(self.largest * self.depth, 4096), 256 << 10) + 64

    def payload(self, chunk: int) -> bytes:
        """The table of pseudo-random bytes that every connection walks: PERIOD of them, and `chunk` more."""
        letters = bytes(b for b in range(256) if self.terminator is None or b != self.terminator[-1])
        period = bytes(random.Random(self.seed).choices(letters, k=PERIOD))
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
