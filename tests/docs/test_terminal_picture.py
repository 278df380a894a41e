"""docs/terminal.svg shows what the commands print today. scripts/terminal-picture draws it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PICTURE = (ROOT / "docs" / "terminal.svg").read_text(encoding="utf-8")
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "terminal-picture"))
WIDTH = 100
HISTOGRAM_ROW = "0 s .. 0 s"


def lines_of(picture: str) -> list[str]:
    """The lines of text, as wide as in the terminal."""
    lines: dict[float, str] = {}
    for text in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text"):
        if not text.get("class", "").endswith("-title"):
            y, column = float(text.attrib["y"]), round(float(text.attrib["x"]) / SCRIPT["COLUMN"])
            lines[y] = lines.get(y, "").ljust(column) + (text.text or "").replace("\xa0", " ")
    return [line.rstrip() for line in lines.values()]


def form_of(lines: list[str]) -> list[str]:
    """What is there in every run.

    Without figures and their units, the width of columns, the number of rows of the histogram, and the notes on this
    machine.
    """
    unwrapped = re.sub(rf"^(\d{{4}}-.{{{WIDTH - 5}}})\n", r"\1", "\n".join(lines), flags=re.M)  # lines of the log
    unwrapped = re.sub(r"^(server CPU .*)(?<!an echo)\n", r"\1 ", unwrapped, flags=re.M)  # with long figures
    masked = re.sub(r"\b(ns|us|ms|s)\b", "s", re.sub(r"\d[\d.,]*\d|\d", "0", unwrapped))
    lines = [re.sub(" +", " ", line).strip() for line in masked.splitlines() if not line.startswith("note:")]
    before = ["", *lines[:-1]]
    return [line for line, last in zip(lines, before, strict=True) if line != last or HISTOGRAM_ROW not in line]


@pytest.mark.skipif(sys.platform != "linux", reason="the CPU of the server is seen on Linux only")
def test_the_picture_has_the_form_of_what_the_commands_print_now() -> None:
    today = form_of(lines_of(SCRIPT["draw"](SCRIPT["play"](0.2, port=0))))
    assert form_of(lines_of(PICTURE)) == today
    assert "$ fastecho &" in today
    assert "rate 0 echoes/s" in today
    assert any("fastecho 0 listening on tcp://0:0 (0 worker, pid 0, terminator NUL)" in line for line in today)


def test_the_picture_is_as_wide_as_its_terminal() -> None:
    assert max(map(len, lines_of(PICTURE))) <= WIDTH


def test_the_picture_loads_nothing_and_names_nothing_of_the_machine_that_drew_it() -> None:
    assert not re.search(r"@font-face|@import|href|<script|url\((?!#)", PICTURE)
    assert re.findall(r"https?:[^\"\s]*", PICTURE) == ["http://www.w3.org/2000/svg"]
    assert set(re.findall(r"tcp://([\w.]+)", "\n".join(lines_of(PICTURE)))) == {"127.0.0.1"}
    assert not re.search(r"(?:^|[\s'\"=(])[~/]\w", "\n".join(lines_of(PICTURE)), re.M), "a path"
