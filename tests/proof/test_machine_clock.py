"""The clock of the machine is set forward and back: each time-out uses the monotonic clock."""

from __future__ import annotations

import datetime
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checked import CheckedLoad, exchange
from clients import connect_blocking
from processes import Service

Amount = Callable[..., Any]
Record = Callable[[str, object], None]

STEPS = ("+10000d", "-10001d", "+1d", "-1d", "+0")


def library() -> str:
    """The library of faketime(1)."""
    for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1"):
        return str(path)
    pytest.skip("the clock is set with libfaketime (Debian package libfaketime)")


@pytest.mark.proof("A clock that is set forward or back by years ends no connection and no worker.")
def test_a_clock_that_is_set_ends_nothing(tmp_path: Path, amount: Amount, record_property: Record) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    faked = {
        "LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }  # fmt: skip
    rounds, seconds = amount(suite=(1, 0), proof=(1, 1.5), release=(5, 6))
    steps = STEPS * rounds if seconds else STEPS[:2]
    options = ("--workers", "2", "--terminator", "none", "--log-format", "json", "--idle-timeout", "60")
    with Service(*options, env={**os.environ, **faked}) as service, connect_blocking(service.address) as quiet:
        workers = service.workers()
        with CheckedLoad(service.address) as load:
            for number, step in enumerate(steps):
                if number % len(STEPS) == 0:  # it stays below its idle time-out
                    assert exchange([quiet], 1000) == 1000
                clock.write_text(f"{step}\n")
                begin, lines = time.monotonic(), service.errors.count("echoes/s")
                service.send(signal.SIGUSR1)
                service.wait_for("echoes/s", lines + 1)
                load.wait_for_clients(50)
                time.sleep(max(0.0, begin + seconds - time.monotonic()))  # heartbeats and sweeps
        assert load.counts.faults == []
        assert exchange([quiet], 1000) == 1000
        assert service.workers() == workers
        assert service.stop() == 0
        entries = [json.loads(line) for line in service.errors.splitlines()]
    times = [datetime.datetime.fromisoformat(entry["time"].removesuffix("Z")) for entry in entries]
    assert max(times) - min(times) > datetime.timedelta(days=20_000), "the clock was not set"
    assert {entry["level"] for entry in entries} == {"info"}
    record_property("steps", len(steps))
    record_property("connections", load.counts.connections)


@pytest.mark.proof("A pid file that is older than its server by a clock that was set stays that of this server.")
def test_the_pid_file_of_a_server_that_runs_stays_its_own_when_the_clock_is_set_forward(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with Service("--pid-file", str(path)) as service:
        os.utime(path, (0, 0))  # as if it had been written before, by a clock that was years behind
        with Service("--pid-file", str(path)) as other:
            assert other.addresses == []
            assert other.wait() == 69
            assert f"is that of the process {service.pid}, which runs" in other.errors
        assert path.read_text() == f"{service.pid}\n"
