"""docs/faults.md: each fault has a section, with its arguments and their defaults as they are in the code."""

from __future__ import annotations

import inspect
import re

import pytest

from fastecho.faults import Fault, parse_faults
from pages import BLOCKS, ROOT, read

PAGE = read(ROOT / "docs" / "faults.md")
KINDS = [name for name, member in vars(Fault).items() if isinstance(member, staticmethod)]
SELECTORS = {"nth", "first", "every", "chance", "where"}
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.M | re.S))


def written(default: object) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_each_fault_has_a_section() -> None:
    assert list(SECTIONS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_attributes_of_a_fault_are_its_arguments_with_their_defaults(kind: str) -> None:
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \|[^|]*\| ([^|]+) \|", SECTIONS[kind], re.M)
    arguments = inspect.signature(getattr(Fault, kind)).parameters.values()
    assert [name for name, _ in listed] == [argument.name for argument in arguments]
    for (name, shown), argument in zip(listed, arguments, strict=True):
        assert shown == written(argument.default), name
    assert listed or "It has no attributes." in SECTIONS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_section_says_what_the_client_sees_and_shows_it_as_text_and_as_a_script(kind: str) -> None:
    section = SECTIONS[kind]
    assert section.count("**The client sees**") == 1
    (text,) = re.findall(r"^As text: `(.*)`$", section, re.M)
    (fault,) = parse_faults(text)
    assert fault.kind == kind
    scripts = [block for block in BLOCKS if block.page.name == "faults.md" and block.heading == kind]
    assert len(scripts) == 1
    assert f"Fault.{kind}(" in scripts[0].code


def test_the_page_has_each_selector() -> None:
    assert set(re.findall(r"^\| `\.(\w+)\(", PAGE, re.M)) == SELECTORS
    assert {name for name in SELECTORS if callable(getattr(Fault, name, None))} == SELECTORS
