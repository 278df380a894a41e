"""The tables of a record as rows of strings; how they are drawn is the business of terminal and markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.versus import chart, peers, rows
from benchmarks.versus.ratios import Comparison, Spread, compare, typical
from benchmarks.versus.record import Record
from benchmarks.versus.rows import Row

HEADLINE = ("epoll", "asio-1k", "asio-64k", "uvloop-buffered")
NOTHING = "–"
FAILED = "failed"


@dataclass(frozen=True)
class Table:
    title: str
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]


def headline_peers(row: Row) -> tuple[str, ...]:
    """The four columns; where our arm spins or serves TLS, the floor does too. The UDP server's array has 64 KiB."""
    if row.udp:
        return tuple("asio-udp" if name == "asio-64k" else name for name in HEADLINE)
    floor = peers.FLOOR_SPINNING if peers.BY_NAME[row.subject].spins else peers.FLOOR_TLS if row.tls else peers.FLOOR
    return tuple(floor if name == peers.FLOOR else name for name in HEADLINE)


def ratio_text(spread: Spread | None) -> str:
    """`1.08 (1.05–1.11)`; three digits below a tenth, where two would hide a half."""
    if spread is None:
        return NOTHING
    digits = 3 if spread.median < 0.1 else 2
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


def time_text(seconds: float) -> str:
    microseconds = seconds * 1e6
    if microseconds >= 10_000:
        return f"{microseconds / 1000:,.0f} ms"
    return f"{microseconds:,.0f} us" if microseconds >= 100 else f"{microseconds:.2f} us"


def microseconds_text(spread: Spread | None) -> str:
    return NOTHING if spread is None else time_text(spread.median)


def count_text(spread: Spread | None) -> str:
    return NOTHING if spread is None else f"{spread.median:,.0f}"


def share_text(spread: Spread | None) -> str:
    return NOTHING if spread is None else f"{100 * spread.median:.0f} %"


def decimal_text(spread: Spread | None) -> str:
    return NOTHING if spread is None else f"{spread.median:.2f}"


def rows_of(record: Record) -> list[Row]:
    return [rows.BY_NAME[name] for name in record.rows]


def comparisons(record: Record) -> list[Comparison]:
    """fastecho against every other server that was measured; one connection also without spinning."""
    found = [
        compare(record, row, name)
        for row in rows_of(record)
        for name in record.peers
        if not peers.BY_NAME[name].ours and record.of(row, name)
    ]
    return found + [
        compare(record, rows.SLEEPING, name)
        for name in record.peers
        if not peers.BY_NAME[name].ours and not peers.BY_NAME[name].spins and record.of(rows.SLEEPING, name)
    ]


def headline_cell(comparison: Comparison) -> str:
    text = ratio_text(comparison.ratio)
    if comparison.ceiling is None or comparison.ratio is None:
        return text
    return f"{text} {'misses' if comparison.missed else 'holds'} {comparison.ceiling:.2f}"


def headline(record: Record) -> Table:
    head = ("work", *(peers.BY_NAME[name].label for name in HEADLINE))
    body = []
    for row in rows_of(record):
        cells = [headline_cell(compare(record, row, name)) for name in headline_peers(row)]
        body.append((row.label, *cells))
    return Table("fastecho / peer", head, tuple(body))


def _cpu_line(record: Record, row: Row, name: str) -> tuple[str, ...]:
    cells = record.of(row, name)
    return (
        microseconds_text(typical(cells, "cpu_per_echo")),
        count_text(typical(cells, "rate")),
        microseconds_text(typical(cells, "p50")),
        microseconds_text(typical(cells, "p99")),
        share_text(typical(cells, "server_busy")),
        share_text(typical(cells, "client_busy")),
        decimal_text(typical(cells, "wakeups_per_echo")),
    )


CPU_HEAD = ("server", "CPU an echo", "echoes/s", "p50", "p99", "server core", "load core", "wake-ups an echo",
            "fastecho / it")  # fmt: skip
IDLE_HEAD = ("server", "bytes a connection", "fastecho / it")


def detail(record: Record, row: Row) -> Table:
    """One row of work, a line a server."""
    resident = row.figure == "resident"
    body = []
    for name in record.peers:
        cells = record.of(row, name)
        if not cells:
            continue
        figures = (count_text(typical(cells, "resident")),) if resident else _cpu_line(record, row, name)
        failed = sum(cell.error is not None for cell in cells)
        label = peers.BY_NAME[name].label + (f" ({failed} of {len(cells)} rounds {FAILED})" if failed else "")
        ratio = NOTHING if name == row.subject else ratio_text(compare(record, row, name).ratio)
        body.append((label, *figures, ratio))
    return Table(row.label, IDLE_HEAD if resident else CPU_HEAD, tuple(body))


def absolute(record: Record) -> Table:
    """The numbers of the chart, the fastest server first."""
    speed, memory = ({bar.peer: bar for bar in chart.bars(record, panel)} for panel in chart.PANELS)
    body = []
    for peer in dict.fromkeys((*speed, *memory)):
        rate = NOTHING
        if peer in speed:
            value = speed[peer].value
            low, high = (chart.value_text(end) for end in (value.low, value.high))
            rate = f"{speed[peer].text} ({low}–{high})"
        busy = share_text(typical(record.of(rows.SPEED, peer.name), "server_busy"))
        body.append((peer.chart_name, rate, busy, memory[peer].text if peer in memory else NOTHING))
    head = ("server", "echoes per second on one core", "core used", "KiB per idle connection")
    return Table("Absolute numbers", head, tuple(body))


def pinned(record: Record) -> Table:
    """What --pin-buffers gives or costs: pinned / leased, row by row."""
    body = []
    for row in rows_of(record):
        found = compare(record, row, peers.FASTECHO, peers.PINNED).ratio
        if found is not None:
            body.append((row.label, ratio_text(found)))
    return Table("fastecho --pin-buffers / fastecho", ("work", "ratio"), tuple(body))


def sleeping(record: Record) -> Table:
    """The p50 round trip of one connection without busy polling."""
    body = []
    for found in comparisons(record):
        if found.row is rows.SLEEPING and found.ratio is not None:
            body.append((peers.BY_NAME[found.peer].label, ratio_text(found.ratio)))
    return Table(rows.SLEEPING.label, ("server", "fastecho / it"), tuple(body))


def widths(table: Table) -> Sequence[int]:
    return [max(len(line[i]) for line in (table.head, *table.body)) for i in range(len(table.head))]
