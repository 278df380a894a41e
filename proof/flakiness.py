"""`make flakiness RUNS=30`: the suite again and again, in random order, on busy cores, in a fresh clone.

    python -m proof.flakiness --runs 30         adds to proof/records/flakiness.json; the page sums several up
    python -m proof.flakiness --runs 1 --no-record -- -k linger      a part of the suite; writes nothing
    python -m proof.flakiness --runs 1 --seed 7     the order of a run that failed

The last commit is cloned into a folder `fastecho` below one whose name has a space and a letter outside ASCII, and
built there. Each run has a seed of its order. Five tests for each core run at a time. With `--busy`, processes that
compute without end compete with them: where the kernel shares the CPU out to sessions (autogroup in sched(7)), one such
process has a whole core. The output of a run that failed is kept in build/flakiness. SIGINT or SIGTERM ends the run
under way; those before it are recorded.

Exit code: 0 no test failed, 1 one did, 2 usage, or pytest did not come to its end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from proof import machine, page
from proof.record import FAILED, PASSED, ROOT, Evidence, Record

PROMISE = (
    "The suite passes in random order and on busy cores, in a clone whose path has a space and a letter outside ASCII."
)
TEST = "proof/flakiness.py"
FOLDER = "fäst echo"
KEPT = ROOT / "build" / "flakiness"
# Those that measure need the machine to themselves: one after the other, and nothing competes with them.
TOGETHER, ALONE = "not alone", "alone"


# It ends with its parent, however that ends.
COMPUTE = "import os, sys; parent = int(sys.argv[1])\nwhile os.getppid() == parent: sum(range(100_000))"


class SuiteError(Exception):
    """pytest did not run the suite to its end; one line."""


@dataclass(frozen=True)
class SuiteRun:
    """The suite once. failed: the ids of tests that failed, or whose fixtures did."""

    seed: int
    passed: int
    failed: tuple[str, ...]
    output: str


def read_report(report: Path) -> tuple[int, tuple[str, ...]]:
    """From pytest's JUnit XML (xunit1): how many tests passed, and the ids of those that failed."""
    passed, failed = 0, []
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('file')}::{case.get('name')}")
        elif case.find("skipped") is None:
            passed += 1
    return passed, tuple(dict.fromkeys(failed))


@contextlib.contextmanager
def competing(processes: int) -> Iterator[None]:
    """So many processes compute without end until the block ends."""
    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            busy = subprocess.Popen([sys.executable, "-c", COMPUTE, str(os.getpid())], stdout=subprocess.DEVNULL)
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        yield


@contextlib.contextmanager
def fresh_clone() -> Iterator[Path]:
    """A clone of the last commit, built."""
    with tempfile.TemporaryDirectory(prefix="fastecho-") as directory:
        clone = Path(directory, FOLDER, "fastecho")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        subprocess.run(["make", "-s", ".venv/.test"], cwd=clone, check=True)
        yield clone


def run_suite(clone: Path, seed: int, jobs: int, busy: int, extra: Sequence[str] = ()) -> SuiteRun:
    """The whole suite once, or what `extra` chooses of it."""
    base = [str(clone / ".venv" / "bin" / "python"), "-m", "pytest", "-q", "-p", "randomly", f"--randomly-seed={seed}"]
    with competing(busy):
        together = _pytest(clone, seed, [*base, "-m", TOGETHER, "-n", str(jobs), *extra])
    if extra:
        return together
    alone = _pytest(clone, seed, [*base, "-m", ALONE])
    failed = (*together.failed, *alone.failed)
    return SuiteRun(seed, together.passed + alone.passed, failed, together.output + alone.output)


def _pytest(clone: Path, seed: int, command: Sequence[str]) -> SuiteRun:
    report = clone / "build" / "report.xml"
    report.unlink(missing_ok=True)
    with subprocess.Popen(
        [*command, f"--junitxml={report}", "-o", "junit_family=xunit1"], cwd=clone, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # with the servers of its tests
            raise
    if process.returncode not in (0, 1) or not report.exists():
        last = output.strip().splitlines()[-1:] or ["no output"]
        raise SuiteError(f"pytest ended with exit code {process.returncode}: {last[0]}")
    return SuiteRun(seed, *read_report(report), output)


def evidence(run: SuiteRun, seconds: float) -> Evidence:
    failures = [f"{test} (seed {run.seed})" for test in run.failed]
    amounts = {"runs": 1, "tests_passed": run.passed, "failures": len(failures)}
    return Evidence(PROMISE, TEST, FAILED if failures else PASSED, amounts, ", ".join(failures), round(seconds, 1))


def whole_number(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    jobs = 5 * len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="python -m proof.flakiness", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=whole_number, required=True)
    parser.add_argument("--jobs", type=whole_number, default=jobs, help=f"tests at a time, default {jobs}")
    parser.add_argument("--busy", type=whole_number, default=0, help="processes that compute without end, default 0")
    parser.add_argument("--seed", type=whole_number, help="of the first run; each further one has the next number")
    parser.add_argument("--no-record", action="store_true", help="write neither a record nor the page")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="for pytest: a part of the suite, no record")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    found = arguments(argv)
    first = random.randrange(1 << 31) if found.seed is None else found.seed
    recorded = not found.no_record and not found.pytest
    earlier, begun = Record.load_or_new("flakiness").runs, time.monotonic()
    before = machine.begin(["python", "-m", "proof.flakiness", *argv])
    before = replace(before, commit=before.commit.partition(" ")[0])  # what is not committed is not in the clone
    runs: list[Evidence] = []
    # A background job of a script has SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with fresh_clone() as clone:
            for seed in range(first, first + found.runs):
                started = time.monotonic()
                done = run_suite(clone, seed, found.jobs, found.busy, found.pytest)
                runs.append(evidence(done, time.monotonic() - started))
                shown = ", ".join(done.failed) or "none"
                print(f"run {len(runs)}, seed {seed}: {done.passed:,} passed, failed: {shown}", flush=True)
                if done.failed:
                    KEPT.mkdir(parents=True, exist_ok=True)
                    (KEPT / f"{seed}.txt").write_text(done.output, encoding="utf-8")
                if recorded:
                    run = replace(before, seconds=round(time.monotonic() - begun, 1), evidence=tuple(runs))
                    Record("flakiness", (*earlier, run)).save()
                    page.write()
    except (SuiteError, subprocess.CalledProcessError, KeyboardInterrupt) as error:
        print(f"ended after {len(runs)} runs: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    return 1 if any(run.outcome == FAILED for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
