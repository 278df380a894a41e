"""docs/performance.md, made of the record alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from benchmarks.versus import chart, reading, rows
from benchmarks.versus.record import Record
from benchmarks.versus.tables import Table, absolute, detail, headline, pinned, rows_of, sleeping

OPENING, CLOSING = "<!-- versus -->", "<!-- /versus -->"
PAGE, DATA = "performance.md", "performance.json"
CHART, RATIOS = "performance.svg", "performance-ratios.svg"

METHOD = """\
- The figure is **CPU per echo**: user and system time of the server process and its children, from its CPU
  clock (nanoseconds) at both ends of the measured window, divided by the echoes whose last byte came back
  inside it. Loopback echo is mostly kernel time; what differs between servers is what they spend, not the
  time on the wall. Echoes per second on one core, on the chart, are its inverse.
- Server on core {method.server_cpu}, load on core {method.load_cpu}; a fresh process for every figure;
  {method.warmup:g} s of load before {method.duration:g} s measured; closed loop; {verify}.
- In the rows of churn, server and load take turns on one core, each with the same fixed priority (SCHED_FIFO): the load
  opens 32 connections and sleeps, the server serves them and sleeps. So each server wakes up once for 32 connections.
  On two cores, the number of wake-ups differed from server to server and from run to run, and with it the
  CPU time of a connection: the ratios of different runs did not agree.
- Every server passed the same conformance check in the same run (`benchmarks/peers/conformance.py`).
- {method.rounds} rounds; in each, every server in turn, the order rotated by round and reversed in every
  second one. Ratios are taken inside a round; quoted are the median and, in brackets, the lowest and highest.
- fastecho runs with its defaults, one worker; its supervisor counts as its CPU and as its memory.
- Resident bytes: growth of the process tree's own memory (anonymous and shared, proportional) from no
  connection to 8,000 that have each had one echo of 64 KiB (fewer, where each has a process or a Python thread).
  What the kernel holds for a socket is not in it; it is the same for all. Page tables and kernel stacks of processes
  and threads are not in it either. Two rounds of it at most: the figure hardly varies.
- Absolute figures hold for this machine and this run only; compare ratios."""

LIMITS = """\
- The load of TLS is written in Python and does not fill the server's core, so that each server wakes up for each echo.
- One machine, loopback, one core a side. A network, a NIC and more cores are not in these figures.
- Programs that use more than one core (Go, a thread a session) are held to one like everybody else.
- In a closed loop a faster server gets its next message sooner, but not more of them at a time; a server
  whose core is not full wakes up more often for each echo. The shares of both cores stand in the tables."""

RATIOS_INTRODUCTION = """\
CPU per echo of fastecho divided by that of each peer; below 1 fastecho is ahead. In the row of one connection
it is the p50 round trip, in the row of idle connections resident bytes. The project holds itself to some of the
ratios: `make versus` ends with exit code 3 when one misses its limit."""

PROGRAMS = """\
Each server is written as in the documentation of its library (`benchmarks/peers/`). Boost.Asio: the example of its
documentation, with the same library outside Boost. libuv: faster than in its guide, with one read buffer for all
connections and `uv_try_write`. Go: a goroutine per connection, package net. Python threads:
`socketserver.ThreadingTCPServer`. socat: `socat -b 4096 TCP-LISTEN:7,fork,reuseaddr PIPE`, a process per connection."""


def draw(table: Table) -> str:
    lines = [
        "| " + " | ".join(table.head) + " |",
        "|---|" + "---:|" * (len(table.head) - 1),
        *("| " + " | ".join(line) + " |" for line in table.body),
    ]
    return "\n".join(lines)


def bullets(lines: Iterable[str], none: str) -> str:
    return "\n".join(f"- {line}" for line in lines) or none


def facts(found: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in found.items())


def section(title: str, *paragraphs: str, level: int = 2) -> str:
    return "\n\n".join([f"{'#' * level} {title}", *(paragraph for paragraph in paragraphs if paragraph)])


def explained(record: Record) -> list[str]:
    """Why some of the missed ratios are missed, each with a link to its profile."""
    found = [
        f"{row.label}: {reason} ([the profile](performance-log.md#{anchor(row.log)}))."
        for row, reason in reading.reasons(record)
    ]
    return ["**Why**", bullets(found, "")] if found else []


def anchor(heading: str) -> str:
    """The name that GitHub and MkDocs give to a heading, for links."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def honest(record: Record) -> str:
    parts = [
        "**Ratios to hold that this run misses**",
        bullets(map(reading.missed_line, reading.missed(record)), "None."),
        *explained(record),
        "**Where C or C++ leads** (above 1)",
        bullets(map(reading.line, reading.leads(record, reading.C_FAMILY)), "Nowhere in this run."),
    ]
    if left_out := [row.label for row in rows.ROWS if row.name not in record.rows]:
        parts += ["**Not measured in this run** (see [what was tried](performance-log.md))", bullets(left_out, "")]
    if others := reading.leads(record, ("go", "python")):
        parts += ["**Where Go or Python leads**", bullets(map(reading.line, others), "")]
    if absent := reading.unmeasured(record):
        missing = (f"{found.row.label}: {found.peer}" for found in absent)
        parts += ["**Ratios to hold that this run did not measure**", bullets(missing, "")]
    if starved := reading.starved(record):
        parts += [
            "**Rows in which the load's core was full and the server's was not**",
            bullets(starved, ""),
        ]
    if signs := reading.disturbances(record):
        parts += ["**The machine was not quiet: do not quote this run**", bullets(signs, "")]
    return section("Honest reading", *parts, LIMITS, level=3)


def failures(record: Record) -> str:
    lines = record.failure_lines()
    return section("Failures", bullets(lines, "")) if lines else ""


def not_measured(record: Record) -> str:
    missing = chart.absent(record)
    return f"Not measured in this run: {', '.join(missing)}." if missing else ""


def excerpt(record: Record, folder: str, pictured: bool) -> str:
    """The chart, the wins and the losses, for the README; the picture is in `folder`."""
    alternative = "Bars: echoes per second on one core, and memory per idle connection, of fastecho and other servers"
    drawn = pictured and any(chart.bars(record, panel) for panel in chart.PANELS)
    picture = f"![{alternative}]({folder}{CHART})" if drawn else ""
    small = f"<sub>{reading.caption(record)}</sub>"
    return "\n\n".join(part for part in (picture, reading.sentences(record), not_measured(record), small) if part)


def spliced(text: str, insertion: str) -> str | None:
    """`text` with what stands between its two markers replaced; None when it has no markers."""
    before, opening, rest = text.partition(OPENING)
    _, closing, after = rest.partition(CLOSING)
    return f"{before}{opening}\n{insertion}\n{closing}{after}" if closing else None


def page(record: Record, pictured: bool) -> str:
    """The page; with `pictured`, the two pictures are beside it."""
    verify = "every echoed byte checked" if record.method.verify else "bytes not checked"
    method = METHOD.format(method=record.method, verify=verify)
    pin, asleep = pinned(record), sleeping(record)
    parts = [
        "# Performance",
        f"<!-- Written by `make versus` from {DATA}; changes here are lost. -->",
        excerpt(record, "", pictured),
        draw(absolute(record)),
        PROGRAMS,
        failures(record),
        section("Appendix: ratios, by kind of work", RATIOS_INTRODUCTION, draw(headline(record))),
        f"![fastecho relative to its peers, by kind of work]({RATIOS})" if pictured else "",
        honest(record),
        section("Leased and pinned buffers", f"{pin.title}:", draw(pin), level=3) if pin.body else "",
        section("Appendix: all servers, by kind of work"),
        *(f"### {row.label}\n\n{draw(detail(record, row))}" for row in rows_of(record)),
        f"### {asleep.title}\n\n{draw(asleep)}" if asleep.body else "",
        section("Method", method),
        section("Machine and versions", facts(record.machine), facts(record.versions)),
        section(
            "To run it again",
            f"    {record.command}",
            f"Started {record.started}, took {record.seconds / 60:.0f} minutes; all rounds are in "
            f"[{DATA}]({DATA}). `make peers` builds the peers that are not Python; on Debian all of them need "
            "`g++ libasio-dev libuv1-dev golang-go socat`. A server that is not installed is reported with the "
            "command that installs it, and left out. `make versus ARGS=\"--rows chart --peers chart\"` measures "
            "the chart alone.",
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
