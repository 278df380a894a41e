"""Every code block of README and docs is run, or checked otherwise. Those of shells are in test_commands.py."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import in_process
from fastecho import ServerConfig
from fastecho.bench import LoadSpec
from fastecho.bench.ab import take_turns
from fastecho.bench.compare import compare_turns
from fastecho.bench.max_rate import MaxRate
from fastecho.bench.slo import Slo
from made_runs import Machine
from pages import BLOCKS, PAGES, ROOT, Block, read
from patience import DEADLINE

# Pages whose Python and text blocks have a test of their own.
ELSEWHERE = {"bugs.md": ROOT / "tests" / "testing" / "test_bugs.py"}
HERE = [block for block in BLOCKS if block.page.name not in ELSEWHERE]
PYTHON = [block for block in HERE if block.language == "python"]
RECIPES = [block for block in PYTHON if block.tests]
SCRIPTS = [block for block in PYTHON if not block.tests]
TOML = [block for block in BLOCKS if block.language == "toml"]
YAML = [block for block in BLOCKS if block.language == "yaml"]
TEXT = [block for block in HERE if block.language == "text"]


def test_each_block_is_of_a_language_that_is_checked() -> None:
    assert {block.language for block in BLOCKS} == {"python", "sh", "console", "toml", "text", "yaml"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_fence_is_overlooked(page: Path) -> None:
    fences = re.findall(r"^\s*(?:```|~~~)", read(page), re.M)
    assert len(fences) == 2 * len([block for block in BLOCKS if block.page == page])


def test_the_recipes_pass(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one run, each in its own module, with no plugin but ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(**{"test_" + re.sub(r"\W+", "_", str(block)): block.code for block in RECIPES})
    strict = ["-W", "error", "-p", "no:cacheprovider", "--strict-markers"]
    result = pytester.runpytest_subprocess("-p", "fastecho.testing.plugin", *strict)
    result.assert_outcomes(passed=sum(block.tests for block in RECIPES))


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_a_script_runs_without_a_warning(block: Block, tmp_path: Path) -> None:
    if "locust" in block.code and sys.version_info < (3, 11):
        pytest.skip("Locust needs Python 3.11 here")
    call = "\nasyncio.run(main())" if "async def main" in block.code and "run(main" not in block.code else ""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import asyncio\n{block.code}{call}"],
        capture_output=True, text=True, timeout=2 * DEADLINE, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("block", TOML, ids=str)
def test_a_configuration_file_is_accepted(block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fastecho.toml"
    file.write_text(block.code, encoding="utf-8")
    outcome = in_process(["--config", str(file)], {}, capsys)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.config != ServerConfig()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus); the gate has it")
@pytest.mark.parametrize("block", YAML, ids=str)
def test_a_configuration_of_prometheus_is_accepted(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(block.code, encoding="utf-8")
    done = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True, timeout=2 * DEADLINE)
    assert done.returncode == 0, done.stderr


def shape(text: str) -> list[str]:
    """The lines of a report without what differs between runs: figures, spaces, and the metrics of a verdict."""
    plain = re.sub(r"worse \(.*\)", "worse", re.sub(r"[-+]?\d[\d,.]*", "0", text))
    return [" ".join(line.split()) for line in plain.splitlines() if line != "..."]


def verdict_of_two_servers() -> str:
    machine, a, b = Machine(1), LoadSpec(target="127.0.0.1:7"), LoadSpec(target="127.0.0.1:8")
    turns = take_turns(a, b, 80, lambda spec: machine.run(1.1 if spec is b else 1.0), random.Random(1))
    return "\n".join(compare_turns(list(turns), 0.03).lines())


def highest_rate() -> str:
    found = MaxRate(Slo.latency_bound("@p99=1ms", "find_max_rate"), 97681, 97681, 101230, 23)
    return "\n".join(found.lines())


@pytest.mark.parametrize(
    ("first_words", "report"), [("A B change", verdict_of_two_servers), ("highest rate", highest_rate)]
)
def test_a_report_on_a_page_has_the_lines_of_a_real_one(first_words, report) -> None:
    (block,) = [block for block in TEXT if " ".join(block.code.split()).startswith(first_words)]
    real = shape(report())
    assert [line for line in shape(block.code) if line not in real] == []


def test_the_picture_of_the_architecture_names_methods_of_the_session() -> None:
    from fastecho._session import EchoSession

    (block,) = [block for block in TEXT if block.page.name == "architecture.md"]
    named = set(re.findall(r"[a-z]+_[a-z]+", block.code))
    assert named == {"get_buffer", "buffer_updated"}
    assert named <= set(dir(EchoSession))


@pytest.mark.parametrize("page", [page for page in PAGES if page.name in ELSEWHERE], ids=lambda page: page.name)
def test_a_page_that_is_left_out_here_is_read_by_its_own_test(page: Path) -> None:
    assert f'"{page.name}"' in read(ELSEWHERE[page.name])


def test_no_text_is_left_unchecked() -> None:
    assert sorted(block.page.name for block in TEXT) == ["architecture.md", "bench.md", "bench.md"]


def test_there_is_a_recipe_for_each_subject() -> None:
    subjects = "retry", "pool", "time-out", "half-close", "slow reader", "expired", "sweep"
    assert [each for each in subjects if not any(each in block.heading for block in RECIPES)] == []
