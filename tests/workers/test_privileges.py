"""`--user` and `--group`: the privileges of root are gone for good, and the service works without them."""

from __future__ import annotations

import grp
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from clients import connect_blocking
from command import WITHOUT_PRIVILEGES
from fastecho._workers.privileges import resolve_identity
from fastecho.config import ServerConfig
from fastecho.errors import ConfigError, PermissionDeniedError
from patience import DEADLINE, wait_until
from ports import PRIVILEGED, held_port
from processes import Service, echoes, is_alive, one_echo

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
NOBODY = pwd.getpwnam("nobody")
OTHER = grp.getgrnam("daemon")


def status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def ids(pid: int) -> tuple[str, str, str]:
    """Real, effective, saved and file system ids of user and group, and the supplementary groups."""
    fields = status(pid)
    return fields["Uid"], fields["Gid"], fields["Groups"]


def four(number: int) -> str:
    return "\t".join([str(number)] * 4)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the user, which the user can reach: pytest's are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY.pw_uid, -1)
        yield Path(name)


@root
def test_supervisor_and_workers_have_the_ids_of_the_user_and_no_capability() -> None:
    with Service("--workers", "2", "--user", "nobody") as service:
        for pid in (service.pid, *service.workers()):
            assert ids(pid) == (four(NOBODY.pw_uid), four(NOBODY.pw_gid), str(NOBODY.pw_gid))
            fields = status(pid)
            assert {fields[name].strip("0") for name in ("CapPrm", "CapEff", "CapAmb")} == {""}
            assert fields["NoNewPrivs"] == "1"
        assert "running as nobody (uid" in service.errors
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


@root
def test_a_rolling_restart_and_a_death_after_the_change() -> None:
    with Service("--workers", "2", "--user", "nobody", "--group", OTHER.gr_name) as service:
        service.send(signal.SIGHUP)
        wait_until(lambda: len(service.started()) == 4, "the new workers")
        os.kill(service.current()[0], signal.SIGKILL)
        wait_until(lambda: len(service.started()) == 5, "the replacement")
        for pid in service.current().values():
            assert ids(pid)[:2] == (four(NOBODY.pw_uid), four(OTHER.gr_gid))
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


@root
def test_numbers_name_a_user_and_a_group_too() -> None:
    with Service("--user", "54321", "--group", "54322") as service:
        assert ids(service.pid) == (four(54321), four(54322), "54322")
        assert service.stop() == 0


@root
def test_workers_run_on_uvloop_although_the_user_cannot_read_the_installation() -> None:
    """The modules that a worker imports late have been imported before."""
    before = """
import os, sys
from fastecho._workers import privileges
drop = privileges.drop_privileges
def then_hide(identity):
    drop(identity)
    sys.path[:] = []
    sys.path_importer_cache.clear()
from fastecho._workers import supervisor
supervisor.drop_privileges = then_hide
from fastecho._workers import worker
serve = worker.Worker.run
async def run(self):
    import asyncio
    print("the loop is of", type(asyncio.get_running_loop()).__module__, file=sys.stderr, flush=True)
    return await serve(self)
worker.Worker.run = run
"""
    with Service.supervisor({}, before, user="nobody", fault="latency(0.001)") as service:
        service.wait_for("the loop is of uvloop")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


@root
def test_no_worker_outlives_a_supervisor_that_has_changed_its_user() -> None:
    with Service("--workers", "2", "--user", "nobody") as service:
        workers = service.workers()
        service.process.kill()
        wait_until(lambda: not any(map(is_alive, workers)), "the workers to be gone")


@root
def test_the_signal_at_the_end_of_the_parent_is_set_again() -> None:
    """The kernel clears it when the user changes: this supervisor has asked for it, and its parent ends."""
    start = """
import ctypes, os, sys
if os.fork():
    os.closerange(3, 200)
    input()
    os._exit(0)
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
    options = ["--port", "0", "--user", "nobody", "--ready-fd", "READY_FD"]
    command = [sys.executable, "-c", start, "-m", "fastecho", *options]
    with Service(command=command, stdin=subprocess.PIPE) as service:
        [supervisor] = service.workers()
        assert status(supervisor)["Uid"] == four(NOBODY.pw_uid)
        service.process.communicate(timeout=DEADLINE)
        wait_until(lambda: not is_alive(supervisor), "the end of the supervisor")


@pytest.fixture
def privileged_port() -> Iterator[int]:
    with held_port(PRIVILEGED) as port:
        yield port


@root
def test_no_other_test_gets_a_port_that_one_holds(privileged_port: int) -> None:
    with held_port(PRIVILEGED) as other:
        assert other != privileged_port


@root
def test_a_privileged_port_is_bound_before(privileged_port: int) -> None:
    command = [sys.executable, "-m", "fastecho", "--port", str(privileged_port)]
    with Service(command=[*command, "--user", "nobody", "--ready-fd", "READY_FD"]) as service:
        assert service.addresses == [f"tcp://127.0.0.1:{privileged_port}"]
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


# Root without capabilities, or with CAP_NET_BIND_SERVICE (10) alone.
_ONLY_BIND = WITHOUT_PRIVILEGES[1].replace("range(64)", "set(range(64)) - {10}")


@root
def test_a_privileged_port_needs_the_capability_and_no_more(privileged_port: int) -> None:
    command = [sys.executable, "-c", _ONLY_BIND, "-m", "fastecho", "--port", str(privileged_port)]
    command += ["--ready-fd", "READY_FD"]
    with Service(command=command) as service:
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0
    command[2] = WITHOUT_PRIVILEGES[1]
    with Service(command=command) as service:
        assert service.wait() == 77
        [line] = service.errors.splitlines()
        hint = "ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= of systemd), or root and --user"
        assert line.endswith(f"tcp://127.0.0.1:{privileged_port}: permission denied; {hint}")


@root
def test_the_unix_socket_belongs_to_the_user(folder: Path) -> None:
    path = folder / "echo.sock"
    with Service("--user", "nobody", unix=str(path)) as service:
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (NOBODY.pw_uid, NOBODY.pw_gid, 0o600)
        with connect_blocking(str(path)) as sock:
            assert echoes(sock)
        assert service.stop() == 0
    assert not path.exists()


@root
def test_the_pid_file_is_written_before(tmp_path: Path) -> None:
    path = tmp_path / "fastecho.pid"
    with Service("--user", "nobody", "--pid-file", str(path)) as service:
        assert path.read_text() == f"{service.pid}\n"
        assert path.stat().st_uid == 0
        assert service.stop() == 0
    # Its folder is root's, so it stays, and is stale.
    with Service("--pid-file", str(path)) as service:
        assert service.stop() == 0
    assert not path.exists()


@root
def test_a_key_that_the_user_cannot_read_is_one_line(folder: Path) -> None:
    key = folder / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(key))
    key.chmod(0o600)
    with Service("--user", "nobody", "--tls-cert", str(key), "--log-level", "error") as service:
        assert service.wait() == 78
        [line] = service.errors.splitlines()
        assert line.endswith(f"tls_cert {key}: must be readable by the user nobody, as each worker reads it")


@root
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--user", "no-such-user"], "--user no-such-user: must be a user of this system"),
        (["--user", "nobody", "--group", "no-such-group"], "--group no-such-group: must be a group of this system"),
        (["--user", "root"], "--user root: must be another user than root"),
        (["--user", "0"], "--user 0: must be another user than root"),
        (["--user", "54321"], "--user 54321: must have an entry on this system, or a group beside it"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_line(arguments: list[str], line: str) -> None:
    with Service(*arguments) as service:
        assert service.wait() == 2
        assert re.sub(".* ERROR ", "", service.errors) == f"{line}\n"


def test_without_root_there_is_one_line_and_77() -> None:
    program = f"""
import os
from fastecho._workers.privileges import resolve_identity
from fastecho.config import ServerConfig
from fastecho.errors import PermissionDeniedError
if os.geteuid() == 0:
    os.setuid({NOBODY.pw_uid})
try:
    resolve_identity(ServerConfig(user="nobody"))
except PermissionDeniedError as error:
    assert error.exit_code == 77
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE)
    assert (done.stdout, done.stderr) == ("user nobody: only root may change the user of the process\n", "")


def test_without_a_user_nothing_changes() -> None:
    assert resolve_identity(ServerConfig()) is None
    with pytest.raises(ConfigError, match="needs a user beside it: user"):
        ServerConfig(group="daemon")


@root
def test_privileges_that_could_be_had_again_are_an_error() -> None:
    """SECBIT_NO_SETUID_FIXUP keeps the capabilities, so the process could become root again."""
    program = """
import ctypes
from fastecho._workers.privileges import drop_privileges, resolve_identity
from fastecho.config import ServerConfig
from fastecho.errors import PermissionDeniedError
assert ctypes.CDLL(None).prctl(28, 1 << 2, 0, 0, 0) == 0
try:
    drop_privileges(resolve_identity(ServerConfig(user="nobody")))
except PermissionDeniedError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE)
    assert (done.stdout, done.stderr) == ("user nobody: the privileges of root are not gone\n", "")


@root
def test_a_refusal_of_the_system_is_one_line() -> None:
    """Root without the capability cannot change its user."""
    program = """
from fastecho._workers.privileges import drop_privileges, resolve_identity
from fastecho.config import ServerConfig
try:
    drop_privileges(resolve_identity(ServerConfig(user="nobody")))
except PermissionError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, *WITHOUT_PRIVILEGES, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("user nobody: cannot be changed to: Operation not permitted\n", "")
    assert PermissionDeniedError.exit_code == 77
