"""UDP over several workers: none lost in a rolling restart, a death or a stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from operator import gt

import pytest

from datagrams import ask, exchange, payload, udp_client
from fastecho._net.listeners import bind
from fastecho.config import ServerConfig
from patience import DEADLINE, wait_until
from processes import Service, is_alive, to_address

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux does")


def udp_address(service: Service, index: int = -1):
    """Where the service answers datagrams: its addresses are those of TCP, then those of UDP."""
    return to_address(service.addresses[index].replace("udp://", "tcp://"))


def test_the_ready_line_and_the_ready_descriptor_name_udp() -> None:
    with Service("--udp", "--host", "127.0.0.1,::1") as service:
        port = service.address[1]
        assert service.addresses == [
            f"{scheme}://{host}:{port}" for scheme in ("tcp", "udp") for host in ("127.0.0.1", "[::1]")
        ]
        assert f"listening on {', '.join(service.addresses)} (" in service.errors
        assert service.stop() == 0


@linux
def test_clients_are_spread_over_the_workers() -> None:
    listeners = bind(ServerConfig(port=0, udp=True), 4)
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]
    try:
        counts = []
        for client in clients:
            client.sendto(b"x", listeners.sockets[0][1].getsockname())
            client.sendto(b"x", listeners.sockets[0][1].getsockname())
        for _, sock in listeners.sockets:
            sources = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    sources.append(sock.recvfrom(10)[1])
            counts.append(len(sources))
            assert all(sources.count(source) == 2 for source in sources), "a client's datagrams are with one worker"
        assert sum(counts) == 400
        assert min(counts) > 0
    finally:
        listeners.close()
        for client in clients:
            client.close()


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_four_workers_answer_each_datagram_once(host: str) -> None:
    with Service("--udp", "--workers", "4", "--host", host, "--log-format", "json") as service:
        run, dropped = exchange(udp_address(service), 20_000, clients=32)
        assert (run.received, run.lost, run.altered, run.duplicated, dropped) == (20_000, 0, 0, 0, 0)
        service.send(signal.SIGUSR1)
        service.wait_for('"totals"')
        [line] = [json.loads(line) for line in service.errors.splitlines() if '"totals"' in line]
        assert line["totals"]["datagrams"]["echoed"] == 20_000
        assert "datagrams/s" in line["message"]
        assert service.stop() == 0


def test_a_rolling_restart_loses_no_datagram() -> None:
    with Service("--udp", "--workers", "2") as service:
        served, stop = [0] * 4, threading.Event()
        failures: list[str] = []

        def keep_asking(index: int) -> None:
            try:
                with udp_client(udp_address(service)) as client:
                    while not stop.is_set():
                        number = served[index]
                        assert ask(client, payload(number)) == payload(number)
                        served[index] = number + 1
            except BaseException as error:
                failures.append(repr(error))

        threads = [threading.Thread(target=keep_asking, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                counts, old = list(served), set(service.current().values())
                wait_until(lambda counts=counts: failures or all(map(gt, served, counts)), "each client is served")
                service.send(signal.SIGHUP)
                wait_until(lambda old=old: not any(map(is_alive, old)), "the end of the old workers")
            counts = list(served)
            wait_until(lambda: failures or all(map(gt, served, counts)), "each client is served by the new ones")
        finally:
            stop.set()
            for thread in threads:
                thread.join(2 * DEADLINE)
        assert failures == []
        assert service.stop() == 0


def test_datagrams_wait_for_the_successor_of_a_worker_that_died() -> None:
    with Service("--udp") as service, udp_client(udp_address(service)) as client:
        assert ask(client, b"before") == b"before"
        worker = service.current()[0]
        os.kill(worker, signal.SIGSTOP)
        for number in range(50):
            client.send(payload(number))
        os.kill(worker, signal.SIGKILL)
        for number in range(50):
            assert client.recv(2000) == payload(number)
        wait_until(lambda: service.current()[0] != worker, "the line of its successor")
        assert service.stop() == 0


def test_a_stop_answers_the_datagrams_that_are_queued() -> None:
    with Service("--udp") as service, udp_client(udp_address(service)) as client:
        worker = service.current()[0]
        os.kill(worker, signal.SIGSTOP)
        for number in range(50):
            client.send(payload(number))
        service.send(signal.SIGTERM)
        service.wait_for("stopping")
        os.kill(worker, signal.SIGCONT)
        for number in range(50):
            assert client.recv(2000) == payload(number)
        assert service.wait() == 0


def test_a_second_instance_with_udp_is_refused() -> None:
    with Service("--udp", "--workers", "2") as service:
        port = str(service.address[1])
        with Service(command=[sys.executable, "-m", "fastecho", "--udp", "--workers", "2", "--port", port,
                              "--ready-fd", "READY_FD"]) as second:
            assert second.wait() == 69
        with udp_client(udp_address(service)) as client:
            assert ask(client, b"still here") == b"still here"
        assert service.stop() == 0


@linux
def test_a_udp_port_that_another_program_shares_is_refused() -> None:
    """Both have SO_REUSEPORT and the same user: the kernel alone would split the clients between them."""

    def errors_beside() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # A port that is free for TCP: tests beside this one may have thousands.
            with socket.create_server(("127.0.0.1", 0)) as tcp:
                other.bind(tcp.getsockname())
            port = str(other.getsockname()[1])
            with Service(command=[sys.executable, "-m", "fastecho", "--udp", "--workers", "2", "--port", port,
                                  "--ready-fd", "READY_FD"]) as service:
                assert service.wait() == 69
                return service.errors

    # A process that runs beside the test may take it meanwhile: then other ports are tried.
    said = next((errors for _ in range(9) if "tcp://" not in (errors := errors_beside())), "")
    assert "udp://127.0.0.1:" in said
    assert ": already in use" in said
