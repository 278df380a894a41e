"""Change one thing in a module, and see whether its tests notice: mutation testing with the operators of cosmic-ray.

    python proof/mutation.py                    every module of MODULES
    python proof/mutation.py faults/_parse.py   one module
    python proof/mutation.py --record           every module, for proof/records/mutation.json and docs/reliability.md
    python proof/mutation.py --count            how many mutants each module has; runs nothing

A mutant that no test notices survives. proof/survivors.toml lists those that may, each with its reason. Each worker has
a copy of the tree, and runs the tests of a mutant in a fork that has pytest and all other packages imported already.
Exit code: 0 all others were killed, 1 one survived that is not listed, or a listed one did not, 2 usage, 3 cosmic-ray
is not installed.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import difflib
import importlib
import importlib.util
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from proof.record import Run

ROOT = Path(__file__).parents[1]
SURVIVORS = Path(__file__).with_name("survivors.toml")
NEEDS = "needs cosmic-ray: pip install 'fastecho[proof]'"

_CONFIG = ("tests/test_config.py",)
_PARSE = tuple(f"tests/faults/test_{name}.py" for name in ("text", "values", "selectors"))
_FAULTS = (*_PARSE[1:], _PARSE[0], "-k", "not huge")  # a second, for the parser alone
# Each module with the tests that hold it, those that notice most first. They take at most a few seconds.
MODULES: dict[str, tuple[str, ...]] = {
    "src/fastecho/config.py": _CONFIG,
    "src/fastecho/_options/cpus.py": ("tests/test_cpus.py",),
    "src/fastecho/_options/text.py": _CONFIG,
    "src/fastecho/_options/types.py": _CONFIG,
    "src/fastecho/faults/_fault.py": _FAULTS,
    "src/fastecho/faults/_kinds.py": _FAULTS,
    "src/fastecho/faults/_parse.py": _PARSE,
    "src/fastecho/faults/_select.py": _FAULTS,
    "src/fastecho/_workers/lifecycle.py": ("tests/workers/test_lifecycle.py",),
    "src/fastecho/_workers/restarts.py": ("tests/workers/test_restarts.py", "tests/workers/test_slots.py"),
    "src/fastecho/_workers/rolling.py": ("tests/workers/test_rolling.py",),
    "src/fastecho/_workers/slots.py": ("tests/workers/test_slots.py",),
    "src/fastecho/_workers/scaling.py": ("tests/workers/test_wanted_workers.py",),
    "tests/support/reference.py": ("tests/test_reference.py",),
}  # fmt: skip

# Operators whose mutants are the module itself, or one that any test notices. `==` for `is` is tried; `is` for `==`
# tells equal objects apart that are the same one or not as the interpreter likes.
_LEFT_OUT = ("Comparison_Eq_Is", "Comparison_NotEq_IsNot", "ComparisonOperator_Eq_Is", "ComparisonOperator_NotEq_IsNot")
_OPERATOR_PAIRS = "ReplaceBinaryOperator_"
# Slow to import, and of no module of ours: once in a worker process, before it forks.
_PLUGINS = ("_hypothesis_pytestplugin", "pytest_benchmark.plugin", "pytest_timeout")  # those that pyproject.toml needs
_IMPORTED = ("asyncio", "click", "hypothesis.strategies", "uvloop", "pytest", *_PLUGINS)
_LEAST_TIMEOUT = 10.0  # seconds; or five times as long as the tests take without a mutation
_JOB: _Job


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of a module: the lines before and after it, without indentation, and the function that they are in."""

    module: str
    where: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.module}, {self.where}:\n  - {self.old}\n  + {self.new}"


@dataclass(frozen=True)
class Tried:
    module: str
    mutants: int
    survived: tuple[Mutant, ...]


def is_installed() -> bool:
    return importlib.util.find_spec("cosmic_ray") is not None


def mutants(module: str) -> dict[str, Mutant]:
    """The sources of all mutants of a module. Those that differ only in annotations do not count."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.operators.provider import OperatorProvider

    source = (ROOT / module).read_text(encoding="utf-8")
    same, found = {_meaning(source)}, dict[str, Mutant]()
    provider = OperatorProvider()
    for name in provider:
        operator = provider[name]
        if name.endswith(_LEFT_OUT) or operator.arguments() or not _is_chosen(name):
            continue
        for occurrence in range(10**6):
            mutated = mutate_code(source, operator(), occurrence)
            if mutated is None:
                break
            try:
                meaning = _meaning(mutated)
            except SyntaxError:
                continue
            if meaning not in same:
                same.add(meaning)
                found[mutated] = _described(module, source, mutated)
    return found


def _is_chosen(name: str) -> bool:
    """Of the binary operators, one replacement each is enough: its tests fail for all or for none."""
    if not name.startswith(_OPERATOR_PAIRS):
        return True
    chosen = {"Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Div", "Mod_Mul", "LShift_RShift", "RShift_LShift",
              "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitOr", "Pow_Mul"}  # fmt: skip
    return name.removeprefix(_OPERATOR_PAIRS) in chosen


class _Bare(ast.NodeTransformer):
    """Without annotations, and without what only a type checker reads."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if "TYPE_CHECKING" in ast.dump(node.test) else self.generic_visit(node)


def _meaning(source: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(source)))


def _described(module: str, source: str, mutated: str) -> Mutant:
    before, after = source.splitlines(), mutated.splitlines()
    changes = [each for each in difflib.SequenceMatcher(None, before, after, False).get_opcodes() if each[0] != "equal"]
    first, last = changes[0], changes[-1]
    old, new = _tidy(before[first[1] : last[2]]), _tidy(after[first[3] : last[4]])
    return Mutant(module, _where(source, first[1] + 1), old, new)


def _tidy(lines: Sequence[str]) -> str:
    """On one line; cosmic-ray puts a space before what it has changed."""
    return re.sub(r"([(\[]) ", r"\1", " ".join(" ".join(lines).split()))


def _where(source: str, line: int) -> str:
    """The names of the class and the function around `line`."""
    names: list[str] = []
    node: ast.AST = ast.parse(source)
    while True:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                begin = min([child.lineno, *(each.lineno for each in child.decorator_list)])
                if begin <= line <= (child.end_lineno or 0):
                    names.append(child.name)
                    node = child
                    break
        else:
            return ".".join(names) or "module"


class _Job:
    """One worker process: its copy of the tree."""

    def __init__(self, directory: str) -> None:
        self.root = Path(tempfile.mkdtemp(dir=directory))
        left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.c", "__pycache__", "docs", "site")
        shutil.copytree(ROOT, self.root, ignore=left_out, dirs_exist_ok=True, symlinks=True)
        # For the programs that tests start: they write no bytecode.
        compileall.compile_dir(self.root / "src", quiet=1)
        self.seconds: dict[str, float] = {}
        sys.path[:0] = [os.fspath(self.root / "src")]
        os.environ["PYTHONPATH"] = os.fspath(self.root / "src")
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        for name in _IMPORTED:
            importlib.import_module(name)

    def killed(self, mutant: Mutant, source: str) -> bool:
        path = self.root / mutant.module
        if mutant.module not in self.seconds:
            self._begin(mutant.module)
        before = path.read_text(encoding="utf-8")
        path.write_text(source, encoding="utf-8")
        try:
            return self._tests(mutant.module, max(_LEAST_TIMEOUT, 5 * self.seconds[mutant.module])) != 0
        finally:
            path.write_text(before, encoding="utf-8")

    def _begin(self, module: str) -> None:
        """The tests without a mutation: they must pass. The first run compiles them."""
        sys.dont_write_bytecode = False
        self._pass(module)
        sys.dont_write_bytecode = True
        for each in self.root.rglob(f"__pycache__/{Path(module).stem}.*"):
            each.unlink()
        begun = time.monotonic()
        self._pass(module)
        self.seconds[module] = time.monotonic() - begun

    def _pass(self, module: str) -> None:
        if self._tests(module, 300.0) != 0:
            said = (self.root / "output").read_text(encoding="utf-8", errors="replace")[-4000:]
            raise RuntimeError(f"{module}: its tests fail without any mutation:\n{said}")

    def _tests(self, module: str, timeout: float) -> int:
        """Exit code of pytest in a fork; -1 when it takes longer."""
        pid = os.fork()
        if not pid:
            self._child(module)
        ends = time.monotonic() + timeout
        while not (done := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > ends:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return -1
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what the tests of a mutant left behind
        return os.waitstatus_to_exitcode(done[1])

    def _child(self, module: str) -> None:
        code = 70
        try:
            os.setsid()
            output = os.open(self.root / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            os.chdir(self.root)
            import pytest

            options = ["-x", "-q", "-W", "ignore:Module already imported"]
            for plugin in _PLUGINS:
                options += ["-p", plugin]
            code = int(pytest.main([*options, *MODULES[module]]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _start(directory: str) -> None:
    global _JOB
    _JOB = _Job(directory)


def _killed(pair: tuple[str, Mutant]) -> bool:
    return _JOB.killed(pair[1], pair[0])


def run(modules: Sequence[str], jobs: int) -> Iterator[Tried]:
    with tempfile.TemporaryDirectory(prefix="fastecho-mutation-") as directory:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, spawn, _start, (directory,)) as pool:
            for module in modules:
                found = mutants(module)
                killed = list(pool.map(_killed, found.items()))
                survived = [mutant for mutant, dead in zip(found.values(), killed, strict=True) if not dead]
                yield Tried(module, len(found), tuple(survived))


def listed() -> dict[Mutant, str]:
    """The survivors with reasons."""
    table = tomllib.loads(SURVIVORS.read_text(encoding="utf-8")) if SURVIVORS.exists() else {}
    return {
        Mutant(each["module"], each["where"], each["old"], new): each["reason"]
        for each in table.get("survivor", ())
        for new in each["new"]
    }


def as_toml(survived: Sequence[Mutant]) -> str:
    """What to put into survivors.toml, once there is a reason."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for each in survived:
        groups.setdefault((each.module, each.where, each.old), []).append(each.new)
    return "\n".join(
        f"[[survivor]]\nmodule = \"{module}\"\nwhere = \"{where}\"\nold = '''{old}'''\nnew = [\n"
        + "".join(f"    '''{each}''',\n" for each in new)
        + ']\nreason = ""\n'
        for (module, where, old), new in groups.items()
    )


def save(done: Sequence[Tried], known: dict[Mutant, str], ran: Run) -> None:
    """Add a run to the record, and take its modules out of earlier runs."""
    from proof import page
    from proof.record import Record

    modules = {
        each.module: {
            "mutants": each.mutants,
            "killed": each.mutants - len(each.survived),
            "listed": sum(mutant in known for mutant in each.survived),
        }
        for each in done
    }
    kept = []
    for run in Record.load_or_new("mutation").runs:
        others = {module: counts for module, counts in run.figures["modules"].items() if module not in modules}
        if others:
            kept.append(replace(run, figures={"modules": others}))
    Record("mutation", (*kept, replace(ran, figures={"modules": modules}))).save()
    page.write()


def chosen(texts: Sequence[str]) -> list[str]:
    found = [module for module in MODULES if not texts or any(module.endswith(text) for text in texts)]
    for text in texts:
        if not any(module.endswith(text) for module in MODULES):
            raise SystemExit(f"{text}: no such module; there are:\n" + "\n".join(MODULES))
    return found


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python proof/mutation.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("module", nargs="*", help="the end of its path, such as faults/_parse.py; default all")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants at a time")
    parser.add_argument("--count", action="store_true", help="count the mutants, run nothing")
    parser.add_argument("--record", action="store_true", help="write the result, if nothing is wrong, to the record")
    given = parser.parse_args(argv)
    if not is_installed():
        print(NEEDS, file=sys.stderr)
        return 3
    modules = chosen(given.module)
    if given.count:
        for module in modules:
            print(f"{len(mutants(module)):6}  {module}")
        return 0
    from proof import machine

    before, begun = machine.begin(["python", "proof/mutation.py", *argv]), time.monotonic()
    known = listed()
    done, wrong = [], False
    for each in run(modules, given.jobs):
        done.append(each)
        unlisted = [mutant for mutant in each.survived if mutant not in known]
        gone = [mutant for mutant in known if mutant.module == each.module and mutant not in each.survived]
        print(f"{each.module}: {each.mutants} mutants, {each.mutants - len(each.survived)} killed, "
              f"{len(each.survived)} survived, {len(unlisted)} of them not listed", flush=True)  # fmt: skip
        if unlisted:
            print(as_toml(unlisted), flush=True)
        for mutant in gone:
            print(f"listed, but it does not survive: {mutant}", flush=True)
        wrong = wrong or bool(unlisted or gone)
    if given.record and not wrong:
        save(done, known, replace(before, seconds=round(time.monotonic() - begun, 1)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.path[0] = os.fspath(ROOT)
    sys.exit(main(sys.argv[1:]))
