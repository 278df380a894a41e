"""The container: its steps in a plain folder, and the service as the process 1 of a file system that is read-only."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clients import connect_blocking
from pages import ROOT
from patience import DEADLINE, wait_until
from processes import Service, echoes, is_alive, one_echo

UNSHARE = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
DOCKERFILE = (ROOT / "deploy" / "container" / "Dockerfile").read_text()

namespaces = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="needs unshare(1), and the permission to use it",
)


def first(service: Service) -> int:
    """The pid, seen from here, of the process 1 in the namespace."""
    wait_until(lambda: len(service.workers()) == 1, "the end of cat(1)")
    return service.workers()[0]


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def as_first(folder: Path, *arguments: str) -> list[str]:
    """The command as process 1, on a read-only file system.

    unshare(1) waits for it, and would keep the descriptor of --ready-fd open: the address takes the way of a FIFO.
    """
    fifo = folder / "ready"
    os.mkfifo(fifo)
    outside = 'cat "$0" >&READY_FD & exec READY_FD>&-; exec "$@"'
    inside = 'mount -o remount,bind,ro / && exec "$@" 9>"$0"'
    started = [*UNSHARE, "sh", "-c", inside, str(fifo), *arguments, "--port", "0", "--ready-fd", "9"]
    return ["bash", "-c", outside, str(fifo), *started]


COMMAND = (sys.executable, "-m", "fastecho", "--workers", "2")


@namespaces
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_1_drains_and_exits_with_0(number: signal.Signals, tmp_path: Path) -> None:
    with Service(command=as_first(tmp_path, *COMMAND)) as service:
        assert "(2 workers, pid 1, " in service.errors
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            os.kill(first(service), number)
            assert sock.recv(1) == b""
        assert service.wait() == 0
        assert "Traceback" not in service.errors


@namespaces
def test_process_1_replaces_a_worker_and_restarts_all(tmp_path: Path) -> None:
    with Service(command=as_first(tmp_path, *COMMAND)) as service:
        pid = first(service)
        os.kill(children(pid)[0], signal.SIGKILL)
        wait_until(lambda: len(service.started()) == 3, "the replacement")
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: len(service.started()) == 5, "the new workers")
        assert one_echo(service.address) == b"hello\0"
        os.kill(pid, signal.SIGTERM)
        assert service.wait() == 0


@namespaces
def test_process_1_reaps_orphans_that_it_did_not_start(tmp_path: Path) -> None:
    with Service(command=as_first(tmp_path, *COMMAND)) as service:
        pid = first(service)
        workers = children(pid)
        # The shell ends before its children do. They become children of process 1, each with another end.
        orphans = "for code in 1 2 3 4 5; do (sleep 0.1; exit $code) & done"
        subprocess.run(["nsenter", f"--target={pid}", "--pid", "--mount", "sh", "-c", orphans], check=True)
        wait_until(lambda: children(pid) == workers, f"the end of the orphans: {children(pid)}")
        assert all(map(is_alive, workers))
        assert "was killed" not in service.errors
        os.kill(pid, signal.SIGTERM)
        assert service.wait() == 0


@namespaces
def test_process_1_can_be_stopped_while_it_starts() -> None:
    """A default action does not apply to process 1."""
    program = "import os, signal; from fastecho._workers.signals import reset_inherited; reset_inherited()"
    kill = "os.kill(os.getpid(), signal.SIGTERM); signal.sigtimedwait([], 1)"
    done = subprocess.run([*UNSHARE, sys.executable, "-c", f"{program}; {kill}"], timeout=2 * DEADLINE)
    assert done.returncode == 143


def test_the_image_does_not_run_as_root_and_has_a_health_check() -> None:
    [user] = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.M)
    assert int(user) > 0
    [check] = re.findall(r"^HEALTHCHECK .* CMD (\[.*)$", DOCKERFILE, re.M)
    assert json.loads(check) == ["fastecho", "ping", "--once", "127.0.0.1:8007"]


@namespaces
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_steps_of_the_image_make_a_server_that_its_health_check_finds(tmp_path: Path) -> None:
    steps = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "container-steps"), str(tmp_path / "image")],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert steps.returncode == 0, steps.stderr[-2000:]
    shutil.rmtree(tmp_path / "image" / "source")  # the first stage is not in the image
    shutil.rmtree(tmp_path / "image" / "wheels")
    entry, check = map(json.loads, steps.stdout.splitlines())
    environment = {**os.environ, "FASTECHO_HOST": "*", "FASTECHO_WORKERS": "auto", "PYTHONDONTWRITEBYTECODE": "1"}
    with Service(command=as_first(tmp_path, *entry, "--metrics", "*:0"), env=environment, cwd="/") as service:
        port = service.addresses[0].rpartition(":")[2]
        check = [*check[:-1], check[-1].replace("8007", port)]
        healthy = subprocess.run(check, capture_output=True, text=True, timeout=DEADLINE)
        assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, "", "")
        os.kill(first(service), signal.SIGTERM)
        assert service.wait() == 0
    ill = subprocess.run(check, capture_output=True, text=True, timeout=DEADLINE)
    assert ill.returncode == 1
    assert "Connection refused" in ill.stdout
