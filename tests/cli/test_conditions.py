"""Every command under every condition of tests/support/conditions.py, and each `COMMAND --help` under some of them.

A command ends as it does when nothing is unusual, writes the files that it was asked for, and shows no traceback.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastecho
from command import clean_environment
from conditions import CONDITIONS, ENTRIES, Condition, Ended, Entry, Run, decoded
from fastecho.cli import COMMANDS
from fastecho.cli.bench import SUBCOMMANDS
from patience import DEADLINE
from processes import Service

pytestmark = pytest.mark.slow

EVERY_COMMAND = {*COMMANDS, *(f"bench {name}" for name in SUBCOMMANDS)}
HELP = {f"{name} --help": Entry(name, (*name.split(), "--help"), "Usage") for name in sorted(EVERY_COMMAND)}
ALL = {**ENTRIES, **HELP}
TOGETHER = [(name, condition) for condition in CONDITIONS for name in ENTRIES]
# `fastecho --help` takes the way of every help text to the output: two others for each condition, in turn.
TURNS = itertools.cycle(HELP)
TOGETHER += [(next(TURNS), condition) for condition in CONDITIONS for _ in range(2)]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server to measure, one with metrics, and two runs that were made at the same time."""
    folder = tmp_path_factory.mktemp("runs")
    a, b = str(folder / "a.json"), str(folder / "b.json")
    with fastecho.serve(port=0, terminator=None) as server, Service("--metrics", "127.0.0.1:0") as service:
        target = "tcp://{}:{}".format(*server.address)
        bench = [sys.executable, "-m", "fastecho", "bench", target, "-q", "-c", "2", "-d", "2s", "--json"]
        made = [
            subprocess.Popen([*bench, path], env=clean_environment({}), stdout=subprocess.DEVNULL) for path in (a, b)
        ]
        assert [each.wait(3 * DEADLINE) for each in made] == [0, 0]
        yield {"target": target, "metrics": service.addresses[-1], "a": a, "b": b}


def test_every_command_is_in_the_table() -> None:
    assert {entry.command for entry in ENTRIES.values()} == {*EVERY_COMMAND, "--help", "--version"}


_USUAL: dict[str, int] = {}


def usual_code(name: str, entry: Entry, folder: Path, places: dict[str, str]) -> int:
    """The exit code of the command when nothing is unusual."""
    if name not in _USUAL:
        _USUAL[name] = Run(CONDITIONS["nothing unusual"], entry.arguments, folder, places).to_the_end().code
    return _USUAL[name]


def test_every_help_text_is_asked_for_under_a_quarter_of_the_conditions() -> None:
    asked = Counter(name for name, _ in TOGETHER)
    assert all(asked[name] >= len(CONDITIONS) // 4 for name in HELP)


@pytest.mark.parametrize(("name", "chosen"), TOGETHER)
def test_a_command_under_a_condition(name: str, chosen: str, tmp_path: Path, places: dict[str, str]) -> None:
    entry, condition = ALL[name], CONDITIONS[chosen]
    for folder in ("usual", "here"):
        (tmp_path / folder).mkdir()
    run = Run(condition, entry.arguments, tmp_path / "here", places)
    if entry.serves:
        ended = run.serving()
        assert ended.code == (78 if condition.refuses_to_serve else 0), ended
    else:
        ended = run.to_the_end()
        usual = usual_code(name, entry, tmp_path / "usual", places)
        right = {code or 1 if condition.output_fails else code for code in (usual, *entry.varies)}
        assert ended.code in right, (ended, run.result())
    if "json" in entry.writes:
        assert json.loads(run.json.read_text(encoding="utf-8"))["schema"].startswith("fastecho-")
    if "page" in entry.writes:
        assert run.page.read_text(encoding="utf-8").endswith("</html>\n")
    check_output(entry, condition, ended)


def check_output(entry: Entry, condition: Condition, ended: Ended) -> None:
    out, err = decoded(ended.out, condition.encoding), decoded(ended.err, condition.encoding)
    for word in ("Traceback", "bug in fastecho", "Warning", "Exception", "working directory"):
        assert word not in out + err, ended
    if condition.shows_output and "stdout" not in condition.unread:
        assert entry.prints in out, ended
    if condition.output_fails and condition.shows_errors and not entry.serves:
        assert err.splitlines()[-1].startswith("fastecho: standard output: cannot be written: "), ended
    if not condition.output_fails and not entry.serves and entry.command != "bench":
        assert err == "", ended


ENDLESS = {name: entry for name, entry in ENTRIES.items() if entry.endless is not None}
LEAVING = [name for name, condition in CONDITIONS.items() if "stdout" in condition.unread]


@pytest.mark.parametrize("condition", LEAVING)
@pytest.mark.parametrize("name", ENDLESS)
def test_a_command_without_an_end_ends_with_its_reader(
    name: str, condition: str, tmp_path: Path, places: dict[str, str]
) -> None:
    entry = ENDLESS[name]
    assert entry.endless is not None
    ended = Run(CONDITIONS[condition], entry.endless, tmp_path, places).to_the_end()
    assert (ended.code, ended.err) == (0, b""), ended


@pytest.mark.parametrize("condition", ["nothing unusual", "signals blocked"])
@pytest.mark.parametrize("name", ENDLESS)
def test_a_command_without_an_end_ends_by_a_signal(
    name: str, condition: str, tmp_path: Path, places: dict[str, str]
) -> None:
    entry = ENDLESS[name]
    assert entry.endless is not None
    ended = Run(CONDITIONS[condition], entry.endless, tmp_path, places).interrupted()
    assert (ended.code, ended.err) == (0, b""), ended
