"""The page on scaling: its tables are those of the figures that were measured, its times those of the manifests."""

from __future__ import annotations

import json
import re

from benchmarks.capacity import BEGIN, END, PORTS, tables, with_tables

from pages import ROOT, read

PAGE = read(ROOT / "docs" / "scaling.md")
FIGURES = json.loads((ROOT / "docs" / "capacity.json").read_text())


def test_the_tables_are_those_of_the_figures() -> None:
    assert PAGE.partition(BEGIN)[2].partition(END)[0].strip() == tables(FIGURES)
    assert with_tables(PAGE, tables(FIGURES)) == PAGE


def test_the_ports_are_those_that_linux_has_by_default() -> None:
    assert PORTS == 60999 - 32768 + 1
    assert f"{PORTS:,} ports / 60 s = {PORTS // 60} a second" in PAGE


def test_the_limits_of_the_machine_are_those_that_were_found() -> None:
    machine = FIGURES["machine"]
    assert f"`net.netfilter.nf_conntrack_max`, {machine['net.netfilter.nf_conntrack_max']:,} on the machine" in PAGE
    assert f"`fs.nr_open`, {machine['fs.nr_open']:,}:" in PAGE


def test_the_times_of_a_rolling_update_are_those_of_the_manifest() -> None:
    manifest = read(ROOT / "deploy" / "kubernetes" / "deployment.yaml")
    for name in ("--shutdown-delay", "--drain-timeout"):
        [seconds] = re.findall(rf"{name}=(\d+)s", manifest)
        assert f"`{name}` ({seconds} s)" in PAGE
    for name in ("terminationGracePeriodSeconds", "minReadySeconds"):
        [seconds] = re.findall(rf"{name}: (\d+)", manifest)
        assert f"`{name}` ({seconds})" in PAGE
