"""The honest reading of a record: what misses, where others lead, what the figures cannot say. Sentences only
from what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.versus import chart, peers, rows
from benchmarks.versus.chart import Bar
from benchmarks.versus.machine import LOAD
from benchmarks.versus.ratios import Comparison, compare, typical
from benchmarks.versus.record import Record
from benchmarks.versus.rows import Row
from benchmarks.versus.tables import comparisons, headline_peers, ratio_text, rows_of

C_FAMILY = ("c", "c++")
SATURATED = 0.95
# A closed loop on quiet cores fills one of the two; well below, something else was running on them.
DISTURBED = 0.8
QUIET = 0.5
NOTHING = "Nothing of the chart was measured."


def missed(record: Record) -> list[Comparison]:
    """The ratios to hold that were exceeded."""
    return [
        found
        for row in rows_of(record)
        for name in row.ceilings
        if (found := compare(record, row, name)).missed
    ]


def unmeasured(record: Record) -> list[Comparison]:
    """The ratios to hold for which there is no measurement in this record."""
    return [
        found
        for row in rows_of(record)
        for name in row.ceilings
        if (found := compare(record, row, name)).ratio is None
    ]


def leads(record: Record, families: Sequence[str]) -> list[Comparison]:
    """Where a server of these languages is ahead of fastecho."""
    return [
        found
        for found in comparisons(record)
        if peers.BY_NAME[found.peer].family in families and found.behind
    ]


def line(found: Comparison) -> str:
    """A lead of another; the spread may not allow to say who leads."""
    text = f"{found.row.label}: {ratio_text(found.ratio)} of {peers.BY_NAME[found.peer].label}"
    return text if found.certain else text + "; not in every round"


def missed_line(found: Comparison) -> str:
    text = f"{found.row.label}: {ratio_text(found.ratio)} of {peers.BY_NAME[found.peer].label}"
    text += f", to hold {found.ceiling:.2f}"
    held = found.ratio is not None and found.ceiling is not None and found.ratio.low <= found.ceiling
    return text + "; held in some rounds" if held else text


def reasons(record: Record) -> list[tuple[Row, str]]:
    """The rows with a ratio that is missed for a known reason, and that reason."""
    names = {comparison.row.name for comparison in missed(record)}
    return [(row, row.reason) for row in rows_of(record) if row.name in names and row.reason]


def starved(record: Record) -> list[str]:
    """Rows in which the load could not keep the server's core busy, for whom."""
    found = []
    for row in rows_of(record):
        names = []
        for name in dict.fromkeys((row.subject, *headline_peers(row))):
            cells = record.of(row, name)
            client, server = typical(cells, "client_busy"), typical(cells, "server_busy")
            bound = client is not None and server is not None and client.median >= SATURATED > server.median
            if bound and row.figure == "cpu" and not row.take_turns:
                names.append(peers.BY_NAME[name].label)
        if names:
            found.append(f"{row.label}: {', '.join(names)}")
    return found


def disturbances(record: Record) -> list[str]:
    """Signs that the machine had something else to do: such a run is not one to quote."""
    found = []
    load = float(record.machine.get(LOAD, "0"))
    if load > QUIET:
        found.append(f"the load average was {load:.2f} as the run began")
    for row in rows_of(record):
        client = typical(record.of(row, row.subject), "client_busy")
        server = typical(record.of(row, row.subject), "server_busy")
        if row.figure != "cpu" or client is None or server is None:
            continue
        busy = client.median + server.median if row.take_turns else max(client.median, server.median)
        if busy < DISTURBED:
            shares = f"server's core {server.median:.0%}, load's core {client.median:.0%}"
            found.append(f"neither core was full in the row of {row.label} ({shares})")
    return found


def sentences(record: Record) -> str:
    """What fastecho wins and what it loses on the chart, one line each."""
    speed, memory = chart.standing(record, chart.SPEED), chart.standing(record, chart.MEMORY)
    wins, losses = [], []
    if speed is not None:
        faster = f": faster than {_listed(speed.worse)}" if speed.worse else ""
        wins.append(f"fastecho echoes {speed.ours.text} messages per second on one core{faster}")
        losses += _together(
            "fastecho is",
            (f"about as fast as {_listed(speed.equal)}" if speed.equal else ""),
            (f"slower than {_listed(speed.better)}" if speed.better else ""),
        )
    if memory is not None:
        less = f", less than with {_listed(memory.worse, ' KiB')}" if memory.worse else ""
        wins.append(f"an idle connection takes {memory.ours.text} KiB{less}")
        losses += _together(
            "an idle connection takes",
            (f"about as much with {_listed(memory.equal, ' KiB')}" if memory.equal else ""),
            (f"less with {_listed(memory.better, ' KiB')}" if memory.better else ""),
        )
    found = ["; ".join(clauses) for clauses in (wins, losses) if clauses]
    # A sentence begins with "An idle connection", but with "fastecho".
    return "\n".join(f"{text.replace('an ', 'An ', text.startswith('an '))}." for text in found) or NOTHING


def _together(subject: str, *predicates: str) -> list[str]:
    said = " and ".join(filter(None, predicates))
    return [f"{subject} {said}"] if said else []


def _listed(bars: Sequence[Bar], unit: str = "") -> str:
    """`Go (172,000), libuv (117,000) and trio (45,000)`"""
    *texts, last = (f"{bar.name} ({bar.text}{unit})" for bar in bars)
    return f"{', '.join(texts)} and {last}" if texts else last


def caption(record: Record) -> str:
    """How the numbers of the chart were measured, and where; a sentence a line."""
    fewer = [f"{bar.name}: {bar.peer.most_idle:,}" for bar in chart.bars(record, chart.MEMORY) if bar.peer.most_idle]
    idle = f"{rows.MEMORY.connections:,} idle connections{' (' + ', '.join(fewer) + ')' if fewer else ''}"
    where = [record.machine.get("processor", "")]
    where += [f"{name} {record.versions[name]}" for name in ("Python", "fastecho") if name in record.versions]
    speed = (
        "Speed: echoes of 64 B over 50 connections, per second of CPU time of the server (all its processes). "
        "The server has one core, the load generator another."
    )
    memory = (
        "Memory: growth of the proportional set size per connection (all processes of the server, without memory of "
        f"the kernel), for {idle} after an echo of 64 KiB on each."
    )
    run = f"{', '.join(filter(None, where))}; {record.started.partition(' ')[0]}."
    return "\n".join((speed, _limits(record), memory, run))


def _limits(record: Record) -> str:
    """Whether the numbers are throughput, or computed from the CPU time of servers that had time left."""
    idling = []
    for bar in chart.bars(record, chart.SPEED):
        busy = typical(record.of(rows.SPEED, bar.peer.name), "server_busy")
        if busy is not None and busy.median < SATURATED:
            idling.append(f"{bar.name} ({100 * busy.median:.0f} % of its core)")
    if not idling:
        return "Each server filled its core: this is the measured throughput."
    return f"The load generator did not fill the core of {', '.join(idling)}: computed for a full core."
