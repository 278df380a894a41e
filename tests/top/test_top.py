"""`fastecho top`: at a terminal, without one, by URL, by pid, and when there is nothing to show."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from clients import connect_blocking
from command import WITHOUT_PRIVILEGES, Outcome, as_process, clean_environment, in_process
from fastecho._top import processes
from fastecho._top.history import LENGTH, RATES, History
from fastecho._top.panel import draw
from fastecho._top.scrape import Sample
from processes import Service, echoes, one_echo
from scrapes import metrics_url
from screen import Screen

QUICK = ("-i", "100ms")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service("--metrics", "127.0.0.1:0", "--workers", "2") as service:
        yield service


def printed(*arguments: str) -> str:
    """What it prints without a terminal."""
    outcome = as_process(["top", *QUICK, *arguments])
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


@contextlib.contextmanager
def answering(metrics: str) -> Iterator[str]:
    """The URL of an HTTP server that knows /metrics only."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(metrics.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        finally:
            server.shutdown()
            thread.join()


class Terminal:
    """`fastecho top` at a terminal of so many columns."""

    def __init__(self, *arguments: str, columns: int = 100) -> None:
        self.screen = Screen()
        theirs = self.screen.theirs
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastecho", "top", *QUICK, *arguments], stdin=theirs, stdout=theirs,
            stderr=subprocess.PIPE, env=clean_environment({"TERM": "xterm-256color"}), start_new_session=True,
        )  # fmt: skip

    def press(self, keys: bytes) -> None:
        os.write(self.screen.ours, keys)

    def end(self) -> int:
        """Its exit code, and it has put back the screen, the cursor and the mode of the terminal."""
        code, shown = self.screen.wait_for_end(self.process), self.screen.shown
        assert shown.rfind("\x1b[?1049l") > shown.rfind("\x1b[?1049h"), "the screen"
        assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l"), "the cursor"
        assert termios.tcgetattr(self.screen.theirs) == self.before, "the mode"
        assert self.process.stderr is not None
        assert self.process.stderr.read() == b""
        return code

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.screen.close()


# Without a terminal


def test_the_panel_is_printed_once_where_there_is_no_terminal(service: Service) -> None:
    with connect_blocking(service.address) as sock:
        assert echoes(sock)
        out = printed(metrics_url(service))
    assert "\x1b" not in out
    for text in (*RATES, "connections", "write paused", "workers: 2 of 2 up", "ready"):
        assert out.count(text) >= 1, out
    assert re.search(r"connections +1 ", out)


@pytest.mark.parametrize(
    "named", [
        lambda service: metrics_url(service),
        lambda service: metrics_url(service).removesuffix("/metrics"),
        lambda service: metrics_url(service).removesuffix("metrics"),
        lambda service: metrics_url(service).removeprefix("http://").removesuffix("/metrics"),
        lambda service: str(service.pid),
        lambda service: str(service.current()[0]),
    ], ids=["URL", "URL without path", "URL with /", "HOST:PORT", "pid", "pid of a worker"],
)  # fmt: skip
def test_a_service_is_named_by_url_or_pid(service: Service, named: Callable[[Service], str]) -> None:
    where = metrics_url(service).removeprefix("http://").removesuffix("/metrics")
    assert f" {where} " in printed(named(service))


@pytest.mark.parametrize("host", ["[::1]", "*"])
def test_a_pid_leads_to_any_address(host: str) -> None:
    with Service("--metrics", f"{host}:0") as service:
        port = metrics_url(service).removesuffix("/metrics").rpartition(":")[2]
        assert f":{port} " in printed(str(service.pid))


def test_without_an_argument_the_only_service_is_shown_or_all_are_listed(service: Service) -> None:
    with Service("--metrics", "127.0.0.1:0") as other:
        outcome = as_process(["top"])
        assert outcome.code == 2
        for each in (service, other):
            assert f"{each.pid} ({metrics_url(each)})" in outcome.err


def test_without_an_argument_the_only_service_is_shown(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other tests run services at the same time: a folder with the processes of this one stands for /proc."""
    for pid in Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split():
        (tmp_path / pid).symlink_to(f"/proc/{pid}")
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    outcome = in_process(["top", *QUICK], {}, capsys)
    assert (outcome.code, outcome.err) == (0, "")
    assert metrics_url(service).removeprefix("http://").removesuffix("/metrics") in outcome.out


@pytest.mark.parametrize("folder", ["", "nowhere"], ids=["no process of ours", "no /proc"])
def test_without_an_argument_and_without_a_service_the_url_is_asked_for(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path / folder)
    outcome = in_process(["top"], {}, capsys)
    assert complaint(outcome, 5) == "fastecho: no service: none with --metrics is seen here; give its URL\n"


def test_a_service_that_does_not_say_whether_it_is_ready_is_shown_without_it() -> None:
    with answering("fastecho_connections_active 3\n") as url:
        out = printed(url)
    assert re.search(r"connections +3 ", out)
    for state in ("ready", "starting", "stopping", "no answer"):
        assert state not in out


def test_causes_and_restarts_are_shown_once_there_are_some(service: Service) -> None:
    assert one_echo(service.address) == b"hello\0"
    before = printed(str(service.pid))
    assert re.search(r"terminator +\d+ ", before)
    assert "restarts" not in before
    os.kill(service.current()[0], signal.SIGKILL)
    service.wait_for("is ready", 3)
    assert "restarts: 1 crash" in printed(str(service.pid))


# Nothing to show


def complaint(outcome: Outcome, code: int) -> str:
    return outcome.complaint(code)


def test_a_pid_without_metrics() -> None:
    with Service() as plain:
        assert "no fastecho with --metrics" in complaint(as_process(["top", str(plain.pid)]), 5)
    assert "no such process" in complaint(as_process(["top", str(plain.pid)]), 5)


@pytest.mark.parametrize("text", ["x", "-1", "localhost", "http://", "127.0.0.1:http"])
def test_what_is_neither_a_url_nor_a_pid(text: str) -> None:
    assert "fastecho" in complaint(as_process(["top", "--", text]), 2)


def test_a_service_that_does_not_answer(service: Service) -> None:
    with Service("--metrics", "127.0.0.1:0") as gone:
        url = metrics_url(gone)
    assert "Connection refused" in complaint(as_process(["top", url]), 5)
    host, port = service.address
    # An echo server, which is no HTTP server.
    assert complaint(as_process(["top", f"{host}:{port}"]), 5)
    assert "404" in complaint(as_process(["top", f"{metrics_url(service)}/x"]), 5)
    assert "no metrics" in complaint(as_process(["top", metrics_url(service).replace("/metrics", "/healthz")]), 5)


def test_metrics_of_another_program() -> None:
    with answering("go_goroutines 5\n") as url:
        assert complaint(as_process(["top", url]), 5) == f"fastecho: {url}: no metrics of fastecho\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a service whose capabilities `top` has not")
def test_a_service_of_another_user_is_named_by_its_url(service: Service) -> None:
    """Without its capabilities, root may look at a process of root no more than another user may."""
    outcome = as_process(["top", str(service.pid)], through=WITHOUT_PRIVILEGES)
    assert "belongs to another user: give the URL instead" in complaint(outcome, 5)


@pytest.mark.parametrize("module", ["rich.console", "prometheus_client.parser"])
def test_a_missing_extra_is_one_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    line = complaint(in_process(["top", "127.0.0.1:1"], {}, capsys), 1)
    assert line == "fastecho: fastecho top needs rich and prometheus_client: pip install 'fastecho[top]'\n"


# At a terminal


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x03"], ids=["q", "Q", "Ctrl-C"])
def test_a_key_ends_it_and_puts_the_terminal_back(service: Service, key: bytes) -> None:
    with Terminal(metrics_url(service)) as terminal:
        # Three panels: the rates have a course then.
        terminal.screen.wait_for(lambda output: output.count("echoes/s") >= 4, "panels")
        terminal.press(b"x" + key)
        if key == b"\x03":
            terminal.process.send_signal(signal.SIGINT)  # no shell has made the terminal its own
        assert terminal.end() == 0


def test_sigterm_ends_it_and_puts_the_terminal_back(service: Service) -> None:
    with Terminal(metrics_url(service)) as terminal:
        terminal.screen.wait_for(lambda output: "echoes/s" in output, "a panel")
        terminal.process.terminate()
        assert terminal.end() == 143


def test_a_service_that_ends_is_reported_and_shown_again_when_it_is_back() -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Service("--metrics", "127.0.0.1:0"))
        url = metrics_url(first)
        terminal = stack.enter_context(Terminal(url))
        terminal.screen.wait_for(lambda output: "ready" in output, "a panel")
        assert first.stop() == 0
        terminal.screen.wait_for(lambda output: "Connection refused" in output, "the reason")
        terminal.screen.shown = ""
        stack.enter_context(Service("--metrics", url.removeprefix("http://").removesuffix("/metrics")))
        terminal.screen.wait_for(lambda output: "ready" in output, "a panel of the new one")
        terminal.press(b"q")
        assert terminal.end() == 0


# The panel


def sample(at: float, **values: float) -> Sample:
    named = {(f"fastecho_{name}", ""): value for name, value in values.items()}
    workers = {("fastecho_worker_up", "0"): 1.0, ("fastecho_worker_connections", "0"): 3.0}
    return Sample(at, {**named, **workers}, {"version": "9.9"}, "ready")


def text_of(history: History, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(draw(history, "http://127.0.0.1:9100/metrics", width))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_rates_are_per_second_and_a_counter_that_begins_again_is_not_negative() -> None:
    history = History()
    history.add(sample(10.0, reads_total=100))
    history.add(sample(12.0, reads_total=300))
    history.add(sample(13.0, reads_total=40))
    assert history.series("echoes/s") == [100.0, 40.0]
    for at in range(2 * LENGTH):
        history.add(sample(20.0 + at))
    assert len(history.series("echoes/s")) == LENGTH


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 110, 200])
@pytest.mark.parametrize("workers", [0, 1, 8, 9, 512])
def test_the_panel_fits_any_width_with_any_number_of_workers(width: int, workers: int) -> None:
    history = History()
    for at in range(200):
        each = sample(float(at), reads_total=float(at) ** 4, connections_active=at)
        for worker in range(workers):
            each.values["fastecho_worker_up", str(worker)] = float(worker != 3)
            each.values["fastecho_worker_connections", str(worker)] = float(worker)
        history.add(each)
    lines = text_of(history, width)
    assert {len(line) for line in lines} == {min(width, 110)}
    if width >= 60:
        up = max(workers, 1) - (workers > 3)
        assert any(f"workers: {up} of {max(workers, 1)} up" in line for line in lines)
        assert any(re.search(r"echoes/s .*█ *│$", line) for line in lines), "the last rate is the highest"


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_900, "1000 kB"), (2e6, "2 MB"), (3.21e9, "3.21 GB"),
     (4e12, "4000 GB")],
)  # fmt: skip
def test_bytes_have_a_unit(rate: float, shown: str) -> None:
    history = History()
    history.add(sample(1.0))
    history.add(sample(2.0, sent_bytes_total=rate))
    [line] = [line for line in text_of(history, 80) if "bytes out/s" in line]
    assert re.search(rf"bytes out/s +{re.escape(shown)} ", line)
