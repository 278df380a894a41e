"""What the service manager is told, and when it is told nothing."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from activation import NotifySocket
from clients import connect_blocking
from fastecho._workers.systemd import ServiceManager
from processes import Service, echoes


def names(kind: str, folder: Path) -> str:
    return str(folder / "notify") if kind == "path" else f"@fastecho-{secrets.token_hex(8)}"


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_ready_and_stopping_are_told_with_the_pid_and_a_status(kind: str, tmp_path: Path) -> None:
    with NotifySocket(names(kind, tmp_path)) as manager, Service("--workers", "2", env=manager.environ) as service:
        ready = {"READY": "1", "MAINPID": str(service.pid), "STATUS": "2 workers, 0 connections"}
        assert manager.receive() == ready
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            service.send(signal.SIGTERM)
            stopping = manager.wait_for("STOPPING")
        assert stopping["STATUS"].startswith("draining; 2 workers, ")
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 5_000_000
        assert service.wait() == 0


def test_a_worker_does_not_have_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    before = """
import os
from fastecho._workers import worker
serve = worker.main
def main(*args):
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(os.environ)
    serve(*args)
worker.main = main
"""
    with NotifySocket(str(tmp_path / "notify")) as manager:
        with Service.supervisor({}, before, workers=2) as service:
            assert len(service.workers()) == 2
            assert service.stop() == 0
        manager.wait_for("STOPPING")


def test_a_rolling_restart_is_told_at_its_begin_and_at_its_end(tmp_path: Path) -> None:
    with NotifySocket(str(tmp_path / "notify")) as manager, Service("--workers", "2", env=manager.environ) as service:
        manager.wait_for("READY")
        before = time.monotonic_ns() // 1000
        service.send(signal.SIGHUP)
        reloading = manager.wait_for("RELOADING")
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert manager.wait_for("READY")["STATUS"].startswith("2 workers")
        assert len(service.started()) == 4
        assert service.stop() == 0
        order = [name for message in manager.messages for name in ("READY", "RELOADING") if name in message]
        assert order == ["READY", "RELOADING", "READY"]


def test_a_rolling_restart_that_fails_is_over_too(tmp_path: Path) -> None:
    certificate = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with NotifySocket(str(tmp_path / "notify")) as manager:
        with Service("--tls-cert", str(certificate), env=manager.environ) as service:
            manager.wait_for("READY")
            certificate.write_text("not a certificate")
            service.send(signal.SIGHUP)
            manager.wait_for("RELOADING")
            manager.wait_for("READY")
            assert "the old workers stay" in service.errors
            assert service.stop() == 0


def test_the_watchdog_hears_of_a_supervisor_that_runs_and_of_no_other(tmp_path: Path) -> None:
    with NotifySocket(str(tmp_path / "notify")) as manager:
        manager.environ["WATCHDOG_USEC"] = "100000"
        with Service(env=manager.environ) as service:
            for _ in range(3):
                assert manager.wait_for("WATCHDOG") == {"WATCHDOG": "1"}
            service.send(signal.SIGSTOP)
            assert manager.is_silent(0.5)
            service.send(signal.SIGCONT)
            manager.wait_for("WATCHDOG")
            assert service.stop() == 0


def test_while_no_worker_serves_the_watchdog_hears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("BROKEN", str(tmp_path / "broken"))
    before = """
import os, signal
from fastecho._workers import worker
serve = worker.main
def main(*args):
    if os.path.exists(os.environ["BROKEN"]):
        os.kill(os.getpid(), signal.SIGKILL)
    serve(*args)
worker.main = main
"""
    with NotifySocket(str(tmp_path / "notify")) as manager, Service.supervisor({}, before) as service:
        manager.wait_for("WATCHDOG")
        (tmp_path / "broken").touch()
        os.kill(service.workers()[0], signal.SIGKILL)
        service.wait_for("was killed by SIGKILL")
        manager.discard()
        assert service.wait() == 70  # after three quarters of a second without a worker
        assert manager.discard() == []


@contextlib.contextmanager
def told(folder: Path, **environ: str) -> Iterator[tuple[NotifySocket, ServiceManager, dict[str, str]]]:
    with NotifySocket(str(folder / "notify")) as manager:
        variables = {"NOTIFY_SOCKET": str(folder / "notify"), **environ}
        yield manager, ServiceManager(variables, interval=5.0), variables


def test_variables_are_removed_and_a_watchdog_of_another_process_is_ignored(tmp_path: Path) -> None:
    for pid, due_at in ((os.getpid(), 100.0), (os.getpid() + 1, 105.0)):
        with told(tmp_path, WATCHDOG_USEC="2000000", WATCHDOG_PID=str(pid), OTHER="1") as (_, service, variables):
            assert variables == {"OTHER": "1"}
            assert service.due_at == math.inf
            service.ready(100.0, "ready")
            assert service.due_at == due_at
        (tmp_path / "notify").unlink()


def test_the_watchdog_is_due_at_half_its_time_and_silent_without_a_worker(tmp_path: Path) -> None:
    with told(tmp_path, WATCHDOG_USEC="2000000") as (manager, service, _):
        service.ready(100.0, "s")
        manager.wait_for("READY")
        for now, serving in ((100.0, True), (100.9, True), (101.0, False), (102.0, True)):
            service.watch(now, serving=serving, rolling=False, status=lambda: "s")
        assert [manager.receive(), manager.receive()] == [{"WATCHDOG": "1"}] * 2
        assert service.due_at == 103.0
        assert manager.is_silent(0.05)


def test_a_status_is_told_again_when_it_has_changed(tmp_path: Path) -> None:
    with told(tmp_path) as (manager, service, _):
        service.ready(100.0, "one")
        for now, status in ((104.9, "two"), (105.0, "two"), (110.0, "two"), (115.0, "three")):
            service.watch(now, serving=True, rolling=False, status=lambda status=status: status)
        assert manager.wait_for("READY")["STATUS"] == "one"
        assert [manager.receive(), manager.receive()] == [{"STATUS": "two"}, {"STATUS": "three"}]
        assert manager.is_silent(0.05)


def test_a_drain_and_a_rolling_restart_ask_for_more_time_while_they_last(tmp_path: Path) -> None:
    with told(tmp_path) as (manager, service, _):
        service.ready(100.0, "s")
        service.reloading("s")
        service.watch(105.0, serving=True, rolling=True, status=lambda: "s")
        service.stopping(106.0, "s")
        service.watch(111.0, serving=True, rolling=False, status=lambda: "s")
        ready, reloading, more, stopping, more_again = [manager.receive() for _ in range(5)]
        assert "EXTEND_TIMEOUT_USEC" not in ready
        assert more == more_again == {"EXTEND_TIMEOUT_USEC": "15000000"}
        for message, state in ((reloading, "RELOADING"), (stopping, "STOPPING")):
            assert message[state] == "1"
            assert message["EXTEND_TIMEOUT_USEC"] == "15000000"


def test_without_a_manager_nothing_is_due() -> None:
    service = ServiceManager({"WATCHDOG_USEC": "1000"})
    service.ready(0.0, "s")
    service.reloading("s")
    service.watch(9.0, serving=True, rolling=False, status=lambda: "s")
    service.stopping(9.0, "s")
    assert service.due_at == math.inf


def test_a_manager_that_is_gone_is_one_warning(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, "fastecho")
    service = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    service.ready(0.0, "s")
    service.stopping(0.0, "s")
    [record] = caplog.records
    assert record.getMessage() == "the service manager cannot be notified: No such file or directory"


def test_a_notify_socket_that_is_no_path_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastecho")
    service = ServiceManager({"NOTIFY_SOCKET": "vsock:2:1234"})
    service.ready(0.0, "s")
    [record] = caplog.records
    assert record.getMessage().startswith("NOTIFY_SOCKET=vsock:2:1234: must be an absolute path")
