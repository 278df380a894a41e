"""The page on metrics has the families of the service, and its picture shows the panel of today."""

from __future__ import annotations

import re
import runpy
import sys
from xml.etree import ElementTree

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fastecho._counters import CAUSES, SharedCounters
from fastecho._metrics.collector import ServiceCollector
from fastecho._metrics.state import RESTART_CAUSES, ServiceState
from pages import ROOT, read

PAGE = read(ROOT / "docs" / "metrics.md")
PICTURE = (ROOT / "docs" / "top.svg").read_text(encoding="utf-8")


def families() -> list[tuple[str, str, str]]:
    registry = CollectorRegistry()
    registry.register(ServiceCollector(SharedCounters(1), ServiceState()))
    found = text_string_to_metric_families(generate_latest(registry).decode())
    return [(f"{each.name}{'_total' * (each.type == 'counter')}", each.type, each.documentation) for each in found]


def test_the_table_has_each_family_with_its_type_and_help() -> None:
    rows = re.findall(r"^\| `(fastecho_\w+)` \| (\w+) \| (.*) \|$", PAGE, re.M)
    assert sorted(rows) == sorted(families())


def test_each_cause_is_on_the_page() -> None:
    for cause in (*CAUSES[1:], *RESTART_CAUSES):
        assert f"`{cause}`" in PAGE


def words(picture: str) -> list[str]:
    """What is there in every run, line by line: no figures, units, bars or frames, and no cause of an end."""
    lines: dict[float, str] = {}
    for text in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text"):
        y = float(text.attrib["y"])
        lines[y] = lines.get(y, "") + " " + (text.text or "").replace("\xa0", " ")
    plain = " ".join(lines.values())
    masked = re.sub(r"\b[kMG]?B\b|[^\x00-\x7f]", " ", re.sub(r"[-\d.,]*\d", "0", plain))
    for cause in CAUSES:
        masked = re.sub(rf"\b{cause.replace('_', ' ')} +0 +0/s", " ", masked)
    return [word for word in masked.split() if word not in {"0", "-", "0/s"}]


@pytest.mark.skipif(sys.platform != "linux", reason="the script reads /proc")
def test_the_picture_has_the_form_of_the_panel_today() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "top-picture"))
    today = words(script["TERMINAL"]["draw"](script["play"](6)))
    assert words(PICTURE) == today
    for word in ("echoes/s", "workers:", "restarts:", "ready", "quit"):
        assert word in today


def test_the_picture_loads_nothing() -> None:
    assert not re.search(r"@font-face|@import|href|<script|url\((?!#)", PICTURE)
    assert re.findall(r"https?:[^\"\s]*", PICTURE) == ["http://www.w3.org/2000/svg"]
