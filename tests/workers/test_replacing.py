"""Workers that die, hang, leave or are replaced while clients connect: who notices, and who must not."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import signal
import socket
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients import Address, connect_blocking, read_to_eof
from load import Load
from patience import DEADLINE, wait_until
from processes import Service, connections_of, echoes, is_alive, milliseconds, one_echo
from unprivileged import command

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux does")


@contextlib.contextmanager
def many(address: Address, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect_blocking(address)) for _ in range(count)]


def select_any(sockets: list[socket.socket]) -> bool:
    """Wait until one of them has something to read."""
    with selectors.PollSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(DEADLINE))


def kill_when_ready(service: Service, slot: int, times: int) -> None:
    """Kill the worker of `slot`, and each that replaces it, `times` in all."""
    killed: set[int] = set()
    for _ in range(times):
        pid = wait_until(
            lambda: (pid := service.current()[slot]) not in killed and pid, f"a new worker {slot}"
        )
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not is_alive(pid), "its end")


# Deaths


@pytest.mark.slow
@pytest.mark.parametrize("_round", range(20))
def test_of_four_workers_one_killed_costs_the_others_no_connection(_round: int) -> None:
    with Service("--workers", "4") as service:
        port = service.address[1]
        workers = service.current()
        with many(service.address, 100) as established:
            assert all(echoes(sock) for sock in established)
            victim = workers[_round % 4]
            lost = connections_of(victim, port)
            for pid in workers.values():
                os.kill(pid, signal.SIGSTOP)
            with many(service.address, 400) as queued:
                for number, sock in enumerate(queued):
                    sock.sendall(b"%d\0" % number)
                start = time.monotonic()
                os.kill(victim, signal.SIGKILL)
                # The others are stopped, so it is the replacement that answers first.
                assert select_any(queued)
                print(f"first echo of the replacement after {milliseconds(start):.1f} ms")
                for pid in workers.values():
                    if pid != victim:
                        os.kill(pid, signal.SIGCONT)
                for number, sock in enumerate(queued):
                    assert read_to_eof(sock) == b"%d\0" % number
            for sock in established:
                if sock.getsockname()[1] in lost:
                    with contextlib.suppress(ConnectionError):
                        assert sock.recv(100) == b""
                else:
                    assert echoes(sock, b"still here")
        assert service.stop() == 0


def test_under_load_a_killed_worker_costs_its_own_sessions_only() -> None:
    with Service("--workers", "4") as service:
        with Load(service.address) as load:
            for count in range(1, 4):
                wait_until(lambda count=count: load.done > 200 * count, "some load")
                os.kill(service.current()[count], signal.SIGKILL)
        # At most one session of each client was with the killed worker.
        assert load.refused == []
        assert len(load.failures) <= 18
        assert service.stop() == 0


def test_a_worker_that_dies_is_replaced_without_pidfd_too() -> None:
    with Service.supervisor({}, "import os; del os.pidfd_open", workers=2) as service:
        os.kill(service.current()[0], signal.SIGKILL)
        wait_until(lambda: len(service.started()) == 3, "the replacement")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_when_every_slot_keeps_dying_the_service_ends_with_70() -> None:
    with Service("--workers", "2") as service:
        for count in range(1, 6):
            wait_until(lambda count=count: len(service.started()) == 2 * count, "both workers")
            for pid in service.current().values():
                os.kill(pid, signal.SIGKILL)
        assert service.wait() == 70
        assert "every worker has died 5 times in 10 s" in service.errors.splitlines()[-1]
        assert "Traceback" not in service.errors


def test_a_hung_worker_is_killed_and_replaced() -> None:
    with Service.supervisor({"heartbeat_timeout": 2.5}, workers=2) as service:
        with many(service.address, 20) as clients:
            assert all(echoes(sock) for sock in clients)
            stuck = service.current()[0]
            lost = connections_of(stuck, service.address[1])
            os.kill(stuck, signal.SIGSTOP)
            wait_until(lambda: len(service.started()) == 3, "the replacement", 2 * DEADLINE)
            assert f"worker 0 (pid {stuck}) does not answer" in service.errors
            assert service.errors.count("does not answer") == 1
            for sock in clients:
                if sock.getsockname()[1] not in lost:
                    assert echoes(sock)
        assert service.stop() == 0


@pytest.mark.slow
def test_a_supervisor_that_was_stopped_itself_does_not_take_the_workers_for_hung() -> None:
    with Service.supervisor({"heartbeat_timeout": 2.5}, workers=2) as service:
        workers = service.workers()
        for pid in (service.pid, *workers):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4.5)
        os.kill(service.pid, signal.SIGCONT)
        time.sleep(0.2)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0
        assert "does not answer" not in service.errors


# Replacement


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_three_rolls_under_load_fail_none_of_20000() -> None:
    with Service("--workers", "4") as service:
        with Load(service.address, total=20_000) as load:
            for roll in range(1, 4):
                wait_until(lambda roll=roll: load.done > 4_000 * roll, "some load", 6 * DEADLINE)
                service.send(signal.SIGHUP)
                wait_until(lambda roll=roll: len(service.started()) == 4 * (roll + 1), "a whole roll")
            load.join()
        assert load.refused == []
        assert load.failures == []
        assert load.done >= 20_000
        assert service.stop() == 0


def test_a_session_outlives_the_roll_of_its_worker() -> None:
    with Service("--workers", "2", "--drain-timeout", "30") as service:
        first = service.workers()
        with many(service.address, 10) as clients:
            assert all(echoes(sock) for sock in clients)
            service.send(signal.SIGHUP)
            wait_until(lambda: len(service.started()) == 4, "the new workers")
            assert all(echoes(sock, b"after the roll") for sock in clients)
            time.sleep(0.5)
            assert all(echoes(sock, b"quiet for a while") for sock in clients)
            assert one_echo(service.address) == b"hello\0"
        wait_until(lambda: not any(map(is_alive, first)), "the old workers to leave")
        assert "not ended" not in service.errors
        assert service.stop() == 0


def test_what_is_left_of_a_retired_worker_ends_with_the_drain_timeout() -> None:
    with Service("--workers", "1", "--drain-timeout", "0.3") as service:
        [old] = service.workers()
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            service.send(signal.SIGHUP)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        wait_until(lambda: not is_alive(old), "its end")
        assert service.stop() == 0


def test_a_roll_of_unix_workers_loses_no_client(tmp_path: Path) -> None:
    with Service("--workers", "3", unix=str(tmp_path / "echo.sock")) as service:
        with Load(service.address) as load:
            wait_until(lambda: load.done > 200, "some load")
            service.send(signal.SIGHUP)
            wait_until(lambda: len(service.started()) == 6, "the roll")
            wait_until(lambda: load.done > 600, "more load")
        assert load.refused == load.failures == []
        assert service.stop() == 0


def test_many_sighups_at_once_are_one_roll_after_another() -> None:
    with Service("--workers", "2") as service:
        for _ in range(10):
            service.send(signal.SIGHUP)
            time.sleep(0.01)
        wait_until(lambda: len(service.started()) >= 4, "a roll")
        wait_until(lambda: len(service.workers()) == 2, "the old ones to leave")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_a_worker_with_a_sigterm_of_its_own_leaves_when_its_successor_is_ready() -> None:
    with Service("--workers", "2") as service:
        with Load(service.address) as load:
            wait_until(lambda: load.done > 200, "some load")
            leaver = service.current()[0]
            os.kill(leaver, signal.SIGTERM)
            wait_until(lambda: not is_alive(leaver), "its end")
            wait_until(lambda: load.done > 400, "more load")
        assert load.refused == load.failures == []
        assert len(service.started()) == 3
        assert service.stop() == 0


def test_a_worker_that_has_lacked_memory_is_replaced_and_loses_no_client(tmp_path: Path) -> None:
    """A loop that has no memory for a callback reports that, and has lost it: a client may wait for ever."""
    before = f"""
        import os
        import fastecho._workers.worker as module

        def beat(self, whole=module.Worker._beat):
            try:
                os.close(os.open({str(tmp_path / "short")!r}, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                self._loop.call_exception_handler({{"message": "short", "exception": MemoryError()}})
            whole(self)

        module.Worker._beat = beat
        module.HEARTBEAT = 0.05
    """
    with Service.supervisor({}, textwrap.dedent(before)) as service:
        short = service.current()[0]
        with Load(service.address) as load:
            wait_until(lambda: not is_alive(short), "its end")
            wait_until(lambda: load.done > 200, "more load")
        assert load.refused == load.failures == []
        assert service.errors.count("out of memory") == 1
        assert len(service.workers()) == 1
        assert service.stop() == 0


# Stop under load


@pytest.mark.slow
@pytest.mark.parametrize("_round", range(10))
@pytest.mark.parametrize("workers", ["1", "4"])
def test_a_stop_under_load_loses_no_client_after_connect(workers: str, _round: int) -> None:
    with Service("--workers", workers) as service:
        with Load(service.address) as load:
            wait_until(lambda: load.done > 500, "some load")
            assert service.stop() == 0
        assert load.failures == []


@linux
@pytest.mark.proof("A stop under load resets no client after its connect, also without CAP_NET_ADMIN.")
@pytest.mark.parametrize("workers", [1, 4])
def test_a_stop_without_a_privilege_under_load_loses_no_client(
    workers: int, amount: Any, record_property: Any
) -> None:
    done = 0
    for _ in range(amount(suite=1, proof=20, release=1000)):
        arguments = ("-m", "fastecho", "--port", "0", "--workers", str(workers), "--ready-fd", "READY_FD")
        with Service(command=command(*arguments)) as service:
            with Load(service.address) as load:
                wait_until(lambda load=load: load.done > 300, "some load")
                assert service.stop() == 0
            assert load.failures == []
            done += load.done
    record_property("connections", done)


@linux
def test_the_port_is_free_while_a_stop_without_a_privilege_drains() -> None:
    arguments = ("-m", "fastecho", "--port", "0", "--drain-grace", "1h", "--drain-timeout", "1h", "--workers", "2")
    with Service(command=command(*arguments, "--ready-fd", "READY_FD")) as service:
        with connect_blocking(service.address) as client:
            assert echoes(client)
            service.send(signal.SIGTERM)
            service.wait_for("stopping")
            wait_until(lambda: refused(service.address), "connections are refused")
            with Service(command=[sys.executable, "-m", "fastecho", "--port", str(service.address[1]), "--ready-fd",
                                  "READY_FD"]) as successor:  # fmt: skip
                assert one_echo(successor.address) == b"hello\0"
                assert echoes(client)
                assert successor.stop() == 0
        assert service.wait() == 0


@linux
def test_the_supervisor_waits_for_no_worker_that_died_in_a_stop_without_a_privilege() -> None:
    arguments = ("-m", "fastecho", "--port", "0", "--workers", "2", "--ready-fd", "READY_FD")
    with Service(command=command(*arguments)) as service:
        first, second = service.workers()
        os.kill(first, signal.SIGSTOP)
        service.send(signal.SIGTERM)
        wait_until(lambda: not is_alive(second), "the end of the other worker")
        os.kill(first, signal.SIGKILL)
        assert service.wait() == 0
        assert refused(service.address)


def refused(address: Any) -> bool:
    """Whether a connection is refused; no answer, or a connection, is not."""
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(address)
        select.select([], [sock], [], 0)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_a_stop_of_unix_workers_under_load_loses_no_client(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with Service("--workers", "3", unix=str(path)) as service:
        with Load(service.address) as load:
            wait_until(lambda: load.done > 500, "some load")
            assert service.stop() == 0
        assert load.failures == []
        assert not path.exists()


# One limit for all workers


def served(clients: list[socket.socket]) -> list[socket.socket]:
    ready = []
    for sock in clients:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            if sock.recv(100) == b"hello":
                ready.append(sock)
    return ready


def wait_for_served(clients: list[socket.socket], count: int) -> list[socket.socket]:
    ready: list[socket.socket] = []

    def enough() -> bool:
        ready.extend(served([sock for sock in clients if sock not in ready]))
        return len(ready) >= count

    wait_until(enough, f"{count} of {len(clients)} to be served")
    return ready


def test_each_worker_serves_up_to_the_limit_and_the_other_clients_wait() -> None:
    with Service("--workers", "2", "--max-connections", "5") as service:
        with many(service.address, 60) as clients:
            for sock in clients:
                sock.sendall(b"hello")
            first = wait_for_served(clients, 10)
            served_by = Counter(pid for pid in service.workers() for port in connections_of(pid, service.address[1])
                                if port in {sock.getsockname()[1] for sock in first})
            assert set(served_by.values()) == {5}, "a worker serves more than the limit, or less"
            waiting = [sock for sock in clients if sock not in first]
            while waiting:
                for sock in first:
                    sock.close()
                first = wait_for_served(waiting, 1)
                waiting = [sock for sock in waiting if sock not in first]
            for sock in first:
                sock.close()
        assert service.stop() == 0


def test_an_event_of_a_process_that_an_earlier_event_of_the_turn_has_ended() -> None:
    """The turn sees the end of the channel and SIGCHLD together; the latter closes what the former is about."""
    before = (
        "import os, selectors; del os.pidfd_open\n"
        "select = selectors.PollSelector.select\n"
        "def signals_first(self, timeout=None):\n"
        "    events = select(self, timeout)\n"
        "    if events and timeout is not None:\n"
        "        import time; time.sleep(0.05); events = select(self, 0) or events\n"
        "    return sorted(events, key=lambda event: type(event[0].fileobj).__name__ != 'SignalPipe')\n"
        "selectors.PollSelector.select = signals_first\n"
    )
    with Service.supervisor({}, before, workers=2) as service:
        os.kill(service.current()[0], signal.SIGKILL)
        wait_until(lambda: len(service.started()) == 3, "the replacement")
        assert "Traceback" not in service.errors
        assert service.stop() == 0


def test_a_stop_after_a_rolling_restart_serves_the_sessions_of_the_old_workers() -> None:
    """A worker that was retired has closed its sockets when the stop comes."""
    with Service("--workers", "2", "--terminator", "none") as service, connect_blocking(service.address) as sock:
        assert echoes(sock)
        service.send(signal.SIGHUP)
        wait_until(lambda: len(service.started()) == 4, "the new workers")
        assert echoes(sock)
        service.send(signal.SIGTERM)
        service.wait_for("stopping")
        assert echoes(sock)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        assert service.wait() == 0
        assert "WARNING" not in service.errors
