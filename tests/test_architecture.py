"""The architecture as a test: who may import whom, how long a file may get, what is public, what the hot path costs."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import fastecho

SOURCE = Path(fastecho.__file__).parent
# From the bottom: a module imports what stands on a line above its own, nothing else.
RANKS = (
    {"_version", "errors"},
    {"_sys", "_scan", "_text", "_parse", "_descriptors", "_unix", "_tls", "_signals", "_platform", "_logging",
     "faults"},
    {"config", "_sockets", "_control", "_buffer", "_counters"},
    {"_group", "stats"},
    {"_session"},
    {"_spin", "_accept", "_ticker", "_faulty"},
    {"server"},
    {"thread", "_worker", "_slot", "_report"},
    {"_crew"},
    {"_roll"},
    {"supervisor"},
    {"__init__"},
    {"testing", "bench"},
    {"cli"},
    {"__main__"},
)
CEILINGS = {".py": 300, ".pyi": 300, ".pyx": 400, ".pxd": 400}
FILES = sorted(path for path in SOURCE.rglob("*") if path.suffix in CEILINGS)


def unit(path: Path) -> str:
    """The module, or the package, that a rank is given to."""
    return path.relative_to(SOURCE).parts[0].partition(".")[0]


def imported(path: Path) -> set[str]:
    """The units of this package that a file imports, `cimport`s included; not those for type checkers only."""
    text = path.read_text()
    depth = len(path.relative_to(SOURCE).parts) - 1
    dots = "." * (depth + 1)
    found = set(re.findall(rf"^\s*from {re.escape(dots)}(\w+)[\w.]* c?import", text, re.M))
    found |= set(re.findall(r"^\s*(?:from|import) fastecho\.(\w+)", text, re.M))
    for names in re.findall(rf"^\s*from (?:{re.escape(dots)}|fastecho) c?import ([\w, ]+)$", text, re.M):
        found |= {name.strip() for name in names.split(",") if (SOURCE / f"{name.strip()}.py").exists()}
    if path.suffix == ".py":
        found -= typing_only(ast.parse(text))
    return found - {unit(path)}


def typing_only(tree: ast.Module) -> set[str]:
    guarded, free = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            guarded |= {id(each) for each in ast.walk(node)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            name = node.module.removeprefix("fastecho.").split(".")[0]
            (names if id(node) in guarded else free).add(name)
    return names - free


def rank(name: str) -> int:
    for number, names in enumerate(RANKS):
        if name in names:
            return number
    raise AssertionError(f"{name} has no rank: give it one in RANKS")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_lower_ranks_only(path):
    own = unit(path)
    for other in imported(path):
        assert rank(other) < rank(own), f"{own} may not import {other}"


def test_the_import_check_sees_imports():
    """The test above must not pass for want of finding anything."""
    assert {"_scan", "_sys"} <= imported(SOURCE / "_buffer.pyx")
    assert {"_session", "config"} <= imported(SOURCE / "server.py")
    assert "config" not in imported(SOURCE / "_sockets.py"), "imported for type checkers only"
    assert "supervisor" in imported(SOURCE / "cli" / "serve.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_stays_below_its_ceiling(path):
    assert len(path.read_text().splitlines()) <= CEILINGS[path.suffix]


def test_only_the_session_touches_a_transport():
    calls = re.compile(r"transport\.(write|close|abort|pause_reading|resume_reading|set_write_buffer_limits)\b")
    assert {path.name for path in FILES if path.suffix != ".pxd" and calls.search(path.read_text())} == {"_session.pyx"}


def test_asyncio_is_unknown_below_the_session():
    for name in ("_scan.pxd", "_buffer.pyx", "_buffer.pxd", "_counters.pyx", "_group.pyx", "config.py", "_sockets.py"):
        assert not re.search(r"^\s*(?:from|import) (asyncio|uvloop)", (SOURCE / name).read_text(), re.M), name


def test_the_public_names():
    public = set(fastecho.__all__)
    assert public == {
        "AddressError", "AddressInUseError", "ConfigError", "ConfigFileError", "CrashLoopError", "EchoServer",
        "FastechoError", "MissingExtraError", "PermissionDeniedError", "ServerConfig", "Stats", "TLSError",
        "ThreadServer", "WorkerStartError", "__version__", "run", "serve",
    }
    assert sorted(public) == sorted(fastecho.__all__)
    for name in public - {"__version__"}:
        home = importlib.import_module(getattr(fastecho, name).__module__)
        assert name in home.__all__
        assert getattr(fastecho, name).__doc__, f"{name} is public and says nothing"


def test_one_version():
    project = (SOURCE.parent.parent / "pyproject.toml").read_text()
    assert f'version = "{fastecho.__version__}"' in project


def test_every_extension_has_a_stub_with_docstrings():
    for path in SOURCE.rglob("*.pyx"):
        stub = path.with_suffix(".pyi")
        assert stub.exists(), f"{path.name} has no stub"
        assert ast.get_docstring(ast.parse(stub.read_text()))
