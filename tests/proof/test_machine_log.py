"""A log that cannot be written: its disk is full, or its reader has stopped. The service goes on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checked import CheckedLoad, exchange
from clients import connect_blocking
from patience import wait_until
from processes import Service, freeze

Amount = Callable[..., Any]
Record = Callable[[str, object], None]


def lines_lost(log: str, cut: int = 0) -> int:
    """How many lines the log says that it lacks; all but `cut` are whole, and none is there twice."""
    entries, broken, lines = [], [], log.splitlines()
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            broken.append(line)
    assert len(broken) <= cut, broken
    assert len(lines) == len(set(lines))
    return sum(int(entry["message"].split()[0]) for entry in entries if "of the log were lost" in entry["message"])


def kill_worker(service: Service, load: CheckedLoad) -> None:
    """Kill one worker, whose clients lose their connection, and wait for another one in its place."""
    before = service.workers()
    load.allow_loss(freeze(before[0], service.address[1]))
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(now := service.workers()) == len(before) and before[0] not in now, "a worker in its place")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel how full a pipe is")
@pytest.mark.proof("A reader of the log that stops costs lines of the log, which are counted, and no client anything.")
@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_reader_of_the_log_that_has_stopped(level: str, amount: Amount, record_property: Record) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    options = ("--workers", "2", "--terminator", "none", "--stats", "0.1", "--log-format", "json", "--log-level", level)
    kills, log = amount(suite=1 if level == "info" else 0, proof=4, release=8), b""
    if not kills:
        pytest.skip("only in a proof run: level info shows the same")
    with open(reader, "rb", buffering=0) as pipe, contextlib.ExitStack() as stack:
        stack.callback(os.close, writer)
        service = stack.enter_context(Service(*options, stderr=writer))
        with connect_blocking(service.address) as sock:
            exchange([sock], 1000)
        wait_until(lambda: not select.select([], [writer], [], 0)[1], "a full pipe")
        with CheckedLoad(service.address) as load:
            for _ in range(kills):
                kill_worker(service, load)
            load.wait_for_clients(24)
        assert load.counts.faults == []
        os.set_blocking(pipe.fileno(), False)

        def read() -> int:
            nonlocal log
            log += pipe.read(1 << 20) or b""
            return log.count(b"were lost")

        wait_until(read, "a line that counts those that were lost")
        service.send(signal.SIGTERM)
        wait_until(lambda: read() and service.process.poll() is not None, "the end")
        assert service.wait() == 0
        read()
    record_property("lines lost", lines_lost(log.decode()))
    record_property("connections", load.counts.connections)


@pytest.mark.proof("A log whose disk is full costs lines of the log, which are counted, and no client anything.")
def test_a_log_whose_disk_is_full(tmp_path: Path, amount: Amount, record_property: Record) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=16k full '{disk}'"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False).returncode:
        pytest.skip("this machine allows no file system of one's own")
    server = f"exec '{sys.executable}' -m fastecho --port 0 --ready-fd READY_FD --workers 2 --terminator none"
    command = f"{mount} && {server} --stats 0.1 --log-format json 2>>'{disk}/log'"
    with Service(command=["unshare", "-m", "sh", "-c", command]) as service:
        seen = Path(f"/proc/{service.pid}/root{disk}")  # the disk is mounted for the service alone
        with open(seen / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"\0" * 512)
        wait_until(lambda: (seen / "log").stat().st_size % 4096 == 0, "the last page to fill up")
        size = (seen / "log").stat().st_size
        with CheckedLoad(service.address) as load:
            for _ in range(amount(suite=1, proof=4, release=8)):
                kill_worker(service, load)
            load.wait_for_clients(24)
        assert load.counts.faults == []
        assert (seen / "log").stat().st_size == size
        (seen / "filler").unlink()
        wait_until(lambda: "were lost" in (seen / "log").read_text(), "a line that counts those that were lost")
        wait_until(lambda: (log := (seen / "log").read_text())[-1] == "\n" and log, "whole lines")
        log = (seen / "log").read_text().rpartition("\n")[0]
        assert service.stop() == 0
    # The disk took the begin of one line.
    record_property("lines lost", lines_lost(log, cut=1))
