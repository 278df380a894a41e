"""A run for people at a terminal: units, the table, the histogram."""

import io
import math
from collections.abc import Iterable

from ._hdr import Histogram
from .measure import Report
from .result import LoadResult
from .slo import Slo
from .spec import LoadSpec, SizeRange
from .target import Target
from .units import duration, number

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_ROWS = 16


def size_text(size: int | tuple[int, ...] | SizeRange) -> str:
    """Message sizes as `--size` takes them: `64`, `64,4096`, `64-1024`."""
    if isinstance(size, int):
        return str(size)
    return ("-" if isinstance(size, SizeRange) else ",").join(map(str, size))


def churn_text(spec: LoadSpec) -> str:
    """What a connection carries, and who closes it first if that is not the client."""
    if not spec.churn:
        return "connections that stay"
    return "a connection a message, closed by the server" if spec.server_closes else "a connection a message"


def where(result: LoadResult) -> str:
    """The target, and its address where the target names a host: `tcp://localhost:7 (127.0.0.1)`."""
    target = Target.parse(result.spec.target)
    named = result.address is not None and result.address != target.host
    return f"{result.spec.target} ({result.address})" if named else result.spec.target


def load_line(result: LoadResult) -> str:
    """The load in a line: `50 connections, 64 B, closed loop, 10 s`."""
    spec = result.spec
    loop = "closed loop" if spec.rate is None else f"open loop at {number(spec.rate)}/s, {spec.arrivals} arrivals"
    parts = [_count(spec.connections, "connection"), f"{size_text(spec.size)} B", loop]
    if spec.depth > 1:
        parts.append(f"{spec.depth} in flight each")
    if spec.churn:
        parts.append(churn_text(spec))
    if not spec.verify:
        parts.append("bytes not checked")
    if result.partial:
        parts.append(f"PARTIAL: interrupted after {result.seconds:.3g} of {spec.duration:g} s")
    else:
        parts.append(f"{result.seconds:.3g} s")
    return ", ".join(parts)


def rows(report: Report) -> list[tuple[str, str]]:
    """The figures, name and value with its unit."""
    result, server = report.result, report.server
    found = [
        ("rate", f"{number(result.rate)} echoes/s"),
        ("throughput", f"{result.megabytes_per_second:,.2f} MB/s each way"),
        ("echoes", number(result.echoes)),
    ]
    found += [(name, duration(result.percentiles[name])) for name in ("p50", "p90", "p99", "p99.9", "max")]
    found.append(("errors", _errors(result)))
    threads = _count(len(result.thread_cpu), "thread")
    found.append(("client CPU", _cpu(result, result.client_cpu, result.client_utilisation, threads)))
    if server is not None:
        processes = _count(len(server.pids), "process")
        found.append(("server CPU", _cpu(result, server.cpu, server.utilisation, processes)))
    return found


def _cpu(result: LoadResult, seconds: float, busiest: float, parts: str) -> str:
    """Client and server alike: the sum over all threads in cores, and the share of a core of the busiest thread."""
    cores = seconds / result.seconds if result.seconds else 0.0
    each = f", {duration(seconds / result.echoes)} an echo" if result.echoes else ""
    return f"{cores:.2f} cores in all ({parts}, busiest thread {busiest:.0%} of its core), {seconds:.2f} s{each}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 'es' if what.endswith('s') else 's'}"


def _errors(result: LoadResult) -> str:
    seen = [f"{kind} {number(count)}" for kind, count in result.errors.items() if count]
    return ", ".join(seen) or "none"


def histogram_rows(histogram: Histogram, lines: int = _ROWS) -> list[tuple[float, float, int]]:
    """At most `lines` intervals of equal ratio, from the least latency to the greatest: seconds, seconds, count."""
    items = histogram.items()
    if not items:
        return []
    low, high = math.log(max(items[0][0], 1)), math.log(max(items[-1][0], 2))
    # The slowest few of many would stretch the scale: the last line takes all that lies above p99.9.
    high = min(high, math.log(max(histogram.percentile(99.9), 2)))
    step = max((high - low) / lines, 1e-9)
    counts = [0] * lines
    for value, times in items:
        counts[min(lines - 1, max(0, int((math.log(max(value, 1)) - low) / step)))] += times
    edges = [math.exp(low + k * step) / 1e9 for k in range(lines + 1)]
    edges[-1] = histogram.max / 1e9
    return [(edges[k], edges[k + 1], counts[k]) for k in range(lines)]


def bar(share: float, width: int) -> str:
    """A bar of block characters, `share` (0 to 1) of `width` long."""
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def histogram_text(histogram: Histogram, width: int = 100) -> list[str]:
    """The histogram, a line an interval: from when, how many, and a bar."""
    found = histogram_rows(histogram)
    most = max((count for _, _, count in found), default=0)
    digits = len(number(most))
    room = max(10, width - digits - 30)
    return [
        f"{duration(low):>8} .. {duration(high):<8} {number(count):>{digits}}  {bar(count / most, room)}"
        for low, high, count in found
    ]


def render(report: Report, slos: Iterable[Slo] = (), *, color: bool = False, width: int = 100) -> str:
    """The whole account of a run: title, table, histogram, objectives, errors, warnings."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    result = report.result
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=color, color_system="auto" if color else None, width=width, highlight=False
    )
    title = Text.assemble((where(result), "bold"), (f"  {load_line(result)}", "dim"))
    console.print(title, soft_wrap=True)
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows(report):
        bad = name == "errors" and not result.ok
        table.add_row(name, Text(value, style="bold red" if bad else "bold" if name in ("rate", "p99") else ""))
    console.print(table)
    if len(result.latencies):
        console.print()
        for line in histogram_text(result.latencies, width):
            console.print(Text(line, style="cyan"))
    for slo in slos:
        met = slo.met(result)
        line = f"{'met' if met else 'MISSED'}: {slo} ({slo.seen(result)})"
        console.print(Text(line, style="green" if met else "bold red"), soft_wrap=True)
    for line in result.error_details:
        console.print(Text(f"error: {line}", style="red"), soft_wrap=True)
    for line in report.warnings():
        console.print(Text(f"note: {line}", style="yellow"), soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
