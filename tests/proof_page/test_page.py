"""docs/reliability.md, made of records that are written here."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from proof import __main__ as command
from proof import line_coverage, page
from proof.findings import Findings, Mended, NotRun
from proof.promises import amounts_text, combine, promises
from proof.record import FAILED, NOT_RUN, Evidence, Record, Run, load_all, read_evidence

from pages import ROOT, read

RUN = Run(
    started="2026-01-02 03:04 UTC",
    seconds=90.0,
    command="python -m proof",
    commit="0123456789",
    machine={"processor": "Some CPU", "system": "Linux 6.18 x86_64"},
    versions={"Python": "3.12.1", "uvloop": "0.22.1"},
)
CUTS = "A client gets each byte once, in order."
TLS = "No byte is sent in the clear."


def record(*evidence: Evidence, kind: str = "proof") -> Record:
    return Record(kind, (replace(RUN, evidence=evidence),))


def steps(case: str, count: int, **more: object) -> Evidence:
    return Evidence(CUTS, f"tests/test_cuts.py::test_steps[{case}]", amounts={"steps": count}, **more)


def rows(text: str) -> list[list[str]]:
    """The cells of the lines of the first table, without its head."""
    found = re.search(r"(?m)(?:^\|.*\n?)+", text)
    lines = found[0].splitlines() if found else []
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}")[2].partition("\n## ")[0]


def test_the_cases_of_one_test_are_one_line_with_the_sum_of_their_amounts() -> None:
    text = page.page([record(steps("uvloop", 60_000), steps("asyncio", 40_000))], Findings())
    assert rows(text) == [[CUTS, "`tests/test_cuts.py::test_steps`", "100,000 steps", "proof", "passed"]]
    assert "1 of 1 promises were tried and held." in text


def test_a_promise_that_one_case_breaks_is_broken_and_the_reason_is_shown() -> None:
    broken = steps("asyncio", 40_000, outcome=FAILED, reason="AssertionError: 3 bytes | are missing")
    text = page.page([record(steps("uvloop", 60_000), broken)], Findings())
    ((*_, result),) = rows(text)
    assert result == "**failed** (1 of 2): AssertionError: 3 bytes \\| are missing"
    assert "0 of 1 promises were tried and held, **1 did not hold**." in text


def test_what_was_skipped_is_not_passed_and_its_reason_is_listed() -> None:
    skipped = Evidence(TLS, "tests/net/test_tls.py::test_clear", NOT_RUN, reason="needs a network namespace")
    text = page.page([record(steps("uvloop", 1), skipped)], Findings())
    assert rows(text)[1] == [TLS, "`tests/net/test_tls.py::test_clear`", "", "proof", "not run"]
    assert "1 of 2 promises were tried and held, 1 could not be tried on this machine." in text
    listed = section(text, "Not run")
    assert "needs a network namespace" in listed
    assert TLS in listed


def test_two_cases_that_fail_for_one_reason_are_two() -> None:
    broken = [steps(case, 1, outcome=FAILED, reason="AssertionError: late") for case in ("uvloop", "asyncio")]
    ((*_, result),) = rows(page.page([record(*broken)], Findings()))
    assert result == "**failed** (2 of 2): AssertionError: late"


def test_a_test_that_ran_in_some_cases_says_in_how_many_it_did_not() -> None:
    skipped = steps("asyncio", 5, outcome=NOT_RUN, reason="no such loop")
    text = page.page([record(steps("uvloop", 7), skipped)], Findings())
    ((_, _, amount, _, result),) = rows(text)
    assert (amount, result) == ("7 steps", "passed, 1 of 2 not run")
    assert "no such loop" in section(text, "Not run")


def test_each_kind_of_run_has_its_own_line_and_the_promise_stands_once() -> None:
    text = page.page([record(steps("a", 1)), record(steps("a", 10), kind="release")], Findings())
    assert [(line[0], line[2], line[3]) for line in rows(text)] == [
        (CUTS, "1 steps", "proof"), ("", "10 steps", "release"),
    ]  # fmt: skip


def test_counts_are_summed_up_and_of_a_measured_value_the_greatest_stands() -> None:
    found = combine([{"steps": 2, "p99_ms": 1.25, "loop": "uvloop"}, {"steps": 3, "p99_ms": 0.5, "loop": "asyncio"}])
    assert found == {"steps": 5, "p99_ms": 1.25, "loop": "uvloop, asyncio"}
    assert amounts_text(found) == "5 steps, p99 ms: 1.25, loop: uvloop, asyncio"


def test_each_module_that_was_mutated_is_a_line_of_the_runs_together() -> None:
    counts = {"mutants": 1200, "killed": 1198, "listed": 2}
    one, other = (replace(RUN, figures={"modules": {module: counts}}) for module in ("src/b.py", "src/a.py"))
    text = page.page([Record("mutation", (one, other))], Findings())
    assert rows(section(text, "Mutation")) == [
        ["`src/a.py`", "1,200", "1,198", "2"], ["`src/b.py`", "1,200", "1,198", "2"],
    ]  # fmt: skip
    assert "## Mutation" not in page.page([], Findings())


def test_the_coverage_of_all_files_and_of_each_that_is_held_is_a_line() -> None:
    counts = {"lines": 2000, "not_run": 50, "branches": 700, "one_way": 30}
    held = {"lines": 40, "not_run": 0, "branches": 8, "one_way": 0}
    text = page.page([Record("coverage", (replace(RUN, figures={"all": counts, "_session.pyx": held}),))], Findings())
    assert rows(section(text, "Coverage")) == [
        ["all of `src/fastecho`", "2,000", "97.50 %", "700", "30"], ["`_session.pyx`", "40", "100.00 %", "8", "0"],
    ]  # fmt: skip
    assert "## Coverage" not in page.page([], Findings())


def test_what_was_found_and_what_was_not_run_by_hand_is_listed() -> None:
    findings = Findings((Mended("A reset lost a byte.", "test_x.py::test_y"),), (NotRun("Half a year.", "Too long."),))
    text = page.page([], findings)
    assert "- A reset lost a byte. `test_x.py::test_y`" in section(text, "Found and mended")
    assert "- Half a year. Too long." in section(text, "Not run")


def test_the_page_names_machine_versions_commit_and_duration_of_each_run() -> None:
    first = replace(RUN, machine={**RUN.machine, "load average at the start": "0.50"})
    again = replace(RUN, machine={**RUN.machine, "load average at the start": "2.25"}, commit="abcdef0123")
    elsewhere = replace(RUN, versions={"Python": "3.13.0"})
    records = [Record("proof", (first,)), Record("flakiness", (again, elsewhere))]
    last = section(page.page(records, Findings()), "Runs")
    before = ["2026-01-02 03:04 UTC", "1.5 minutes", "`python -m proof`"]
    assert rows(last) == [
        ["proof", *before, "0123456789", "0.50", "1"],
        ["flakiness", *before, "abcdef0123", "2.25", "1"],
        ["flakiness", *before, "0123456789", "", "2"],
    ]
    assert "1. processor Some CPU, system Linux 6.18 x86_64; Python 3.12.1, uvloop 0.22.1.\n" in last
    assert "2. processor Some CPU, system Linux 6.18 x86_64; Python 3.13.0." in last


def test_a_record_is_read_as_it_was_saved(tmp_path: Path) -> None:
    saved = record(steps("uvloop", 3), kind="release")
    saved.save(tmp_path)
    assert load_all(tmp_path) == [saved]
    assert Record.load_or_new("release", tmp_path) == saved
    assert Record.load_or_new("soak", tmp_path) == Record("soak")


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text('{"format": 0, "kind": "proof", "runs": []}')
    with pytest.raises(ValueError, match="format 1"):
        load_all(tmp_path)


def test_the_evidence_of_pytest_is_read(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that the plugin of tests/support/evidence.py writes, read by the proof."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "support"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nmarkers =\n    proof(promise): a promise\n")
    pytester.makepyfile(
        """
        import pytest
        from evidence import greatest

        @pytest.mark.proof("It holds.")
        @pytest.mark.parametrize("case", [1, 2])
        def test_holds(case, amount, record_property):
            record_property("steps", amount(suite=1, proof=20))
            record_property("p99, us", greatest(3000 + case))

        @pytest.mark.proof("It breaks.")
        def test_breaks():
            assert False, "broken"

        @pytest.mark.proof("It waits.")
        def test_waits():
            pytest.skip("not here")

        def test_without_a_promise():
            pass
        """
    )
    given = ["--amount", "proof", "--evidence", "lines"]
    pytester.runpytest_subprocess("-p", "evidence", "-p", "no:cacheprovider", *given)
    evidence = read_evidence((pytester.path / "lines").read_text().splitlines())
    found = {each.text: each for each in promises([record(*evidence)])}
    assert {text: each.outcome for text, each in found.items()} == {
        "It holds.": "passed", "It breaks.": "failed", "It waits.": "not run",
    }  # fmt: skip
    assert found["It holds."].amounts == {"steps": 40, "p99, us": 3002}
    assert found["It waits."].not_run == ("not here",)


def test_a_test_that_ends_its_process_is_a_failure(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest-xdist reports it with none of its properties."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "support"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nmarkers =\n    proof(promise): a promise\n")
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.proof("It holds.")
        def test_holds():
            os._exit(3)
        """
    )
    pytester.runpytest_subprocess(
        "-p", "xdist.plugin", "-p", "evidence", "-p", "no:cacheprovider", "-n1", "--evidence=lines"
    )
    (found,) = read_evidence((pytester.path / "lines").read_text().splitlines())
    assert (found.outcome, found.test) == (FAILED, "test_a_test_that_ends_its_process_is_a_failure.py::test_holds")
    assert "crashed" in found.reason


def test_the_page_of_the_repository_is_made_of_its_records() -> None:
    assert read(page.PAGE) == page.page(load_all(), Findings.load())


def test_no_record_names_a_path_or_a_host() -> None:
    for path in sorted((ROOT / "proof" / "records").glob("*.json")):
        # A path that begins at the root of a file system, other than in an address.
        assert not re.search(r"(?<![\w./:])/(?:home|root|tmp|work|Users|var)/", read(path)), path.name
        assert all({"hostname", "user"}.isdisjoint(run.machine) for run in Record.load(path).runs)


@pytest.mark.parametrize("each", Findings.load().mended, ids=lambda each: each.test)
def test_each_mended_bug_names_a_test_that_exists(each: Mended) -> None:
    file, _, name = each.test.partition("::")
    test, _, case = name.removesuffix("]").partition("[")
    assert test.startswith("test_")
    assert f"def {test}(" in read(ROOT / file)
    # The case is a misbehaviour, which is named after its function.
    assert not case or f"def {case.replace(' ', '_')}(" in read(ROOT / file)


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """Records as `python -m proof` writes them; its tests are not run, and show one step each time."""
    records: list[Record] = []
    monkeypatch.setattr(command.tests, "run", lambda *_: (steps("", 1),))
    monkeypatch.setattr(command.fuzzing, "run", lambda *_: ())
    monkeypatch.setattr(command.page, "write", lambda: None)
    monkeypatch.setattr(Record, "save", lambda record: records.append(record))
    monkeypatch.setattr(Record, "load_or_new", lambda kind: records[-1] if records else Record(kind))
    return records


def test_a_run_takes_the_place_of_the_one_before_unless_it_is_added(saved: list[Record]) -> None:
    assert command.main(["--amount", "release"]) == 0
    assert command.main(["--amount", "release"]) == 0
    assert (saved[-1].kind, len(saved[-1].runs)) == ("release", 1)
    assert command.main(["--amount", "release", "--add", "--", "-k", "network"]) == 0
    assert [run.command.partition("release")[2] for run in saved[-1].runs] == ["", " --add -- -k network"]
    assert promises(saved[-1:])[0].amounts == {"steps": 2}


def test_the_machine_is_described_before_a_run(saved: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def ran(*_: object) -> tuple[Evidence, ...]:
        order.append("run")
        return ()

    def note(name: str) -> Callable[[], str]:
        return lambda: order.append(name) or name

    monkeypatch.setattr(command.tests, "run", ran)
    for name in ("commit", "describe", "versions"):
        monkeypatch.setattr(command.machine, name, note(name))
    assert command.main([]) == 0
    assert order == ["commit", "describe", "versions", "run"]
    assert saved[-1].runs[-1].commit == "commit"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="make coverage needs Python 3.11")
@pytest.mark.parametrize(("failed", "wrong", "code"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_coverage_is_recorded_where_the_suite_passed_and_each_line_is_listed(
    saved: list[Record], monkeypatch: pytest.MonkeyPatch, failed: int, wrong: int, code: int
) -> None:
    monkeypatch.setattr(line_coverage, "build", lambda: None)
    monkeypatch.setattr(line_coverage, "run_suite", lambda _: failed)
    monkeypatch.setattr(line_coverage, "report", lambda: (wrong, {"all": {"lines": 1}}))
    assert line_coverage.main([]) == code
    assert [run.command for record in saved for run in record.runs] == ["make coverage"] * (code == 0)


def test_a_part_that_chooses_no_test_is_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.tests.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=5))
    with pytest.raises(command.tests.Interrupted, match=r"^no test was chosen$"):
        command.tests.run("proof", 1, ["-k", "nothing_of_that_name"])


def test_a_part_that_is_not_added_is_not_written(saved: list[Record]) -> None:
    assert command.main(["--", "-k", "network"]) == 0
    assert saved == []
