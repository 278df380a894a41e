"""The recipes of docs/bugs.md find the bugs that the page plants, and pass the correct client, each time.

Bugs, recipes and the beginnings of the errors are the blocks of the page; the client is examples/line_client.py.
"""

from __future__ import annotations

import asyncio
import json
import re
import runpy
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastecho.testing import certificates, echo_server

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "bugs.md").read_text(encoding="utf-8")
SECTION = re.compile(
    r"^## (?P<number>\d+)\. (?P<title>[^\n]+)\n"
    r"(?:(?!^## ).)*?^```python\n(?P<bug>[^`]*?^class (?P<planted>\w+)\((?P<client>\w+)\).*?)^```$"
    r"(?:(?!^## ).)*?^```python\n(?P<recipe>.*?^def (?P<test>test_\w+).*?)^```$"
    r"(?:(?!^## ).)*?^```text\n(?P<errors>[^`]+)\n```$",
    re.M | re.S,
)
TIMES = 3
# Each test is repeated, each time with a new server, and its outcomes are written to a file.
CONFTEST = """
import json


def pytest_generate_tests(metafunc):
    metafunc.fixturenames.append("repetition")
    metafunc.parametrize("repetition", range({times}))


def pytest_runtest_logreport(report):
    if report.when == "call" or report.failed:
        error = report.longrepr.reprcrash.message if report.failed else None
        with open("outcomes", "a") as file:
            print(json.dumps([report.location[0], report.when, error]), file=file)
"""


class Section(NamedTuple):
    number: str
    title: str
    bug: str
    planted: str
    client: str
    recipe: str
    test: str
    errors: str

    @property
    def module(self) -> str:
        return f"test_{self.number.zfill(2)}_{self.planted}.py"

    @property
    def with_bug(self) -> str:
        """The recipe, in a module where the client with the bug has the name of the correct one."""
        return f"{self.recipe}\n\n{self.bug}\n\n{self.client} = {self.planted}\n"

    def is_found_by(self, error: str | None) -> bool:
        """Whether this is an error of the page, which leaves out what differs each time."""
        patterns = [".*".join(map(re.escape, line.split("…"))) for line in self.errors.splitlines()]
        return error is not None and any(re.search(pattern, error) for pattern in patterns)


SECTIONS = [Section(**match.groupdict()) for match in SECTION.finditer(PAGE)]


def test_each_section_of_the_page_has_a_bug_a_recipe_and_an_error() -> None:
    titles = re.findall(r"^## (\d+\. .+)$", PAGE, re.M)
    assert [f"{each.number}. {each.title}" for each in SECTIONS] == titles
    assert len(titles) >= 12


def test_each_row_of_the_table_leads_to_its_section() -> None:
    rows = re.findall(r"^\| ([^|]+) \| .* \| \[(\d+)\]\(#([\w-]+)\) \|$", PAGE, re.M)
    anchors = [f"{each.number}-{each.title.lower().replace(' ', '-')}" for each in SECTIONS]
    titles = [(each.title[0].lower() + each.title[1:], each.number) for each in SECTIONS]
    assert [(title, number) for title, number, _ in rows] == titles
    assert [anchor for _, _, anchor in rows] == anchors


@pytest.fixture
def clients() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "examples" / "line_client.py"))


LINES = [b"one", b"", b"two" * 100_000, b"x" * (4 << 20)]


@pytest.mark.parametrize("tls", [None, "valid"])
def test_the_correct_client_works(clients: dict[str, Any], tls: str | None) -> None:
    ca_file = certificates().ca_path if tls else None
    with echo_server(tls=tls, leak="error") as server:
        with clients["Client"](server.address, ca_file=ca_file) as client:
            assert [client.request(line) for line in LINES] == LINES
        server.assert_connections(1)
        server.wait_closed()
        server.reply = "discard"
        with clients["Client"](server.address, ca_file=ca_file) as client:
            for line in LINES:
                client.notify(line)
        assert server.connections[0].received == server.connections[1].received


@pytest.mark.parametrize("tls", [None, "valid"])
def test_the_correct_asyncio_client_works(clients: dict[str, Any], tls: str | None) -> None:
    async def ask(address: tuple[str, int]) -> list[bytes]:
        async with clients["AsyncClient"](address, ca_file=certificates().ca_path if tls else None) as client:
            return [await client.request(line) for line in LINES]

    with echo_server(tls=tls, leak="error") as server:
        assert asyncio.run(ask(server.address)) == LINES
        server.assert_connections(1)


def run(pytester: pytest.Pytester, times: int, modules: dict[str, str]) -> dict[str, list[tuple[str, str | None]]]:
    """Of each module the phases and the errors of its test, None for a success."""
    pytester.makeconftest(CONFTEST.format(times=times))
    pytester.makepyfile(line_client=(ROOT / "examples" / "line_client.py").read_text(encoding="utf-8"))
    for name, code in modules.items():
        (pytester.path / name).write_text(code, encoding="utf-8")
    strict = ["-W", "error", "-p", "no:cacheprovider", "--strict-markers", "-q", "--tb=no"]
    pytester.runpytest_subprocess("-p", "fastecho.testing.plugin", *strict)
    outcomes: dict[str, list[tuple[str, str | None]]] = {name: [] for name in modules}
    for line in (pytester.path / "outcomes").read_text(encoding="utf-8").splitlines():
        module, phase, error = json.loads(line)
        outcomes[module].append((phase, error))
    return outcomes


def check_correct(pytester: pytest.Pytester, times: int) -> None:
    outcomes = run(pytester, times, {each.module: each.recipe for each in SECTIONS})
    assert outcomes == {each.module: [("call", None)] * times for each in SECTIONS}


def check_found(pytester: pytest.Pytester, times: int) -> None:
    outcomes = run(pytester, times, {each.module: each.with_bug for each in SECTIONS})
    for each in SECTIONS:
        assert [phase for phase, _ in outcomes[each.module]] == ["call"] * times, each.module
        assert [error for _, error in outcomes[each.module] if not each.is_found_by(error)] == [], each.module


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def test_the_recipes_pass_the_correct_client(pytester: pytest.Pytester) -> None:
    check_correct(pytester, TIMES)


def test_the_recipes_find_the_bugs(pytester: pytest.Pytester) -> None:
    check_found(pytester, TIMES)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_recipes_pass_the_correct_client_fifty_times(pytester: pytest.Pytester) -> None:
    check_correct(pytester, 50)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_recipes_find_the_bugs_fifty_times(pytester: pytest.Pytester) -> None:
    check_found(pytester, 50)
