"""From what a test asks for to a `ServerConfig`, and the seed of a test."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from ..config import ServerConfig, options
from ..errors import ConfigError
from ._reply import Reply, check_reply

__all__ = ["Leak", "Options", "derive_seed"]

Leak = str
_FAMILIES = {"tcp": "127.0.0.1", "tcp6": "::1", "dual": "127.0.0.1,::1", "unix": ""}
_LEAKS = ("ignore", "warn", "error")
_DEFAULTS: dict[str, Any] = {"port": 0, "terminator": None, "buffers": 8}
# They belong to the process of the command, or would take the interpreter from the test.
_NOT_HERE = {
    "workers": "the fixture serves inside this process",
    "ready_fd": "the address is there when the server is",
    "stats": "server.stats is a snapshot",
    "log_level": "logging belongs to whoever configures it in this process",
    "log_format": "logging belongs to whoever configures it in this process",
    "busy_poll": "a spinning loop would take the interpreter from the test",
}


def derive_seed(base: int, nodeid: str) -> int:
    """The seed of a test: drawn from the base seed and the test's node id, so that neither the order of the tests nor
    their number changes it."""
    return int.from_bytes(hashlib.blake2b(f"{base}:{nodeid}".encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True, slots=True)
class Options:
    """What `echo_server` was asked for, checked."""

    config: ServerConfig
    reply: Reply
    faults: tuple[Any, ...]
    timeout: float
    teardown_timeout: float
    record_limit: int
    leak: Leak
    needs_folder: bool
    """Of its own, for a UNIX socket."""


def settle(
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
    """Raises ConfigError for what will not do."""
    if family not in _FAMILIES:
        raise ConfigError("family", family, f"must be {', '.join(list(_FAMILIES)[:-1])} or unix")
    if leak not in _LEAKS:
        raise ConfigError("leak", leak, "must be ignore, warn or error")
    for name, value in (("timeout", timeout), ("teardown_timeout", teardown_timeout)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 86400:
            raise ConfigError(name, value, "must be a number of seconds above 0")
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
        config = replace(config, workers=1, ready_fd=None, stats=None, busy_poll=None)
    else:
        _check_here(given)
        if family in ("tcp6", "dual"):
            given.setdefault("host", _FAMILIES[family])
        config = _config(given)
    if isinstance(faults, str) or not isinstance(faults, Iterable):
        faults = (faults,)
    if faults:
        config = replace(config, fault=(*config.fault, *faults))
    return Options(config, reply, config.fault, timeout, teardown_timeout, record_limit, leak, needs_folder)


def _check_names(given: dict[str, Any]) -> None:
    known = [option.name for option in options()] if given else []
    for name in given:
        if name not in known:
            import difflib

            known += [field.name for field in fields(Options)] + ["family", "tls"]
            close = difflib.get_close_matches(name, known, 1)
            raise TypeError(f"echo_server() has no option {name}" + (f"; did you mean {close[0]}?" if close else ""))


def _check_here(given: dict[str, Any]) -> None:
    for option in options() if given.keys() & _NOT_HERE.keys() else ():
        name = option.name
        if name in _NOT_HERE and name in given and given[name] != option.default:
            raise ConfigError(name, given[name], f"must be left out here: {_NOT_HERE[name]}")


def _config(given: dict[str, Any]) -> ServerConfig:
    rest = {name: value for name, value in given.items() if name != "seed"}
    try:
        config = _cached(tuple((name, value, type(value)) for name, value in rest.items()))
    except TypeError:  # something that cannot be a key; ServerConfig says what is wrong with it
        return ServerConfig(**{**_DEFAULTS, **given})
    return _with_seed(config, given["seed"]) if "seed" in given else config


def _with_seed(config: ServerConfig, seed: Any) -> ServerConfig:
    """Each test has a seed of its own, and 26 other options which have been checked already."""
    (option,) = (option for option in options() if option.name == "seed")
    copied = copy.copy(config)
    object.__setattr__(copied, "seed", option.check(seed))
    return copied


@lru_cache(maxsize=64)
def _cached(given: tuple[tuple[str, Any, type], ...]) -> ServerConfig:
    return ServerConfig(**{**_DEFAULTS, **{name: value for name, value, _ in given}})


def _tls_options(tls: Any) -> dict[str, Any]:
    if tls is None or tls is False:
        return {}
    from ._certificates import Certificate, certificates

    if not isinstance(tls, Certificate):
        kind = "valid" if tls is True else tls
        kinds = ("valid", "expired", "wrong_host", "self_signed", "client")
        if kind not in kinds:
            raise ConfigError("tls", tls, f"must be True, {', '.join(kinds[:-1])} or client, or a Certificate")
        tls = getattr(certificates(), kind)
    found = {"tls_cert": str(tls.cert_path), "tls_key": str(tls.key_path)}
    return found | ({"tls_client_ca": str(tls.ca_path)} if tls.kind == "client" else {})
