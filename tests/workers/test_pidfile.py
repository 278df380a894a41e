"""The pid file: whose it is, when it is replaced, and that it is never seen half written."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastecho._workers.pidfile import PidFile
from fastecho.errors import AddressInUseError, ConfigError, PermissionDeniedError
from patience import DEADLINE
from processes import Service


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fastecho.pid"


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(DEADLINE)
    return process.pid


def test_the_file_has_the_pid_of_the_supervisor_and_goes_at_the_end(path: Path) -> None:
    with Service("--workers", "2", "--pid-file", str(path)) as service:
        assert path.read_text() == f"{service.pid}\n"
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0
        assert service.stop() == 0
    assert list(path.parent.iterdir()) == []


def test_a_second_instance_with_the_file_is_refused_and_the_file_stays(path: Path) -> None:
    with Service("--pid-file", str(path)) as service:
        with Service("--pid-file", str(path)) as second:
            assert second.wait() == 69
            assert second.errors.rstrip().endswith(f"{path}: is that of the process {service.pid}, which runs")
        assert path.read_text() == f"{service.pid}\n"
        assert service.stop() == 0


def test_the_file_of_a_server_that_was_killed_is_replaced(path: Path) -> None:
    with Service("--pid-file", str(path)) as service:
        service.stop(signal.SIGKILL)
        assert path.read_text() == f"{service.pid}\n"
    with Service("--pid-file", str(path)) as service:
        assert path.read_text() == f"{service.pid}\n"
        assert service.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "\n", "0\n", str(1 << 40), "DEAD"])
def test_a_stale_file_is_replaced(path: Path, content: str) -> None:
    path.write_text(content.replace("DEAD", f"{ended_pid()}\n"))
    PidFile(str(path)).write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert list(path.parent.iterdir()) == [path]


def test_the_file_of_a_process_that_runs_is_refused(path: Path) -> None:
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(AddressInUseError, match=f"the process {os.getppid()}, which runs"):
        PidFile(str(path)).write()
    assert list(path.parent.iterdir()) == [path]
    assert path.read_text() == f"{os.getppid()}\n"


def test_the_file_with_our_own_pid_is_ours(path: Path) -> None:
    """In a container every server has the pid 1."""
    path.write_text(f"{os.getpid()}\n")
    PidFile(str(path)).write()
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_process_that_is_younger_than_the_file_has_got_its_number_by_chance(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        path.write_text(f"{process.pid}\n")
        a_day_ago = time.time() - 86400
        os.utime(path, (a_day_ago, a_day_ago))
        PidFile(str(path)).write()
        assert path.read_text() == f"{os.getpid()}\n"
    finally:
        process.communicate()


@pytest.mark.parametrize("content", ["root:x:0:0\n", "7" * 40, "-7\n"])
def test_another_file_is_not_replaced(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(ConfigError, match="must be a new file, or one that holds a pid"):
        PidFile(str(path)).write()
    assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_and_a_symbolic_link_are_not_replaced(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be written: Is a directory"):
        PidFile(str(path)).write()
    link = path / "link"
    link.symlink_to(path / "target")
    with pytest.raises(ConfigError, match="cannot be written"):
        PidFile(str(link)).write()
    assert not (path / "target").exists()


def test_a_file_that_is_no_longer_ours_stays(path: Path) -> None:
    file = PidFile(str(path))
    file.write()
    path.unlink()
    path.write_text("4242\n")
    file.remove()
    assert path.read_text() == "4242\n"


def test_a_forked_child_does_not_remove_the_file(path: Path) -> None:
    file = PidFile(str(path))
    file.write()
    child = os.fork()
    if child == 0:
        file.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()
    file.remove()
    assert not path.exists()


def test_a_folder_that_does_not_exist_is_one_line() -> None:
    path = "/nowhere/fastecho.pid"
    with Service("--pid-file", path) as service:
        assert service.wait() == 2
        [line] = service.errors.splitlines()
        assert line.endswith(f"--pid-file {path}: cannot be written: No such file or directory")


def test_no_permission_is_exit_code_77() -> None:
    assert PermissionDeniedError.exit_code == 77
    if os.geteuid() == 0:
        with pytest.raises((PermissionDeniedError, ConfigError)):
            PidFile("/proc/fastecho.pid").write()


def test_a_folder_that_may_not_be_written_is_exit_code_77(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("fastecho._workers.pidfile.os.open", refuse)
    with pytest.raises(PermissionDeniedError, match=f"pid_file {path}: permission denied"):
        PidFile(str(path)).write()


@pytest.mark.parametrize("stale", [False, True])
def test_a_file_system_without_links(path: Path, monkeypatch: pytest.MonkeyPatch, stale: bool) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if stale:
        path.write_text(f"{ended_pid()}\n")
    monkeypatch.setattr(os, "link", refuse)
    file = PidFile(str(path))
    file.write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert list(path.parent.iterdir()) == [path]
    file.remove()
    assert list(path.parent.iterdir()) == []


def test_a_link_that_fails_for_another_reason_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        PidFile(str(path)).write()
    assert list(path.parent.iterdir()) == []


def test_of_many_that_start_together_over_a_stale_file_one_writes_it(path: Path) -> None:
    """Each is a process of its own: a thread would take the file of another one for its own."""
    program = """
import sys, os
from fastecho._workers.pidfile import PidFile
from fastecho.errors import AddressInUseError
print("ready", flush=True)
input()
try:
    PidFile(sys.argv[1]).write()
    print("mine", flush=True)
except AddressInUseError:
    print("refused", flush=True)
input()
"""
    path.write_text(f"{ended_pid()}\n")
    many = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         text=True, bufsize=1)
        for _ in range(6)
    ]  # fmt: skip
    seen: list[str] = []
    watching = threading.Event()

    def watch() -> None:
        while not watching.is_set():
            seen.append(path.read_text())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for each in many:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in many:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        answers = [each.stdout.readline() for each in many if each.stdout is not None]
        assert sorted(answers) == ["mine\n"] + ["refused\n"] * 5
        owner = many[answers.index("mine\n")]
        assert path.read_text() == f"{owner.pid}\n"
    finally:
        watching.set()
        watcher.join()
        for each in many:
            each.communicate("\n")
    assert all(text.strip().isdigit() for text in seen), "a file that was not complete has been seen"
    assert list(path.parent.iterdir()) == [path]
