"""The tables as plain text."""

from __future__ import annotations

from benchmarks.versus import reading
from benchmarks.versus.record import Record
from benchmarks.versus.tables import Table, absolute, detail, headline, pinned, rows_of, sleeping, widths


def draw(table: Table) -> str:
    columns = widths(table)
    lines = []
    for line in (table.head, *table.body):
        first, *rest = (text.ljust(width) for text, width in zip(line, columns, strict=True))
        lines.append("  ".join([first, *(text.strip().rjust(len(text)) for text in rest)]).rstrip())
    return "\n".join([table.title, "-" * len(table.title), *lines, ""])


def report(record: Record) -> str:
    details = [detail(record, row) for row in rows_of(record)]
    tables = [*details, sleeping(record), pinned(record), headline(record), absolute(record)]
    parts = [draw(table) for table in tables if table.body]
    if signs := reading.disturbances(record):
        parts.append("\n".join(["The machine was not quiet; do not quote this run:", *signs, ""]))
    parts.append(reading.sentences(record) + "\n")
    failures = record.failure_lines()
    if failures:
        parts.append("\n".join(["FAILED", *failures, ""]))
    return "\n".join(parts)
