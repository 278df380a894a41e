"""`make coverage`: which lines and branches the suite runs, of Python and of Cython, in all processes.

    python -m proof.line_coverage [--report] [PYTEST ARGUMENT...]

Builds the package with line tracing in build/coverage, runs the suite on it without most of its slow tests, and prints
a table. Fails if less than 97 % of the lines were run, or if a line was not run that proof/uncovered.toml does not list
with its reason. The branches of session, buffer and supervisor are held in the same way. `--report` evaluates the last
run again. With pytest's arguments only a part of the suite is run, no line fails, and nothing is recorded; the whole
suite writes proof/records/coverage.json and docs/reliability.md.

Each process writes its own data: the commands that tests start, the workers they fork, and those that end by os._exit
(coverage's `patch`) or are killed (proof/trace_everywhere.py). Line tracing of Cython needs Python 3.11: from 3.12 on
Cython reports to sys.monitoring, which coverage does not read for Cython.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from proof import machine, page
from proof.record import Record

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
HERE = ROOT / "build" / "coverage"
LIB = HERE / "lib"
PACKAGE = LIB / "fastecho"
LISTED = ROOT / "proof" / "uncovered.toml"
LEAST = 97.0
EACH_BRANCH = ("_session.pyx", "_session.pxd", "_sessions.pyx", "_buffer.pyx", "_scan.pxd")
EACH_BRANCH += ("_workers/lifecycle.py", "_workers/supervisor.py")

# What says nothing about lines and cannot pass under a trace function.
LEFT_OUT = {
    "tests/docs": "checks the documentation",
    "tests/proof/test_memory_sanitizers.py": "builds",
    "tests/proof/test_memory_valgrind.py": "measures memory",
    "tests/benchmarks": "checks the benchmarks",
    "tests/test_build.py": "builds",
    "tests/test_architecture.py": "reads the sources",
    "tests/test_hot_path.py": "reads the C of another build",
}
# A slow test takes up to forty times as long under a trace function. These reach lines that others do not.
SLOW = (
    "tests/bench/test_locust.py",
    "tests/net/test_tls.py",
    "tests/test_timeouts.py",
    "tests/testing/test_reported.py",
    "tests/workers/test_replacing.py::test_a_supervisor_that_was_stopped_itself_does_not_take_the_workers_for_hung",
)
# Single tests, by the beginning of their ids.
DESELECTED = {
    "tests/bench/test_load.py::test_one_slow_connection_of_many_shows_in_an_open_loop": "holds a rate",
    "tests/bench/test_load.py::test_churn_in_an_open_loop_waits_for_its_slow_connection": "holds a rate",
    "tests/bench/test_udp.py::test_a_load_of_datagrams[{'rate'": "holds a rate",
    "tests/bench/test_udp.py::test_a_load_of_datagrams[{'depth': 300": "has 300 datagrams in flight",
    "tests/deploy/test_container.py::test_process_1_drains_and_exits_with_0": "process 1 cannot write its data",
    "tests/test_memory.py::test_a_peer_that_sends_200_mb_and_never_reads": "measures memory",
    "tests/test_memory.py::test_ten_thousand_connections": "measures memory",
    "tests/bench/test_histogram.py::test_a_deprecation_in_the_package_is_no_warning_of_ours": "makes warnings errors",
}
SETTINGS = f"""
[run]
branch = true
parallel = true
core = ctrace
data_file = {HERE}/data/coverage
source = {PACKAGE}
plugins = cython_lines, trace_everywhere
patch = subprocess, _exit
disable_warnings = no-data-collected, module-not-imported, module-not-measured, already-imported, trace-changed

[report]
# No program runs these: imports for the type checker, and the bodies of protocols and overloads.
exclude_also =
    if TYPE_CHECKING:
    ^\\s*\\.\\.\\.$
"""


@dataclass
class File:
    """What was run of one file; its name is the path below the package."""

    name: str
    statements: int
    executed: set[int]
    missing: set[int]
    branches: int
    missing_branches: list[int] = field(default_factory=list)
    """The lines of conditions that always took the same way."""


def build() -> None:
    shutil.rmtree(HERE, ignore_errors=True)
    checkout = HERE / "checkout"
    ignored = shutil.ignore_patterns("*.so", "*.c", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", checkout / "src", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    command = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(LIB)]
    subprocess.run(command, cwd=checkout, env={**os.environ, "FASTECHO_BUILD": "coverage"}, check=True)
    # Beside the modules: the sources that their frames name, and the C that says which lines are executable.
    for folder in (checkout / "src", next(checkout.glob("build/cython-*")) / "src"):
        for path in folder.rglob("*"):
            if path.suffix in (".pyx", ".pxd", ".c"):
                shutil.copy(path, LIB / path.relative_to(folder))
    for plugin in ("cython_lines.py", "trace_everywhere.py"):
        shutil.copy(ROOT / "proof" / plugin, LIB)
    (HERE / "settings").write_text(SETTINGS)


def coverage(*arguments: str) -> int:
    command = [sys.executable, "-m", "coverage", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(LIB), "COVERAGE_RCFILE": str(HERE / "settings")}
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def run_suite(arguments: Sequence[str]) -> int:
    shutil.rmtree(HERE / "data", ignore_errors=True)
    (HERE / "data").mkdir()
    (HERE / "data").chmod(0o777)  # some tests give up root
    left_out = [f"--ignore={path}" for path in LEFT_OUT] + [f"--deselect={test}" for test in DESELECTED]
    chosen = (["-m", "not alone and not slow", *left_out, "tests"], ["-m", "slow", *SLOW])
    os.environ.setdefault("FASTECHO_TEST_UNIT", "3")
    failed = 0
    for each in (arguments,) if arguments else chosen:
        options = ["-q", "-n", str(len(os.sched_getaffinity(0))), "--timeout=600", "--timeout-method=signal"]
        failed |= coverage("run", "-m", "pytest", *options, *each)
    coverage("combine", "-q", "--keep")
    coverage("json", "-q", "-o", str(HERE / "coverage.json"))
    return failed


def read_files() -> Iterator[File]:
    from coverage import CoverageData

    report = json.loads((HERE / "coverage.json").read_text(encoding="utf-8"))
    data = CoverageData(str(HERE / "data" / "coverage"))
    data.read()
    for path, found in sorted(report["files"].items()):
        source = ROOT / path
        name = source.relative_to(PACKAGE).as_posix()
        statements, branches = (found["summary"][each] for each in ("num_statements", "num_branches"))
        file = File(name, statements, set(found["executed_lines"]), set(found["missing_lines"]), branches)
        if source.suffix == ".py":
            file.missing_branches = sorted({line for line, _ in found["missing_branches"]})
        else:
            conditions = list(cython_conditions(source, file.executed | file.missing))
            file.branches = 2 * len(conditions)
            arcs = set(data.arcs(str(source)) or ())
            file.missing_branches = [
                each.line for each in conditions if each.line in file.executed and not each.took_both_ways(arcs)
            ]
        yield file


@dataclass(frozen=True)
class Condition:
    """An `if`, `elif`, `for` or `while` of a Cython source.

    Cython traces statements: the line of a loop is traced once, before its first turn.
    """

    line: int
    header: frozenset[int]
    body: frozenset[int]
    first: int
    loop: bool

    def took_both_ways(self, arcs: set[tuple[int, int]]) -> bool:
        inside = self.header | self.body
        left_from = inside if self.loop else self.header
        entered = any((line, self.first) in arcs for line in self.header)
        return entered and any(start in left_from and end not in inside for start, end in arcs)


def cython_conditions(source: Path, executable: set[int]) -> Iterator[Condition]:
    lines = source.read_text(encoding="utf-8").splitlines()
    for line in sorted(executable):
        text = lines[line - 1]
        found = re.match(r"\s*(if|elif|for|while)\b", text)
        if found is None:
            continue
        end = line
        while not code_of(lines[end - 1]).endswith(":"):
            end += 1
        body = [number for number in block(lines, line, end) if number in executable]
        if body:
            header = frozenset(number for number in range(line, end + 1) if number in executable)
            yield Condition(line, header, frozenset(body), body[0], found[1] in ("for", "while"))


def code_of(text: str) -> str:
    return text.partition("#")[0].rstrip()


def block(lines: Sequence[str], line: int, end: int) -> Iterator[int]:
    """The numbers of the lines that are indented deeper than `line`, from the one after `end` on."""
    depth = indent(lines[line - 1])
    for number in range(end + 1, len(lines) + 1):
        text = lines[number - 1]
        if text.strip() and indent(text) <= depth:
            break
        yield number


def indent(text: str) -> int:
    return len(text) - len(text.lstrip())


class Listed:
    """proof/uncovered.toml: for each file, the text of a line and the reason why it, or its block, is not run.

    `"if x:" = "..."` stands for the line and for what is indented below it, `"branch: if x:"` for a condition that
    always takes the same way, `"if x: / return"` for a line directly below that condition.
    """

    def __init__(self, listed: Path = LISTED, package: Path = PACKAGE) -> None:
        self._reasons: dict[str, dict[str, str]] = tomllib.loads(listed.read_text(encoding="utf-8"))
        self._package = package

    def lines(self, name: str) -> set[int]:
        return {number for line in self._matching(name, "") for number in self._with_block(name, line)}

    def branches(self, name: str) -> set[int]:
        return set(self._matching(name, "branch: "))

    def unknown(self) -> list[str]:
        """Entries whose line no file has any more."""
        found = []
        for name, reasons in self._reasons.items():
            texts = {key for _, keys in self._keys(name) for key in keys}
            found += [f"{name}: {key}" for key in reasons if key.removeprefix("branch: ") not in texts]
        return found

    def ambiguous(self, name: str, missing: set[int], executed: set[int]) -> list[str]:
        """Entries of which one line was not run, so that the entry is needed, and another one was."""
        lines: dict[str, set[int]] = defaultdict(set)
        for number, keys in self._keys(name):
            for key in keys:
                lines[key].add(number)
        listed = self._reasons.get(name, {})
        return [f"{name}: {key}" for key in listed if lines[key] & missing and lines[key] & executed]

    def _matching(self, name: str, prefix: str) -> Iterator[int]:
        reasons = self._reasons.get(name, {})
        for number, keys in self._keys(name):
            if any(prefix + key in reasons for key in keys):
                yield number

    def _keys(self, name: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Each line's number and its keys: its text, and its text with that of the line that it is indented below."""
        above: list[str] = []
        for number, line in enumerate(self._source(name), 1):
            text = line.strip()
            if not text:
                continue
            while above and indent(above[-1]) >= indent(line):
                above.pop()
            yield number, (text, f"{above[-1].strip()} / {text}") if above else (text,)
            above.append(line)

    def _with_block(self, name: str, line: int) -> Iterator[int]:
        yield line
        yield from block(self._source(name), line, line)

    def _source(self, name: str) -> list[str]:
        path = self._package / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def report() -> tuple[list[str], dict[str, dict[str, int]]]:
    """Print the table. What is wrong, and the figures of all files together and of each file in EACH_BRANCH."""
    files, listed = list(read_files()), Listed()
    wrong = [f"proof/uncovered.toml lists a line that is not there: {entry}" for entry in listed.unknown()]
    figures = {"all": Counter[str](), **{name: Counter[str]() for name in EACH_BRANCH}}
    print(f"\n{'file':44} {'lines':>6} {'not run':>8} {'%':>6} {'branches':>9} {'one way':>8}")
    for file in files:
        held = file.name in EACH_BRANCH
        branches = f"{file.branches:9} {len(file.missing_branches):8}" if file.branches else ""
        counts = f"{file.statements:6} {len(file.missing):8} {percent_run(file.statements, len(file.missing)):6.1f}"
        print(f"{file.name:44} {counts} {branches}{' each' if held else ''}")
        source = (PACKAGE / file.name).read_text(encoding="utf-8").splitlines()
        for entry in listed.ambiguous(file.name, file.missing, file.executed):
            wrong.append(f"proof/uncovered.toml stands for lines that are run besides one that is not: {entry}")
        for line in sorted(file.missing - listed.lines(file.name)):
            wrong.append(f"{file.name}:{line}: not run and not listed: {source[line - 1].strip()}")
        if held:
            for line in sorted(set(file.missing_branches) - listed.branches(file.name) - listed.lines(file.name)):
                wrong.append(f"{file.name}:{line}: always goes the same way: {source[line - 1].strip()}")
        for name in ("all", file.name) if held else ("all",):
            figures[name].update(lines=file.statements, not_run=len(file.missing))
            figures[name].update(branches=file.branches, one_way=len(file.missing_branches))
    total = percent_run(figures["all"]["lines"], figures["all"]["not_run"])
    print(f"{'total':44} {figures['all']['lines']:6} {figures['all']['not_run']:8} {total:6.2f}\n")
    if total < LEAST:
        wrong.append(f"{total:.2f} % of the lines were run, fewer than {LEAST:g} %")
    print("\n".join(wrong))
    return wrong, {name: dict(counts) for name, counts in figures.items()}


def percent_run(lines: int, not_run: int) -> float:
    return 100.0 * (lines - not_run) / lines if lines else 100.0


def main(arguments: Sequence[str]) -> int:
    if sys.version_info[:2] != (3, 11):
        print("make coverage needs Python 3.11: see the beginning of proof/line_coverage.py", file=sys.stderr)
        return 2
    if list(arguments) == ["--report"]:
        return 1 if report()[0] else 0
    before, begun = machine.begin(["make", "coverage"]), time.monotonic()
    build()
    failed = run_suite(arguments)
    wrong, figures = report()
    if arguments:
        return failed
    if not wrong and not failed:
        done = replace(before, seconds=round(time.monotonic() - begun, 1), figures=figures)
        Record("coverage", (done,)).save()
        page.write()
    return 1 if wrong else failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
