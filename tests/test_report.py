"""The ready line says what ends a session; the lines of --stats count and rate."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fastecho._counters import SharedCounters
from fastecho._report import StatsLines, announce, ready_line, release, terminator_name
from fastecho.config import ServerConfig
from fastecho.faults import Fault


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({}, "(1 worker, pid 9; a read that ends in NUL ends the session, --terminator none for plain echo)"),
        ({"workers": 2, "terminator": b"\r\n"},
         "(2 workers, pid 9; a read that ends in CRLF ends the session, --terminator none for plain echo)"),
        ({"match": "anywhere"},
         "(1 worker, pid 9; the first NUL ends the session, --terminator none for plain echo)"),
        ({"terminator": None}, "(1 worker, pid 9; plain echo, no terminator)"),
        ({"terminator": None, "seed": 7}, "(1 worker, pid 9; plain echo, no terminator)"),
        ({"terminator": None, "fault": "reset(after_out=17).first(2)", "seed": 7},
         "(1 worker, pid 9; plain echo, no terminator; faults: reset(after_out=17).first(2), seed 7)"),
        ({"terminator": None, "fault": (Fault.refuse().where(len), Fault.latency(0.1))},
         "(1 worker, pid 9; plain echo, no terminator; faults: refuse().where(len); latency(0.1), seed 0)"),
    ],
)
def test_the_ready_line_says_what_ends_a_session(options: dict[str, Any], end: str) -> None:
    line = ready_line(ServerConfig(**options), ("tcp://127.0.0.1:7", "tcp://[::1]:7"), 9)
    assert line == f"fastecho 0.1.0 ready on tcp://127.0.0.1:7, tcp://[::1]:7 {end}"


def test_the_ready_line_stays_a_line_that_can_be_read() -> None:
    line = ready_line(ServerConfig(fault=Fault.inject(0, b"\r\n" * 5000)), ("tcp://127.0.0.1:7",), 9)  # type: ignore[arg-type]
    assert len(line) < 400
    assert line.isprintable()
    assert line.endswith("..., seed 0)")


@pytest.mark.parametrize(
    ("terminator", "name"),
    [(b"\0", "NUL"), (b"\n", "LF"), (b"END", "'END'"), (b" x", "hex:2078"), (b"\xc0\xff", "hex:c0ff")],
)
def test_a_terminator_is_named_so_that_it_can_be_read(terminator: bytes, name: str) -> None:
    assert terminator_name(terminator) == name


def test_the_addresses_go_to_the_descriptor_which_is_closed() -> None:
    ready, theirs = os.pipe()
    announce(theirs, ("tcp://127.0.0.1:7", "tcp://[::1]:7"))
    assert os.read(ready, 100) == b"tcp://127.0.0.1:7\ntcp://[::1]:7\n"
    assert os.read(ready, 100) == b""
    with pytest.raises(OSError):
        os.fstat(theirs)
    os.close(ready)


def test_a_reader_that_has_gone_is_no_error() -> None:
    ready, theirs = os.pipe()
    os.close(ready)
    announce(theirs, ("tcp://127.0.0.1:7",))
    release(theirs)


def test_standard_error_is_not_closed() -> None:
    release(2)
    os.fstat(2)


def test_stats_lines_rate_what_came_since_the_one_before() -> None:
    counts = dict.fromkeys(SharedCounters(1).totals(), 0)
    lines = StatsLines(2.0, counts, now=100.0)
    assert lines.due == 102.0
    counts.update(accepted=20, active=3, reads=1000, bytes_out=5_000_000, end_eof=10, end_write_timeout=7)
    assert lines.line(counts, now=102.0) == (
        "fastecho: 3 connections (20 accepted, 10/s), 500 echoes/s, 2.5 MB/s, ended: 10 eof, 7 write timeout"
    )
    assert lines.due == 104.0
    assert "0 echoes/s, 0.0 MB/s" in lines.line(counts, now=110.0)
    assert lines.due == 110.0
