"""The honest reading of a record: what misses, where others lead, what the figures cannot say. Sentences only
from what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.versus import peers
from benchmarks.versus.ratios import Comparison, compare, typical
from benchmarks.versus.record import Record
from benchmarks.versus.tables import comparisons, headline_peers, ratio_text, rows_of

C_FAMILY = ("c", "c++")
SATURATED = 0.95
# A closed loop on quiet cores fills one of the two; well below, something else was running on them.
DISTURBED = 0.8
QUIET = 0.5


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


def starved(record: Record) -> list[str]:
    """Rows in which the load could not keep the server's core busy, for whom."""
    found = []
    for row in rows_of(record):
        names = []
        for name in dict.fromkeys((row.subject, *headline_peers(row))):
            cells = record.of(row, name)
            client, server = typical(cells, "client_busy"), typical(cells, "server_busy")
            bound = client is not None and server is not None and client.median >= SATURATED > server.median
            if bound and row.figure == "cpu":
                names.append(peers.BY_NAME[name].label)
        if names:
            found.append(f"{row.label}: {', '.join(names)}")
    return found


def disturbances(record: Record) -> list[str]:
    """Signs that the machine had something else to do: such a run is not one to quote."""
    found = []
    load = float(record.machine.get("load average at the start", "0"))
    if load > QUIET:
        found.append(f"the load average was {load:.2f} as the run began")
    for row in rows_of(record):
        client = typical(record.of(row, row.subject), "client_busy")
        server = typical(record.of(row, row.subject), "server_busy")
        if row.figure != "cpu" or client is None or server is None:
            continue
        if max(client.median, server.median) < DISTURBED:
            shares = f"server's core {server.median:.0%}, load's core {client.median:.0%}"
            found.append(f"neither core was full in the row of {row.label} ({shares})")
    return found


def sentences(record: Record) -> str:
    """Where fastecho uses less CPU per echo, and where more: one sentence each, for the README."""
    shown = [
        found
        for row in rows_of(record)
        if row.figure == "cpu"
        for name in headline_peers(row)
        if (found := compare(record, row, name)).ratio is not None
    ]
    if not shown:
        return "Nothing was measured."
    ahead, behind = [[found for found in shown if found.behind is side] for side in (False, True)]
    text = f"fastecho uses no more CPU per echo than {_by_peer(ahead, shown)}."
    if behind:
        worst = max(behind, key=lambda found: found.ratio.median if found.ratio else 0.0)
        assert worst.ratio is not None
        text += (
            f"\nIt uses more than {_by_peer(behind, shown)}; at most {worst.ratio.median:.2f} times as much "
            f"({peers.BY_NAME[worst.peer].label}; {worst.row.label})."
        )
    return text


def _by_peer(some: Sequence[Comparison], shown: Sequence[Comparison]) -> str:
    """`C, epoll in 3 of 7 kinds of work, Go in 2 of 7`: the most first."""
    of_all = Counter(found.peer for found in shown)
    counts = Counter(found.peer for found in some).most_common()
    texts = [f"{peers.BY_NAME[name].label} in {count} of {of_all[name]}" for name, count in counts]
    return ", ".join([f"{texts[0]} kinds of work", *texts[1:]]) if texts else "any server of the comparison"
