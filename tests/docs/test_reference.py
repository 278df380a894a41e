"""Each public name is in the API reference, which mkdocstrings fills from docstrings."""

from __future__ import annotations

import importlib
import re

import pytest

from pages import ROOT, read

MODULES = {
    "fastecho": "fastecho",
    "fastecho.bench": "bench",
    "fastecho.faults": "faults",
    "fastecho.testing": "testing",
}


def entries(page: str) -> set[str]:
    return set(re.findall(r"^::: ([\w.]+)$", read(ROOT / "docs" / "reference" / f"{page}.md"), re.M))


def errors() -> set[str]:
    return set(importlib.import_module("fastecho.errors").__all__)


@pytest.mark.parametrize("module", MODULES)
def test_each_public_name_is_in_the_reference(module: str) -> None:
    names = set(importlib.import_module(module).__all__) - errors() - {"__version__"}
    if module == "fastecho.testing":
        names.remove("Fault")  # a link leads to fastecho.faults
    assert entries(MODULES[module]) == {f"{module}.{name}" for name in names}


def test_each_error_is_in_the_reference() -> None:
    assert entries("errors") == {f"fastecho.errors.{name}" for name in errors() if not name.startswith("EX_")}


def test_the_table_of_exit_codes_is_complete() -> None:
    page = read(ROOT / "docs" / "reference" / "errors.md")
    listed = {name: int(code) for name, code in re.findall(r"^\| `(EX_\w+)` \| (\d+) \|", page, re.M)}
    module = importlib.import_module("fastecho.errors")
    assert listed == {name: getattr(module, name) for name in errors() if name.startswith("EX_")}


@pytest.mark.parametrize("module", MODULES)
def test_each_public_name_has_a_docstring(module: str) -> None:
    there = importlib.import_module(module)
    missing = [name for name in there.__all__ if name != "__version__" and not getattr(there, name).__doc__]
    assert missing == []
