"""The service as a process: how it starts, what it says, how it stops, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import fastecho
from clients import connect_blocking, read_to_eof
from fastecho.config import ServerConfig
from patience import DEADLINE, wait_until
from processes import Service, connections_of, echoes, is_alive, milliseconds, one_echo, to_address

STOPS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastecho", *arguments], capture_output=True, text=True, timeout=2 * DEADLINE,
        **options,
    )


def only_line(text: str) -> str:
    [line] = text.splitlines()
    return line


# Start


def test_the_ready_line_comes_once_when_all_workers_are_ready() -> None:
    with Service("--workers", "4", "--log-level", "error") as service:
        _, port = service.address
        line = only_line(service.errors)
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO  fastecho ", line)
        assert line.endswith(
            f" fastecho 0.1.0 listening on tcp://127.0.0.1:{port} (4 workers, pid {service.pid}, terminator NUL)"
        )
        assert len(service.workers()) == 4
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0
        only_line(service.errors)


def test_every_address_is_in_the_ready_line_and_at_the_ready_descriptor() -> None:
    with Service("--host", "127.0.0.1,::1", "--workers", "2") as service:
        assert len(service.addresses) == 2
        assert f"listening on {', '.join(service.addresses)} (2 workers" in service.errors
        for address in service.addresses:
            assert one_echo(to_address(address)) == b"hello\0"


def test_standard_output_as_ready_descriptor_ends_with_the_address() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fastecho", "--port", "0", "--workers", "2", "--ready-fd", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        # Reads to the end: no process keeps the descriptor open.
        [line] = process.stdout.read().splitlines()
        assert one_echo(to_address(line.decode())) == b"hello\0"
        process.terminate()
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_ready_descriptor_that_is_not_open_is_refused() -> None:
    done = command("--port", "0", "--ready-fd", "77")
    assert done.returncode == 2
    assert "--ready-fd 77" in only_line(done.stderr)


def test_a_second_instance_is_refused_with_the_reason() -> None:
    with Service("--workers", "2") as service:
        port = service.address[1]
        start = time.monotonic()
        done = command("--port", str(port), "--workers", "2")
        print(f"second instance refused after {milliseconds(start):.0f} ms, interpreter start included")
        assert done.returncode == 69
        assert f"tcp://127.0.0.1:{port}" in only_line(done.stderr)
        assert one_echo(service.address) == b"hello\0"


def test_a_second_instance_on_the_unix_path_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "echo.sock")
    with Service("--workers", "2", unix=path) as service:
        done = command("--unix", path)
        assert done.returncode == 69
        assert path in only_line(done.stderr)
        assert one_echo(service.address) == b"hello\0"


def test_a_bad_certificate_ends_the_start_with_one_line_and_no_respawn(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    cert.write_text("not a certificate")
    done = command("--port", "0", "--workers", "3", "--tls-cert", str(cert), "--log-level", "error")
    assert done.returncode == 78
    assert str(cert) in only_line(done.stderr)


def test_run_is_for_the_main_thread_and_outside_of_loops() -> None:
    caught: list[BaseException] = []

    def in_thread() -> None:
        try:
            fastecho.run(ServerConfig(port=0))
        except RuntimeError as exc:
            caught.append(exc)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(DEADLINE)
    assert "main thread" in str(caught[0])

    async def in_loop() -> None:
        fastecho.run(ServerConfig(port=0))

    with pytest.raises(RuntimeError, match="event loop"):
        asyncio.run(in_loop())


# Stop


@STOPS
def test_a_stop_serves_what_was_sent_and_exits_with_0(number: signal.Signals) -> None:
    with Service("--workers", "4") as service:
        quiet = [connect_blocking(service.address) for _ in range(8)]
        busy = [connect_blocking(service.address) for _ in range(8)]
        assert all(echoes(sock) for sock in quiet + busy)
        for sock in busy:
            sock.sendall(b"last words")
        start = time.monotonic()
        service.send(number)
        for sock in busy:
            assert read_to_eof(sock) == b"last words"
        for sock in quiet:
            assert read_to_eof(sock) == b""
        for sock in quiet + busy:
            sock.close()
        assert service.wait() == 0
        print(f"stopped after {milliseconds(start):.0f} ms")
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(service.address)


@STOPS
def test_a_signal_to_the_whole_group_stops_in_peace(number: signal.Signals) -> None:
    with Service("--workers", "4", start_new_session=True) as service:
        clients = [connect_blocking(service.address) for _ in range(16)]
        assert all(echoes(sock) for sock in clients)
        os.killpg(service.pid, number)
        for sock in clients:
            sock.sendall(b"last words")
        for sock in clients:
            assert read_to_eof(sock) == b"last words"
            sock.close()
        assert service.wait() == 0
        assert len(service.started()) == 4


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_at_once(second: signal.Signals, code: int) -> None:
    with Service("--workers", "2", "--drain-timeout", "60", "--terminator", "none") as service:
        workers = service.workers()
        with connect_blocking(service.address) as sock:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(bytes(65536))
            service.send(signal.SIGTERM)
            service.wait_for("SIGTERM: stopping")
            time.sleep(0.3)
            assert service.process.poll() is None
            assert service.stop(second) == code, "long before the drain time-out"
        assert not any(is_alive(pid) for pid in workers)
        assert "second" in service.errors.splitlines()[-1]


def test_a_signal_that_comes_twice_at_once_counts_once() -> None:
    with Service("--workers", "2") as service:
        service.send(signal.SIGTERM)
        service.wait_for("SIGTERM: stopping")
        service.send(signal.SIGTERM)
        assert service.wait() == 0


def test_a_worker_that_does_not_stop_is_killed_after_the_drain_timeout() -> None:
    with Service("--workers", "2", "--drain-timeout", "0.2") as service:
        stuck = service.workers()[0]
        os.kill(stuck, signal.SIGSTOP)
        assert service.stop() == 1
        assert not is_alive(stuck)
        assert "drain time-out" in service.errors


def test_a_stop_while_the_workers_start(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "fastecho", "--port", "0", "--workers", "8"], stderr=subprocess.PIPE
            )
        )
        stack.callback(process.kill)
        assert process.stderr is not None
        process.stderr.readline()
        process.terminate()
        assert process.wait(DEADLINE) == 0


def test_sigint_stays_ignored_in_the_background_job_of_a_script() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with Service("--workers", "2", preexec_fn=ignore) as service:
        service.send(signal.SIGINT)
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_run_puts_back_the_handlers_and_the_wakeup_descriptor() -> None:
    program = """
import os, signal, threading, fastecho
seen = []
signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)}
ready, theirs = os.pipe()
threading.Thread(target=lambda: (os.read(ready, 100), os.kill(os.getpid(), signal.SIGTERM))).start()
assert fastecho.run(fastecho.ServerConfig(port=0, workers=2, ready_fd=theirs)) == 0
assert before == {n: signal.getsignal(n) for n in before}
assert signal.set_wakeup_fd(-1) == -1
os.kill(os.getpid(), signal.SIGTERM)
assert seen == ["mine"]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr


# UNIX sockets


def test_unix_workers_share_the_socket_and_the_path_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with Service("--workers", "4", unix=str(path)) as service:
        assert service.addresses == [f"unix:{path}"]
        clients = [connect_blocking(str(path)) for _ in range(40)]
        assert all(echoes(sock) for sock in clients)
        service.send(signal.SIGTERM)
        wait_until(lambda: not path.exists(), "the path to go")
        for sock in clients:
            sock.sendall(b"late")
        for sock in clients:
            assert read_to_eof(sock) == b"late"
            sock.close()
        assert service.wait() == 0
    assert list(tmp_path.iterdir()) == []


# The end of the supervisor


def test_no_worker_outlives_a_supervisor_killed_by_9() -> None:
    with Service("--workers", "4") as service:
        workers = service.workers()
        assert len(workers) == 4
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            service.process.kill()
            wait_until(lambda: not any(map(is_alive, workers)), "the workers to be gone")


@contextlib.contextmanager
def with_exit_fd(where: int | None = None) -> Iterator[tuple[socket.socket, Service]]:
    """A service that watches a descriptor (its standard input for 0), and the other end of it."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        number = theirs.fileno() if where is None else where
        more: dict[str, Any] = {"stdin": theirs} if where == 0 else {"pass_fds": (theirs.fileno(),)}
        with Service("--workers", "2", "--exit-fd", str(number), **more) as service:
            theirs.close()
            yield mine, service


@pytest.mark.parametrize("where", [None, 0])
def test_the_end_of_exit_fd_ends_every_process(where: int | None) -> None:
    with with_exit_fd(where) as (other_end, service), connect_blocking(service.address) as sock:
        workers = service.workers()
        assert echoes(sock)
        other_end.close()
        assert service.wait() == 0
        assert not any(map(is_alive, workers))


def test_data_on_exit_fd_means_nothing() -> None:
    with with_exit_fd() as (other_end, service):
        other_end.sendall(b"x" * 100_000)
        assert one_echo(service.address) == b"hello\0"
        other_end.shutdown(socket.SHUT_WR)
        assert service.wait() == 0


def test_an_exit_fd_that_has_ended_before_the_start_ends_the_service() -> None:
    done = command("--port", "0", "--exit-fd", "0", stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def test_an_exit_fd_that_is_not_open_is_refused() -> None:
    done = command("--port", "0", "--exit-fd", "999", stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert only_line(done.stderr) .endswith(" --exit-fd 999: must be an open descriptor")


def test_an_exit_fd_that_is_ready_fd_is_refused() -> None:
    done = command("--port", "0", "--exit-fd", "1", "--ready-fd", "1", stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert only_line(done.stderr).startswith("fastecho: --exit-fd 1: must not be --ready-fd")


def test_without_prctl_workers_notice_the_closed_channel() -> None:
    before = "import fastecho._workers.platform as platform; platform._libc = None"
    with Service.supervisor({}, before, workers=2) as service:
        workers = service.workers()
        service.process.kill()
        wait_until(lambda: not any(map(is_alive, workers)), "the workers to be gone")


# What it tells


def test_stats_lines_tell_counts_and_rates() -> None:
    with Service("--workers", "2", "--stats", "0.2", "--log-level", "error") as service:
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            one_echo(service.address)
            service.wait_for(" INFO  1 connections (2 accepted")
            assert "ended: 1 terminator" in service.errors
            lines = len(service.errors.splitlines())
            wait_until(lambda: len(service.errors.splitlines()) > lines, "the next line")
        assert service.stop() == 0


# TLS


def serve_tls(directory: Path) -> tuple[trustme.CA, str]:
    authority = trustme.CA()
    path = directory / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return authority, str(path)


def tls_serial(authority: trustme.CA, address: Any) -> int:
    import ssl

    context = ssl.create_default_context()
    authority.configure_trust(context)
    with connect_blocking(address) as raw, context.wrap_socket(raw, server_hostname="localhost") as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
        certificate = sock.getpeercert()
        assert certificate is not None
        return int(certificate["serialNumber"], 16)


def test_sighup_reads_the_certificate_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    authority, path = serve_tls(tmp_path)
    with Service("--workers", "2", "--tls-cert", path, "--drain-timeout", "1") as service:
        first = service.current()
        serial = tls_serial(authority, service.address)
        Path(path).write_text("not a certificate")
        service.send(signal.SIGHUP)
        service.wait_for("the old workers stay")
        assert path in service.errors
        assert service.current() == first
        assert tls_serial(authority, service.address) == serial
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
        service.send(signal.SIGHUP)
        wait_until(lambda: all(service.current()[slot] != pid for slot, pid in first.items()), "new workers")
        # The old workers close their listeners a moment after the new ones are ready.
        wait_until(lambda: tls_serial(authority, service.address) != serial, "the new certificate")
        assert service.stop() == 0


class ResumingClient:
    """A TLS client that offers the session of its first connection in each later one."""

    def __init__(self, authority: trustme.CA, service: Service, version: str) -> None:
        import ssl

        self._context = ssl.create_default_context()
        self._context.minimum_version = self._context.maximum_version = ssl.TLSVersion[version]
        authority.configure_trust(self._context)
        self._service = service
        self._session: ssl.SSLSession | None = None

    def connect(self) -> tuple[int, bool]:
        """The pid of the worker that has accepted, and whether it has resumed the session."""
        address = self._service.address
        raw = connect_blocking(address)
        port = raw.getsockname()[1]
        with raw, self._context.wrap_socket(raw, server_hostname="localhost", session=self._session) as sock:
            assert echoes(sock)
            [pid] = [each for each in self._service.workers() if port in connections_of(each, int(address[1]))]
            self._session = self._session or sock.session
            return pid, bool(sock.session_reused)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_every_worker_resumes_a_session_until_sighup_changes_the_key(tmp_path: Path, version: str) -> None:
    authority, path = serve_tls(tmp_path)
    with Service("--workers", "3", "--tls-cert", path, "--drain-timeout", "1") as service:
        client = ResumingClient(authority, service, version)
        assert client.connect()[1] is False

        def all_resume() -> None:
            seen = set()
            while seen != set(service.current().values()):
                pid, resumed = client.connect()
                assert resumed
                seen.add(pid)

        all_resume()
        # The successor of a worker that died, too.
        first = service.current()
        os.kill(first[1], signal.SIGKILL)
        wait_until(lambda: service.current()[1] != first[1], "the successor")
        all_resume()

        first = service.current()
        service.send(signal.SIGHUP)
        wait_until(lambda: all(service.current()[slot] != pid for slot, pid in first.items()), "new workers")
        wait_until(lambda: client.connect()[0] in service.current().values(), "the new workers accept")
        # The old session is refused and the client served, after a full handshake.
        assert client.connect()[1] is False
        assert service.stop() == 0
