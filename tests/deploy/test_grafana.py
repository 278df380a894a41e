"""deploy/grafana/fastecho.json: its expressions name what the service exposes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fastecho._counters import SharedCounters
from fastecho._metrics.collector import ServiceCollector
from fastecho._metrics.state import Phase, ServiceState, WorkerState
from pages import ROOT
from patience import DEADLINE

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "fastecho.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
    **{each["name"]: each["expr"] for each in DASHBOARD["annotations"]["list"]},
    **{each["name"]: each["definition"] for each in DASHBOARD["templating"]["list"] if "definition" in each},
}
WORDS_OF_PROMQL = {"sum", "count", "by", "rate", "increase", "label_values"}


def exposed() -> dict[str, set[str]]:
    """The samples of a service with one worker, and the labels of each."""
    state = ServiceState()
    state.publish(Phase.READY, [WorkerState(True, 0)])
    registry = CollectorRegistry()
    registry.register(ServiceCollector(SharedCounters(1), state))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_each_name_and_label_of_an_expression_is_exposed(expression: str) -> None:
    without_values = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    words = set(re.findall(r"[a-z_]+", without_values)) - WORDS_OF_PROMQL
    names = {word for word in words if word.startswith("fastecho")}
    samples = exposed()
    assert names
    assert names <= samples.keys()
    # Prometheus adds the instance.
    assert words - names <= {"instance"}.union(*(samples[name] for name in names))


def test_each_metric_is_shown() -> None:
    shown = set(re.findall(r"fastecho_\w+", " ".join(EXPRESSIONS.values())))
    assert shown == exposed().keys()


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_a_counter_is_shown_as_a_rate_and_a_gauge_is_not(expression: str) -> None:
    for name in re.findall(r"fastecho_\w+", expression):
        rated = bool(re.search(rf"(rate|increase)\({name}\b", expression))
        assert rated == name.endswith("_total")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus); the gate has it")
def test_promtool_parses_each_expression(tmp_path) -> None:
    rules = [
        {"record": f"rule:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(EXPRESSIONS.values())
        if "label_values" not in expression  # of Grafana
    ]
    path = tmp_path / "rules.json"  # which is YAML, too
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, timeout=2 * DEADLINE)
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_panels_have_one_id_each_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {
            (place["x"] + x, place["y"] + y)
            for x in range(place["w"])
            for y in range(place["h"])
        }  # fmt: skip
        assert not own & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= own


def test_every_panel_asks_the_data_source_and_the_instances_that_are_chosen() -> None:
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]
    for panel in PANELS:
        assert panel["description"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
            assert 'instance=~"$instance"' in target["expr"]
