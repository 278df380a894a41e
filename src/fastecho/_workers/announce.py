"""What the supervisor prints: the ready line, the address for scripts, the lines of `--stats`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._net.listeners import EXPOSED, beyond_loopback
from .._options.text import format_terminator
from .._version import __version__
from ..errors import ConfigError
from ..faults import format_faults

if TYPE_CHECKING:
    from ..config import ServerConfig

_NAMES = {b"\0": "NUL", b"\n": "LF", b"\r": "CR", b"\r\n": "CRLF", b"\t": "TAB"}
_LONGEST_FAULTS = 200

_log = logging.getLogger("fastecho.service")


def log_ready(config: ServerConfig, addresses: Sequence[str], pid: int, metrics: Sequence[str] = ()) -> None:
    """Log where the service listens, what ends a session, which faults are injected, and the URLs of the metrics.

    A warning follows where other hosts may reach one of these.
    """
    terminator = format_terminator(config.terminator) if config.terminator is not None else None
    fields = {"addresses": list(addresses), "workers": config.workers, "terminator": terminator}
    if metrics:
        fields["metrics"] = list(metrics)
    _log.info("%s", ready_line(config, addresses, pid, metrics), extra=fields)
    if exposed := beyond_loopback((*addresses, *metrics)):
        logging.getLogger("fastecho").warning(EXPOSED, ", ".join(exposed))


def ready_line(config: ServerConfig, addresses: Sequence[str], pid: int, metrics: Sequence[str] = ()) -> str:
    """`fastecho 0.1.0 listening on tcp://127.0.0.1:8007 (4 workers, pid 4242, terminator NUL)`."""
    facts = [f"{config.workers} worker{'s' if config.workers != 1 else ''}", f"pid {pid}"]
    if config.tls_cert is not None:
        facts.append("TLS")
    if config.terminator is None:
        facts.append("no terminator")
    else:
        where = " anywhere" if config.match == "anywhere" else ""
        facts.append(f"terminator {terminator_name(config.terminator)}{where}")
    if metrics:
        facts.append(f"metrics {', '.join(metrics)}")
    return f"fastecho {__version__} listening on {', '.join(addresses)} ({', '.join(facts)}{_faults(config)})"


def status_line(serving: int, workers: int, connections: int) -> str:
    """`4 workers, 12 connections`, or `3 of 4 workers, 1 connection`: for the service manager."""
    some = f"{workers}" if serving == workers else f"{serving} of {workers}"
    return f"{some} worker{'s' * (workers != 1)}, {connections} connection{'s' * (connections != 1)}"


def _faults(config: ServerConfig) -> str:
    if not config.fault:
        return ""
    text = format_faults(config.fault)
    shown = text if len(text) <= _LONGEST_FAULTS else text[: _LONGEST_FAULTS - 3] + "..."
    return f"; faults: {shown}, seed {config.seed}"


def terminator_name(terminator: bytes) -> str:
    """How a person would say it: NUL, CRLF, 'END', or hex:c0ffee."""
    if terminator in _NAMES:
        return _NAMES[terminator]
    if all(0x20 < byte < 0x7F for byte in terminator):
        return repr(terminator.decode("ascii"))
    return f"hex:{terminator.hex()}"


def check_descriptors(config: ServerConfig) -> None:
    """Raise `ConfigError` unless the descriptors of `--ready-fd` and `--exit-fd` are open."""
    for name, descriptor in (("ready_fd", config.ready_fd), ("exit_fd", config.exit_fd)):
        if descriptor is not None:
            try:
                os.fstat(descriptor)
            except OSError:
                raise ConfigError(name, descriptor, "must be an open descriptor") from None


def at_end(descriptor: int) -> bool:
    """Whether `descriptor`, which is ready to be read, is at end of file; data is discarded."""
    try:
        return not os.read(descriptor, 4096)
    except BlockingIOError:
        return False
    except OSError:
        return True


def announce(descriptor: int, addresses: Sequence[str]) -> None:
    """Write the addresses, a line each, to the descriptor of `--ready-fd`, and close it."""
    try:
        os.write(descriptor, os.fsencode("".join(f"{address}\n" for address in addresses)))
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


class TotalsLog:
    """Lines of totals, each with the rates since the one before.

    `due_at` is when the next one comes by itself, after `interval` seconds; `math.inf` is never.
    """

    def __init__(self, interval: float, totals: Mapping[str, Any], now: float) -> None:
        self._interval = interval
        self._last = dict(totals)
        self._then = now
        self.due_at = now + interval

    def log(self, totals: Mapping[str, Any], now: float) -> None:
        """Log the line for `totals` at `now` (seconds of a monotonic clock)."""
        seconds = max(now - self._then, 1e-9)
        rates = {
            name: (totals[counter] - self._last[counter]) / seconds
            for name, counter in (("accepts", "accepted"), ("echoes", "reads"), ("bytes", "bytes_out"))
        }
        echoed, before = (each["datagrams"]["echoed"] for each in (totals, self._last))
        rates["datagrams"] = (echoed - before) / seconds
        self._last, self._then = dict(totals), now
        self.due_at = max(self.due_at + self._interval, now)
        ends = ", ".join(f"{count} {cause.replace('_', ' ')}" for cause, count in totals["ends"].items() if count)
        datagrams = f" {rates['datagrams']:.0f} datagrams/s," if any(totals["datagrams"].values()) else ""
        _log.info(
            "%d connections (%d accepted, %.0f/s), %.0f echoes/s,%s %.1f MB/s, ended: %s",
            totals["active"], totals["accepted"], rates["accepts"], rates["echoes"], datagrams, rates["bytes"] / 1e6,
            ends or "none",
            extra={"totals": dict(totals), "per_second": {name: round(rate, 3) for name, rate in rates.items()}},
        )  # fmt: skip
