"""`ServerConfig`: every option of the server, with its default, its bounds and its help text, once.

The command line, the `FASTECHO_*` environment variables, the keys of the configuration file and the keyword
arguments of `EchoServer` and `serve()` are all made from the fields below; `options()` lists them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Final, Literal

from ._options.text import (
    format_terminator,
    parse_terminator,
    path_validator,
    validate_account,
    validate_host_port,
    validate_hosts,
    validate_terminator,
    validate_unix,
)
from ._options.types import Choice, Flag, Integer, IntegerOrAuto, OptionType, Seconds, Size, Text, Workers, format_size
from .errors import ConfigError
from .faults import Fault, format_faults, parse_faults, validate_faults

__all__ = ["GROUPS", "VARIABLE_PREFIX", "Option", "ServerConfig", "check_transport", "options"]

VARIABLE_PREFIX: Final = "FASTECHO"
"""Of the environment variables: `FASTECHO_PORT`."""
# The order in which help shows them.
GROUPS: Final = (
    "Listening", "Echo", "Workers", "Process", "Limits and time-outs", "Buffers", "TLS", "Faults", "Logging", "Metrics",
)  # fmt: skip

_DAY: Final = 86400.0
_MILLISECOND: Final = 0.001
# What a worker sets aside at its start (buffers x buffer_size). More is a slip of the pen, not a need.
_MOST_POOL: Final = 16 << 30
_FILE: Final = Text("FILE", path_validator(), optional=True)


def _option(default: Any, type: OptionType, group: str, help: str) -> Any:
    return field(default=default, metadata={"type": type, "group": group, "help": help})


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """The configuration of a server: immutable, hashable, checked when it is made.

    Times are seconds and sizes are bytes. Paths may be `os.PathLike` and are kept as `str`. `workers` may be
    `"auto"` and is kept as the number of CPUs that this process may use. `fault` may be a `Fault`, text, or a
    sequence of either, and is kept as a tuple of `Fault`. Where `unix` is given, `host` and `port` are not used.

    Raises:
        ConfigError: an option has the wrong type, is out of its bounds, or does not go with another one.
    """

    host: str = _option(
        "127.0.0.1",
        Text("HOST[,...]", validate_hosts),
        "Listening",
        "Addresses or names to listen on, separated by commas; * is all interfaces, IPv4 and IPv6.",
    )
    port: int = _option(8007, Integer(0, 65535), "Listening", "TCP port; 0 takes a free one.")
    udp: bool = _option(
        False, Flag(), "Listening", "Echo UDP datagrams too, on the same addresses and the same port as TCP."
    )
    unix: str | None = _option(
        None,
        Text("PATH", validate_unix, optional=True),
        "Listening",
        "Listen on a UNIX stream socket at this path, instead of TCP; @name is an abstract one (Linux).",
    )
    backlog: int = _option(
        4096, Integer(1, 65535), "Listening", "Connections that may wait to be accepted, on each socket."
    )
    proxy_protocol: bool = _option(
        False,
        Flag(),
        "Listening",
        "Read the header of the PROXY protocol (version 1 or 2) with which each connection must begin.",
    )
    ready_fd: int | None = _option(
        None,
        Integer(1, 1_048_575, none="off"),
        "Listening",
        "Write each address and a newline to this open descriptor once the server is ready.",
    )
    exit_fd: int | None = _option(
        None,
        Integer(0, 1_048_575, none="off"),
        "Listening",
        "Exit at once when this open descriptor reads end of file: its other end is closed, or the process "
        "that held it has ended.",
    )
    terminator: bytes | None = _option(
        b"\0",
        Text("TEXT", validate_terminator, parse=parse_terminator, format=format_terminator, none="none"),
        "Echo",
        r"What ends a session: text with \0 \r \n \t \\ \xNN, or hex:0d0a; none for plain echo (RFC 862).",
    )
    match: Literal["tail", "anywhere"] = _option(
        "tail",
        Choice("tail", "anywhere"),
        "Echo",
        "Where the terminator counts: at the end of what was read so far, or anywhere in the stream.",
    )
    workers: int = _option(1, Workers(1, 512), "Workers", "Processes that serve; auto is one for each usable CPU.")
    user: str | None = _option(
        None,
        Text("USER", validate_account, optional=True),
        "Process",
        "After binding, become this user for good; its name or number. Needs root.",
    )
    group: str | None = _option(
        None,
        Text("GROUP", validate_account, optional=True),
        "Process",
        "With --user: its group, rather than the one of the system's user database.",
    )
    pid_file: str | None = _option(
        None,
        _FILE,
        "Process",
        "Write the process id of the supervisor to this file, and remove the file at the end.",
    )
    max_connections: int | None = _option(
        None,
        Integer(1, 1_000_000, none="auto"),
        "Limits and time-outs",
        "Connections that each worker serves at the same time; more wait in the backlog. "
        "auto is what the descriptor limit allows.",
    )
    max_per_source: int | None = _option(
        None,
        Integer(1, 1_000_000, none="off"),
        "Limits and time-outs",
        "Connections that each worker serves for one client address (IPv6: one /64) at the same time; more are reset.",
    )
    idle_timeout: float | None = _option(
        None,
        Seconds(_MILLISECOND, _DAY, none="off"),
        "Limits and time-outs",
        "Close connections that have been idle for this long.",
    )
    udp_rate: int | None = _option(
        10_000,
        Integer(1, 1_000_000_000, none="off"),
        "Limits and time-outs",
        "UDP datagrams a second that each worker echoes to one source network (IPv4 /24, IPv6 /64); the rest is "
        "dropped. Loopback has no limit.",
    )
    write_timeout: float = _option(
        30.0,
        Seconds(_MILLISECOND, _DAY),
        "Limits and time-outs",
        "Reset a connection whose client acknowledges none of the data for this long.",
    )
    linger_timeout: float = _option(
        2.0,
        Seconds(_MILLISECOND, _DAY),
        "Limits and time-outs",
        "After the server has closed its side, wait this long for the client to close.",
    )
    drain_timeout: float = _option(
        10.0,
        Seconds(_MILLISECOND, _DAY),
        "Limits and time-outs",
        "On shutdown, reset connections that are still open after this long.",
    )
    drain_grace: float = _option(
        0.5,
        Seconds(0.0, _DAY),
        "Limits and time-outs",
        "On shutdown, close connections that have received nothing for this long.",
    )
    shutdown_delay: float = _option(
        0.0,
        Seconds(0.0, _DAY),
        "Limits and time-outs",
        "On SIGTERM, go on accepting for this long before the drain, while /readyz of --metrics answers 503.",
    )
    buffer_size: int = _option(65536, Size(512, 16 << 20), "Buffers", "Size of a buffer: the most that one read takes.")
    buffers: int = _option(
        64, Integer(2, 65536), "Buffers", "Buffers that each worker preallocates; more are allocated when needed."
    )
    busy_poll: int | Literal["auto"] | None = _option(
        None,
        IntegerOrAuto(1, 1_000_000, none="off", metavar="US"),
        "Workers",
        "After a byte, poll for more without sleeping for this many microseconds: lower latency with few "
        "connections, at the cost of a CPU that is busy meanwhile. auto polls only where that takes no more CPU "
        "than sleeping.",
    )
    pin_buffers: bool = _option(
        False, Flag(), "Buffers", "Give each session one buffer for its whole life, not one for each read."
    )
    tls_cert: str | None = _option(None, _FILE, "TLS", "Serve TLS with this certificate chain (PEM).")
    tls_key: str | None = _option(
        None, _FILE, "TLS", "Private key of the certificate (PEM), unless it is in the same file."
    )
    tls_client_ca: str | None = _option(
        None, _FILE, "TLS", "Accept only clients with a certificate signed by one of these CAs (PEM)."
    )
    tls_min_version: Literal["1.2", "1.3"] = _option(
        "1.2", Choice("1.2", "1.3"), "TLS", "Oldest version of TLS that a client may speak."
    )
    tls_tickets: int = _option(
        2,
        Integer(0, 16),
        "TLS",
        "Session tickets that a client gets after a TLS 1.3 handshake, to resume with; 0 switches tickets off, for "
        "TLS 1.2 too.",
    )
    fault: tuple[Fault, ...] = _option(
        (),
        Text("FAULT[;...]", validate_faults, parse=parse_faults, format=format_faults),
        "Faults",
        "Inject faults, such as reset(after_sent=17).first(2); see docs/faults.md.",
    )
    seed: int = _option(0, Integer(0, (1 << 64) - 1), "Faults", "Seed for probabilistic faults and jitter.")
    log_level: Literal["debug", "info", "warning", "error"] = _option(
        "info",
        Choice("debug", "info", "warning", "error"),
        "Logging",
        "debug logs each session too.",
    )
    log_format: Literal["text", "json"] = _option(
        "text", Choice("text", "json"), "Logging", "Text lines, or one JSON object a line."
    )
    stats: float | None = _option(
        None,
        Seconds(0.1, _DAY, none="off"),
        "Logging",
        "Log totals and rates at this interval.",
    )
    metrics: str | None = _option(
        None,
        Text("HOST:PORT", validate_host_port, none="off"),
        "Metrics",
        "Serve /metrics for Prometheus, /healthz and /readyz over HTTP at this address; port 0 takes a free one.",
    )

    def __post_init__(self) -> None:
        for option in options():
            value = getattr(self, option.name)
            if value is not option.default:  # a default is valid
                object.__setattr__(self, option.name, option.validate(value))
        if self.tls_cert is None:
            for option in options():
                value = getattr(self, option.name)
                if option.name.startswith("tls_") and value != option.default:
                    raise ConfigError(option.name, value, "needs a certificate beside it: tls_cert")
        if self.udp and self.unix is not None:
            raise ConfigError("unix", self.unix, "must not be given beside udp, which needs an address")
        if self.group is not None and self.user is None:
            raise ConfigError("group", self.group, "needs a user beside it: user")
        if self.exit_fd is not None and self.exit_fd == self.ready_fd:
            raise ConfigError("exit_fd", self.exit_fd, "must not be ready_fd, which is closed when the server is ready")
        check_transport(
            self.fault, tls=self.tls_cert is not None, unix=self.unix is not None, proxy_protocol=self.proxy_protocol
        )
        if self.buffers * self.buffer_size > _MOST_POOL:
            most = f"must be at most {_MOST_POOL // self.buffer_size} with a buffer_size of "
            raise ConfigError("buffers", self.buffers, most + format_size(self.buffer_size))


def check_transport(faults: Iterable[Fault], *, tls: bool, unix: bool, proxy_protocol: bool) -> None:
    """Raises ConfigError for a fault that a server with or without TLS, on a UNIX socket, or behind a proxy that sends
    headers, cannot carry out."""
    for fault in faults:
        if proxy_protocol:
            raise ConfigError("fault", str(fault), "must be left out with proxy_protocol")
        if fault.needs_tls and not tls:
            raise ConfigError("fault", str(fault), f"{fault.kind} needs TLS: tls_cert")
        if unix and fault.needs_tcp:
            raise ConfigError("fault", str(fault), f"{fault.needs_tcp}, which a UNIX socket has not; use TCP")


@dataclass(frozen=True, slots=True)
class Option:
    """One field of `ServerConfig`, under the names that it has everywhere."""

    name: str
    default: Any
    type: OptionType
    group: str
    help: str

    @property
    def flag(self) -> str:
        """Its name on the command line, such as `--buffer-size`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment, such as `FASTECHO_BUFFER_SIZE`."""
        return f"{VARIABLE_PREFIX}_{self.name.upper()}"

    def parse(self, text: str) -> Any:
        """The value of `text`. Raises ConfigError."""
        try:
            return self.type.parse(text)
        except ValueError as error:
            raise ConfigError(self.name, text, str(error)) from None

    def from_toml(self, value: Any) -> Any:
        """The value of a TOML key: strings are read as text, the rest must be the value itself."""
        try:
            return self.type.from_toml(value)
        except ValueError as error:
            raise ConfigError(self.name, value, str(error)) from None

    def validate(self, value: Any) -> Any:
        """`value` as the configuration keeps it. Raises ConfigError."""
        try:
            return self.type.validate(value)
        except ValueError as error:
            raise ConfigError(self.name, value, str(error)) from None

    def format(self, value: Any) -> str:
        """`value` in human units, in a form that `parse` takes; empty where there is nothing to show."""
        return self.type.format(value)


@cache
def options() -> tuple[Option, ...]:
    """Every option of the server, in the order in which help shows them."""
    found = []
    for each in fields(ServerConfig):
        about: Mapping[str, Any] = each.metadata
        found.append(Option(each.name, each.default, about["type"], about["group"], about["help"]))
    return tuple(sorted(found, key=lambda option: GROUPS.index(option.group)))


def _document() -> str:
    lines = [(ServerConfig.__doc__ or "").rstrip(), "", "    Attributes:"]
    for option in options():
        lines.append(f"        {option.name}: {option.help} Default: {option.default!r}.")
    return "\n".join([*lines, "    "])


ServerConfig.__doc__ = _document()
