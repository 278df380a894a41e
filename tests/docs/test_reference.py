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


def test_the_errors_are_in_the_reference_as_a_module() -> None:
    assert entries("errors") == {"fastecho.errors"}


@pytest.mark.parametrize("module", MODULES)
def test_each_public_name_has_a_docstring(module: str) -> None:
    there = importlib.import_module(module)
    missing = [name for name in there.__all__ if name != "__version__" and not getattr(there, name).__doc__]
    assert missing == []
