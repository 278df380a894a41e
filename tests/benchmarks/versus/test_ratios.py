"""Ratios are taken round by round; what failed is left out, never counted as a zero."""

from __future__ import annotations

import pytest
from benchmarks.versus.ratios import Spread, compare, ratio, typical
from benchmarks.versus.record import Cell
from benchmarks.versus.rows import BY_NAME as ROWS

from synthetic import cell, record

ROW = ROWS["64x50"]


def cells(peer: str, *values: float) -> list[Cell]:
    return [cell(ROW.name, peer, round_, value) for round_, value in enumerate(values)]


def test_ratio_is_of_the_same_round() -> None:
    # The machine halves its speed in round 1: both figures double and the ratio stays.
    found = ratio(cells("fastecho", 4, 8, 4), cells("epoll", 4, 8, 5), "cpu")
    assert found == Spread(median=1.0, low=pytest.approx(0.8), high=1.0, rounds=3)


def test_ratio_is_not_the_ratio_of_medians() -> None:
    found = ratio(cells("fastecho", 1, 10, 100), cells("epoll", 2, 100, 1000), "cpu")
    assert found is not None
    assert found.median == pytest.approx(0.1)
    assert found.high == pytest.approx(0.5)


def test_a_failed_round_counts_in_no_ratio() -> None:
    theirs = cells("epoll", 5, 5)
    theirs.append(Cell(ROW.name, "epoll", 2, error="1 reset"))
    found = ratio(cells("fastecho", 4, 4, 400), theirs, "cpu")
    assert found == Spread(pytest.approx(0.8), pytest.approx(0.8), pytest.approx(0.8), 2)


def test_no_common_round_is_no_ratio() -> None:
    assert ratio(cells("fastecho", 4), [Cell(ROW.name, "epoll", 0, error="reset")], "cpu") is None
    assert ratio([], cells("epoll", 4), "cpu") is None


def test_rounds_match_by_number_not_by_place() -> None:
    theirs = [cell(ROW.name, "epoll", 1, 8), cell(ROW.name, "epoll", 0, 4)]
    assert ratio(cells("fastecho", 4, 8), theirs, "cpu") == Spread(1.0, 1.0, 1.0, 2)


def test_a_failure_has_no_figure() -> None:
    failed = Cell(ROW.name, "epoll", 0, error="reset")
    assert failed.cpu_per_echo is None
    assert failed.rate is None
    assert typical([failed], "rate") is None


def test_no_echo_is_no_figure() -> None:
    assert Cell(ROW.name, "epoll", 0, echoes=0, seconds=1.0, cpu=0.5).cpu_per_echo is None


@pytest.mark.parametrize(
    ("ours", "missed", "behind"),
    [(4.0, False, False), (5.0, False, False), (5.5, False, True), (5.86, False, True), (5.9, True, True)],
)
def test_missed_and_behind(ours: float, missed: bool, behind: bool) -> None:
    found = compare(record(*cells("fastecho", ours), *cells("epoll", 5.0)), ROW, "epoll")
    assert (found.ceiling, found.missed, found.behind) == (1.17, missed, behind)


def test_certain_when_every_round_agrees() -> None:
    theirs = cells("epoll", 5, 5, 5)
    assert compare(record(*cells("fastecho", 6, 5.5, 6), *theirs), ROW, "epoll").certain
    assert not compare(record(*cells("fastecho", 6, 4.9, 6), *theirs), ROW, "epoll").certain


def test_latency_row_takes_the_spinning_arm_and_its_p50() -> None:
    row = ROWS["one"]
    found = record(
        cell("one", "fastecho", 0, 60), cell("one", "fastecho-spin", 0, 21), cell("one", "asio-1k", 0, 70)
    )
    assert compare(found, row, "asio-1k").ratio == Spread(*[pytest.approx(0.3)] * 3, 1)
