"""The options of `echo_server`: checked, and made into a `ServerConfig`; and the seed of a test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from .._options.text import is_abstract
from ..config import ServerConfig, check_transport, options
from ..errors import ConfigError
from ._reply import Reply, check_reply

__all__ = ["Options", "check", "check_seconds", "derive_seed", "unknown_option"]

_FAMILIES = {"tcp": "127.0.0.1", "tcp6": "::1", "dual": "127.0.0.1,::1", "unix": ""}
_LEAKS = ("ignore", "warn", "error")
_DEFAULTS: dict[str, Any] = {"port": 0, "terminator": None, "buffers": 8}
# They belong to the process of the command, or would take the interpreter from the test.
_NOT_HERE = {
    "workers": "the fixture serves inside this process",
    "user": "the fixture serves inside this process",
    "group": "the fixture serves inside this process",
    "pid_file": "the fixture serves inside this process",
    "ready_fd": "the address is there when the server is",
    "exit_fd": "the server ends with its test",
    "stats": "server.stats is a snapshot",
    "metrics": "server.stats is a snapshot",
    "shutdown_delay": "no signal stops it",
    "log_level": "the program configures logging",
    "log_format": "the program configures logging",
    "drain_timeout": "a stop resets what is open (teardown_timeout)",
    "drain_grace": "a stop resets what is open (teardown_timeout)",
    "busy_poll": "a spinning loop would take the interpreter from the test",
}


def derive_seed(base: int, nodeid: str) -> int:
    """The seed of a test: drawn from the base seed and the test's node id, so that neither the order of the tests nor
    their number changes it."""
    return int.from_bytes(hashlib.blake2b(f"{base}:{nodeid}".encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `echo_server`, checked."""

    config: ServerConfig
    reply: Reply
    faults: tuple[Any, ...]
    timeout: float
    teardown_timeout: float
    record_limit: int
    leak: str
    needs_folder: bool
    """A UNIX socket without a path: the server makes a folder for it."""


def check(
    config: ServerConfig | None,
    more: dict[str, Any],
    family: str,
    tls: Any,
    reply: Reply,
    faults: Any,
    timeout: float,
    teardown_timeout: float,
    record_limit: int,
    leak: str,
) -> Options:
    """The options of `echo_server`, checked. Raises ConfigError or TypeError."""
    if config is not None and not isinstance(config, ServerConfig):
        raise ConfigError("config", config, "must be a ServerConfig; options such as family= are given by their names")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise ConfigError("family", family, f"must be {', '.join(list(_FAMILIES)[:-1])} or unix")
    if not isinstance(leak, str) or leak not in _LEAKS:
        raise ConfigError("leak", leak, "must be ignore, warn or error")
    for name, value in (("timeout", timeout), ("teardown_timeout", teardown_timeout)):
        check_seconds(name, value)
    if isinstance(record_limit, bool) or not isinstance(record_limit, int) or not 0 <= record_limit <= 1 << 40:
        raise ConfigError("record_limit", record_limit, "must be a number of bytes between 0 and 1 TiB")
    beside = "config" if config is not None else next((name for name in ("host", "unix") if name in more), None)
    if family != "tcp" and beside is not None:
        raise ConfigError("family", family, f"must be left out beside {beside}, which says where to listen")
    check_reply(reply)
    _check_names(more)
    given = {**_tls_options(tls), **more}
    needs_folder = family == "unix" and config is None and "unix" not in given
    if config is not None:
        if given:
            raise TypeError(f"give either config or options, not both: {', '.join(given)}")
        config = replace(
            config, workers=1, user=None, group=None, pid_file=None, ready_fd=None, exit_fd=None, stats=None,
            metrics=None, shutdown_delay=0.0, busy_poll=None,
        )  # fmt: skip
    else:
        _check_here(given)
        if family in ("tcp6", "dual"):
            given.setdefault("host", _FAMILIES[family])
        config = ServerConfig(**{**_DEFAULTS, **given})
    if config.unix is not None and is_abstract(config.unix):
        raise ConfigError("unix", config.unix, "must be a path here: an abstract name cannot be reserved")
    if needs_folder and config.udp:
        raise ConfigError("udp", config.udp, "must be left out beside family unix, which has no datagrams")
    if isinstance(faults, str) or not isinstance(faults, Iterable):
        faults = (faults,)
    if faults:
        config = replace(config, fault=(*config.fault, *faults))
    unix = needs_folder or config.unix is not None
    check_transport(config.fault, tls=config.tls_cert is not None, unix=unix, proxy_protocol=config.proxy_protocol)
    return Options(config, reply, config.fault, timeout, teardown_timeout, record_limit, leak, needs_folder)


def check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86400:
        raise ConfigError(name, value, "must be a number of seconds above 0")


def _check_names(given: dict[str, Any]) -> None:
    known = [option.name for option in options()] if given else []
    for name in given:
        if name not in known:
            known += [field.name for field in fields(Options)] + ["family", "tls"]
            raise TypeError(f"echo_server() has {unknown_option(name, known)}")


def unknown_option(name: str, known: Sequence[str], otherwise: str = "") -> str:
    """`no option NAME`, and which of `known` was meant, or `otherwise` if none is similar."""
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    return f"no option {name}" + (f"; did you mean {close[0]}?" if close else otherwise)


def _check_here(given: dict[str, Any]) -> None:
    for option in options() if given.keys() & _NOT_HERE.keys() else ():
        name = option.name
        if name in _NOT_HERE and name in given and given[name] != option.default:
            raise ConfigError(name, given[name], f"must be left out here: {_NOT_HERE[name]}")


def _tls_options(tls: Any) -> dict[str, Any]:
    if tls is None or tls is False:
        return {}
    from ._certificates import Certificate, certificates

    if isinstance(tls, Certificate):
        return tls.server_options()
    kind = "valid" if tls is True else tls
    kinds = ("valid", "expired", "wrong_host", "self_signed", "client")
    if kind not in kinds:
        raise ConfigError("tls", tls, f"must be True, {', '.join(kinds[:-1])} or client, or a Certificate")
    return certificates().of(kind).server_options()
