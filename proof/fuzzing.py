"""A short run of the fuzzer over each target, as evidence."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from proof import fuzz
from proof.record import FAILED, NOT_RUN, Evidence

PROMISE = "No input that coverage-guided fuzzing finds breaks a parser or a session."


def run(seconds: float, jobs: int) -> tuple[Evidence, ...]:
    """`seconds` for each target, `jobs` targets at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        return tuple(pool.map(lambda target: _evidence(target, seconds), fuzz.target_names()))


def _evidence(target: str, seconds: float) -> Evidence:
    test, begun = f"proof/fuzz.py[{target}]", time.monotonic()
    if not fuzz.is_installed():
        return Evidence(PROMISE, test, NOT_RUN, reason=fuzz.NEEDS)
    try:
        found = fuzz.fuzz(target, seconds)
    except Exception as error:  # one target that cannot run does not hide what the others found
        return Evidence(PROMISE, test, FAILED, reason=f"{target}: {error}")
    outcome = {"outcome": FAILED, "reason": f"{found.failure} ({found.kept})"} if found.kept else {}
    amounts = {"inputs": found.inputs, "edges_reached": found.covered}
    return Evidence(PROMISE, test, amounts=amounts, seconds=round(time.monotonic() - begun, 1), **outcome)
