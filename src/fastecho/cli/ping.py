"""`fastecho ping`: round trips to an echo server, as ping(8) shows them."""

import time
from typing import TYPE_CHECKING

import click

from .._parse import Integer, Seconds, Size
from ..errors import EX_FAILURE, EX_OK, ConfigError
from ._params import SETTINGS, TERMINATOR, as_usage, help_option, option

if TYPE_CHECKING:
    from ..bench.ping import Reply, Summary


@click.command("ping", **SETTINGS)
@click.argument("target")
@option("--count -c", Integer(1, 1_000_000_000), help="Stop after so many.  [until Ctrl-C]")
@option("--interval -i", Seconds(0, 3600), default=1.0, help="Time from one to the next.  [1s]")
@option("--size -s", Size(1, 16 << 20), default=64, help="Bytes to send.  [64]")
@option("--timeout -W", Seconds(0.001, 3600), default=2.0, help="How long to wait for an answer.  [2s]")
@option("--terminator", TERMINATOR, default=b"\0", help="Never send the last byte of this; none: any byte.  [\\0]")
@click.option("--tls-ca", metavar="FILE", help="Certificates that a tls:// server is checked against.")
@click.option("--tls-insecure", is_flag=True, help="Do not check the server's certificate.")
@click.option("--quiet", "-q", is_flag=True, help="Show the summary only.")
@help_option
def command(
    target: str,
    count: int | None,
    interval: float,
    size: int,
    timeout: float,
    terminator: bytes | None,
    tls_ca: str | None,
    tls_insecure: bool,
    quiet: bool,
) -> int:
    """Send, check and time one message after another over one connection to TARGET (HOST:PORT, unix:PATH, tls://...).

    The exit code is 1 when one was lost.
    """
    from ..bench.ping import Pinger, ping_all
    from ..bench.spec import Target

    try:
        parsed = Target.parse(target)
    except ConfigError as error:
        raise as_usage(error) from None
    pinger = Pinger(
        parsed, size=size, timeout=timeout, terminator=terminator, tls_ca=tls_ca, tls_insecure=tls_insecure
    )
    print(f"PING {parsed}: {size} bytes", flush=True)
    started = time.monotonic()
    summary = ping_all(pinger, count, interval, (lambda reply: None) if quiet else lambda reply: _show(reply, size))
    _summarise(summary, str(parsed), time.monotonic() - started)
    return EX_OK if summary.sent and not summary.lost else EX_FAILURE


def _show(reply: "Reply", size: int) -> None:
    if reply.problem is None:
        print(f"{size} bytes: seq={reply.sequence} time={reply.seconds * 1000:.3f} ms", flush=True)
    else:
        print(f"seq={reply.sequence}: {reply.problem}", flush=True)


def _summarise(summary: "Summary", target: str, seconds: float) -> None:
    lost = 100 * summary.lost / summary.sent if summary.sent else 0.0
    print(f"--- {target} ---")
    print(f"{summary.sent} sent, {len(summary.times)} received, {lost:.4g} % lost, time {seconds * 1000:.0f} ms")
    if summary.times:
        figures = (min(summary.times), summary.mean, max(summary.times), summary.deviation)
        print(f"rtt min/avg/max/mdev = {'/'.join(f'{each * 1000:.3f}' for each in figures)} ms", flush=True)
