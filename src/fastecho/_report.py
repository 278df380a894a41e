"""What the supervisor tells people: the ready line, the address for scripts, the lines of `--stats`."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ._version import __version__
from .errors import ConfigError
from .faults import show_faults

if TYPE_CHECKING:
    from .config import ServerConfig

_NAMES = {b"\0": "NUL", b"\n": "LF", b"\r": "CR", b"\r\n": "CRLF", b"\t": "TAB"}
_LONGEST_FAULTS = 200


def ready_line(config: ServerConfig, addresses: Sequence[str], pid: int) -> str:
    """The line that says where the service listens, what ends a session, and what goes wrong on purpose."""
    workers = f"{config.workers} worker{'s' if config.workers != 1 else ''}"
    tls = ", TLS" if config.tls_cert is not None else ""
    where = ", ".join(addresses)
    return f"fastecho {__version__} ready on {where} ({workers}, pid {pid}{tls}; {_rule(config)}{_faults(config)})"


def _rule(config: ServerConfig) -> str:
    if config.terminator is None:
        return "plain echo, no terminator"
    name = terminator_name(config.terminator)
    when = f"a read that ends in {name}" if config.match == "tail" else f"the first {name}"
    return f"{when} ends the session, --terminator none for plain echo"


def _faults(config: ServerConfig) -> str:
    if not config.fault:
        return ""
    text = show_faults(config.fault)
    shown = text if len(text) <= _LONGEST_FAULTS else text[: _LONGEST_FAULTS - 3] + "..."
    return f"; faults: {shown}, seed {config.seed}"


def terminator_name(terminator: bytes) -> str:
    """How a person would say it: NUL, CRLF, 'END', or hex:c0ffee."""
    if terminator in _NAMES:
        return _NAMES[terminator]
    if all(0x20 < byte < 0x7F for byte in terminator):
        return repr(terminator.decode("ascii"))
    return f"hex:{terminator.hex()}"


def say(line: str) -> None:
    """Print `line` on standard error; that nobody reads it any more is no reason to stop serving."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def check_descriptor(descriptor: int) -> None:
    """Raise `ConfigError` unless `descriptor`, of `--ready-fd`, is open."""
    try:
        os.fstat(descriptor)
    except OSError:
        raise ConfigError("ready_fd", descriptor, "must be an open descriptor") from None


def announce(descriptor: int, addresses: Sequence[str]) -> None:
    """Write the addresses, a line each, to the descriptor of `--ready-fd`, and close it."""
    try:
        os.write(descriptor, "".join(f"{address}\n" for address in addresses).encode())
    except OSError:
        pass
    finally:
        release(descriptor)


def release(descriptor: int) -> None:
    """Close `descriptor`. Standard output is pointed to the null device instead, or the next socket would get
    its number, and a client what is printed; standard error stays, for the log."""
    if descriptor == 2:
        return
    try:
        if descriptor > 2:
            os.close(descriptor)
            return
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor)
        os.close(null)
    except OSError:
        return


class StatsLines:
    """The lines of `--stats`: one every `interval` seconds, with rates since the one before."""

    def __init__(self, interval: float, totals: Mapping[str, int], now: float) -> None:
        self._interval = interval
        self._last = dict(totals)
        self._then = now
        self.due = now + interval

    def line(self, totals: Mapping[str, int], now: float) -> str:
        """For `totals` at `now` (seconds of a monotonic clock)."""
        seconds = max(now - self._then, 1e-9)
        change = {name: totals[name] - self._last[name] for name in ("accepted", "reads", "bytes_out")}
        self._last, self._then = dict(totals), now
        self.due = max(self.due + self._interval, now)
        ends = ", ".join(
            f"{count} {name.removeprefix('end_').replace('_', ' ')}"
            for name, count in totals.items()
            if name.startswith("end_") and count
        )
        return (
            f"fastecho: {totals['active']} connections ({totals['accepted']} accepted, "
            f"{change['accepted'] / seconds:.0f}/s), {change['reads'] / seconds:.0f} echoes/s, "
            f"{change['bytes_out'] / seconds / 1e6:.1f} MB/s, ended: {ends or 'none'}"
        )
