"""Every recipe of docs/fixture.md is a test, run as it stands there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent.parent / "docs" / "fixture.md").read_text()
BLOCKS = re.findall(r"^(?:#+ (?P<title>[^\n]*)\n|```python\n(?P<code>.*?)^```$)", PAGE, re.M | re.S)


def blocks() -> list[tuple[str, str]]:
    found, title = [], ""
    for heading, code in BLOCKS:
        title = heading or title
        if code:
            found.append((title, code))
    return found


RECIPES = {f"{number} {title}": code for number, (title, code) in enumerate(blocks()) if "def test_" in code}
SCRIPTS = {f"{number} {title}": code for number, (title, code) in enumerate(blocks()) if "def test_" not in code}


def test_the_recipes_pass(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one run, each in its own module, with no plugin but ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(**{"test_" + re.sub(r"\W+", "_", name): code for name, code in RECIPES.items()})
    strict = ["-W", "error", "-p", "no:cacheprovider", "--strict-markers"]
    result = pytester.runpytest_subprocess("-p", "fastecho.testing.plugin", *strict)
    result.assert_outcomes(passed=sum(len(re.findall(r"^def test_", code, re.M)) for code in RECIPES.values()))


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs(name: str) -> None:
    namespace: dict[str, object] = {}
    exec(compile(SCRIPTS[name], "docs/fixture.md", "exec"), namespace)
    if (main := namespace.get("main")) is not None:
        asyncio.run(main())  # type: ignore[operator]


def test_there_is_a_recipe_for_each_subject() -> None:
    subjects = "retry", "pool", "time-out", "half-close", "slow reader", "expired", "sweep"
    assert [each for each in subjects if not any(each in name for name in RECIPES)] == []
