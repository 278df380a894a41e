"""SIGTTIN and SIGTTOU: a worker more, a worker less, and no client lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import termios
from pathlib import Path

import pytest

from activation import activated
from clients import connect_blocking, read_to_eof
from load import Load
from patience import wait_until
from processes import Service, connections_of, echoes, is_alive, one_echo

ADD, REMOVE = signal.SIGTTIN, signal.SIGTTOU
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs SO_REUSEPORT")


def change(service: Service, number: signal.Signals, count: int) -> None:
    """Send the signal and wait until `count` workers are left."""
    started = len(service.started())
    service.send(number)
    if number == ADD:
        wait_until(lambda: len(service.started()) > started, "the new worker")
    wait_until(lambda: len(service.workers()) == count, f"{count} workers: {service.errors}")


def listeners(pid: int) -> set[str]:
    """The inodes of the TCP sockets that the process has and that listen."""
    own = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f[9] for f in lines if f[3] == "0A"} & {name[8:-1] for name in own if name.startswith("socket:")}


def test_a_worker_is_added_and_removed() -> None:
    with Service() as service:
        change(service, ADD, 2)
        change(service, ADD, 3)
        assert set(service.current()) == {0, 1, 2}
        assert one_echo(service.address) == b"hello\0"
        change(service, REMOVE, 2)
        change(service, REMOVE, 1)
        assert one_echo(service.address) == b"hello\0"
        assert "SIGTTIN: adding a worker, 3 in all" in service.errors
        assert "SIGTTOU: removing a worker, 1 left" in service.errors
        assert service.stop() == 0


def test_the_last_worker_stays() -> None:
    with Service() as service:
        [worker] = service.workers()
        service.send(REMOVE)
        service.wait_for("SIGTTOU: the last worker stays")
        assert one_echo(service.address) == b"hello\0"
        assert service.workers() == [worker]
        assert service.stop() == 0


@linux
def test_a_new_worker_has_sockets_of_its_own_and_they_are_gone_after_it() -> None:
    with Service("--host", "127.0.0.1,127.0.0.2") as service:
        assert len(listeners(service.pid)) == 2
        change(service, ADD, 2)
        first, second = (listeners(pid) for pid in service.current().values())
        assert len(first) == len(second) == 2
        assert first.isdisjoint(second)
        clients = [connect_blocking(service.address) for _ in range(64)]
        assert all(echoes(each) for each in clients)
        port = service.address[1]
        assert all(connections_of(pid, port) for pid in service.workers())
        for each in clients:
            each.close()
        change(service, REMOVE, 1)
        wait_until(lambda: listeners(service.pid) == first, "the end of the sockets")
        assert service.stop() == 0


def test_a_session_of_a_removed_worker_ends_by_itself() -> None:
    with Service("--workers", "2", "--drain-timeout", "30") as service:
        clients = [connect_blocking(service.address) for _ in range(32)]
        assert all(echoes(each) for each in clients)
        leaving = service.current()[1]
        service.send(REMOVE)
        service.wait_for("SIGTTOU: removing")
        wait_until(lambda: len(listeners(service.pid)) == 1, "the end of its sockets")
        assert all(echoes(each, b"still here") for each in clients)
        assert is_alive(leaving)
        for each in clients:
            each.close()
        wait_until(lambda: not is_alive(leaving), "the end of the worker")
        assert service.stop() == 0


@linux
def test_clients_in_the_queue_of_a_removed_worker_are_served() -> None:
    with Service("--workers", "2") as service:
        workers = service.current()
        for pid in workers.values():
            os.kill(pid, signal.SIGSTOP)
        queued = [connect_blocking(service.address) for _ in range(64)]
        for number, sock in enumerate(queued):
            sock.sendall(b"%d\0" % number)
        service.send(REMOVE)
        service.wait_for("SIGTTOU: removing")
        for pid in workers.values():
            os.kill(pid, signal.SIGCONT)
        for number, sock in enumerate(queued):
            assert read_to_eof(sock) == b"%d\0" % number
            sock.close()
        wait_until(lambda: len(service.workers()) == 1, "the end of the worker")
        assert service.stop() == 0


@linux
def test_clients_in_the_queue_of_a_removed_worker_that_dies_are_served() -> None:
    with Service("--workers", "2") as service:
        workers = service.current()
        for pid in workers.values():
            os.kill(pid, signal.SIGSTOP)
        queued = [connect_blocking(service.address) for _ in range(64)]
        for number, sock in enumerate(queued):
            sock.sendall(b"%d\0" % number)
        service.send(REMOVE)
        service.wait_for("SIGTTOU: removing")
        os.kill(workers[1], signal.SIGKILL)
        os.kill(workers[0], signal.SIGCONT)
        for number, sock in enumerate(queued):
            assert read_to_eof(sock) == b"%d\0" % number
            sock.close()
        wait_until(lambda: service.workers() == [workers[0]], "the end of the replacement")
        assert service.stop() == 0


def test_under_load_workers_come_and_go_and_no_client_is_lost() -> None:
    with Service("--workers", "2") as service:
        with Load(service.address) as load:
            for number, count in ((ADD, 3), (REMOVE, 2), (REMOVE, 1), (ADD, 2)):
                before = load.done
                change(service, number, count)
                wait_until(lambda before=before: load.done > before + 100, "load")
        assert load.refused == load.failures == []
        assert service.stop() == 0


def test_workers_on_a_unix_socket_come_and_go(tmp_path: Path) -> None:
    with Service(unix=str(tmp_path / "echo.sock")) as service:
        with Load(service.address) as load:
            change(service, ADD, 2)
            change(service, ADD, 3)
            change(service, REMOVE, 2)
            wait_until(lambda: load.done > 300, "load")
        assert load.refused == load.failures == []
        assert service.stop() == 0


def test_workers_on_an_inherited_socket_come_and_go() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, activated([sock]) as service:
        change(service, ADD, 2)
        change(service, REMOVE, 1)
        assert one_echo(sock.getsockname()) == b"hello\0"
        assert service.stop() == 0
        connect_blocking(sock.getsockname()).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_worker_that_is_added_after_the_user_has_changed_shares_a_socket() -> None:
    with Service("--workers", "2", "--user", "nobody") as service:
        change(service, ADD, 3)
        with Load(service.address) as load:
            wait_until(lambda: load.done > 200, "load")
            change(service, REMOVE, 2)
            change(service, REMOVE, 1)
        assert load.refused == load.failures == []
        assert service.stop() == 0


def test_a_rolling_restart_takes_the_added_worker_along() -> None:
    with Service("--workers", "2") as service:
        change(service, ADD, 3)
        service.send(signal.SIGHUP)
        service.wait_for("SIGHUP: replacing")
        service.send(REMOVE)
        wait_until(lambda: len(service.started()) == 6, "the new workers")
        wait_until(lambda: len(service.workers()) == 2, "the end of the others")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_a_worker_that_was_replaced_ends_while_its_slot_leaves() -> None:
    """It is not the one that accepts what waits for the slot: no other process has to do that."""
    with Service("--workers", "2") as service:
        with contextlib.ExitStack() as clients:
            for _ in range(20):
                assert echoes(clients.enter_context(connect_blocking(service.address)), b"hello")
            replaced = set(service.current().values())
            service.send(signal.SIGHUP)
            wait_until(lambda: len(service.started()) == 4, "the new workers")
            leaving = service.current()[1]
            os.kill(leaving, signal.SIGSTOP)
            service.send(REMOVE)
            service.wait_for("SIGTTOU: removing")
        wait_until(lambda: not replaced & set(service.workers()), "the end of those that were replaced")
        assert one_echo(service.address) == b"hello\0"
        os.kill(leaving, signal.SIGCONT)
        wait_until(lambda: service.workers() == [service.current()[0]], "the end of the one that leaves")
        assert len(service.started()) == 4
        assert "exited" not in service.errors
        assert service.stop() == 0


def test_a_stop_while_a_worker_leaves_serves_everything() -> None:
    with Service("--workers", "3") as service:
        with Load(service.address) as load:
            wait_until(lambda: load.done > 200, "load")
            service.send(REMOVE)
            service.wait_for("SIGTTOU: removing")
            assert service.stop() == 0
        assert load.failures == []


def test_a_crash_loop_is_found_by_the_workers_that_are_left() -> None:
    with Service("--workers", "4") as service:
        for count in (3, 2, 1):
            change(service, REMOVE, count)
        killed: set[int] = set()
        for _ in range(5):
            pid = wait_until(lambda: (pid := service.current()[0]) not in killed and pid, "the worker")
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        assert service.wait() == 70


def test_a_background_job_that_writes_to_its_terminal_removes_no_worker() -> None:
    """With `stty tostop`, the terminal sends SIGTTOU to a background process group that writes to it."""
    mine, theirs = os.openpty()
    settings = termios.tcgetattr(theirs)
    settings[3] |= termios.TOSTOP
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    name = os.ttyname(theirs)
    script = f"""
import fcntl, os, sys, termios
if os.fork():
    os.closerange(3, 200)
    os.wait()
    os._exit(0)
os.setsid()
terminal = os.open({name!r}, os.O_RDWR)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
if os.fork():
    os.closerange(3, 200)
    os.wait()
    os._exit(0)
os.setpgid(0, 0)
os.dup2(terminal, 2)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
    command = [sys.executable, "-c", script]
    command += ["-m", "fastecho", "--port", "0", "--workers", "2", "--ready-fd", "READY_FD"]
    try:
        with Service(command=command) as service:
            for _ in range(3):
                assert one_echo(service.address) == b"hello\0"
            shown = b""
            os.set_blocking(mine, False)

            def has_been_shown() -> bool:
                nonlocal shown
                with contextlib.suppress(BlockingIOError):
                    shown += os.read(mine, 65536)
                return b" listening on " in shown

            wait_until(has_been_shown, "the ready line on the terminal")
            assert b"SIGTTOU" not in shown
            [pid] = [int(each) for each in re.findall(rb"pid (\d+), terminator", shown)]
            os.kill(pid, signal.SIGTERM)
            service.wait()
    finally:
        os.close(mine)
        os.close(theirs)
