"""The page says what the record holds: misses, leads of others and failures among it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.versus import markdown, reading, terminal
from benchmarks.versus.__main__ import main
from benchmarks.versus.ratios import Spread
from benchmarks.versus.record import Cell, Record
from benchmarks.versus.rows import BY_NAME, ROWS
from benchmarks.versus.tables import detail, headline, ratio_text, time_text

from synthetic import cell, full_record, record


def page(found: Record) -> str:
    return markdown.page(found, pictured=True)


def test_record_survives_its_file(tmp_path: Path) -> None:
    found = full_record()
    found.save(tmp_path / "record.json")
    assert Record.load(tmp_path / "record.json") == found


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="not a record of this comparison"):
        Record.load(tmp_path / "other.json")


def test_headline_has_every_row_and_its_verdict() -> None:
    table = headline(full_record())
    assert [line[0] for line in table.body] == [row.label for row in ROWS]
    by_work = {line[0]: line[1:] for line in table.body}
    assert by_work["64 B, 50 connections"][0] == "0.95 (0.95–0.95) holds 1.17"
    assert by_work["4 KiB, 16 connections"][1] == "0.95 (0.95–0.95) misses 0.30"
    assert by_work["256 KiB, 16 connections"][0] == "0.95 (0.95–0.95)"


def test_leads_of_c_are_named() -> None:
    leads = reading.leads(full_record(), reading.C_FAMILY)
    assert {found.row.name for found in leads} == {"churn-client", "churn-server"}
    assert {found.peer for found in leads} >= {"epoll", "asio-1k", "asio-64k", "libuv"}
    honest = page(full_record()).partition("### Honest reading")[2].partition("\n## ")[0]
    assert "churn: connect, echo 64 B, the client closes; 32 at once: 1.11 (1.11–1.11) of C, libuv" in honest


def test_a_lead_within_the_spread_says_so() -> None:
    found = record(
        *(cell("64x50", "fastecho", round_, value) for round_, value in enumerate((4.0, 5.5, 5.5))),
        *(cell("64x50", "epoll", round_, 5.0) for round_ in range(3)),
    )
    assert reading.line(reading.leads(found, ("c",))[0]).endswith("; not in every round")


def test_misses_are_listed_with_their_ceiling() -> None:
    found = reading.missed(full_record())
    assert ("4k", "asio-1k") in {(miss.row.name, miss.peer) for miss in found}
    assert "to hold 0.30" in page(full_record())


def test_a_missed_ratio_has_its_reason_and_a_link_to_the_profile() -> None:
    slow = record(cell("churn-client", "fastecho", 0, 9.0), cell("churn-client", "asio-64k", 0, 5.0))
    line = next(line for line in page(slow).splitlines() if "the profile" in line)
    assert line.startswith(f"- {BY_NAME['churn-client'].label}: about 18,900 of")
    assert "performance-log.md#why-the-ratios-of-churn-did-not-reproduce" in line
    fast = record(cell("churn-client", "fastecho", 0, 4.0), cell("churn-client", "asio-64k", 0, 5.0))
    assert "the profile" not in page(fast)


def test_the_log_has_the_sections_that_rows_name() -> None:
    log = (Path(__file__).parents[3] / "docs" / "performance-log.md").read_text(encoding="utf-8")
    for row in ROWS:
        assert bool(row.reason) == bool(row.log)
        assert not row.log or f"\n## {row.log}\n" in log


def test_rows_of_udp_are_compared_with_asio_over_udp() -> None:
    cells = (cell("udp", "fastecho-udp", 0, 4.0), cell("udp", "asio-udp", 0, 5.0))
    assert headline(record(*cells)).body[0][3].startswith("0.80")


def test_what_was_not_measured_is_not_passed_over() -> None:
    found = record(cell("64x50", "fastecho", 0, 4), cell("64x50", "epoll", 0, 4))
    assert {miss.peer for miss in reading.unmeasured(found)} == {"asio-1k", "asio-64k", "uvloop-buffered"}
    assert "did not measure" in page(found)


def test_rows_that_were_left_out_are_named() -> None:
    text = page(record(cell("64x50", "fastecho", 0, 4.0)))
    _, _, named = text.partition("**Not measured in this run**")
    assert f"- {BY_NAME['4k'].label}" in named
    assert "**Not measured" not in page(full_record())


def test_failures_are_shown_everywhere() -> None:
    failed = Cell("64x50", "epoll", 1, error="3 corrupt; byte 17 came back wrong")
    found = record(
        cell("64x50", "fastecho", 0, 4), cell("64x50", "epoll", 0, 4), failed, unfit={"go": "not built"}
    )
    for text in (page(found), terminal.report(found)):
        assert "64x50, epoll, round 2: 3 corrupt; byte 17 came back wrong" in text
        assert "go was not measured: not built" in text
        assert "1 of 2 rounds failed" in text


def test_a_noisy_machine_is_owned_up_to() -> None:
    quiet = record(cell("64x50", "fastecho", 0, 4))
    noisy = record(cell("64x50", "fastecho", 0, 4), load="1.70")
    shared = Cell("4k", "fastecho", 0, echoes=9, seconds=1.0, cpu=0.3, server_busy=0.3, client_busy=0.4)
    assert "not quiet" not in page(quiet)
    assert "neither core was full in the row of 4 KiB, 16 connections" in page(record(shared))
    assert "load average was 1.70" in page(noisy)


def test_cores_that_are_shared_are_full_together() -> None:
    half = Cell("churn-client", "fastecho", 0, echoes=9, seconds=1.0, cpu=0.5, server_busy=0.45, client_busy=0.5)
    assert "not quiet" not in page(record(half))
    assert "neither core was full" in page(record(replace(half, client_busy=0.1)))
    full = replace(half, server_busy=0.01, client_busy=0.99)
    assert reading.starved(record(full)) == []


def test_wake_ups_are_shown_where_they_were_counted() -> None:
    counted = Cell("churn-client", "fastecho", 0, echoes=100, seconds=1.0, cpu=0.5, wakeups=3)
    older = cell("4k", "fastecho", 0, 4)
    for found, shown in ((counted, "0.03"), (older, "–")):
        table = detail(record(found), BY_NAME[found.row])
        assert table.body[0][table.head.index("wake-ups an echo")] == shown


def test_starved_rows_are_named() -> None:
    busy = Cell("4k", "fastecho", 0, echoes=9, seconds=1.0, cpu=0.5, server_busy=0.5, client_busy=0.99)
    assert reading.starved(record(busy)) == ["4 KiB, 16 connections: fastecho"]
    assert reading.starved(record(cell("4k", "fastecho", 0, 4))) == []


def test_one_connection_is_compared_without_spinning_too() -> None:
    found = record(
        *(cell("one", "fastecho", round_, 60) for round_ in range(3)),
        *(cell("one", "fastecho-spin", round_, 21) for round_ in range(3)),
        *(cell("one", "asio-1k", round_, 50) for round_ in range(3)),
    )
    lines = [reading.line(lead) for lead in reading.leads(found, ("c++",))]
    assert lines == [
        "64 B, one connection, p50 round trip, without busy polling: 1.20 (1.20–1.20) of C++, Asio, array of 1 KiB"
    ]


def test_the_readme_gets_the_picture_between_its_markers() -> None:
    shown = markdown.excerpt(full_record(), "docs/", pictured=True)
    assert "](docs/performance.svg)" in shown
    text = f"before\n{markdown.OPENING}\nold\n{markdown.CLOSING}\nafter\n"
    spliced = markdown.spliced(text, shown)
    assert spliced == f"before\n{markdown.OPENING}\n{shown}\n{markdown.CLOSING}\nafter\n"
    assert markdown.spliced(spliced, shown) == spliced
    assert markdown.spliced("no markers", shown) is None


def test_tables_are_well_formed() -> None:
    for block in re.findall(r"(?:^\|.*\n)+", page(full_record()), re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_page_lists_method_machine_and_versions() -> None:
    text = page(full_record())
    for expected in (
        "a processor",
        "Python: 3.13.0",
        "3 rounds",
        "python -m benchmarks.versus",
        "pin-buffers",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.2e-6, "4.20 us"), (2.34e-4, "234 us"), (9.9e-3, "9,900 us"), (0.0312, "31 ms")]
)
def test_times_have_units(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_small_ratios_keep_their_digits() -> None:
    assert ratio_text(Spread(0.052, 0.049, 0.061, 5)) == "0.052 (0.049–0.061)"
    assert ratio_text(None) == "–"


def test_report_from_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    full_record().save(tmp_path / "record.json")
    (tmp_path / "README.md").write_text(f"{markdown.OPENING}\nold\n{markdown.CLOSING}\n")
    # The ratios of this record miss some limits.
    assert main(["--from", str(tmp_path / "record.json"), "--docs", str(tmp_path / "docs")]) == 3
    assert "fastecho / peer" in capsys.readouterr().out
    for picture in ("performance.svg", "performance-ratios.svg"):
        assert "<text" in (tmp_path / "docs" / picture).read_text()
    assert "](docs/performance.svg)" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "docs" / "performance.md").read_text().startswith("# Performance")
    assert Record.load(tmp_path / "docs" / "performance.json") == full_record()
