"""Worker processes that are killed and stopped under load, and a supervisor that is killed: who loses a byte."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checked import CheckedLoad, exchange
from clients import connect_blocking
from patience import DEADLINE, UNIT, wait_until
from processes import Service, freeze, is_alive

Amount = Callable[..., Any]
Record = Callable[[str, object], None]

HEARTBEAT_TIMEOUT = 5.0
WORKERS = 4


@pytest.mark.timeout(900 * UNIT)
@pytest.mark.proof(
    "Workers killed and stopped at random under load are replaced, and only the clients of a killed one lose a byte."
)
def test_workers_killed_and_stopped_at_random(amount: Amount, record_property: Record) -> None:
    seconds, pause, hangs = amount(suite=(1.0, 0.1, False), proof=(20, 1.0, True), release=(600, 1.0, True))
    done = dict.fromkeys(("kill", "pause", "hang"), 0)
    draw = random.Random(14)
    hung: set[int] = set()
    with Service("--workers", str(WORKERS), "--terminator", "none") as service:
        with CheckedLoad(service.address, clients=24) as load:
            end = time.monotonic() + seconds
            while time.monotonic() < end and not load.counts.faults:
                time.sleep(pause)
                serving = [pid for pid in service.current().values() if is_alive(pid) and pid not in hung]
                if not serving:
                    continue
                victim = draw.choice(serving)
                may_hang = hangs and len(hung) < 2 + done["kill"] // 8
                what = draw.choice(["kill", "pause", "hang"] if may_hang else ["kill", "pause"])
                ports = freeze(victim, service.address[1])
                if what != "pause":
                    load.allow_loss(ports)
                if what == "kill":
                    os.kill(victim, signal.SIGKILL)
                elif what == "pause":
                    time.sleep(draw.uniform(0, pause))
                    os.kill(victim, signal.SIGCONT)
                else:
                    hung.add(victim)
                done[what] += 1
            service.wait_for("does not answer: killing it", done["hang"], 4 * HEARTBEAT_TIMEOUT * UNIT)
            wait_until(lambda: all(map(is_alive, service.current().values())), "a worker for every slot", 2 * DEADLINE)
            load.wait_for_clients(24)
        assert load.counts.faults == []
        log = service.errors
        assert service.stop() == 0
    assert log.count("was killed by SIGKILL") == done["kill"] + done["hang"]
    assert "Traceback" not in log
    assert done["kill"] > 0
    assert done["pause"] > 0
    record_property("connections", load.counts.connections)
    record_property("bytes", load.counts.bytes)
    record_property("workers killed", done["kill"])
    record_property("workers stopped", done["pause"] + done["hang"])
    record_property("connections of killed workers", load.counts.lost)


@pytest.mark.timeout(300 * UNIT)
@pytest.mark.proof("A supervisor that is killed takes its workers with it, and the next one has their address at once.")
def test_a_supervisor_killed_under_load_leaves_the_address_to_the_next(
    tmp_path: Path, amount: Amount, record_property: Record
) -> None:
    rounds = amount(suite=1, proof=10, release=200)
    port, total = 0, 0
    for number in range(rounds):
        files = ("--pid-file", str(tmp_path / "pid"), "--workers", "2", "--terminator", "none")
        options = ("--port", str(port), "--ready-fd", "READY_FD")
        command = [sys.executable, "-m", "fastecho", *options, *files]
        with Service(command=command) as service, contextlib.ExitStack() as stack:
            assert service.addresses, service.errors
            port = service.address[1]
            workers = service.workers()
            assert len(workers) == 2
            sockets = [stack.enter_context(connect_blocking(service.address)) for _ in range(20)]
            total += exchange(sockets, 20_000, number)
            for sock in sockets:
                sock.settimeout(DEADLINE)
            for sock in sockets[:10]:
                sock.sendall(b"y" * 100_000)
            service.process.kill()
            for sock in sockets:
                rest = b""
                with contextlib.suppress(ConnectionError):
                    while got := sock.recv(65536):
                        rest += got
                assert rest == b"y" * len(rest)
            wait_until(lambda workers=workers: not any(map(is_alive, workers)), "the end of the workers")
    record_property("supervisors killed", rounds)
    record_property("bytes", total)


