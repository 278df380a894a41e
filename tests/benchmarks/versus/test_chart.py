"""The chart of absolute numbers, its sentences and its caption, from records made up for the tests."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.versus import chart, markdown, reading, rows, terminal
from benchmarks.versus.__main__ import arguments, main
from benchmarks.versus.peers import BY_NAME as PEERS
from benchmarks.versus.peers import ON_CHART
from benchmarks.versus.record import Cell, Record
from benchmarks.versus.tables import absolute

from synthetic import cell, full_record, record

# CPU microseconds per echo, and bytes per idle connection.
FIGURES = {
    "asio-1k": (4.0, 1600),
    "fastecho": (5.0, 2048),
    "go": (8.0, 70_000),
    "libuv": (10.0, 281),
    "twisted": (20.0, 5120),
}


def chart_record(*, without: str = "", unfit: dict[str, str] | None = None) -> Record:
    cells = []
    for name, (cpu, resident) in FIGURES.items():
        if name != without:
            cells += [cell("64x50", name, round_, cpu) for round_ in range(3)]
            cells += [cell("idle", name, round_, resident) for round_ in range(2)]
    # A saturated server: the caption has nothing to explain.
    cells = [replace(each, server_busy=0.99) if each.server_busy else each for each in cells]
    return record(*cells, unfit=unfit)


def test_the_best_server_is_first_on_each_panel() -> None:
    found = chart_record()
    speed, memory = ([(bar.peer.name, bar.text) for bar in chart.bars(found, panel)] for panel in chart.PANELS)
    assert speed == [
        ("asio-1k", "250,000"),
        ("fastecho", "200,000"),
        ("go", "125,000"),
        ("libuv", "100,000"),
        ("twisted", "50,000"),
    ]
    assert memory == [("libuv", "0.27"), ("asio-1k", "1.6"), ("fastecho", "2.0"), ("twisted", "5.0"), ("go", "68")]


def test_the_number_of_a_server_is_what_its_core_does_when_full() -> None:
    half_idle = Cell("64x50", "go", 0, echoes=50_000, seconds=1.0, cpu=0.5, server_busy=0.5)
    (bar,) = chart.bars(record(half_idle), chart.SPEED)
    assert bar.value.median == 100_000


@pytest.mark.parametrize(
    ("value", "text"), [(183_456, "183,000"), (68.9, "69"), (1.64, "1.6"), (0.274, "0.27"), (99.99, "100")]
)
def test_numbers_are_rounded_for_people(value: float, text: str) -> None:
    assert chart.value_text(value) == text


def test_one_sentence_says_what_is_won_and_one_what_is_lost() -> None:
    wins, losses = reading.sentences(chart_record()).splitlines()
    assert wins == (
        "fastecho echoes 200,000 messages per second on one core: faster than Go (125,000), libuv (100,000) and "
        "Twisted (50,000); an idle connection takes 2.0 KiB, less than with Twisted (5.0 KiB) and Go (68 KiB)."
    )
    assert losses == (
        "fastecho is slower than Boost.Asio (250,000); an idle connection takes less with libuv (0.27 KiB) and "
        "Boost.Asio (1.6 KiB)."
    )


def test_rounds_that_disagree_are_neither_won_nor_lost() -> None:
    found = record(
        *(cell("64x50", "fastecho", round_, value) for round_, value in enumerate((4.0, 4.0, 6.0))),
        *(cell("64x50", "go", round_, 5.0) for round_ in range(3)),
    )
    assert reading.sentences(found).splitlines() == [
        "fastecho echoes 250,000 messages per second on one core.",
        "fastecho is about as fast as Go (200,000).",
    ]


def test_numbers_that_are_printed_alike_are_neither_won_nor_lost() -> None:
    found = record(*(cell("idle", name, 0, value) for name, value in (("fastecho", 1664.0), ("asio-1k", 1616.0))))
    assert reading.sentences(found).splitlines() == [
        "An idle connection takes 1.6 KiB.",
        "An idle connection takes about as much with Boost.Asio (1.6 KiB).",
    ]


def test_a_record_without_fastecho_says_nothing_about_it() -> None:
    assert reading.sentences(chart_record(without="fastecho")) == reading.NOTHING


def test_the_table_has_each_server_the_fastest_first() -> None:
    table = absolute(full_record())
    assert {line[0] for line in table.body} == {peer.chart_name for peer in ON_CHART}
    assert absolute(chart_record()).body[:2] == (
        ("Boost.Asio (C++)", "250,000 (250,000–250,000)", "99 %", "1.6"),
        ("fastecho", "200,000 (200,000–200,000)", "99 %", "2.0"),
    )
    assert "Boost.Asio (C++)" in terminal.report(chart_record())
    only_memory = absolute(record(cell("idle", "go", 0, 70_000)))
    assert only_memory.body == (("Go", "–", "–", "68"),)


def test_a_server_that_was_not_measured_is_named_with_the_command_that_installs_it() -> None:
    reason = "not installed: pip install twisted"
    found = chart_record(without="twisted", unfit={"twisted": reason})
    for text in (markdown.page(found, True), markdown.excerpt(found, "docs/", True)):
        line = next(line for line in text.splitlines() if line.startswith("Not measured in this run:"))
        assert f"Twisted ({reason})" in line
        assert "socat" in line
        assert "Go" not in line
    assert "Not measured" not in markdown.page(full_record(), True)


def test_the_caption_names_the_servers_whose_core_was_not_full() -> None:
    full = chart_record()
    assert "Each server filled its core" in reading.caption(full)
    cells = [replace(each, server_busy=0.8) if each.peer == "asio-1k" and each.cpu else each for each in full.cells]
    caption = reading.caption(replace(full, cells=tuple(cells)))
    assert "did not fill the core of Boost.Asio (80 % of its core)" in caption
    assert "Each server filled its core" not in caption


def test_the_caption_says_where_it_was_measured_and_over_how_many_connections() -> None:
    caption = reading.caption(full_record())
    assert "8,000 idle connections (socat: 500, Python threads: 1,000) after" in caption
    assert "a processor, Python 3.13.0; 2026-01-01." in caption


def test_the_picture_has_each_server_and_its_number(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.versus import plot

    found = full_record()
    plot.draw_chart(found, tmp_path / "chart.svg")
    svg = (tmp_path / "chart.svg").read_text()
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
    for panel in chart.PANELS:
        assert panel.title in texts
    for peer in ON_CHART:
        assert texts.count(peer.chart_name) == 2
    for panel in chart.PANELS:
        assert all(bar.text in texts for bar in chart.bars(found, panel))
    plot.draw_chart(found, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == svg


def test_a_chart_of_no_servers_is_not_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.versus import plot

    plot.draw_chart(record(), tmp_path / "chart.svg")
    assert not (tmp_path / "chart.svg").exists()
    assert markdown.CHART not in markdown.page(record(), True)


def test_the_ratios_and_their_limits_are_in_an_appendix() -> None:
    before, _, appendix = markdown.page(full_record(), True).partition("\n## Appendix: ratios")
    assert markdown.CHART in before
    for text in (markdown.RATIOS, " holds ", " misses "):
        assert text not in before
        assert text in appendix


def test_chart_stands_for_the_rows_and_the_servers_of_the_chart() -> None:
    found = arguments(["--rows", "chart", "--peers", "chart,epoll", "--server-cpu", "1", "--load-cpu", "0"])
    assert tuple(found.rows) == tuple(row.name for row in rows.ON_CHART)
    assert set(found.peers) == {"epoll", *(peer.name for peer in ON_CHART)}
    assert found.docs is None


def test_each_server_of_the_chart_is_measured_in_both_rows_and_new_ones_in_no_other() -> None:
    for peer in ON_CHART:
        taken = {row.name for row in rows.ROWS if row.takes(peer)}
        assert taken >= {"64x50", "idle"}
        assert not peer.chart_only or taken == {"64x50", "idle"}
    assert {name for name, peer in PEERS.items() if peer.chart_only} == {
        "gevent",
        "protocol-asyncio",
        "socat",
        "threads",
        "trio",
        "twisted",
    }


@pytest.mark.parametrize(
    ("unfit", "resident", "code"),
    [({}, 1000.0, 0), ({}, 1900.0, 3), ({"twisted": "not installed: pip install twisted"}, 1900.0, 1)],
)
def test_the_exit_code_tells_a_missed_limit_from_a_server_that_was_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], unfit: dict[str, str], resident: float, code: int
) -> None:
    found = record(cell("idle", "fastecho", 0, resident), cell("idle", "asio-1k", 0, 1000.0), unfit=unfit)
    found.save(tmp_path / "record.json")
    assert main(["--from", str(tmp_path / "record.json")]) == code
    assert ("twisted was not measured: not installed: pip install twisted" in capsys.readouterr().out) == bool(unfit)


def test_the_published_record_still_makes_a_page() -> None:
    published = Record.load(Path(__file__).parents[3] / "docs" / markdown.DATA)
    assert {"fastecho", "Go"} <= {line[0] for line in absolute(published).body}
    assert markdown.page(published, True).startswith("# Performance")
