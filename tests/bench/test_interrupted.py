"""Ctrl-C and SIGTERM: the result up to then is printed and saved, marked as partial; the exit code names the signal."""

import contextlib
import gc
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading

import pytest

from bench_servers import echo, serving, silent_after, slow_connection
from fastecho.cli.main import main
from patience import DEADLINE, wait_until
from screen import Screen

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SIGNALS = pytest.mark.parametrize("signum", CODES, ids=lambda signum: signum.name)


@contextlib.contextmanager
def running(*arguments, **settings):
    """The command as a separate process, without buffers."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-m", "fastecho", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **settings},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_line(stream, *words):
    while line := stream.readline():
        if any(word in line for word in words):
            return line
    raise AssertionError(f"ended without a line that has {words}")


def ended(process, code):
    out, err = process.communicate(timeout=3 * DEADLINE)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


@SIGNALS
@pytest.mark.parametrize("rate", [(), ("--rate", "500")], ids=["closed loop", "open loop"])
def test_a_run_that_is_interrupted_gives_its_partial_result(signum, rate, tmp_path):
    path, page = tmp_path / "run.json", tmp_path / "run.html"
    with serving(echo) as target, running(
        "bench", target, "-c", "4", "-d", "600", "--warmup", "0.1", "--json", str(path), "--report", str(page), *rate
    ) as process:  # fmt: skip
        wait_for_line(process.stderr, "echoes/s")
        process.send_signal(signum)
        out, _ = ended(process, CODES[signum])
    assert "PARTIAL: interrupted after" in out.splitlines()[0]
    assert "of 600 s" in out.splitlines()[0]
    assert "PARTIAL: interrupted after" in page.read_text()
    result = json.loads(path.read_text())["result"]
    assert result["partial"] is True
    assert result["echoes"] > 0
    assert 0 < result["seconds"] < 600
    assert result["percentiles"]["p50"] > 0
    assert sum(result["errors"].values()) == 0


@SIGNALS
def test_a_server_of_its_own_that_gets_the_signal_too_is_no_error(signum, tmp_path):
    """As Ctrl-C in a terminal: every process of the group gets it."""
    path = tmp_path / "run.json"
    arguments = ("bench", "-c", "4", "-d", "600", "--warmup", "0", "--json", str(path))
    with running(*arguments, start_new_session=True) as process:
        wait_for_line(process.stderr, "echoes/s")
        os.killpg(process.pid, signum)
        ended(process, CODES[signum])
    result = json.loads(path.read_text())["result"]
    assert result["partial"] is True
    assert sum(result["errors"].values()) == 0


@SIGNALS
def test_in_the_warm_up_nothing_is_measured_yet(signum, tmp_path):
    path = tmp_path / "run.json"
    with serving(echo) as target, running("bench", target, "--warmup", "600", "--json", str(path)) as process:
        wait_for_line(process.stderr, "warming up")
        process.send_signal(signum)
        out, err = ended(process, CODES[signum])
    assert err.splitlines()[-1] == "fastecho: interrupted in the warm-up: nothing was measured yet"
    assert out == ""
    assert not path.exists()


@SIGNALS
@pytest.mark.parametrize("command", ["bench", "ping"])
def test_while_connecting_nothing_is_measured_yet(signum, command):
    """A TLS handshake that is never answered."""
    accepted = []

    def session(sock):
        accepted.append(sock)
        silent_after(0)(sock)

    with serving(session) as target:
        tls = target.replace("tcp://", "tls://")
        with running(command, tls, "--timeout", "600") as process:
            wait_until(lambda: accepted, "a connection")
            process.send_signal(signum)
            out, err = ended(process, CODES[signum])
    assert err.count("\n") == 1
    assert "interrupted" in err
    assert out == ""


@pytest.mark.parametrize("where", ["the socket", "its TLS layer"])
def test_a_signal_while_a_socket_is_made_leaves_none_open(where, fastecho, monkeypatch):
    """A socket that is left open is a ResourceWarning."""
    owner, name = (socket.socket, "__init__") if where == "the socket" else (ssl.SSLSocket, "getpeername")
    original, interrupted = getattr(owner, name), []

    def interrupting(self, *args, **kwargs):
        if not interrupted and threading.current_thread() is threading.main_thread():
            interrupted.append(where)
            signal.raise_signal(signal.SIGTERM)
        return original(self, *args, **kwargs)

    with serving(echo) as target:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupting)
            code, out, err = fastecho("ping", target.replace("tcp://", "tls://"))
        gc.collect()
    assert interrupted
    assert (code, out) == (143, "")
    assert err == "fastecho: interrupted before the run began: nothing was measured\n"


def test_while_it_looks_for_an_address(fastecho, monkeypatch):
    """Before the run there is nothing to stop: the signal ends the command."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM) or [])
    before = signal.getsignal(signal.SIGTERM)
    code, out, err = fastecho("ping", "name:1")
    assert (code, out) == (143, "")
    assert err.count("\n") == 1
    assert "interrupted" in err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@SIGNALS
def test_a_stalled_server_does_not_hold_up_the_partial_result(signum, tmp_path):
    path = tmp_path / "run.json"
    with serving(slow_connection(600)) as target, running(
        "bench", target, "-c", "4", "-d", "600", "--warmup", "0", "--rate", "400", "--timeout", "600",
        "--json", str(path),
    ) as process:  # fmt: skip
        wait_for_line(process.stderr, "echoes/s")
        process.send_signal(signum)
        ended(process, CODES[signum])
    result = json.loads(path.read_text())["result"]
    assert result["partial"] is True
    assert result["overdue"] > 0, "what the stalled connection was never sent"


@SIGNALS
def test_a_second_signal_ends_it_at_once(signum):
    """While the first one waits for a reader of its output."""
    with serving(silent_after(0)) as target, running(
        "bench", target, "-c", "1", "--warmup", "0", "-d", "600", "--timeout", "600", "-q"
    ) as process:  # fmt: skip
        wait_until(lambda: threads(process.pid) > 1, "the engine's thread")
        os.kill(process.pid, signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        os.kill(process.pid, signal.SIGCONT)
        out, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode in (130, 143)
    assert out == ""


def test_a_second_signal_at_a_terminal_shows_the_cursor_again():
    with Screen() as screen, serving(silent_after(0)) as target, running(
        "bench", target, "-c", "1", "--warmup", "0", "-d", "600", "--timeout", "600", stderr=screen.theirs,
        env={**os.environ, "TERM": "xterm-256color"},
    ) as process:  # fmt: skip
        screen.wait_for(
            lambda shown: "\x1b[?25l" in shown and threads(process.pid) > 1, "the panel and the engine's thread"
        )
        os.kill(process.pid, signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        os.kill(process.pid, signal.SIGCONT)
        assert screen.wait_for_end(process) in (130, 143)
        assert "\x1b[?25h" in screen.shown


def threads(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Threads:"))


@SIGNALS
def test_a_search_that_is_interrupted_says_what_held_so_far(signum, tmp_path):
    path = tmp_path / "run.json"
    with serving(echo) as target, running(
        "bench", target, "-c", "4", "-d", "0.3", "--warmup", "0.05", "--find-max-rate", "@p50=10s", "--json", str(path)
    ) as process:  # fmt: skip
        wait_for_line(process.stderr, "held")
        process.send_signal(signum)
        out, _ = ended(process, CODES[signum])
    assert "the search was interrupted; highest rate with p50 <= 10.0 s so far: " in out
    assert "PARTIAL" in out
    assert json.loads(path.read_text())["result"]["partial"] is True


def test_a_search_that_is_interrupted_in_its_first_probe():
    search = ("--warmup", "600", "-d", "600", "--find-max-rate", "@p50=1s")
    with serving(echo) as target, running("bench", target, *search) as process:
        wait_until(lambda: threads(process.pid) > 1, "the engine's thread")
        process.send_signal(signal.SIGTERM)
        out, err = ended(process, 143)
    assert out == ""
    assert "nothing was measured yet" in err


@SIGNALS
def test_ping_prints_its_summary(signum):
    with serving(echo) as target, running("ping", target, "-i", "10ms") as process:
        wait_for_line(process.stdout, "seq=2")
        process.send_signal(signum)
        out, _ = ended(process, 0 if signum == signal.SIGINT else 143)
    assert ", 0 % lost" in out
    assert "rtt min/avg/max/mdev = " in out


def test_signals_that_the_parent_ignores_are_handled(tmp_path):
    """A background job of a script starts with SIGINT ignored."""
    path = tmp_path / "run.json"
    with serving(echo) as target, running(
        "bench", target, "-d", "600", "--warmup", "0", "--json", str(path),
        preexec_fn=lambda: (signal.signal(signal.SIGINT, signal.SIG_IGN),
                            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])),
    ) as process:  # fmt: skip
        wait_for_line(process.stderr, "echoes/s")
        process.send_signal(signal.SIGINT)
        ended(process, 130)
    assert json.loads(path.read_text())["result"]["partial"] is True


@pytest.fixture
def asked():
    """Set once `serving` with `asked.session` has received something."""
    event = threading.Event()

    def session(sock):
        while sock.recv(65536):
            event.set()

    event.session = session
    return event


def test_ab_that_is_interrupted_in_its_first_run_has_measured_nothing(asked):
    with serving(asked.session) as target, running(
        "bench", "ab", target, target, "-d", "600", "--warmup", "0", "-q"
    ) as process:  # fmt: skip
        assert asked.wait(2 * DEADLINE)
        process.send_signal(signal.SIGTERM)
        out, err = ended(process, 143)
    assert out == ""
    assert "nothing was measured yet" in err


def test_a_health_check_that_is_interrupted_says_so(asked):
    with serving(asked.session) as target, running("ping", "--once", target, "-W", "600") as process:
        assert asked.wait(2 * DEADLINE)
        process.send_signal(signal.SIGINT)
        out, err = ended(process, 1)
    assert (out, err) == (f"{target}: interrupted\n", "")


def test_a_command_that_is_called_in_a_thread_leaves_the_signals_alone(capfd):
    before = [signal.getsignal(signum) for signum in CODES]
    seen = []

    def body():
        seen.append(main(["ping", "--once", target]))
        seen.append([signal.getsignal(signum) for signum in CODES])

    with serving(echo) as target:
        thread = threading.Thread(target=body)
        thread.start()
        thread.join(DEADLINE)
    assert seen == [0, before]
    assert capfd.readouterr() == ("", "")
