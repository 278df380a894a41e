"""The names on the fixture's page are names of the fixture."""

import re
from pathlib import Path

import pytest

from fastecho import testing
from fastecho.config import options

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fixture.md").read_text()
OWNERS = (testing.Server, testing.Session, testing.Capture, testing)
SYNTAX = {"with", "async"}


def section(title: str) -> str:
    return re.split(rf"^## {title}$", PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]


@pytest.mark.parametrize("title", ["The server", "pytest"])
def test_each_method_and_attribute_that_the_page_names_exists(title: str) -> None:
    known = {name for owner in OWNERS for name in dir(owner)}
    found = re.findall(r"`(?:server\.|\.)?([a-z_]+)\(", section(title))
    if title == "The server":
        found += re.findall(r"`([a-z_]+)`", section(title))
    unknown = {name for name in found if name not in known | SYNTAX}
    assert unknown <= {"client_context", "chance"}, "of fastecho_tls, and of Fault"
    assert len(found) > len(unknown)


def test_the_page_says_of_each_option_of_the_server_what_it_is_here() -> None:
    named = set(re.findall(r"`([a-z_]+)`", section("Options")))
    assert {option.name for option in options()} <= named
