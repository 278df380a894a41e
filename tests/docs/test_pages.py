"""README and docs: Python blocks run (those of docs/fixture.md and docs/bugs.md elsewhere), command lines are valid,
links lead to files."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fastecho.cli.main import main
from patience import DEADLINE

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = [
    pytest.param(code, id=f"{page.name} {number}")
    for page in PAGES
    if page.name not in ("fixture.md", "bugs.md")
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S))
]
COMMANDS = sorted(
    {
        re.sub(r"\s+#.*", "", line.removeprefix("$ ")).strip()
        for page in PAGES
        for block in re.findall(r"^```(?:sh|console)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
        for line in block.splitlines()
        if re.match(r"(?:\$ )?fastecho\b", line)
    }
)


@pytest.mark.parametrize("code", PYTHON)
def test_a_python_block_runs_without_a_warning(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=2 * DEADLINE, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_has_python_blocks() -> None:
    assert len([each for each in PYTHON if "README.md" in str(each.id)]) >= 2


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_line_names_options_that_exist(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line)[1:]
    command = next((each for each in words if each in ("bench", "ping", "doctor", "compare", "merge", "ab")), "serve")
    subcommand = [word for word in words[:2] if word in ("bench", "ping", "doctor", "compare", "merge", "ab")]
    main([*(subcommand or ["serve"]), "--help"])
    known = capsys.readouterr().out
    for option in (word.partition("=")[0] for word in words if word.startswith("-") and word != "--"):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", known), f"{command} has no option {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_of_a_page_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target
