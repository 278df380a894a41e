"""The blocks of README and docs that are for a shell: each command is run, or its options are checked."""

from __future__ import annotations

import functools
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from command import clean_environment, in_process
from fastecho.cli import COMMANDS
from fastecho.cli.bench import SUBCOMMANDS
from pages import BLOCKS, PAGES, ROOT, Block, read, spans
from patience import DEADLINE

# Commands of a shell and of the system, which are not ours to check.
OTHERS = {"autoload", "docker", "kubectl", "mkdir"}
BIN = Path(sys.executable).parent
SHELL = [block for block in BLOCKS if block.language == "sh"]
# Blocks that are one script: their lines mean something together only.
SCRIPTS = [block for block in SHELL if "mkfifo" in block.code]
LINES = sorted(
    {
        line
        for block in SHELL
        if block not in SCRIPTS
        for raw in block.code.splitlines()
        if (line := re.sub(r"(?:^|\s+)#.*", "", raw).strip())
    }
)
SESSIONS = [block for block in BLOCKS if block.language == "console"]
TARGETS = set(re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.M))
EXTRAS = read(ROOT / "pyproject.toml").partition("[project.optional-dependencies]")[2].partition("\n[project.")[0]


def environment(**more: str) -> dict[str, str]:
    return clean_environment({"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **more})


def load(name: str) -> click.Command:
    command: click.Command = importlib.import_module(COMMANDS[name][0]).command
    return command


def parsed(words: list[str]) -> click.Context:
    """The context of a command line without `fastecho`: click has accepted its options and their values."""
    return load(words[0]).make_context(words[0], words[1:])


def check_fastecho(words: list[str], variables: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    if words and words[0] in COMMANDS and words[0] != "serve":
        parsed(words)
    else:
        outcome = in_process(words, variables, capsys)
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.configs


def check_make(words: list[str]) -> None:
    verbs = [word for word in words if "=" not in word and not word.startswith("-")]
    assert set(verbs) <= TARGETS, f"the Makefile has no {set(verbs) - TARGETS}"


def check_pip(words: list[str]) -> None:
    package, _, extras = words[-1].rstrip("]").partition("[")
    assert (words[0], package) == ("install", "fastecho")
    for extra in filter(None, extras.split(",")):
        assert re.search(rf"^{extra} = \[", EXTRAS, re.M), f"there is no extra {extra}"


@functools.cache
def help_of(program: tuple[str, ...]) -> str:
    done = subprocess.run(
        [sys.executable, *program, "--help"], env=environment(), capture_output=True, text=True, timeout=3 * DEADLINE,
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_python(line: str) -> None:
    """A benchmark that is run as a module has the options. (Of the others, the file exists.)"""
    if match := re.match(r"python (-m benchmarks\.\w+)(?: |$)", line):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line))
        known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of(tuple(match[1].split()))))
        assert named <= known, f"`{line}`: it has no {named - known}"


def check_locust(words: list[str]) -> None:
    if sys.version_info < (3, 11):  # it is not installed there
        return
    """Locust accepts the options, and finds the user in the file."""
    done = subprocess.run(
        [sys.executable, "-m", "locust", *words, "--list"], env=environment(), capture_output=True, text=True,
        timeout=2 * DEADLINE, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Echo" in done.stdout.split()


def check_completion(line: str) -> None:
    """The command in it that prints the script of a shell. What the shell does with that is another program's."""
    (command,) = re.findall(r"_FASTECHO_COMPLETE=\w+ fastecho", line)
    done = subprocess.run(
        ["bash", "-c", command], env=environment(), capture_output=True, text=True, timeout=2 * DEADLINE
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "_FASTECHO_COMPLETE" in done.stdout


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that command lines name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fastecho.toml").write_text("port = 7007\n")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("line", LINES)
def test_a_command_line_is_accepted(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "_FASTECHO_COMPLETE" in line:
        check_completion(line)
        return
    words = shlex.split(line)
    if "|" in words:  # of a pipe, the last command
        words = words[len(words) - words[::-1].index("|") :]
    if "systemd-socket-activate" in words:  # with the command that it starts
        words = words[words.index("fastecho") :]
    variables = {}
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, variables[name] = words.pop(0).partition("=")
    program, *words = words
    if program == "fastecho":
        check_fastecho(words, variables, capsys)
    elif program == "make":
        check_make(words)
    elif program == "pip":
        check_pip(words)
    elif program == "locust":
        check_locust(words)
    elif program not in OTHERS:
        pytest.fail(f"no test knows how to check {program}")


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_a_script_runs(block: Block, tmp_path: Path) -> None:
    """It ends with a server in the background, and its address."""
    script = f"set -eu\ntrap 'kill $(jobs -p)' EXIT\n{block.code}\necho \"got $address\""
    done = subprocess.run(
        ["bash", "-c", script], env=environment(), capture_output=True, text=True, timeout=2 * DEADLINE, cwd=tmp_path
    )
    assert re.fullmatch(r"got tcp://127\.0\.0\.1:\d+\n", done.stdout), done.stderr


def commands_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console with the lines below it."""
    for part in re.split(r"^\$ ", block.code, flags=re.M)[1:]:
        command, *printed = part.rstrip("\n").split("\n")
        yield command, printed


def printed_by(command: str, folder: Path) -> list[str]:
    """What the command prints, of a server what it prints until it serves; without figures, which differ."""
    printed = []
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], env=environment(FASTECHO_PORT="0"), cwd=folder, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line.rstrip("\n"))
            if "listening on" in line:
                process.terminate()
                break
        process.communicate(timeout=2 * DEADLINE)
    return without_figures(printed)


def without_figures(lines: list[str]) -> list[str]:
    return [re.sub(r"\d+", "0", line) for line in lines]


@pytest.mark.parametrize("block", SESSIONS, ids=str)
def test_a_console_shows_what_the_commands_print(block: Block, tmp_path: Path) -> None:
    assert block.code.startswith("$ ")
    for command, expected in commands_of(block):
        assert printed_by(command, tmp_path) == without_figures(expected)


def known_options() -> set[str]:
    commands = [load(name) for name in COMMANDS]
    commands += [parsed(["bench", name, "x", "y"]).command for name in SUBCOMMANDS]
    params = [param for command in commands for param in command.params]
    return {name for param in params for name in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_prose_names_options_verbs_and_files_that_exist(page: Path) -> None:
    plugin = set(re.findall(r"--fastecho-[a-z-]+", read(ROOT / "src/fastecho/testing/plugin.py")))
    known = known_options() | plugin | {"--headless"}  # of Locust
    for span in spans(page):
        if re.match(r"--[a-z]", span) or span.startswith("fastecho "):
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", span))
            assert named <= known, f"`{span}`: no command has {named - known}"
        if span.startswith("python "):
            check_python(span)
        if span.startswith("make "):
            check_make(shlex.split(span.partition("|")[0])[1:])
        for file in re.findall(r"(?:benchmarks|deploy|tests|scripts|examples|docs)/[\w/.-]*\w", span):
            assert (ROOT / file).exists(), f"`{span}`: there is no {file}"
