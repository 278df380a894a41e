"""Streams, beyond the table of conditions: terminals, writers that never wait, names that are no text."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastecho
from command import ASCII_LOCALE, clean_environment
from patience import DEADLINE, wait_until

QUICK = ("-c", "2", "-d", "500ms", "--warmup", "0")

extensions_load_in_ascii = pytest.mark.skipif(
    sys.version_info >= (3, 13) and not fastecho.__file__.isascii(),
    reason="Python 3.13 loads no extension module from a path that the locale cannot encode",
)


@pytest.fixture
def target() -> Iterator[str]:
    with fastecho.serve(port=0, terminator=None) as server:
        yield "tcp://{}:{}".format(*server.address)


def run(*arguments: str | bytes, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*python(environ), "-m", "fastecho", *arguments], env=clean_environment(environ or {}), capture_output=True,
        timeout=3 * DEADLINE,
    )  # fmt: skip


def python(environ: dict[str, str] | None) -> list[str]:
    return [sys.executable, "-S"] if environ == ASCII_LOCALE else [sys.executable]


def read_terminal(descriptor: int) -> bytes:
    """Everything until the programs at the other end have closed it."""
    data = b""
    while True:
        try:
            data += os.read(descriptor, 65536)
        except OSError:
            return data


@extensions_load_in_ascii
def test_an_ascii_terminal_gets_plain_characters(target: str) -> None:
    ours, theirs = os.openpty()
    environ = clean_environment({**ASCII_LOCALE, "TERM": "xterm"})
    command = [sys.executable, "-S", "-m", "fastecho", "bench", target, *QUICK]
    with subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = read_terminal(ours).decode("ascii")
        os.close(ours)
        assert process.wait(DEADLINE) == 0, shown
    assert "##########" in shown
    assert "+--" in shown
    assert "Traceback" not in shown


def test_a_terminal_that_is_closed_is_no_error(target: str) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "fastecho", "ping", target, "-i", "1ms"]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=clean_environment({})) as process:
        os.close(theirs)
        assert b"seq=1" in read_some(ours, b"seq=1")
        os.close(ours)
        _, err = process.communicate(timeout=2 * DEADLINE)
    assert (process.returncode, err) == (0, b"")


def read_some(descriptor: int, word: bytes) -> bytes:
    data = b""
    while word not in data:
        data += os.read(descriptor, 65536)
    return data


def test_a_quiet_ping_ends_with_its_reader_too(target: str) -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "fastecho", "ping", target, "-q", "-i", "3600"]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=clean_environment({})) as process:
        os.close(writer)
        assert os.read(reader, 4) == b"PING"
        os.close(reader)
        _, err = process.communicate(timeout=2 * DEADLINE)
    assert (process.returncode, err) == (0, b"")


def test_a_pipe_that_does_not_block_gets_everything() -> None:
    reader, writer = os.pipe()
    room = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    command = [sys.executable, "-m", "fastecho", "--help"]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=clean_environment({})) as process:
        os.close(writer)
        wait_until(lambda: waiting(reader) == room or process.poll() is not None, "the pipe to be full")
        data = b""
        while part := os.read(reader, 65536):
            data += part
        os.close(reader)
        _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (0, b"")
    assert data == run("--help").stdout
    assert len(data) > room


def waiting(descriptor: int) -> int:
    """Bytes that can be read from a pipe."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_one_line_on_standard_error_is_all_that_a_full_disk_makes(target: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "fastecho", "bench", target, "-q", *QUICK, "--json", str(path)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=clean_environment({}))
    assert done.returncode == 1
    assert done.stderr == b"fastecho: standard output: cannot be written: No space left on device\n"
    assert path.exists()


@pytest.mark.parametrize(
    "environ", [pytest.param({}, id="utf-8"), pytest.param(ASCII_LOCALE, id="ascii", marks=extensions_load_in_ascii)]
)
@pytest.mark.parametrize("name", ["ü".encode(), b"\xff"], ids=["text", "bytes"])
def test_a_path_of_any_bytes_is_served_announced_and_measured(
    name: bytes, environ: dict[str, str], tmp_path: Path
) -> None:
    path, page = os.fsencode(tmp_path) + b"/" + name, tmp_path / "run.html"
    mine, theirs = socket.socketpair()
    with mine, theirs:
        command = [*python(environ), "-m", "fastecho", "--unix", path, "--terminator", "none", "--ready-fd",
                   str(theirs.fileno())]  # fmt: skip
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(
            command, env=clean_environment(environ), pass_fds=[theirs.fileno()], **pipes
        ) as process:  # fmt: skip
            theirs.close()
            mine.settimeout(2 * DEADLINE)
            assert mine.recv(4096) == b"unix:" + path + b"\n"
            measured = run("bench", b"unix:" + path, *QUICK, "--report", str(page), environ=environ)
            pinged = run("ping", b"unix:" + path, "-c", "1", environ=environ)
            process.terminate()
            _, err = process.communicate(timeout=2 * DEADLINE)
    assert (process.returncode, measured.returncode, pinged.returncode) == (0, 0, 0), (measured, pinged)
    assert page.read_text(encoding="utf-8").endswith("</html>\n")
    for shown in (err, measured.stdout, measured.stderr, pinged.stdout):
        assert b"Traceback" not in shown
        shown.decode("ascii" if environ else "utf-8")
    assert b"server CPU" in measured.stdout


def test_a_process_with_any_name_does_not_end_a_run(target: str) -> None:
    rename = "open('/proc/self/comm', 'wb').write(b'\\xff \\xfe'); print(); input()"
    with subprocess.Popen([sys.executable, "-c", rename], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        done = run("bench", target, "-q", *QUICK)
        other.communicate(b"\n")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_program_without_streams_can_run_a_server() -> None:
    program = """
import os, signal, sys, threading, fastecho
ready, theirs = os.pipe()
assert sys.stdout is None and sys.stderr is None
threading.Thread(target=lambda: (os.read(ready, 100), os.kill(os.getpid(), signal.SIGTERM))).start()
sys.exit(fastecho.run(fastecho.ServerConfig(port=0, workers=2, ready_fd=theirs)))
"""
    shell = 'exec "$@" >&- 2>&-'
    done = subprocess.run(["/bin/sh", "-c", shell, "sh", sys.executable, "-c", program], timeout=2 * DEADLINE)
    assert done.returncode == 0
