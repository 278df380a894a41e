"""The ready line says what ends a session; the lines of --stats count and rate."""

from __future__ import annotations

import logging
import math
import os
from typing import Any

import pytest

from fastecho._counters import SharedCounters
from fastecho._workers.announce import TotalsLog, announce, ready_line, release, terminator_name
from fastecho.config import ServerConfig
from fastecho.faults import Fault


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({}, "(1 worker, pid 9, terminator NUL)"),
        ({"workers": 2, "terminator": b"\r\n"}, "(2 workers, pid 9, terminator CRLF)"),
        ({"match": "anywhere"}, "(1 worker, pid 9, terminator NUL anywhere)"),
        ({"tls_cert": "cert.pem"}, "(1 worker, pid 9, TLS, terminator NUL)"),
        ({"terminator": None}, "(1 worker, pid 9, no terminator)"),
        ({"terminator": None, "seed": 7}, "(1 worker, pid 9, no terminator)"),
        ({"terminator": None, "fault": "reset(after_sent=17).first(2)", "seed": 7},
         "(1 worker, pid 9, no terminator; faults: reset(after_sent=17).first(2), seed 7)"),
        ({"terminator": None, "fault": (Fault.refuse().where(len), Fault.latency(0.1))},
         "(1 worker, pid 9, no terminator; faults: refuse().where(len); latency(0.1), seed 0)"),
    ],
)
def test_the_ready_line_says_what_ends_a_session(options: dict[str, Any], end: str) -> None:
    line = ready_line(ServerConfig(**options), ("tcp://127.0.0.1:7", "tcp://[::1]:7"), 9)
    assert line == f"fastecho 0.1.0 listening on tcp://127.0.0.1:7, tcp://[::1]:7 {end}"


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


def test_lines_of_totals_rate_what_came_since_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastecho")
    counts = SharedCounters(1).totals()
    lines = TotalsLog(2.0, counts, now=100.0)
    assert lines.due_at == 102.0
    ends = {"eof": 10, "idle": 0, "write_timeout": 7}
    counts.update(accepted=20, active=3, reads=1000, bytes_out=5_000_000, ends=ends)
    lines.log(counts, now=102.0)
    [record] = caplog.records
    assert record.getMessage() == (
        "3 connections (20 accepted, 10/s), 500 echoes/s, 2.5 MB/s, ended: 10 eof, 7 write timeout"
    )
    assert vars(record)["totals"] == counts
    assert vars(record)["per_second"] == {
        "accepts": 10.0, "echoes": 500.0, "bytes": 2_500_000.0, "datagrams": 0.0,
    }  # fmt: skip
    assert lines.due_at == 104.0
    lines.log(counts, now=110.0)
    assert "0 echoes/s, 0.0 MB/s" in caplog.records[1].getMessage()
    assert lines.due_at == 110.0
    lines.log({**counts, "datagrams": {"echoed": 30, "dropped": 1}}, now=120.0)
    assert "0 echoes/s, 3 datagrams/s, 0.0 MB/s" in caplog.records[2].getMessage()


def test_without_an_interval_no_line_is_due() -> None:
    assert TotalsLog(math.inf, SharedCounters(1).totals(), now=100.0).due_at == math.inf
