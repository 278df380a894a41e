"""Try what fastecho promises, in quantity, and write docs/reliability.md.

    python -m proof                       the short form, at most 5 minutes: proof/records/proof.json and the page
    python -m proof --amount release      hours: proof/records/release.json
    python -m proof --amount release --add -- -k network    a part of these hours, added to that record; no fuzzing
    python -m proof --amount release --add --fuzz 60 -- -k network    with fuzzing
    python -m proof -- -k cut             some of the tests; prints what they did, writes nothing
    python -m proof --page                the page again, from the records; nothing is run

Exit code: 0 all promises held (or were not run, with the reason), 1 one was broken, 2 usage or interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from proof import fuzzing, machine, page, tests
from proof.promises import amounts_text
from proof.record import FAILED, Record, Run

# The promise of `make proof`, which CI runs: its minutes.
SHORT_FORM = 5.0
FUZZ = {"proof": 5.0, "release": 1800.0}  # seconds for each target


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proof", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--amount", choices=("proof", "release"), default="proof", help="default proof")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="tests at a time")
    parser.add_argument("--add", action="store_true", help="add to the record; without it, the run takes its place")
    parser.add_argument("--fuzz", type=float, metavar="SECONDS", help="for each target; default 5, for a release 1800")
    parser.add_argument("--page", action="store_true", help="write docs/reliability.md from the records; run nothing")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help="for pytest: a part, recorded with --add only")
    return parser.parse_args(argv)


def run(found: argparse.Namespace, argv: Sequence[str]) -> Run:
    before, begun = machine.begin(["python", "-m", "proof", *argv]), time.monotonic()
    evidence = tests.run(found.amount, found.jobs, found.pytest)
    if found.fuzz is not None or not found.pytest:
        evidence += fuzzing.run(FUZZ[found.amount] if found.fuzz is None else found.fuzz, found.jobs)
    return replace(before, seconds=round(time.monotonic() - begun, 1), evidence=evidence)


def report(done: Run) -> str:
    lines = [
        f"{each.outcome:8} {amounts_text(each.amounts)}  {each.test}" + (f": {each.reason}" if each.reason else "")
        for each in done.evidence
    ]
    return "\n".join([*lines, f"{len(lines)} tests of the proof in {done.seconds / 60:.1f} minutes"])


def main(argv: Sequence[str]) -> int:
    found = arguments(argv)
    if found.page:
        page.write()
        return 0
    try:
        done = run(found, argv)
    except (tests.Interrupted, KeyboardInterrupt) as error:
        print(f"no record is written: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    print(report(done))
    if found.add or not found.pytest:
        before = Record.load_or_new(found.amount).runs if found.add else ()
        Record(found.amount, (*before, done)).save()
        page.write()
    if found.amount == "proof" and done.seconds > SHORT_FORM * 60:
        print(f"the short form is to take at most {SHORT_FORM:g} minutes", file=sys.stderr)
    return 1 if any(each.outcome == FAILED for each in done.evidence) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
