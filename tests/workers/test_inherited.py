"""What the server inherits from its parent and gets from its surroundings: signals, a terminal, a umask."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients import connect_blocking
from patience import DEADLINE, wait_until
from processes import SUPERVISOR, Service, echoes, is_alive, one_echo

CATCHABLE = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
STOPS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
# The default of each of these would end the process, and the server has no use for it.
UNUSED = [
    getattr(signal, name)
    for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT", "SIGXFSZ",
                 "SIGPIPE")
    if hasattr(signal, name)
]  # fmt: skip


def blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, CATCHABLE)


def ignored_but_sigint() -> None:
    for number in CATCHABLE:
        if number != signal.SIGINT:
            with contextlib.suppress(OSError, ValueError):  # those that libc keeps for itself
                signal.signal(number, signal.SIG_IGN)


def replaced(service: Service, before: dict[int, int]) -> Callable[[], bool]:
    return lambda: all(service.current().get(slot) not in (None, pid) for slot, pid in before.items())


def totals(service: Service) -> str:
    """The line that SIGUSR1 asks for."""
    lines = service.errors.count(" connections (")
    service.send(signal.SIGUSR1)
    service.wait_for(" connections (", lines + 1)
    return service.errors.splitlines()[-1]


# Signals that the parent blocked or ignored


@STOPS
@pytest.mark.parametrize("inherited", [blocked, ignored_but_sigint])
def test_blocked_and_ignored_signals_stop_the_server(inherited: Callable[[], None], number: signal.Signals) -> None:
    with Service("--workers", "2", preexec_fn=inherited) as service:
        assert service.stop(number) == 0


@pytest.mark.parametrize("inherited", [blocked, ignored_but_sigint])
def test_with_blocked_and_ignored_signals_workers_are_watched_and_replaced(inherited: Callable[[], None]) -> None:
    with Service("--workers", "2", preexec_fn=inherited, start_new_session=True) as service:
        before = service.current()
        os.kill(before[0], signal.SIGKILL)
        service.wait_for("was killed by SIGKILL")
        wait_until(lambda: service.current()[0] != before[0], "the replacement")
        before = service.current()
        os.kill(before[1], signal.SIGTERM)
        wait_until(lambda: not is_alive(before[1]), "the end of the worker that got SIGTERM")
        wait_until(lambda: service.current()[1] != before[1], "its replacement")
        before = service.current()
        service.send(signal.SIGHUP)
        wait_until(replaced(service, before), "the rolling restart")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


@pytest.mark.parametrize("command", ["ping", "bench"])
@STOPS
@pytest.mark.parametrize("inherited", [blocked, ignored_but_sigint])
def test_blocked_and_ignored_signals_end_the_client_commands(
    inherited: Callable[[], None], number: signal.Signals, command: str
) -> None:
    with Service("--terminator", "none") as service:
        host, port = service.address
        more = ["--duration", "1h"] if command == "bench" else ["--interval", "10ms"]
        with subprocess.Popen(
            [sys.executable, "-m", "fastecho", command, f"{host}:{port}", *more],
            preexec_fn=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:
            try:
                wait_until(lambda: "(0 accepted" not in totals(service), "the client")
                process.send_signal(number)
                process.communicate(timeout=2 * DEADLINE)
                assert process.returncode != 0 or command == "ping"
            finally:
                process.kill()


def test_run_puts_back_the_signals_of_its_program() -> None:
    program = """
import os, signal, threading, fastecho
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGALRM, lambda *_: None)
def state():
    handlers = {n: signal.getsignal(n) for n in signal.valid_signals()}
    return handlers, signal.pthread_sigmask(signal.SIG_BLOCK, ())
before = state()
ready, theirs = os.pipe()
threading.Thread(target=lambda: (os.read(ready, 100), os.kill(os.getpid(), signal.SIGTERM))).start()
assert fastecho.run(fastecho.ServerConfig(port=0, workers=2, ready_fd=theirs)) == 0
assert state() == before
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=2 * DEADLINE)
    assert done.returncode == 0, done.stderr


# Signals without a meaning


@pytest.mark.parametrize("number", UNUSED)
def test_a_signal_without_a_meaning_ends_neither_supervisor_nor_worker(number: signal.Signals) -> None:
    with Service("--workers", "2") as service:
        pids = service.current()
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            for pid in (service.pid, *pids.values()):
                os.kill(pid, number)
            assert echoes(sock)
            for _ in range(4):
                assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0
        assert service.current() == pids


def test_sigusr1_logs_the_totals() -> None:
    with Service("--workers", "2", "--log-level", "error") as service:
        assert "0 connections (0 accepted, " in totals(service)
        assert one_echo(service.address) == b"hello\0"
        wait_until(lambda: "0 connections (1 accepted, " in totals(service), "the end of the session")
        assert totals(service).endswith("ended: 1 terminator")
        assert service.stop() == 0


def test_sigquit_ends_the_server_and_its_workers_at_once() -> None:
    def without_core() -> None:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # ignored in the background job of a script
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    with Service("--workers", "2", preexec_fn=without_core) as service:
        workers = service.workers()
        assert service.stop(signal.SIGQUIT) == -signal.SIGQUIT
        wait_until(lambda: not any(map(is_alive, workers)), "the end of the workers")


# A signal to the whole process group


@STOPS
@pytest.mark.parametrize("_round", range(6))
def test_no_worker_is_started_when_the_whole_group_is_stopped(number: signal.Signals, _round: int) -> None:
    with Service("--workers", "4", start_new_session=True) as service:
        os.killpg(service.pid, number)
        assert service.wait() == 0
        assert len(service.started()) == 4
        assert service.errors.count("stopping") == 1


def test_no_worker_is_started_when_the_workers_get_the_signal_before_the_supervisor() -> None:
    with Service("--workers", "4") as service:
        service.send(signal.SIGSTOP)
        for pid in service.current().values():
            os.kill(pid, signal.SIGTERM)
        service.send(signal.SIGTERM)
        service.send(signal.SIGCONT)
        assert service.wait() == 0
        assert len(service.started()) == 4


def test_no_worker_is_started_when_the_service_is_stopped_while_it_starts() -> None:
    before = (
        "import os\n"
        "fork = os.fork\n"
        "def fork_then_stop():\n"
        "    pid = fork()\n"
        "    pid and os.kill(os.getpid(), 15)\n"
        "    return pid\n"
        "os.fork = fork_then_stop\n"
    )
    service = Service.supervisor({}, before, workers=4)
    with service:
        assert service.addresses == []
        assert service.wait() == 0
        assert "stopped" in service.errors
        assert len(service.started()) <= 1


# The controlling terminal


class Terminal:
    """A pseudo-terminal, the controlling terminal of what is started with `preexec_fn=terminal.control`."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()

    def control(self) -> None:
        os.setsid()
        fcntl.ioctl(self.theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup themselves

    def close(self) -> None:
        """As a terminal emulator or sshd that ends."""
        for descriptor in (self.ours, self.theirs):
            if descriptor >= 0:
                os.close(descriptor)
        self.ours = self.theirs = -1


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    try:
        yield terminal
    finally:
        terminal.close()


def test_a_foreground_server_drains_and_exits_when_its_terminal_is_closed(terminal: Terminal) -> None:
    with Service("--workers", "2", preexec_fn=terminal.control) as service:
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            sock.sendall(b"last words")
            terminal.close()
            got = b""
            while part := sock.recv(100):
                got += part
            assert got == b"last words"
        assert service.wait() == 0
        assert "the terminal is closed: stopping" in service.errors
        assert len(service.started()) == 2


LEADER = """
import fcntl, os, signal, subprocess, sys, termios
os.setsid()
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
server = subprocess.Popen(sys.argv[3:], pass_fds=[int(sys.argv[2])])
os.close(int(sys.argv[2]))
print(server.pid, flush=True)
server.wait()
"""


@pytest.mark.parametrize("how", ["the terminal is closed", "the shell is killed"])
def test_a_server_below_a_shell_ends_with_the_terminal(terminal: Terminal, how: str) -> None:
    """The shell leads the session, and the kernel tells its foreground group when the shell has gone."""
    ready, theirs = os.pipe()
    server = [sys.executable, "-m", "fastecho", "--port", "0", "--ready-fd", str(theirs)]
    with subprocess.Popen(
        [sys.executable, "-c", LEADER, str(terminal.theirs), str(theirs), *server],
        pass_fds=[terminal.theirs, theirs], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as shell:
        os.close(theirs)
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        try:
            assert os.read(ready, 100)
            if how == "the shell is killed":
                shell.kill()
            else:
                terminal.close()
            wait_until(lambda: not is_alive(pid), "the end of the server")
        finally:
            os.close(ready)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            shell.kill()


def test_sighup_is_a_rolling_restart_while_the_terminal_is_there(terminal: Terminal) -> None:
    with Service("--workers", "2", preexec_fn=terminal.control) as service:
        before = service.current()
        service.send(signal.SIGHUP)
        wait_until(replaced(service, before), "the rolling restart")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_sighup_is_a_rolling_restart_without_a_terminal() -> None:
    with Service("--workers", "2", start_new_session=True) as service:
        before = service.current()
        service.send(signal.SIGHUP)
        wait_until(replaced(service, before), "the rolling restart")
        assert service.stop() == 0


def test_under_nohup_the_server_outlives_its_terminal_and_sighup_is_a_rolling_restart(terminal: Terminal) -> None:
    def nohup() -> None:
        terminal.control()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with Service("--workers", "2", preexec_fn=nohup) as service:
        before = service.current()
        terminal.close()
        wait_until(replaced(service, before), "the rolling restart")
        before = service.current()
        service.send(signal.SIGHUP)
        wait_until(replaced(service, before), "the rolling restart")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_a_terminal_that_closes_while_the_server_starts_ends_it(terminal: Terminal) -> None:
    before = (
        "import os, signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "import fastecho._workers.worker as worker\n"
        "async def never(self):\n"
        "    while True:\n"
        "        await worker.asyncio.sleep(60)\n"
        "worker.EchoServer.start = never\n"
        f"import fcntl, termios; os.setsid(); fcntl.ioctl({terminal.theirs}, termios.TIOCSCTTY, 0)\n"
        f"os.close({terminal.theirs})\n"
        "fork = os.fork\n"
        "def fork_then_tell():\n"
        "    pid = fork()\n"
        "    if pid: print('forked', flush=True)\n"
        "    return pid\n"
        "os.fork = fork_then_tell\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, "{'port': 0, 'drain_timeout': 0.1}", "{}", before],
        pass_fds=[terminal.theirs], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"forked\n"
            terminal.close()
            _, errors = process.communicate(timeout=3 * DEADLINE)
            assert b"the terminal is closed: stopping" in errors
        finally:
            process.kill()


# Others


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_umask_changes_nothing_about_the_path_of_the_socket(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "echo.sock"
    with Service("--workers", "2", unix=str(path), umask=umask) as service:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0
    assert not path.exists()
