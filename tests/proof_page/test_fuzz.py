"""The fuzzer over a small target: what it finds is a failure, and stays in the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof import fuzz, fuzzing
from proof.record import FAILED, NOT_RUN, PASSED

TARGETS = """
def harmless(data):
    data.count(b"x")

def broken(data):
    if data[:1] == b"(":
        raise ValueError("a bracket at the beginning")

TARGETS = {"harmless": harmless, "broken": broken}
"""

needs_atheris = pytest.mark.skipif(not fuzz.is_installed(), reason=fuzz.NEEDS)


@pytest.fixture(autouse=True)
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of two targets."""
    folder = tmp_path / "corpus"
    for target in ("harmless", "broken"):
        (folder / target).mkdir(parents=True)
        (folder / target / "first").write_bytes(b"first")
    (tmp_path / "targets.py").write_text(TARGETS, encoding="utf-8")
    for name, path in (("ROOT", tmp_path), ("SUPPORT", tmp_path), ("CORPUS", folder)):
        monkeypatch.setattr(fuzz, name, path)
    return folder


@needs_atheris
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_input_that_breaks_its_target_is_a_failure_and_is_kept(corpus: Path) -> None:
    broken, harmless = fuzzing.run(1.0, jobs=1)
    assert (broken.outcome, harmless.outcome) == (FAILED, PASSED)
    assert "a bracket at the beginning (corpus/broken/failed-" in broken.reason
    [kept] = corpus.glob("broken/failed-*")
    assert kept.read_bytes()[:1] == b"("
    assert harmless.amounts["inputs"] > 100
    assert list(corpus.glob("harmless/*")) == [corpus / "harmless" / "first"]


@needs_atheris
@pytest.mark.slow
def test_a_target_that_cannot_run_is_a_failure_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "targets.py").write_text("import a_module_that_is_not_there\n", encoding="utf-8")
    found = fuzzing.run(1.0, jobs=2)
    assert [each.outcome for each in found] == [FAILED, FAILED]
    assert all("a_module_that_is_not_there" in each.reason for each in found)


def test_without_the_fuzzer_nothing_is_run_and_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "is_installed", lambda: False)
    assert {(each.outcome, each.reason) for each in fuzzing.run(1.0, jobs=1)} == {(NOT_RUN, fuzz.NEEDS)}
