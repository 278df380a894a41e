"""The architecture as a test: which module may import which, how classes derive, and what is public.

Imports count wherever they stand: at the top of a file, inside a function, for type checkers only, and as `cimport`.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastecho

SOURCE = Path(fastecho.__file__).parent
TESTS = Path(__file__).parent
# From the bottom: a module or package imports what stands above it, and nothing else of ours.
LAYERS = (
    {"_version", "errors"},
    {"_sys", "_scan", "_options", "faults"},
    {"config"},
    {"_buffer", "_counters", "_poll_policy", "stats"},
    {"_sessions"},
    {"_session"},
    {"_busy_poll", "_datagrams", "_net"},
    {"_injection", "_metrics"},
    {"server"},
    {"thread"},
    {"_workers"},
    {"__init__"},
    {"testing", "bench"},
    {"_top"},
    {"cli"},
    {"__main__"},
)
ALLOWED_AT_THE_TOP = {"config", "errors", "stats", "server", "thread"}
HOT_PATH = {
    "_sys", "_scan", "_buffer", "_counters", "_session", "_sessions", "_busy_poll", "_poll_policy", "_datagrams",
}  # fmt: skip
# Names of the standard library that have no public spelling; the last two are what an asyncio loop has left.
FOREIGN = {"_exit", "_getframe", "_get_running_loop", "_replace", "_scheduled", "_selector"}
SOURCES = sorted(path for path in SOURCE.rglob("*") if path.suffix in {".py", ".pyx", ".pxd", ".pyi"})
IMPORT = re.compile(r"^\s*from (\.*)([\w.]*) c?import (?:\((.*?)\)|(.*?)$)", re.M | re.S)


def module_of(path: Path) -> str:
    """The dotted name below the package; that of a package itself for its `__init__`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path) for path in SOURCES}


def unit(module: str) -> str:
    """The module or package at the top of ours that `module` belongs to."""
    return module.partition(".")[0]


def imported(path: Path) -> set[str]:
    """The modules of ours that a file imports, in any way."""
    text = re.sub(r"#.*", "", path.read_text())
    folder = ["fastecho", *path.relative_to(SOURCE).parent.parts]
    found = set()
    for dots, name, inside, line in IMPORT.findall(text):
        base = folder[: len(folder) - len(dots) + 1] if dots else []
        target = [*base, *name.split(".")] if name else base
        if target[:1] != ["fastecho"]:
            continue
        below = ".".join(target[1:])
        names = [each.split(" as ")[0].strip() for each in (inside or line).split(",")]
        as_modules = {f"{below}.{each}".lstrip(".") for each in names} & MODULES
        found |= as_modules or {below or "__init__"}
    return found - {module_of(path)}


def graph() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for path in SOURCES:
        edges.setdefault(module_of(path), set()).update(imported(path))
    return edges


def layer(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    raise AssertionError(f"{name} has no layer: give it one in LAYERS")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_from_lower_layers_only(path: Path) -> None:
    own = unit(module_of(path))
    for other in {unit(each) for each in imported(path)} - {own}:
        assert layer(other) < layer(own), f"{own} may not import {other}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        graphlib.TopologicalSorter(graph()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_the_import_check_sees_every_kind_of_import() -> None:
    """The tests above must not pass for want of finding anything."""
    edges = graph()
    assert {"_scan", "_sys"} <= edges["_buffer"], "a cimport"
    assert {"_session", "config", "_net.listeners"} <= edges["server"]
    assert "config" in edges["_net.listeners"], "an import for type checkers only"
    assert "_workers.supervisor" in edges["cli.serve"], "an import inside a function"


def test_only_public_modules_and_the_hot_path_lie_at_the_top() -> None:
    at_the_top = {path.stem for path in SOURCES if path.parent == SOURCE}
    assert at_the_top - {"__init__", "__main__", "_version"} == ALLOWED_AT_THE_TOP | HOT_PATH


def classes() -> dict[str, list[str]]:
    """The bases of each class of ours, by its name."""
    found: dict[str, list[str]] = {}
    for path in SOURCES:
        if path.suffix in {".py", ".pyx"}:
            for name, bases in re.findall(r"^\s*(?:cdef )?class (\w+)(?:\(([^)]*)\))?:", path.read_text(), re.M):
                found.setdefault(name, []).extend(re.findall(r"\w+", re.sub(r"\[.*?\]", "", bases)))
    return found


def test_a_class_has_at_most_two_ancestors_of_ours_above_each_other() -> None:
    bases = classes()

    def depth(name: str) -> int:
        return max((1 + depth(base) for base in bases[name] if base in bases and base != name), default=0)

    assert {name for name in bases if depth(name) > 2} == set()
    assert depth("ConfigError") == 1, "the check sees no bases"


def private_names(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of each private attribute or import that no file of the same folder defines."""
    own = set().union(*(defined(each) for each in path.parent.glob("*.py")))
    modules = {name.rpartition(".")[2] for name in MODULES}
    for node in nodes(path):
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("fastecho")):
            names = [alias.name for alias in node.names if alias.name not in modules]
        else:
            continue
        for name in names:
            if name.startswith("_") and not name.startswith("__") and name not in own | FOREIGN:
                yield node.lineno, name


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


@functools.cache
def defined(path: Path) -> set[str]:
    """The functions, attributes and variables that a file defines."""
    own = set()
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
            own.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
        elif isinstance(node, ast.Assign):
            own |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return own


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.suffix == ".py"], ids=lambda path: str(path.relative_to(SOURCE))
)
def test_a_module_uses_no_private_name_of_another(path: Path) -> None:
    assert list(private_names(path)) == []


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_uses_no_private_name(path: Path) -> None:
    assert list(private_names(path)) == []


def test_only_the_session_calls_a_transport() -> None:
    calls = re.compile(r"transport\.(write|close|abort|pause_reading|resume_reading|set_write_buffer_limits)\b")
    callers = {path.name for path in SOURCES if path.suffix != ".pxd" and calls.search(path.read_text())}
    assert callers == {"_session.pyx"}


def test_scanning_buffers_and_the_registry_know_no_asyncio() -> None:
    for name in ("_scan.pxd", "_buffer.pyx", "_buffer.pxd", "_counters.pyx", "_sessions.pyx", "config.py"):
        assert not re.search(r"^\s*(?:from|import) (asyncio|uvloop)", (SOURCE / name).read_text(), re.M), name


def test_bench_knows_nothing_of_the_server() -> None:
    servers = {"server", "thread", "config", "_workers", "_net", "_session", "_sessions", "_injection", "testing"}
    for module, others in graph().items():
        if unit(module) == "bench":
            assert not {unit(other) for other in others} & servers, module


def test_every_public_name_is_documented_where_it_is_defined() -> None:
    for name in set(fastecho.__all__) - {"__version__"}:
        value = getattr(fastecho, name)
        assert name in importlib.import_module(value.__module__).__all__
        assert value.__doc__, f"{name} is public and has no docstring"


def test_the_version_stands_in_the_project_file_too() -> None:
    project = (SOURCE.parent.parent / "pyproject.toml").read_text()
    assert f'version = "{fastecho.__version__}"' in project


def test_every_extension_module_has_a_stub_with_docstrings() -> None:
    for path in SOURCE.rglob("*.pyx"):
        stub = path.with_suffix(".pyi")
        assert stub.exists(), f"{path.name} has no stub"
        assert ast.get_docstring(ast.parse(stub.read_text()))


def test_every_hazard_names_a_test_that_exists() -> None:
    text = (SOURCE.parent.parent / "docs" / "hazards.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?", "".join(re.findall(r"^Tests?:.*?$", text, re.M)))
    assert len(named) > 40, "the pattern finds none"
    for path, test in named:
        assert (TESTS / path).exists(), path
        assert not test or f"def {test}" in (TESTS / path).read_text(encoding="utf-8"), f"{path}::{test}"
