"""fastecho beside its peers, in one run.

    python -m benchmarks.versus                 everything; writes performance.{json,md,svg} in docs, and README's part
    python -m benchmarks.versus --quick         a first look in a minute; writes build/versus.json only
    python -m benchmarks.versus --rows chart --peers chart      what the chart of the README shows; --quick is shorter
    python -m benchmarks.versus --rows 64x50,4k --peers fastecho,epoll,asio-64k
    FASTECHO_OTHER=../before/.venv/bin/python python -m benchmarks.versus --peers fastecho,other      two builds
    python -m benchmarks.versus --from docs/performance.json --docs docs      the page again, nothing measured

The rows of churn need SCHED_FIFO: root, or a limit of real-time priority (`ulimit -r`) of 1 at least.

Exit code: 0 measured, 1 a server was not measured or failed, 2 usage, 3 a ratio is above its limit.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.peers import build, conformance
from benchmarks.versus import machine, markdown, peers, plan, plot, reading, rows, terminal
from benchmarks.versus.peers import Peer
from benchmarks.versus.process import ServerError
from benchmarks.versus.record import Cell, Method, Record
from benchmarks.versus.rows import Row
from benchmarks.versus.tables import time_text

ROOT = Path(__file__).parents[2]
QUICK_ROWS, QUICK_PEERS = "64x50,4k", "fastecho,epoll,asio-1k,asio-64k,uvloop-buffered"


CHART = {"rows": tuple(row.name for row in rows.ON_CHART), "peers": tuple(peer.name for peer in peers.ON_CHART)}


def names(known: Sequence[str], chart: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Parses a list of names; `chart` stands for those on the chart."""

    def parse(text: str) -> tuple[str, ...]:
        listed = filter(None, text.split(","))
        chosen = [name for each in listed for name in (chart if each == "chart" else (each,))]
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"no such: {', '.join(unknown)}; there is {', '.join(known)}")
        return tuple(name for name in known if name in chosen)

    return parse


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    cpus = sorted(os.sched_getaffinity(0))
    row_names, peer_names = tuple(rows.BY_NAME), tuple(peer.name for peer in peers.PEERS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.versus", description="fastecho beside its peers, in one run"
    )
    parser.add_argument("--rows", type=names(row_names, CHART["rows"]), help=f"of chart,{','.join(row_names)}")
    parser.add_argument("--peers", type=names(peer_names, CHART["peers"]), help=f"of chart,{','.join(peer_names)}")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--duration", type=float, help="seconds measured a figure, default 0.8")
    parser.add_argument("--warmup", type=float, default=0.2, help="seconds of load before, default 0.2")
    parser.add_argument("--server-cpu", type=int, default=cpus[-1], help=f"default {cpus[-1]}")
    parser.add_argument("--load-cpu", type=int, default=cpus[0], help=f"default {cpus[0]}")
    parser.add_argument("--no-verify", action="store_true", help="do not compare the echoed bytes")
    parser.add_argument("--quick", action="store_true", help="two rows, five servers, 2 rounds of 0.5 s")
    parser.add_argument("--json", type=Path, help="where the record goes, default build/versus.json")
    parser.add_argument("--docs", type=Path, help="performance.{json,md,svg} go here; full run: docs")
    parser.add_argument("--from", dest="source", type=Path, help="report on a record, measure nothing")
    found = parser.parse_args(argv)
    if found.server_cpu == found.load_cpu and not found.source:
        parser.error("server and load need a core each: --server-cpu, --load-cpu")
    full = not (found.rows or found.peers or found.rounds or found.duration or found.quick or found.source)
    if full and found.docs is None:
        found.docs = ROOT / "docs"
    found.rows = found.rows or (QUICK_ROWS.split(",") if found.quick else row_names)
    found.peers = found.peers or (QUICK_PEERS.split(",") if found.quick else peer_names)
    found.rounds = found.rounds or (2 if found.quick else 5)
    found.duration = found.duration or (0.5 if found.quick else 0.8)
    return found


def fit(chosen: Sequence[Peer]) -> dict[str, str]:
    """Checks every server before it is measured; those that are not fit, and why."""
    unfit = {}
    for peer in chosen:
        progress(f"conformance: {peer.name}")
        try:
            conformance.check(peer)
        except (conformance.ConformanceError, ServerError) as error:
            unfit[peer.name] = str(error)
            progress(f"{peer.name} is not measured: {error}", keep=True)
    return unfit


def progress(text: str, keep: bool = False) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="\n" if keep else "", file=sys.stderr, flush=True)
    elif keep:
        print(text, file=sys.stderr, flush=True)


def said(cell: Cell, row: Row) -> str:
    value = cell.figure(row.figure)
    if cell.error is not None or value is None:
        return f"{cell.peer} FAILED: {cell.error}"
    return f"{cell.peer} {value:,.0f} B" if row.figure == "resident" else f"{cell.peer} {time_text(value)}"


def run(found: argparse.Namespace, argv: Sequence[str]) -> Record:
    # The load engine is an extension module: a report on a record does without it.
    from benchmarks.versus.measuring import measure

    begun = time.monotonic()
    chosen_rows: list[Row] = [rows.BY_NAME[name] for name in found.rows]
    chosen: list[Peer] = [
        peer for name in found.peers if any(row.takes(peer := peers.BY_NAME[name]) for row in chosen_rows)
    ]
    record = Record(
        started=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        command=shlex.join(["python", "-m", "benchmarks.versus", *argv]),
        method=Method(
            found.rounds, found.duration, found.warmup, found.server_cpu, found.load_cpu, not found.no_verify
        ),
        machine=machine.describe(),
        versions=machine.versions(),
        rows=tuple(found.rows),
        peers=tuple(peer.name for peer in chosen),
        unfit=fit(chosen),
    )
    able = [peer for peer in chosen if peer.name not in record.unfit]
    cells: list[Cell] = []
    for round_, row, peer in plan.cells(chosen_rows, able, found.rounds):
        head = f"round {round_ + 1} of {found.rounds}, {row.name}:"
        progress(f"{head} {peer.name}")
        cells.append(cell := measure(peer, row, record.method, round_))
        progress(f"{head} {said(cell, row)}", keep=True)
    return replace(record, cells=tuple(cells), seconds=time.monotonic() - begun)


def write_docs(record: Record, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        plot.draw_chart(record, directory / markdown.CHART)
        plot.draw_ratios(record, directory / markdown.RATIOS)
        pictured = True
    except ImportError:
        pictured = False
        print("no pictures: they need matplotlib (pip install matplotlib)", file=sys.stderr)
    record.save(directory / markdown.DATA)
    (directory / markdown.PAGE).write_text(markdown.page(record, pictured))
    # The README has a place for the chart between two markers.
    readme = directory.parent / "README.md"
    if readme.exists():
        shown = markdown.excerpt(record, f"{directory.name}/", pictured)
        if (text := markdown.spliced(readme.read_text(), shown)) is not None:
            readme.write_text(text)


def main(argv: Sequence[str]) -> int:
    found = arguments(argv)
    if found.source:
        record = Record.load(found.source)
    else:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        not_built = build.main(())
        record = run(found, argv)
        record.save(found.json or ROOT / "build" / "versus.json")
        if not_built:
            print("some peers could not be built, see above", file=sys.stderr)
    print(terminal.report(record))
    if found.docs:
        write_docs(record, found.docs)
    if record.unfit or record.failures():
        return 1
    return 3 if reading.missed(record) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
