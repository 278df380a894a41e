"""The server that `fastecho bench` starts for itself: what it inherits, and that it never outlives `bench`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from command import clean_environment
from patience import DEADLINE, wait_until
from processes import is_alive

USABLE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
LONG = ("bench", "-q", "-d", "60s", "--workers", "2")


@contextmanager
def bench(*arguments: str, **popen: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "fastecho", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": clean_environment({})}
    with subprocess.Popen(command, **{**pipes, **popen}) as process:
        try:
            yield process
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    """The children of all threads of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, task.read_text().split())
    return found


def descriptors(pid: int) -> list[str]:
    return [str((Path(f"/proc/{pid}/fd") / str(number)).readlink()) for number in range(3)]


def server_of(pid: int) -> list[int]:
    """The own server of a `bench` with two workers, once all serve: its supervisor, then the workers."""

    def family() -> list[int]:
        for supervisor in children(pid):
            if len(workers := children(supervisor)) == 2:
                return [supervisor, *workers]
        return []

    return wait_until(family, "the server and its workers")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_no_process_outlives_a_bench_that_is_killed(number: signal.Signals) -> None:
    with bench(*LONG) as process:
        left = server_of(process.pid)
        process.send_signal(number)
        wait_until(lambda: not any(map(is_alive, left)), "the server and its workers to be gone")


def test_no_process_outlives_a_bench_that_is_killed_while_the_server_starts() -> None:
    with bench(*LONG) as process:
        [server] = wait_until(lambda: children(process.pid), "the server's process")
        process.kill()
        wait_until(lambda: not is_alive(server), "the server to be gone")


def test_no_process_is_left_when_bench_ends_by_itself() -> None:
    with bench("bench", "-q", "-d", "500ms", "--warmup", "0", "--workers", "2") as process:
        left = server_of(process.pid)
        out, err = process.communicate(timeout=2 * DEADLINE)
        assert (process.returncode, err) == (0, ""), out
        assert not any(map(is_alive, left))


def test_the_server_has_no_terminal_in_common_with_bench() -> None:
    """Ctrl-C goes to the whole process group of the terminal; the server must serve until bench has ended its run."""
    with bench(*LONG) as process:
        server = server_of(process.pid)[0]
        session = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[3])
        assert session == server


def test_no_socket_takes_the_number_of_a_closed_stream() -> None:
    close = 'exec "$@" <&- >&- 2>&-'
    command = ["/bin/sh", "-c", close, "sh", sys.executable, "-m", "fastecho", *LONG]
    with subprocess.Popen(command, env=clean_environment({})) as process:
        try:
            supervisor, *workers = server_of(process.pid)
            assert descriptors(process.pid) == ["/dev/null"] * 3
            for pid in (supervisor, *workers):
                assert descriptors(pid)[:2] == ["/dev/null"] * 2
                assert descriptors(pid)[2].startswith("pipe:")
        finally:
            process.kill()


@pytest.mark.parametrize("start", [["-m", "fastecho"], ["-c", "from fastecho.cli.main import main; main()"]])
def test_the_server_is_imported_from_where_bench_is(start: Sequence[str], tmp_path: Path) -> None:
    """A copy of the package on PYTHONPATH is measured, not the one that is installed."""
    import shutil

    import fastecho

    copy = tmp_path / "copy"
    shutil.copytree(Path(fastecho.__file__).parent, copy / "fastecho", ignore=shutil.ignore_patterns("__pycache__"))
    here = tmp_path / "here"
    here.mkdir()
    with open(copy / "fastecho" / "_workers" / "supervisor.py", "a") as module:
        module.write("\nraise RuntimeError('the copy')\n")
    done = subprocess.run(
        [sys.executable, *start, "bench", "-q", "-d", "50ms"],
        env=clean_environment({"PYTHONPATH": str(copy)}), cwd=here, capture_output=True, text=True,
    )  # fmt: skip
    assert "the server did not start: this is a bug in fastecho: RuntimeError: the copy" in done.stderr


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('the copy')", "RuntimeError: the copy"),
        ("raise SystemExit('{\"message\": \"no such user\"}')", "no such user"),
        ("raise SystemExit(1)", "it logged nothing"),
    ],
    ids=["a line of Python", "a line of the log", "no line"],
)  # fmt: skip
def test_the_last_line_of_a_server_that_does_not_start_is_its_reason(
    fastecho: Any, body: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fastecho").mkdir()
    (tmp_path / "fastecho" / "__init__.py").write_text(body, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code, out, err = fastecho("-q", "-d", "50ms")
    assert (code, out, err) == (1, "", f"fastecho: the server did not start: {reason}\n")


def test_an_interpreter_that_is_not_there_is_one_line(fastecho: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    code, out, err = fastecho("-q", "-d", "50ms")
    assert (code, out) == (1, "")
    assert err.startswith("fastecho: cannot start a server: ")
    assert "/nowhere/python" in err


@pytest.mark.skipif(len(USABLE) < 2, reason="one CPU")
def test_the_server_leaves_the_chosen_cpu_to_the_load() -> None:
    """By itself, it would take the first one."""
    with bench("bench", "-q", "-d", "60s", "--cpus", str(USABLE[0])) as process:
        [server] = wait_until(lambda: children(process.pid), "the server's process")
        assert wait_until(lambda: os.sched_getaffinity(server), "its CPUs") == set(USABLE[1:])
