"""Workers that take long to start, die while they start, or cannot start: at the beginning and as successors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clients import connect_blocking
from patience import DEADLINE, wait_until
from processes import Service, echoes, is_alive, one_echo

# Each worker runs this before it serves; {} is a block of code.
BEFORE = """
import asyncio, os, signal
from fastecho.server import EchoServer
start = EchoServer.start
async def start_later(self):
{}
    await start(self)
EchoServer.start = start_later
"""
HOLD = "    while os.path.exists({!r}): await asyncio.sleep(0.01)"


@contextmanager
def service_with(code: str, **options: Any) -> Iterator[Service]:
    with Service.supervisor(options.pop("parameters", {}), BEFORE.format(code), **options) as service:
        yield service


@contextmanager
def successor_held(tmp_path: Path, **options: Any) -> Iterator[tuple[Service, int, Path]]:
    """A service that replaces its worker: the service, the pid of the successor, and the file that holds it up."""
    hold = tmp_path / "hold"
    with service_with(HOLD.format(str(hold)), workers=1, **options) as service:
        hold.touch()
        old = service.workers()
        service.send(signal.SIGHUP)
        successor = wait_until(lambda: [pid for pid in service.workers() if pid not in old], "a successor")
        yield service, successor[0], hold


def test_a_worker_that_dies_before_it_is_ready_ends_the_start_with_the_reason() -> None:
    with service_with("    os.kill(os.getpid(), signal.SIGKILL)") as service:
        assert service.addresses == []
        assert service.wait() == 1
        assert "cannot start: was killed by SIGKILL" in service.errors.splitlines()[-1]
        assert "Traceback" not in service.errors


def test_a_sighup_before_the_service_is_ready_changes_nothing() -> None:
    with service_with("    os.kill(os.getppid(), signal.SIGHUP); await asyncio.sleep(0.5)", workers=1) as service:
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0
        assert len(service.started()) == 1
        assert "replacing" not in service.errors


def test_a_successor_that_dies_while_it_starts_leaves_the_old_worker(tmp_path: Path) -> None:
    with successor_held(tmp_path) as (service, successor, _), connect_blocking(service.address) as client:
        assert echoes(client)
        os.kill(successor, signal.SIGKILL)
        service.wait_for(f"worker 0 (pid {successor}): was killed by SIGKILL; the old workers stay")
        assert echoes(client)
        assert service.stop() == 0
        assert len(service.started()) == 1


def test_a_successor_takes_the_place_of_a_worker_that_dies_meanwhile(tmp_path: Path) -> None:
    with successor_held(tmp_path) as (service, successor, hold):
        old = service.current()[0]
        os.kill(old, signal.SIGKILL)
        service.wait_for(f"worker 0 (pid {old}) was killed by SIGKILL")
        hold.unlink()
        assert one_echo(service.address) == b"hello\0"
        wait_until(lambda: service.started() == [(0, old), (0, successor)], "the successor in the log")
        assert service.stop() == 0


def test_a_successor_that_cannot_start_says_why_and_the_old_worker_stays(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    with service_with(f"    if os.path.exists({str(hold)!r}): raise OSError(24, 'Too many open files')") as service:
        hold.touch()
        service.send(signal.SIGHUP)
        service.wait_for("Too many open files; the old workers stay")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_a_retired_worker_that_does_not_end_is_killed_and_the_service_goes_on(tmp_path: Path) -> None:
    parameters = {"heartbeat_timeout": 4 * DEADLINE}
    with service_with("    pass", parameters=parameters, workers=1, drain_timeout=0.1) as service:
        old = service.current()[0]
        service.send(signal.SIGHUP)
        os.kill(old, signal.SIGSTOP)
        service.wait_for(f"worker 0 (pid {old}) has not ended within the drain time-out: killing it")
        wait_until(lambda: not is_alive(old), "its end")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_an_end_by_a_signal_without_a_name_is_told_by_its_number() -> None:
    with Service("--workers", "1") as service:
        os.kill(service.current()[0], signal.SIGRTMIN + 6)
        service.wait_for(f"was killed by signal {signal.SIGRTMIN + 6}")
        wait_until(lambda: len(service.started()) == 2, "the replacement")
        assert service.stop() == 0


def test_a_worker_whose_end_another_part_of_the_program_has_taken_is_replaced() -> None:
    taken = (
        "import os; waitpid = os.waitpid\n"
        "def taken(pid, options):\n"
        "    if waitpid(pid, options) != (0, 0): raise ChildProcessError\n"
        "    return 0, 0\n"
        "os.waitpid = taken\n"
    )
    with Service.supervisor({}, taken, workers=1) as service:
        old = service.current()[0]
        os.kill(old, signal.SIGKILL)
        service.wait_for(f"worker 0 (pid {old}) has ended")
        wait_until(lambda: len(service.started()) == 2, "the replacement")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0
