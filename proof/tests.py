"""The tests with the marker `proof`, run by pytest: those that need the machine to themselves after the others."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from proof.record import ROOT, Evidence, read_evidence

NO_TESTS = 5
# Seconds for one test. A release has tests of hours.
TIMEOUT = {"proof": 240, "release": 0}


class Interrupted(Exception):
    """pytest did not come to its end; the record of the run before stays."""


def run(amount: str, jobs: int, extra: Sequence[str] = ()) -> tuple[Evidence, ...]:
    """Run them, `jobs` at a time. Raises Interrupted unless pytest ran them all."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "evidence"
        file.touch()
        _pytest("proof and not alone", amount, file, ["-n", str(jobs), "--dist", "worksteal", *extra])
        _pytest("proof and alone", amount, file, extra)
        found = tuple(read_evidence(file.read_text(encoding="utf-8").splitlines()))
    if not found:
        raise Interrupted("no test was chosen")
    return found


def _pytest(chosen: str, amount: str, evidence: Path, extra: Sequence[str]) -> None:
    options = ["-m", chosen, f"--amount={amount}", f"--evidence={evidence}", f"--timeout={TIMEOUT[amount]}"]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", *options, *extra]
    code = subprocess.run(command, cwd=ROOT).returncode
    if code not in (0, 1, NO_TESTS):
        raise Interrupted(f"pytest ended with exit code {code}")
