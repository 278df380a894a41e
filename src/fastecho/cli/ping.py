"""`fastecho ping`: round trips to an echo server, as ping(8) shows them."""

import signal
import time
from typing import TYPE_CHECKING

import click

from .._options.types import Integer, Seconds, Size
from ..errors import EX_FAILURE, EX_OK, EX_WRONG_ECHO, ConfigError
from ._interrupts import interrupts
from ._output import print_out, wait_while_read
from ._params import SETTINGS, TERMINATOR, Command, FilePath, as_usage, check_tls, conflict_error, help_option, option

if TYPE_CHECKING:
    from ..bench.ping import DatagramPinger, Pinger, Reply, Summary

_NOTES = """\
The summary comes after --count, Ctrl-C or SIGTERM.

\b
Exit codes
  0    every reply came back as it was sent
  1    the client failed: standard output cannot be written, no descriptors are left, ...
  2    usage
  3    a reply was wrong, or did not come
  5    cannot connect
       (with --once, 1 stands for 3 and 5)
  130, 143 interrupted by SIGINT or SIGTERM before the first reply; by SIGTERM later, 143
"""


@click.command("ping", cls=Command, epilog=_NOTES, **SETTINGS)
@click.argument("target")
@option("--count -c", Integer(1, 1_000_000_000), help="Stop after N messages.  [until Ctrl-C]")
@option("--interval -i", Seconds(0, 3600), default=1.0, help="Time from one to the next.  [1s]")
@option("--size -s", Size(1, 16 << 20), default=64, help="Bytes to send.  [64]")
@option("--timeout -W", Seconds(0.001, 3600), default=2.0, help="How long to wait for an answer.  [2s]")
@option("--terminator", TERMINATOR, default=b"\0",
        help="Terminator to avoid in payloads; 'none' allows any byte.  [\\0]")  # fmt: skip
@option("--proxy-protocol", Integer(1, 2), help="Begin each connection with a PROXY header of this version.  [off]")
@click.option("--tls-ca", type=FilePath(), metavar="FILE", help="Certificates that a tls:// server is checked against.")
@click.option("--tls-insecure", is_flag=True, help="Do not check the server's certificate.")
@click.option("--once", is_flag=True,
              help="Send one message and print only what is wrong; the exit code is 0 or 1. For health checks.")
@click.option("--quiet", "-q", is_flag=True, help="Show the summary only.")
@help_option
def command(
    target: str,
    count: int | None,
    interval: float,
    size: int,
    timeout: float,
    terminator: bytes | None,
    proxy_protocol: int | None,
    tls_ca: str | None,
    tls_insecure: bool,
    once: bool,
    quiet: bool,
) -> int:
    """Send, check and time one message after another over one connection to TARGET (HOST:PORT, unix:PATH, tls://...),
    or one datagram after another (udp://HOST:PORT).

    It ends after --count, on Ctrl-C, and when what it prints is no longer read.
    """
    from ..bench.ping import DatagramPinger, Pinger, ping_all
    from ..bench.target import Target

    if once and count is not None:
        raise conflict_error("count", "must not be given with --once, which sends one message")
    with interrupts() as signals:
        try:
            parsed = Target.parse(target)
            check_tls(parsed, tls_ca, tls_insecure)
            pinger: Pinger | DatagramPinger
            if parsed.udp:
                pinger = DatagramPinger(parsed, size=size, timeout=timeout)
            else:
                pinger = Pinger(
                    parsed, size=size, timeout=timeout, terminator=terminator, proxy_protocol=proxy_protocol,
                    tls_ca=tls_ca, tls_insecure=tls_insecure,
                )  # fmt: skip
        except ConfigError as error:
            raise as_usage(error) from None
        if once:
            return _check(pinger, str(parsed))
        pinger.connect()
        named = f" ({pinger.address})" if str(pinger.address) != parsed.host else ""
        print_out(f"PING {parsed}{named}: {size} bytes")
        started = time.monotonic()
        show = (lambda reply: None) if quiet else lambda reply: _show(reply, size)
        summary = ping_all(pinger, count, interval, show, wait_while_read)
        wrong = _wrong_datagrams(pinger) if isinstance(pinger, DatagramPinger) else {}
        _summarise(summary, str(parsed), time.monotonic() - started, wrong)
    if signals.signum == signal.SIGTERM or not summary.sent:
        return signals.exit_code
    return EX_WRONG_ECHO if summary.lost or any(wrong.values()) else EX_OK


def _wrong_datagrams(pinger: "DatagramPinger") -> dict[str, int]:
    return {name: getattr(pinger, name) for name in ("duplicated", "reordered", "altered")}


def _check(pinger: "Pinger | DatagramPinger", target: str) -> int:
    """One echo: the exit code, and a line about what is wrong."""
    try:
        problem = pinger.ping(1).problem
    except KeyboardInterrupt:
        problem = "interrupted"
    finally:
        pinger.close()
    if problem is None:
        return EX_OK
    print_out(problem if target in problem else f"{target}: {problem}")
    return EX_FAILURE


def _show(reply: "Reply", size: int) -> None:
    if reply.problem is None:
        print_out(f"{size} bytes: seq={reply.sequence} time={reply.seconds * 1000:.3f} ms")
    else:
        print_out(f"seq={reply.sequence}: {reply.problem}")


def _summarise(summary: "Summary", target: str, seconds: float, wrong: dict[str, int]) -> None:
    lost = f"{100 * summary.lost / summary.sent:.4g}" if summary.sent else "-"
    print_out(f"--- {target} ---")
    more = "".join(f", {count} {name}" for name, count in wrong.items() if count)
    print_out(f"{summary.sent} sent, {len(summary.times)} received, {lost} % lost{more}, time {seconds * 1000:.0f} ms")
    figures = "-"
    if summary.times:
        each = (min(summary.times), summary.mean, max(summary.times), summary.deviation)
        figures = "/".join(f"{seconds * 1000:.3f}" for seconds in each)
    print_out(f"rtt min/avg/max/mdev = {figures} ms")
