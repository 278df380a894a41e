"""A run of mutants: what it records, and when it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proof import machine, mutation, page
from proof.mutation import Mutant, Tried
from proof.record import Record, Run

MODULE = "src/fastecho/config.py"
SURVIVOR = Mutant(MODULE, "check", "a < b", "a <= b")


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """The records that are written. The machine is described with what has been run before."""
    records: list[Record] = []
    ran: list[str] = []

    def run(modules: list[str], jobs: int) -> Iterator[Tried]:
        for module in modules:
            ran.append(module)
            yield Tried(module, 3, (SURVIVOR,))

    monkeypatch.setattr(mutation, "is_installed", lambda: True)
    monkeypatch.setattr(mutation, "run", run)
    monkeypatch.setattr(machine, "begin", lambda command: Run("", 0.0, " ".join(command), f"after {ran}", {}, {}))
    monkeypatch.setattr(page, "write", lambda: None)
    monkeypatch.setattr(Record, "load_or_new", lambda kind: Record(kind))
    monkeypatch.setattr(Record, "save", lambda record: records.append(record))
    return records


def test_the_machine_is_described_before_the_mutants_are_run(
    saved: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutation, "listed", lambda: {SURVIVOR: "it is equal"})
    assert mutation.main(["--record", MODULE]) == 0
    [run] = saved[0].runs
    assert (run.command, run.commit) == (f"python proof/mutation.py --record {MODULE}", "after []")
    assert run.figures == {"modules": {MODULE: {"mutants": 3, "killed": 2, "listed": 1}}}


def test_a_mutant_that_survives_without_a_reason_is_told_and_nothing_is_recorded(
    saved: list[Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mutation, "listed", dict)
    assert mutation.main(["--record", MODULE]) == 1
    assert saved == []
    assert "old = '''a < b'''" in capsys.readouterr().out


def test_a_listed_mutant_that_is_killed_is_told_and_nothing_is_recorded(
    saved: list[Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Mutant(MODULE, "check", "c < d", "c <= d")
    monkeypatch.setattr(mutation, "listed", lambda: {SURVIVOR: "it is equal", gone: "it is equal"})
    assert mutation.main(["--record", MODULE]) == 1
    assert saved == []
    assert f"listed, but it does not survive: {gone}" in capsys.readouterr().out
