"""UNIX sockets: no fault that they do not have, and a path that is short enough wherever temporary files are kept."""

from __future__ import annotations

import ast
import gc
import os
import posix
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from clients import connect_blocking, read_exactly, read_to_eof
from command import WITHOUT_PRIVILEGES
from fastecho import ServerConfig
from fastecho.errors import AddressError, AddressInUseError, ConfigError
from fastecho.testing import Fault, async_echo_server, echo_server, sweep
from patience import DEADLINE

NO_RST = [
    ("reset()", "reset sends RST"),
    ("reset(after_sent=3).nth(2)", "reset sends RST"),
    ("refuse()", "refuse sends RST"),
    ("stop_reading(1000)", r"stop_reading\(window\) sets the receive window"),
]
OTHERS = [
    "close(after_sent=2)", "abort(after_sent=2)", "half_close(after_sent=2)", "stall(after_sent=2)",
    "stop_reading(after_received=2)", "latency(0)", "bandwidth(1000)", "slice(1)", "coalesce(2)", "corrupt(0)",
    "drop(0)", "duplicate(0)", "inject(0, 'x')", "blackhole()", "slow_accept(0)",
]  # fmt: skip


def echoes(server) -> bool:
    with connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        return read_exactly(sock, 1) == b"x"


@pytest.mark.parametrize(("fault", "why"), NO_RST)
def test_a_fault_that_a_unix_socket_has_not_is_refused_where_it_is_asked_for(fault, why, tmp_path) -> None:
    path = str(tmp_path / "s")
    said = f"^fault .*: {why}, which a UNIX socket has not; use TCP$"
    with pytest.raises(ConfigError, match=said):
        ServerConfig(unix=path, fault=fault)
    for make in (echo_server, async_echo_server):
        for options in ({"family": "unix"}, {"unix": path}):
            with pytest.raises(ConfigError, match=said):
                make(faults=[fault], **options)
            with pytest.raises(ConfigError, match=said):
                make(fault=fault, **options)
    with echo_server(family="unix") as server:
        with pytest.raises(ConfigError, match=said):
            server.fault("latency(0)", fault)
        with pytest.raises(ConfigError, match=said):
            server.arm(fault)
        assert echoes(server)
    with echo_server() as server:
        server.arm(fault, must_fire=False)


@pytest.mark.parametrize("fault", OTHERS)
def test_the_other_faults_are_taken(fault) -> None:
    with echo_server(family="unix") as server:
        with server.fault(fault, must_fire=False) as armed, connect_blocking(server.address) as sock:
            sock.sendall(b"hello")
            server.wait_connections(1)
        assert armed.selected == 1


def test_every_kind_of_fault_is_thought_of() -> None:
    from fastecho.faults import parse_faults

    (*_, stop_reading), tls = (text for text, _ in NO_RST), {"tls_abort", "tls_stall", "no_close_notify"}
    assert stop_reading.startswith("stop_reading")
    kinds = {fault.kind for text in [*OTHERS, *(text for text, _ in NO_RST)] for fault in parse_faults(text)}
    made = {name for name in vars(Fault) if isinstance(vars(Fault)[name], staticmethod)}
    assert kinds | tls == made


def test_an_abort_of_the_tls_handshake_is_refused_too() -> None:
    with pytest.raises(ConfigError, match="tls_abort sends RST, which a UNIX socket has not"):
        echo_server(family="unix", tls="valid", faults=["tls_abort()"])


def test_a_reset_by_hand_is_refused() -> None:
    with echo_server(family="unix") as server, connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        assert read_exactly(sock, 1) == b"x"
        with pytest.raises(RuntimeError, match=r"^a UNIX socket has no RST: use close\(\), or TCP$"):
            server.connections[0].reset()
        with pytest.raises(ConfigError, match="how reset: must be fin on a UNIX socket"):
            server.close_all("reset")
        server.connections[0].close()
        assert read_to_eof(sock) == b""
        server.reset()
        assert server.connections == ()


def test_a_sweep_of_resets_is_refused_before_the_dialogue() -> None:
    with pytest.raises(ConfigError, match="reset sends RST"):
        sweep(Fault.reset, lambda server: pytest.fail("the dialogue was run"), family="unix")


def test_a_sweep_ends_a_dialogue_that_hangs() -> None:
    def dialogue(server):
        with connect_blocking(server.address) as sock:
            sock.sendall(b"ab")
            return read_exactly(sock, 2)

    outcome = sweep(Fault.stall, dialogue, family="unix", timeout=0.2, offsets=[0, 1], echo=None)
    assert outcome.hung == (0, 1)
    assert all("does not end" not in each.text for each in outcome.outcomes)


def test_the_command_refuses_a_reset_on_a_unix_socket(tmp_path) -> None:
    command = [sys.executable, "-m", "fastecho", "--unix", str(tmp_path / "s"), "--fault", "reset(after_sent=3)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.splitlines() == [
        "fastecho: --fault reset(after_sent=3): reset sends RST, which a UNIX socket has not; use TCP"
    ]
    assert done.returncode == 2


# Where the socket is


# The folder is read from the environment when the package is imported, since a test may replace `tempfile` later.
SERVE = """
import os, socket, stat, sys
from fastecho.testing import echo_server
for path in sys.argv[1:]:
    os.rmdir(path)
with echo_server(family="unix") as server:
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(server.address)
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        with server.down():
            pass
    folder = os.path.dirname(server.address)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
assert not os.path.exists(folder)
print(os.fsencode(os.path.dirname(folder)))
"""


def parent_of_the_folder(tmpdir: Path, *removed: Path) -> Path:
    """Where a program with that TMPDIR makes the folder of its socket; it removes the others before."""
    command = [sys.executable, "-W", "error", "-c", SERVE, *map(str, removed)]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(tmpdir)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return Path(os.fsdecode(ast.literal_eval(done.stdout)))


@pytest.fixture
def short():
    """A folder whose path is short enough for a socket in it; that of `tmp_path` may not be."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


@pytest.mark.parametrize("letters", ["a" * 60, "ж" * 40])
def test_a_tmpdir_that_is_too_long_is_not_used(tmp_path, letters) -> None:
    long = tmp_path / letters / letters
    long.mkdir(parents=True)
    assert parent_of_the_folder(long) == Path("/tmp")
    assert list(long.iterdir()) == []


@pytest.mark.parametrize("name", ["ж", "with space", "%s;"])
def test_a_tmpdir_with_other_letters_is_used(short, name) -> None:
    (short / name).mkdir()
    assert parent_of_the_folder(short / name) == short / name


def test_another_folder_is_used_when_the_tmpdir_is_removed(short) -> None:
    (short / "gone").mkdir()
    assert parent_of_the_folder(short / "gone", short / "gone") == Path("/tmp")


def test_another_folder_is_used_when_the_tmpdir_is_no_folder(short) -> None:
    (short / "file").touch()
    assert parent_of_the_folder(short / "file") == Path("/tmp")


def test_no_folder_at_all_is_said_in_one_line(monkeypatch) -> None:
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(posix, "mkdir", refuse)
    with pytest.raises(
        AddressError, match=r"^no folder for a UNIX socket: .*Permission denied.*; give its path"
    ) as caught:
        echo_server(family="unix").start()
    assert "\n" not in str(caught.value)


def test_a_file_in_the_way_of_a_down_leaves_the_server_up(tmp_path) -> None:
    """While it is down, the path belongs to a socket that is made at the path with a tilde."""
    with echo_server(unix=str(tmp_path / "s")) as server:
        (tmp_path / "s~").touch()
        with pytest.raises(AddressInUseError) as caught:
            server.down()
        assert str(caught.value) == f"unix:{tmp_path}/s~: in the way of down(); remove it"
        gc.collect()  # a socket that was not closed warns
        assert echoes(server)
        (tmp_path / "s~").unlink()
        with server.down(), pytest.raises(ConnectionRefusedError):
            connect_blocking(server.address)
        assert echoes(server)


def test_a_down_in_a_folder_that_was_removed_names_the_path(tmp_path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with echo_server(unix=str(folder / "s")) as server:
        shutil.rmtree(folder)
        with pytest.raises(AddressError) as caught:
            server.down()
        assert str(caught.value) == f"unix:{folder}/s~: down() needs the path: No such file or directory"


DOWN = """
import os, sys
from fastecho.errors import PermissionDeniedError
from fastecho.testing import echo_server
folder = sys.argv[1]
with echo_server(unix=folder + "/s") as server:
    os.chmod(folder, 0o555)
    try:
        server.down()
    except PermissionDeniedError as error:
        print(error)
    os.chmod(folder, 0o755)
"""


def test_a_down_in_a_folder_that_may_not_be_written_is_not_permitted(tmp_path) -> None:
    command = [sys.executable, *WITHOUT_PRIVILEGES, "-W", "error", "-c", DOWN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"unix:{tmp_path}/s~: down() needs the path: Permission denied\n"


# What `tempfile` does where no folder that it tries can be written to.
NOWHERE = """
import tempfile
def gettempdir():
    raise FileNotFoundError(2, "No usable temporary directory found")
tempfile.gettempdir = gettempdir
"""


def test_the_package_is_imported_where_there_is_no_temporary_folder() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", NOWHERE + SERVE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "b'/tmp'\n"
