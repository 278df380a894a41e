"""The suite again and again: what is taken from a run, and a small suite for real."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from proof import flakiness, page
from proof.findings import Findings
from proof.flakiness import SuiteError, SuiteRun
from proof.record import FAILED, PASSED, Record, Run

from pages import ROOT
from patience import DEADLINE, wait_until
from processes import is_alive

pytestmark = pytest.mark.timeout(180)

SUITE = """
import pytest

@pytest.fixture
def broken():
    raise ValueError

def test_of_a_broken_fixture(broken): pass

def test_that_is_skipped(): pytest.skip("not here")

@pytest.mark.parametrize("text", ["a - b", "c"])
def test_of_texts(text): assert text == "c"

@pytest.mark.alone
def test_alone(): assert False

@pytest.mark.parametrize("number", range(30))
def test_in_an_order(number):
    with open("order", "a") as file:
        file.write(f"{number} ")
"""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a suite, and the interpreter of this one. Its pytest has the plugins that are needed alone."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p xdist.plugin")
    (tmp_path / "build").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = alone\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_small.py").write_text(SUITE)
    return tmp_path


def test_a_run_has_the_failed_tests_of_both_parts_and_counts_those_that_passed(clone: Path) -> None:
    found = flakiness.run_suite(clone, seed=1, jobs=0, busy=1)
    small = "tests/test_small.py::"
    assert set(found.failed) == {
        f"{small}test_of_a_broken_fixture", f"{small}test_of_texts[a - b]", f"{small}test_alone"
    }  # fmt: skip
    assert found.passed == 31
    assert "test_of_texts[a - b]" in found.output


def test_the_seed_is_the_order(clone: Path) -> None:
    def order(seed: int) -> str:
        (clone / "order").unlink(missing_ok=True)
        flakiness.run_suite(clone, seed, jobs=0, busy=0, extra=["-k", "in_an_order"])
        return (clone / "order").read_text()

    assert order(1) == order(1) != order(2)


def test_what_competes_ends_with_its_parent_even_if_that_is_killed() -> None:
    code = "import os; from proof.flakiness import competing\n"
    code += "with competing(2): print(*open(f'/proc/self/task/{os.getpid()}/children'), flush=True); os._exit(0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_alive, pids)), "their end")


STUCK = """
import subprocess

def test_that_waits_for_its_server():
    server = subprocess.Popen(["sleep", "1000"])
    with open("pid", "w") as file:
        print(server.pid, file=file)
    server.wait()
"""


def test_an_interrupted_run_ends_what_its_tests_have_started(clone: Path) -> None:
    (clone / "tests" / "test_small.py").write_text(STUCK)
    code = f"import pathlib; from proof.flakiness import run_suite; run_suite(pathlib.Path({str(clone)!r}), 1, 0, 0)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        path = clone / "pid"
        wait_until(lambda: path.exists() and path.read_text().endswith("\n"), "the server", 3 * DEADLINE)
        process.send_signal(signal.SIGINT)
    wait_until(lambda: not is_alive(int(path.read_text())), "its end")


def test_a_suite_that_does_not_come_to_its_end_is_no_run(clone: Path) -> None:
    (clone / "tests" / "test_small.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(SuiteError, match=r"^pytest ended with exit code \d: "):
        flakiness.run_suite(clone, seed=1, jobs=0, busy=0)


def test_each_failure_is_named_with_the_seed_of_its_run() -> None:
    found = flakiness.evidence(SuiteRun(5, 9, ("tests/a.py::test_b",), ""), 60.0)
    assert (found.outcome, found.reason) == (FAILED, "tests/a.py::test_b (seed 5)")
    assert found.amounts == {"runs": 1, "tests_passed": 9, "failures": 1}


def test_the_page_sums_up_the_runs_of_several_sessions() -> None:
    each = [flakiness.evidence(SuiteRun(seed, 10, (), ""), 60.0) for seed in range(3)]
    runs = tuple(Run("2026-01-01 00:00 UTC", 60.0, "x", "0", {}, {}, (one,)) for one in each)
    text = page.page([Record("flakiness", runs)], Findings())
    assert f"| {flakiness.PROMISE} | `proof/flakiness.py` | 3 runs, 30 tests passed, 0 failures |" in text
    assert each[0].outcome == PASSED
    assert text.count("| flakiness | 2026-01-01 00:00 UTC | 1.0 minutes |") == 3


@pytest.mark.parametrize("arguments", [["--runs", "x"], ["--runs", "-1"], [], ["--runs", "1", "--seed", "1.5"]])
def test_bad_arguments_are_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        flakiness.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m proof.flakiness" in capsys.readouterr().err
