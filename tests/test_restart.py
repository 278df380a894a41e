"""Workers that die, hang, leave or are replaced while clients connect: who notices, and who must not."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients import Address, connect_blocking, family, read_to_eof
from patience import DEADLINE, wait_until
from processes import Service, connections_of, echoes, is_alive, milliseconds, one_echo

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Load:
    """Threads that connect, send, read to the end, and connect again; counts what went wrong after a connect."""

    def __init__(self, address: Address, threads: int = 6, total: int | None = None) -> None:
        self.address = address
        self.failures: list[str] = []
        self.refused: list[str] = []
        self._done = [0] * threads
        self._total = total
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(threads)]

    @property
    def done(self) -> int:
        return sum(self._done)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(6 * DEADLINE)
            assert not thread.is_alive()

    def _run(self, index: int) -> None:
        while not self._stop.is_set() and (self._total is None or self.done < self._total):
            data = b"%d.%d\0" % (index, self._done[index])
            with socket.socket(family(self.address)) as sock:
                sock.settimeout(DEADLINE)
                try:
                    sock.connect(self.address)
                except OSError as exc:
                    self.refused.append(repr(exc))
                    return
                try:
                    sock.sendall(data)
                    got = read_to_eof(sock)
                    if got != data:
                        self.failures.append(f"sent {data!r}, got {got!r}")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                except OSError as exc:
                    self.failures.append(f"{data!r}: {exc!r}")
            self._done[index] += 1


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
def test_of_four_workers_one_killed_costs_nobody_else_a_connection(_round: int) -> None:
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


def test_a_slot_that_keeps_dying_is_served_by_a_sibling_and_revived_by_sighup() -> None:
    with Service("--workers", "3", "--drain-timeout", "1") as service:
        kill_when_ready(service, 1, 5)
        start = time.monotonic()
        service.wait_for("serves the clients of worker 1 meanwhile")
        assert milliseconds(start) < 1000
        assert "worker 1 has died 5 times in 10 s" in service.errors
        assert len(service.workers()) == 2
        for _ in range(60):
            assert one_echo(service.address) == b"hello\0"
        # Who serves them dies too: the other one takes them over, and the replacement serves its own.
        [keeper] = [pid for slot, pid in service.current().items()
                    if f"worker {slot} (pid {pid}) serves the clients" in service.errors]
        os.kill(keeper, signal.SIGKILL)
        service.wait_for("serves the clients of worker 1 meanwhile", 2)
        for _ in range(60):
            assert one_echo(service.address) == b"hello\0"
        service.send(signal.SIGHUP)
        wait_until(lambda: sum(slot == 1 for slot, _ in service.started()) == 6, "worker 1")
        wait_until(lambda: len(service.workers()) == 3, "three workers")
        for _ in range(60):
            assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_when_every_slot_keeps_dying_the_service_ends_with_70() -> None:
    with Service("--workers", "2") as service:
        kill_when_ready(service, 0, 5)
        service.wait_for("worker 0 has died 5 times")
        kill_when_ready(service, 1, 5)
        assert service.wait() == 70
        assert "every worker has died 5 times in 10 s" in service.errors.splitlines()[-1]
        assert "Traceback" not in service.errors


def test_the_waiting_slot_of_a_stopping_service_leaves_nobody_behind() -> None:
    with Service.supervisor({}, "import fastecho._slot as s; s.FIRST_DELAY = 3", workers=2) as service:
        kill_when_ready(service, 0, 2)
        service.wait_for("was killed by SIGKILL", 2)
        with many(service.address, 40) as queued:
            for sock in queued:
                sock.sendall(b"hello\0")
            service.send(signal.SIGTERM)
            assert [read_to_eof(sock) for sock in queued] == [b"hello\0"] * 40
        assert service.wait() == 0


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
def test_three_rolls_under_load_fail_nobody_of_20000() -> None:
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


def test_a_roll_of_unix_workers_loses_nobody(tmp_path: Path) -> None:
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


# Stop under load


@pytest.mark.slow
@pytest.mark.parametrize("_round", range(10))
@pytest.mark.parametrize("workers", ["1", "4"])
def test_a_stop_under_load_loses_nobody_after_connect(workers: str, _round: int) -> None:
    with Service("--workers", workers) as service:
        with Load(service.address) as load:
            wait_until(lambda: load.done > 500, "some load")
            assert service.stop() == 0
        assert load.failures == []


def test_a_stop_of_unix_workers_under_load_loses_nobody(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("free", ["close", "kill"])
def test_the_limit_counts_over_all_workers_and_room_is_everybodys(free: str) -> None:
    with Service("--workers", "4", "--max-connections", "20") as service:
        port = service.address[1]
        with many(service.address, 60) as clients:
            for sock in clients:
                sock.sendall(b"hello")
            first = wait_for_served(clients, 20)
            time.sleep(0.3)
            assert served(clients) == []
            assert len(first) == 20
            waiting = [sock for sock in clients if sock not in first]
            if free == "close":
                for sock in first[:5]:
                    sock.close()
                room = 5
            else:
                victim = service.current()[2]
                ports = connections_of(victim, port)
                room = sum(sock.getsockname()[1] in ports for sock in first)
                # It may have accepted others, who still wait for their place in the service.
                waiting = [sock for sock in waiting if sock.getsockname()[1] not in ports]
                print(f"worker killed with {room} sessions and {len(ports) - room} parked")
                os.kill(victim, signal.SIGKILL)
            second = wait_for_served(waiting, room)
            time.sleep(0.3)
            assert served(waiting) == []
            assert len(second) == room
            for sock in (*first, *second):
                sock.close()
            rest = [sock for sock in waiting if sock not in second]
            more = wait_for_served(rest, min(20, len(rest)))
            for sock in more:
                sock.close()
            assert len(wait_for_served([sock for sock in rest if sock not in more], len(rest) - len(more)))
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
