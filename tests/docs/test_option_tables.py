"""The tables of options on the pages are those of the code."""

from __future__ import annotations

import re

import click
import pytest

from fastecho.cli.bench import command as bench
from fastecho.config import GROUPS, options
from pages import ROOT, read

SERVICE = read(ROOT / "docs" / "service.md")
BENCH = read(ROOT / "docs" / "bench.md")


def row(option) -> str:
    default = option.format(option.default)
    text = option.help.replace("\\\\", "\\\\\\\\").replace("*", "\\*")
    return f"| `{option.flag}` | {f'`{default}`' if default else ''} | {text} |"


@pytest.mark.parametrize("group", GROUPS)
def test_the_service_page_has_each_option_with_its_default_and_help(group: str) -> None:
    section = SERVICE.partition(f"### {group}\n")[2].partition("\n### ")[0]
    assert re.findall(r"^\| `.*", section, re.M) == [row(option) for option in options() if option.group == group]


def test_the_bench_page_has_each_option_of_the_command() -> None:
    section = BENCH.partition("## Options\n")[2].partition("\n## ")[0]
    listed = [re.findall(r"`(-[\w-]+)`", line.split(" | ")[0]) for line in section.splitlines() if "| `-" in line]
    params = [param for param in bench.params if isinstance(param, click.Option)]
    wanted = [{*param.opts, *param.secondary_opts} for param in params if not {"--help", "--version"} & {*param.opts}]
    assert list(map(set, listed)) == wanted
