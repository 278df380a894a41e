"""The recipes of docs/bugs.md find the bugs that the page plants, and pass the correct client, each time.

Bugs, recipes and reports are the blocks of the page; the client is examples/line_client.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "bugs.md").read_text(encoding="utf-8")
SECTION = re.compile(
    r"^## (?P<number>\d+)\. (?P<title>[^\n]+)\n"
    r"(?:(?!^## ).)*?^```python\n(?P<bug>[^`]*?^class (?P<planted>\w+)\((?P<client>\w+)\).*?)^```$"
    r"(?:(?!^## ).)*?^```python\n(?P<recipe>.*?)^```$"
    r"(?:(?!^## ).)*?^```text\n(?P<report>[^\n]+)\n```$",
    re.M | re.S,
)
TIMES = 3
# Each test of a run is repeated, with the new server that each test has.
CONFTEST = """
def pytest_generate_tests(metafunc):
    metafunc.fixturenames.append("repetition")
    metafunc.parametrize("repetition", range({times}))
"""


class Section(NamedTuple):
    number: str
    title: str
    bug: str
    planted: str
    client: str
    recipe: str
    report: str

    @property
    def name(self) -> str:
        return f"test_{self.number.zfill(2)}_{self.planted}"

    @property
    def with_bug(self) -> str:
        """The recipe, and in its module the client with the bug under the name of the correct one."""
        return f"{self.recipe}\n\n{self.bug}\n\n{self.client} = {self.planted}\n"


SECTIONS = [Section(**match.groupdict()) for match in SECTION.finditer(PAGE)]


def test_each_section_of_the_page_has_a_bug_a_recipe_and_a_report() -> None:
    titles = re.findall(r"^## (\d+\. .+)$", PAGE, re.M)
    assert [f"{each.number}. {each.title}" for each in SECTIONS] == titles
    assert len(titles) >= 12


def test_each_row_of_the_table_leads_to_its_section() -> None:
    rows = re.findall(r"^\| ([^|]+) \| .* \| \[(\d+)\]\(#([\w-]+)\) \|$", PAGE, re.M)
    assert [(title, number) for title, number, _ in rows] == [
        (re.sub(r"^([A-Z])(?![A-Z])", lambda first: first[1].lower(), each.title), each.number) for each in SECTIONS
    ]
    assert [anchor for _, _, anchor in rows] == [
        f"{each.number}-" + re.sub(r"[^\w -]", "", each.title.lower()).replace(" ", "-") for each in SECTIONS
    ]


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(line_client=(ROOT / "examples" / "line_client.py").read_text(encoding="utf-8"))
    return pytester


def run(folder: pytest.Pytester, times: int, modules: dict[str, str]) -> pytest.RunResult:
    folder.makeconftest(CONFTEST.format(times=times))
    for name, code in modules.items():
        folder.path.joinpath(f"{name}.py").write_text(code, encoding="utf-8")
    strict = ["-W", "error", "-p", "no:cacheprovider", "--strict-markers", "-q", "--durations=15"]
    return folder.runpytest_subprocess("-p", "fastecho.testing.plugin", *strict)


def reports(result: pytest.RunResult) -> Iterator[tuple[str, str]]:
    """The name and the error of each test that has failed."""
    text = result.stdout.str()
    for part in re.split(r"^_{3,} (?=test_)", text.partition("= FAILURES =")[2].partition("= short test")[0], flags=re.M)[1:]:
        yield part.partition("[")[0], "\n".join(re.findall(r"^E .*", part, re.M))


def check_correct(folder: pytest.Pytester, times: int) -> None:
    result = run(folder, times, {each.name: each.recipe for each in SECTIONS})
    result.assert_outcomes(passed=times * len(SECTIONS))


def check_found(folder: pytest.Pytester, times: int) -> None:
    result = run(folder, times, {each.name: each.with_bug for each in SECTIONS})
    result.assert_outcomes(failed=times * len(SECTIONS))
    errors = list(reports(result))
    for each in SECTIONS:
        (test,) = re.findall(r"^def (test_\w+)", each.recipe, re.M)
        found = [error for name, error in errors if name == test]
        assert len(found) == times
        assert [error for error in found if each.report not in error] == [], each.planted


def test_the_recipes_pass_the_correct_client(folder: pytest.Pytester) -> None:
    check_correct(folder, TIMES)


def test_the_recipes_find_the_bugs(folder: pytest.Pytester) -> None:
    check_found(folder, TIMES)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_recipes_pass_the_correct_client_each_time(folder: pytest.Pytester) -> None:
    check_correct(folder, 50)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_recipes_find_the_bugs_each_time(folder: pytest.Pytester) -> None:
    check_found(folder, 50)
