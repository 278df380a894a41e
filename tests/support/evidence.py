"""A pytest plugin: how much a test does in a run, and what a run has shown, as records for docs/reliability.md.

A test that holds a promise of the project has the marker `proof("the promise, one sentence")`. It takes its size from
the `amount` fixture and reports what it did with pytest's own `record_property("name", number)`:

    @pytest.mark.proof("A client gets each byte once, in order.")
    def test_any_sequence_of_steps(amount, record_property):
        steps = amount(suite=500, proof=100_000, release=10_000_000)
        ...
        record_property("steps", steps)
        record_property("worst p99 in us", greatest(worst))

Counts of several cases of a test, such as both event loops, are summed up; of `greatest` values the greatest stands.

`pytest --amount proof --evidence FILE -m proof` writes a line of JSON for each such test. A skipped test is reported as
not run, with the reason of the skip.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

AMOUNTS = ("suite", "proof", "release")
CRASH = "No test ends the process that runs it."
"""The promise of a report that pytest-xdist makes for a test whose process died."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("proof")
    group.addoption("--amount", choices=AMOUNTS, default="suite", help="how much a test of the proof does")
    group.addoption("--evidence", type=Path, metavar="FILE", help="append what they did, as JSON lines")


def pytest_configure(config: pytest.Config) -> None:
    if (file := config.getoption("--evidence")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Evidence(file))


@pytest.fixture
def amount(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Choose by the run's `--amount`; `release` defaults to the amount of `proof`."""

    def choose(*, suite: Any, proof: Any, release: Any = None) -> Any:
        chosen = request.config.getoption("--amount")
        return {"suite": suite, "proof": proof, "release": proof if release is None else release}[chosen]

    return choose


def greatest(value: float) -> float:
    """A measured value for `record_property`: of several cases of a test, the greatest stands instead of the sum."""
    return float(value)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if marker := item.get_closest_marker("proof"):
        item.user_properties.append(("promise", marker.args[0]))


class _Evidence:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._seconds: dict[str, float] = {}
        self._outcomes: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid
        self._seconds[test] = self._seconds.get(test, 0.0) + report.duration
        if report.failed:
            self._outcomes[test] = ("failed", report.longreprtext.strip().rpartition("\n")[2])
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._outcomes[test] = ("not run", reason.removeprefix("Skipped: "))
        if report.when in ("setup", "call"):
            return
        properties = dict(report.user_properties)
        if promise := properties.pop("promise", None if report.when == "teardown" else CRASH):
            outcome, reason = self._outcomes.get(test, ("passed", ""))
            record = {"promise": promise, "test": test, "amounts": properties, "outcome": outcome, "reason": reason}
            with self._file.open("a", encoding="utf-8") as file:
                print(json.dumps({**record, "seconds": round(self._seconds[test], 1)}), file=file)
