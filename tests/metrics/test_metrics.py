"""`--metrics`: what a running service answers to Prometheus, to probes, and to clients that are neither."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastecho
from clients import connect_blocking, read_to_eof
from command import as_process
from datagrams import ask as ask_datagram
from datagrams import udp_client
from fastecho._counters import CAUSES, OUTCOMES
from fastecho._workers.lifecycle import SAME_SIGNAL
from patience import DEADLINE, wait_until
from ports import held_port
from processes import Service, echoes, is_alive, one_echo
from scrapes import OPENMETRICS, ask, metrics_url, samples, status

# Of the issue, and what a panel needs besides: echoes, and the balance of the workers.
FAMILIES = {
    "fastecho_build_info", "fastecho_connections_accepted_total", "fastecho_connections_active",
    "fastecho_connections_closed_total", "fastecho_datagrams_total",
    "fastecho_received_bytes_total", "fastecho_sent_bytes_total",
    "fastecho_reads_total", "fastecho_write_paused_connections", "fastecho_buffers_in_use", "fastecho_worker_up",
    "fastecho_worker_connections", "fastecho_worker_restarts_total",
}  # fmt: skip


@contextlib.contextmanager
def watched(*arguments: str, host: str = "127.0.0.1") -> Iterator[tuple[Service, str]]:
    """A service, and the URL of its metrics."""
    with Service("--metrics", f"{host}:0", *arguments) as service:
        yield service, metrics_url(service)


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def metrics_process(service: Service) -> int:
    [pid] = [pid for pid in service.workers() if comm(pid) == "fastecho-metric"]
    return pid


def connect_to(url: str) -> socket.socket:
    parts = urllib.parse.urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), DEADLINE)


def is_healthy(url: str) -> bool:
    with contextlib.suppress(ConnectionError):
        return status(url, "/healthz") == 200
    return False


# Formats


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_the_families_of_a_service_in_both_formats(openmetrics: bool) -> None:
    with watched("--workers", "2", "--terminator", "none") as (service, url):
        with connect_blocking(service.address) as one, connect_blocking(service.address) as other:
            assert echoes(one, b"hello")
            assert echoes(other, b"four")
            found = samples(url, openmetrics)
        assert {name for name, _ in found} == FAMILIES
        assert found["fastecho_build_info", f"{sys.version.split()[0]} {fastecho.__version__}"] == 1
        assert found["fastecho_connections_accepted_total", ""] == found["fastecho_connections_active", ""] == 2
        assert found["fastecho_received_bytes_total", ""] == found["fastecho_sent_bytes_total", ""] == 9
        assert found["fastecho_reads_total", ""] == 2
        assert sum(found["fastecho_worker_connections", worker] for worker in "01") == 2
        assert found["fastecho_worker_up", "0"] == found["fastecho_worker_up", "1"] == 1
        wait_until(lambda: samples(url, openmetrics)["fastecho_connections_closed_total", "eof"] == 2, "both closed")


def test_datagrams_are_counted_by_outcome() -> None:
    with watched("--udp") as (service, url), udp_client(service.address) as client:
        assert ask_datagram(client, b"hello") == b"hello"
        wait_until(lambda: samples(url)["fastecho_datagrams_total", "echoed"] == 1, "the count")
        assert {label for name, label in samples(url) if name == "fastecho_datagrams_total"} == set(OUTCOMES)


def test_the_content_type_is_the_one_that_was_asked_for() -> None:
    with watched() as (_, url):
        assert ask(url).headers["Content-Type"].startswith("text/plain; version=0.0.4")
        answer = ask(url, Accept=OPENMETRICS)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.body.endswith(b"# EOF\n")
        assert ask(url, Accept_Encoding="gzip").body.startswith(b"\x1f\x8b")


def test_each_cause_has_a_value_before_its_first_connection() -> None:
    with watched() as (_, url):
        found = samples(url)
    causes = [label for name, label in found if name == "fastecho_connections_closed_total"]
    assert causes == [cause for cause in CAUSES if cause != "none"]
    assert [label for name, label in found if name == "fastecho_worker_restarts_total"] == ["crash", "hang", "rolling"]
    assert {value for (name, _), value in found.items() if name.endswith("_total")} == {0}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus); the gate has it")
def test_promtool_has_no_objection() -> None:
    with watched("--workers", "2") as (_, url):
        exposition = ask(url).body
    done = subprocess.run(["promtool", "check", "metrics"], input=exposition, capture_output=True, timeout=2 * DEADLINE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_client_that_takes_nothing_counts_as_write_paused_until_it_leaves() -> None:
    with watched("--terminator", "none") as (service, url):
        with connect_blocking(service.address) as sock:
            sock.setblocking(False)

            def is_paused() -> bool:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sock.send(bytes(65536))
                return samples(url)["fastecho_write_paused_connections", ""] == 1

            wait_until(is_paused, "a connection that is paused")
            wait_until(lambda: samples(url)["fastecho_buffers_in_use", ""] == 1, "its buffer")
        wait_until(lambda: samples(url)["fastecho_write_paused_connections", ""] == 0, "none is left")


def test_a_client_that_reads_again_is_not_paused_any_more() -> None:
    with watched("--terminator", "none") as (service, url), connect_blocking(service.address) as sock:
        sent = 0
        sock.setblocking(False)
        while samples(url)["fastecho_write_paused_connections", ""] == 0:
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += sock.send(bytes(65536))
        sock.setblocking(True)
        while sent:
            sent -= len(sock.recv(1 << 20))
        assert samples(url)["fastecho_write_paused_connections", ""] == 0
        assert samples(url)["fastecho_connections_active", ""] == 1


# Requests


def test_head_has_the_headers_and_no_body() -> None:
    with watched() as (_, url):
        for path in ("/metrics", "/healthz", "/readyz"):
            full, head = ask(url, path), ask(url, path, "HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.headers["Content-Length"] == full.headers["Content-Length"] == str(len(full.body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_another_method_is_answered_with_405_and_what_is_allowed(method: str) -> None:
    with watched() as (_, url):
        for path in ("/metrics", "/healthz", "/readyz"):
            # More than the buffers of the kernel take: closing without reading it would reset the connection.
            answer = ask(url, path, method, bytes(32 << 20))
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/favicon.ico", "/healthz/../metrics"])
def test_another_path_is_answered_with_404(path: str) -> None:
    with watched() as (_, url):
        answer = ask(url, path)
        assert answer.status == 404
        assert b"/metrics" in answer.body


def test_what_is_no_request_costs_nothing_but_its_connection() -> None:
    with watched() as (service, url):
        headers = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500
        for nonsense in (b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"x" * 100_000, headers, b""):
            with connect_to(url) as sock:
                with contextlib.suppress(ConnectionError):
                    sock.sendall(nonsense)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65536):
                        pass
        assert status(url, "/healthz") == 200
        assert "Traceback" not in service.errors


def test_clients_that_send_nothing_hold_up_neither_a_scrape_nor_a_stop() -> None:
    with watched() as (service, url), contextlib.ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(connect_to(url)).sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        assert samples(url)["fastecho_worker_up", "0"] == 1
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_more_clients_than_are_served_at_a_time_are_closed_and_make_room_when_they_are_due() -> None:
    with watched() as (_, url), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect_to(url)) for _ in range(80)]
        # Of 80 idle clients some are refused at once, and the rest when their time is over.
        for sock in silent:
            sock.settimeout(3 * DEADLINE)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        wait_until(lambda: is_healthy(url), "room for a request")


def test_a_connection_serves_many_requests_and_ends_after_one_with_a_body() -> None:
    with watched() as (_, url):
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=DEADLINE)
        connection.connect()
        first = connection.sock
        for method, path, code in (("GET", "/metrics", 200), ("HEAD", "/metrics", 200), ("GET", "/x", 404)):
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            assert (response.status, connection.sock) == (code, first)
        # What follows a body that is not read must not be taken for a request.
        connection.request("GET", "/healthz", b"GET /readyz HTTP/1.1\r\n\r\n")
        response = connection.getresponse()
        assert (response.read(), response.headers["Connection"]) == (b"ok\n", "close")
        connection.close()


def test_a_connection_that_is_idle_gives_way_to_another() -> None:
    with watched() as (_, url), contextlib.ExitStack() as stack:
        parts = urllib.parse.urlsplit(url)
        idle = []
        for _ in range(70):
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=DEADLINE)
            stack.callback(connection.close)
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b"ok\n"
            idle.append(connection)
        assert status(url, "/healthz") == 200
        assert idle[0].sock.recv(1) == b""
        idle[-1].request("GET", "/healthz")
        assert idle[-1].getresponse().read() == b"ok\n"


# Start


def test_the_ready_line_and_the_ready_descriptor_have_the_url() -> None:
    with watched("--workers", "2") as (service, url):
        assert service.addresses[:-1] == [f"tcp://127.0.0.1:{service.address[1]}"]
        assert f"(2 workers, pid {service.pid}, terminator NUL, metrics {url})" in service.errors
        assert status(url, "/readyz") == 200


@pytest.mark.parametrize("host", ["[::1]", "localhost", "*"])
def test_another_host(host: str) -> None:
    with Service("--metrics", f"{host}:0") as service:
        urls = [address for address in service.addresses if address.startswith("http://")]
        assert urls
        for url in urls:
            assert status(url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]"), "/readyz") == 200


def test_an_address_in_use_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = as_process(["--unix", str(path), "--metrics", f"127.0.0.1:{port}"])
    assert outcome.logged(69) == f"metrics 127.0.0.1:{port}: the address is in use; choose another one"
    assert not path.exists()


def test_an_address_of_another_machine_is_refused() -> None:
    outcome = as_process(["--port", "0", "--metrics", "192.0.2.1:9100"])
    assert "metrics 192.0.2.1:9100" in outcome.logged(1)
    assert "not an address of this machine" in outcome.err


def test_without_prometheus_client_one_line_says_what_to_install() -> None:
    hide = "import sys, importlib.util as u; find = u.find_spec; "
    hide += "u.find_spec = lambda name, *more: None if name == 'prometheus_client' else find(name, *more); "
    run = "from fastecho.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", hide + run, "--port", "0", "--metrics", "127.0.0.1:0"],
        capture_output=True, text=True, timeout=2 * DEADLINE,
    )  # fmt: skip
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith("--metrics needs prometheus_client: pip install 'fastecho[metrics]'")


def test_the_workers_import_nothing_of_it_and_hold_none_of_its_sockets() -> None:
    with watched("--workers", "2") as (service, url):
        ask(url)
        process = metrics_process(service)
        workers = [pid for pid in service.workers() if pid != process]
        assert len(workers) == 2

        def sockets(pid: int) -> set[str]:
            links = (os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())
            return {link for link in links if link.startswith("socket:")}

        # Not the listeners of the service, which would stay open, nor a channel of a worker.
        wait_until(lambda: len(sockets(process)) == 1, "the connection of the request is closed")
        assert sockets(process) < sockets(service.pid)
        for worker in workers:
            assert not sockets(process) & sockets(worker)


# Workers


def test_a_worker_that_is_killed_counts_as_a_crash_and_no_counter_goes_back() -> None:
    with watched("--workers", "1") as (service, url):
        assert one_echo(service.address) == b"hello\0"
        wait_until(lambda: samples(url)["fastecho_connections_closed_total", "terminator"] == 1, "it has ended")
        with connect_blocking(service.address) as sock:
            assert echoes(sock, b"more")
            before = samples(url)
            os.kill(service.current()[0], signal.SIGKILL)
            service.wait_for("is ready", 2)
        after = samples(url)
        totals = {key: value for key, value in before.items() if key[0].endswith("_total")}
        assert all(after[key] >= value for key, value in totals.items())
        assert after["fastecho_received_bytes_total", ""] == len(b"hello\0more")
        assert after["fastecho_connections_active", ""] == after["fastecho_worker_connections", "0"] == 0
        restarts = {label: value for (name, label), value in after.items() if name == "fastecho_worker_restarts_total"}
        assert restarts == {"crash": 1, "hang": 0, "rolling": 0}


def test_no_counter_goes_back_while_workers_are_replaced_again_and_again() -> None:
    with watched("--workers", "2") as (service, url):
        before = samples(url)
        for round_ in range(3):
            assert one_echo(service.address) == b"hello\0"
            service.send(signal.SIGHUP)
            while len(service.started()) < 2 * (round_ + 2):
                after = samples(url)
                assert [key for key, value in before.items() if key[0].endswith("_total") and after[key] < value] == []
                before = after
        assert samples(url)["fastecho_connections_accepted_total", ""] == 3
        wait_until(lambda: samples(url)["fastecho_worker_restarts_total", "rolling"] == 6, "each one counted")


def test_a_worker_that_hangs_counts_as_a_hang() -> None:
    with Service.supervisor({"heartbeat_timeout": 1.5}, workers=1, metrics="127.0.0.1:0") as service:
        url = metrics_url(service)
        os.kill(service.current()[0], signal.SIGSTOP)
        service.wait_for("is ready", 2)
        found = samples(url)
        assert found["fastecho_worker_restarts_total", "hang"] == 1
        assert found["fastecho_worker_restarts_total", "crash"] == 0


def test_a_worker_that_waits_for_its_restart_is_down_and_the_service_unready_without_any() -> None:
    with watched("--workers", "1") as (service, url):
        for count in (1, 2, 3, 4):
            os.kill(service.current()[0], signal.SIGKILL)
            if count < 4:
                service.wait_for("is ready", count + 1)
        # The delay before the fourth restart is at least 150 ms.
        wait_until(lambda: samples(url)["fastecho_worker_up", "0"] == 0, "the worker is down")
        wait_until(lambda: status(url, "/readyz") == 200, "it is up again")
        assert samples(url)["fastecho_worker_restarts_total", "crash"] == 4


# Probes


def test_the_service_is_unready_until_all_workers_are_ready() -> None:
    # The second worker starts no server before the gate is opened.
    with contextlib.ExitStack() as stack:
        gate, opener = os.pipe()
        port = stack.enter_context(held_port())
        before = f"""
import os, sys, fastecho.server as s
start = s.EchoServer.start
async def late(self):
    os.read({gate}, 1)
    return await start(self)
s.EchoServer.start = late
from fastecho.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
        command = [
            sys.executable, "-c", before,
            "--port", "0", "--workers", "2", "--metrics", f"127.0.0.1:{port}",
        ]  # fmt: skip
        process = stack.enter_context(subprocess.Popen(command, pass_fds=[gate], stderr=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        url = f"http://127.0.0.1:{port}/metrics"

        wait_until(lambda: is_healthy(url), "the metrics")
        answer = ask(url, "/readyz")
        assert (answer.status, answer.body) == (503, b"starting\n")
        os.write(opener, b"x")
        assert process.stderr is not None
        assert "is ready" in process.stderr.readline()
        assert status(url, "/readyz") == 503
        os.write(opener, b"x")
        while "listening on" not in process.stderr.readline():
            pass
        assert status(url, "/readyz") == 200
        process.terminate()
        assert process.wait(2 * DEADLINE) == 0
        for descriptor in (gate, opener):
            os.close(descriptor)


def test_after_sigterm_the_service_is_unready_and_accepts_until_the_delay_is_over() -> None:
    with watched("--workers", "2", "--shutdown-delay", "1") as (service, url):
        service.send(signal.SIGTERM)
        service.wait_for("SIGTERM: stopping in 1 s")
        answer = ask(url, "/readyz")
        assert (answer.status, answer.body) == (503, b"stopping\n")
        assert status(url, "/healthz") == 200
        assert one_echo(service.address) == b"hello\0"
        assert service.wait() == 0
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(service.address)
        with pytest.raises(ConnectionRefusedError):
            ask(url)


def test_without_a_delay_the_service_is_unready_while_it_drains() -> None:
    with watched("--drain-grace", "60", "--drain-timeout", "60", "--terminator", "none") as (service, url):
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            service.send(signal.SIGTERM)
            service.wait_for("SIGTERM: stopping")
            assert status(url, "/readyz") == 503
            assert samples(url)["fastecho_connections_active", ""] == 1
        assert service.wait() == 0


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_delay_and_the_service_at_once(second: signal.Signals, code: int) -> None:
    with Service("--shutdown-delay", "1h", "--workers", "2") as service:
        service.send(signal.SIGTERM)
        service.wait_for("SIGTERM: stopping in 1 h")
        seen = time.monotonic()
        assert one_echo(service.address) == b"hello\0"
        wait_until(lambda: time.monotonic() > seen + SAME_SIGNAL, "the time in which two signals count as one")
        assert service.stop(second) == code


def test_sigint_drains_at_once_whatever_the_delay() -> None:
    with Service("--shutdown-delay", "1h") as service:
        assert service.stop(signal.SIGINT) == 0


def test_a_stop_before_the_service_is_ready_does_not_wait() -> None:
    command = [sys.executable, "-m", "fastecho", "--port", "0", "--workers", "8", "--shutdown-delay", "1h"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()
            process.terminate()
            assert process.wait(2 * DEADLINE) == 0
        finally:
            process.kill()


def test_in_the_delay_sighup_is_ignored_and_a_worker_that_dies_is_replaced() -> None:
    with watched("--shutdown-delay", "1h") as (service, url):
        service.send(signal.SIGTERM)
        service.wait_for("stopping in")
        service.send(signal.SIGHUP)
        service.wait_for("SIGHUP: ignored")
        os.kill(service.current()[0], signal.SIGKILL)
        service.wait_for("is ready", 2)
        assert one_echo(service.address) == b"hello\0"
        assert status(url, "/readyz") == 503
        assert samples(url)["fastecho_worker_restarts_total", "rolling"] == 0


def test_a_signal_to_the_whole_group_begins_the_delay_and_refuses_no_client() -> None:
    with Service("--shutdown-delay", "1", "--workers", "2", start_new_session=True) as service:
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            os.killpg(service.pid, signal.SIGTERM)
            service.wait_for("stopping in")
            assert one_echo(service.address) == b"hello\0"
            assert read_to_eof(sock) == b""
        assert service.wait() == 0


# The process


def test_a_metrics_process_that_is_killed_is_replaced_and_the_service_goes_on() -> None:
    with watched() as (service, url):
        worker = service.current()[0]
        for count in (1, 2):
            killed = metrics_process(service)
            os.kill(killed, signal.SIGKILL)
            service.wait_for(f"the metrics process (pid {killed}) has ended", 1)
            # The request waits in the queue of the socket meanwhile.
            assert samples(url)["fastecho_worker_up", "0"] == 1
            assert metrics_process(service) != killed, count
        assert service.current()[0] == worker
        assert service.stop() == 0


def test_a_metrics_process_that_is_stopped_holds_up_nothing() -> None:
    with watched("--workers", "2") as (service, url):
        process = metrics_process(service)
        os.kill(process, signal.SIGSTOP)
        with connect_to(url):
            os.kill(service.current()[0], signal.SIGKILL)
            service.wait_for("is ready", 3)
            assert one_echo(service.address) == b"hello\0"
            assert service.stop() == 0
        wait_until(lambda: not is_alive(process), "its end")


def test_the_metrics_process_does_not_outlive_a_supervisor_that_is_killed() -> None:
    with watched() as (service, _):
        process = metrics_process(service)
        service.process.kill()
        wait_until(lambda: not is_alive(process), "its end")


def test_signals_to_the_metrics_process_alone_change_nothing() -> None:
    with watched() as (service, url):
        assert status(url, "/healthz") == 200
        process = metrics_process(service)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(process, number)
        assert status(url, "/healthz") == 200
        assert metrics_process(service) == process
