"""The units of deploy/systemd: systemd understands them, they confine the service, and it works so confined."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command import in_process
from pages import ROOT
from patience import DEADLINE, wait_until
from processes import Service, one_echo

UNITS = ROOT / "deploy" / "systemd"
SERVICE = (UNITS / "fastecho.service").read_text()
CONFINED = ROOT / "tests" / "support" / "confined.py"
THRESHOLD = 15
"""The most that `systemd-analyze security` may say, times ten: from 0 (confined) to 100 (a service without options)."""

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=3 * DEADLINE)


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, with a program that exists."""
    for each in UNITS.iterdir():
        (tmp_path / each.name).write_text(each.read_text().replace("/opt/fastecho/bin/fastecho", "/bin/true"))
    return sorted(map(str, tmp_path.glob("fastecho.*")))


def test_systemd_has_nothing_to_say_about_the_units(units: list[str]) -> None:
    assert [Path(each).name for each in units] == ["fastecho.service", "fastecho.socket"]
    done = analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_mistake_in_a_unit_is_found(units: list[str]) -> None:
    path = Path(units[0])
    path.write_text(path.read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in analyze("verify", "--man=no", *units).stderr


def test_the_exposure_is_below_the_threshold(units: list[str]) -> None:
    checked = ("security", "--offline=true", "--no-pager")
    done = analyze(*checked, f"--threshold={THRESHOLD}", units[0])
    assert done.returncode == 0, done.stdout
    [line] = re.findall(r"Overall exposure level .*: ([0-9.]+)", done.stdout)
    print(f"exposure {line}")
    assert analyze(*checked, f"--threshold={int(10 * float(line)) - 1}", units[0]).returncode != 0


def test_the_command_of_the_unit_has_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = re.findall(r"^ExecStart=(.*)", SERVICE, re.M)
    program, *arguments = shlex.split(line)
    assert program.endswith("/fastecho")
    outcome = in_process(arguments, {}, capsys)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.config.port == 8007  # left out: the sockets are those of the other unit


def confined(*command: str) -> list[str]:
    return [sys.executable, str(CONFINED), str(UNITS / "fastecho.service"), sys.executable, *command]


def test_the_confinement_of_the_tests_is_one() -> None:
    """The filter refuses what a service has no use for."""
    done = subprocess.run(confined("-c", "import os; os.chroot('.')"), capture_output=True, text=True, timeout=DEADLINE)
    assert "Operation not permitted" in done.stderr


def test_the_service_works_under_the_confinement_of_its_unit() -> None:
    command = confined("-m", "fastecho", "--port", "0", "--workers", "2", "--ready-fd", "READY_FD")
    with Service(command=command) as service:
        assert one_echo(service.address) == b"hello\0"
        service.send(signal.SIGHUP)
        wait_until(lambda: len(service.started()) == 4, "the new workers")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0
        assert "WARNING" not in service.errors
        assert "ERROR" not in service.errors
