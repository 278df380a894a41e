"""What is concluded from a run: warnings, objectives. No sockets here."""

import dataclasses
import io
import json
import math

import pytest
from rich.console import Console

from fastecho.bench import LoadResult, LoadSpec, Sample, SizeRange, hdr
from fastecho.bench._hdr import Histogram
from fastecho.bench.html import page
from fastecho.bench.measure import Report, Server
from fastecho.bench.merge import merge_results
from fastecho.bench.progress import ProgressDisplay
from fastecho.bench.result import percentiles_of, seconds_or_nan
from fastecho.bench.slo import Slo
from fastecho.bench.svg import latency_axis, log_axis, nice_axis
from fastecho.bench.text import bar, histogram_rows, render
from fastecho.bench.units import count_tick, duration
from fastecho.errors import ConfigError


def made(latencies, *, cpu=0.1, rates=(), **changes):
    histogram = Histogram()
    for seconds in latencies:
        histogram.record(round(seconds * 1e9))
    samples = tuple(Sample(k, 1.0, round(rate), 64, 1e-3, 2e-3, 3e-3) for k, rate in enumerate(rates))
    base = LoadResult(
        spec=LoadSpec(target="h:1"), started=0.0, echoes=len(latencies), bytes=64 * len(latencies), seconds=1.0,
        min=seconds_or_nan(histogram, histogram.min), mean=seconds_or_nan(histogram, histogram.mean),
        percentiles=percentiles_of(histogram),
        errors=dict.fromkeys(("connect", "corrupt"), 0), error_details=(), thread_cpu=(cpu,), overdue=0,
        histogram=hdr.encode(histogram), samples=samples,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def report(result, server=None):
    return Report(result, server, {}, {}, ())


@pytest.mark.parametrize(
    ("client", "server", "said"),
    [(0.97, 0.5, "the client is the bottleneck"), (0.97, None, "may be the bottleneck"), (0.97, 0.99, None),
     (0.5, 0.5, None)],
)  # fmt: skip
def test_it_says_when_the_client_is_the_bottleneck(client, server, said):
    side = None if server is None else Server((1,), "x", server, server)
    warnings = report(made([0.001], cpu=client), side).warnings()
    assert (any(said in line for line in warnings)) if said else not warnings


def test_nothing_echoed_is_no_success():
    result = made([])
    assert not result.ok
    assert "nothing was echoed" in report(result).warnings()[0]
    assert not Slo.parse("p99<1ms").met(result), "no figure is better than none"
    assert not Slo.parse("p99>1ms").met(result)


SILENT = Sample(1.0, 1.0, 0, 0, math.nan, math.nan, math.nan)


def test_a_run_without_echoes_has_no_latencies():
    result = made([], samples=(SILENT,))
    plain = result.to_dict()
    text = json.dumps(plain, allow_nan=False)
    assert set(plain["percentiles"].values()) == {None}
    assert plain["min"] is plain["mean"] is None
    assert [plain["samples"][0][name] for name in ("p50", "p99", "max")] == [None, None, None]
    again = LoadResult.from_dict(json.loads(text))
    assert math.isnan(again.percentiles["p99"])
    assert math.isnan(again.min)
    assert math.isnan(again.samples[0].p99)
    assert math.isnan(again.latency(50))
    assert len(again.latencies) == 0


def test_a_run_without_echoes_shows_a_dash():
    result = made([], samples=(SILENT, SILENT))
    objectives = [Slo.parse(text) for text in ("p99<1ms", "mean<1ms", "errors=0")]
    text = render(report(result), objectives)
    assert dict(line.split(maxsplit=1) for line in text.splitlines() if line.startswith("p9")) == {
        "p90": "-", "p99": "-", "p99.9": "-",
    }  # fmt: skip
    assert text.count("(nothing was echoed)") == 3
    assert "0 ns" not in text
    html = page(report(result), objectives)
    assert "0 ns" not in html
    assert "nan" not in html.lower().replace("nanosecond", "")
    assert "<b>-</b><span>p99</span>" in html
    live = ProgressDisplay("t", 10.0)
    live(SILENT)
    console = Console(width=100, file=io.StringIO())
    console.print(live.drawing())
    assert "p50 -" in console.file.getvalue()


def test_an_interval_without_echoes_shows_a_dash_on_the_live_line(capsys):
    ProgressDisplay("t", 10.0)(SILENT)
    assert "p50 -  p99 -" in capsys.readouterr().err


def test_a_merge_of_runs_without_echoes_has_no_latencies_either():
    silent, busy = made([], samples=(SILENT,)), made([0.001, 0.003], rates=[2])
    assert math.isnan(merge_results([silent, silent]).percentiles["p50"])
    assert math.isnan(merge_results([silent, silent]).mean)
    both = merge_results([silent, busy])
    assert both.mean == pytest.approx(0.002)
    assert both.min == pytest.approx(0.001, rel=1e-3)
    assert both.samples[0].p99 == 2e-3


def test_echoes_of_the_warm_up_only_are_no_latencies_of_an_open_loop():
    """Their last bytes came inside the window, but they were due before it."""
    result = made([], echoes=3)
    assert "p99         -" in render(report(result))
    assert "(it is -)" in render(report(result), [Slo.parse("p99<1ms")])
    assert "<svg" not in page(report(result))


def test_a_page_of_a_run_whose_echoes_all_came_after_the_window_has_its_charts():
    """In an open loop, their latencies count where they were due within the window."""
    silent = tuple(dataclasses.replace(SILENT, at=float(at)) for at in (1, 2, 3))
    html = page(report(made([0.5] * 3, samples=silent)))
    assert html.count("<figure>") == 3
    assert "nan" not in html.lower().replace("nanosecond", "")


def test_the_cpu_of_both_sides_is_a_sum():
    result = made([0.001] * 10, thread_cpu=(0.9, 0.3, 0.3), seconds=1.0)
    side = Server((7, 8), "x", 1.2, 0.7)
    text = render(report(result, side))
    client, server = (next(line for line in text.splitlines() if line.startswith(n)) for n in ("client", "server"))
    assert "1.50 cores in all (3 threads, busiest thread 90% of its core), 1.50 s, 150 ms an echo" in client
    assert "1.20 cores in all (2 processes, busiest thread 70% of its core), 1.20 s, 120 ms an echo" in server
    plain = report(result, side).to_dict()
    assert plain["result"]["client_threads"] == 3
    assert plain["result"]["client_cores"] == pytest.approx(1.5)
    assert plain["server"]["cores"] == pytest.approx(1.2)
    assert Report.from_dict(json.loads(json.dumps(plain))) == report(result, side)
    one = render(report(made([0.001]), Server((7,), "x", 0.1, 0.1)))
    assert "(1 thread, busiest" in one
    assert "(1 process, busiest" in one


def test_a_partial_run_says_so():
    result = made([0.001], partial=True, stopped="interrupted", seconds=3.2)
    assert "PARTIAL: interrupted after 3.2 of 10 s" in render(report(result)).splitlines()[0]
    assert "PARTIAL: interrupted after 3.2 of 10 s" in page(report(result))
    assert result.to_dict()["partial"] is True
    assert merge_results([result, made([0.001])]).partial
    assert not made([0.001]).partial


def test_the_title_says_how_many_messages_are_in_flight():
    deep = made([0.001], spec=LoadSpec(target="h:1", depth=8))
    assert ", 8 in flight each, " in render(report(deep)).splitlines()[0]
    assert "in flight" not in render(report(made([0.001]))).splitlines()[0]


def test_a_result_from_before_it_could_be_partial_is_read():
    plain = made([0.001]).to_dict()
    del plain["partial"], plain["address"]
    assert LoadResult.from_dict(plain).partial is False


@pytest.mark.parametrize(
    ("text", "met"),
    [("p99<1ms", False), ("p99<=2.001ms", True), ("p50<3ms", True), ("max<1.9ms", False), ("rate>99", True),
     ("rate<50", False), ("errors=0", True), ("mean>=1500us", True), ("rate>1M", False), ("rate>.05k/s", True),
     ("p99.9 < 2.1 ms", True), ("p97.5<2.1ms", True), ("p97.5<1.9ms", False)],
)  # fmt: skip
def test_objectives_are_parsed_and_judged(text, met):
    assert Slo.parse(text).met(made([0.002] * 100)) is met


@pytest.mark.parametrize(
    "text", ["", "p99", "p99<", "p99<1", "p99<1h", "q9<1ms", "p<1ms", "p101<1ms", "rate>1ms", "p9.<1s",
             "rate>1G", "rate>1kk", "errors=1k"],
)  # fmt: skip
def test_text_that_is_no_objective_is_refused(text):
    with pytest.raises(ConfigError, match="slo"):
        Slo.parse(text)


def test_a_result_survives_json():
    spec = LoadSpec(target="h:1", size=SizeRange(1, 9), cpus=(1,), terminator=None)
    result = dataclasses.replace(made([0.001, 0.002], rates=[5, 6]), spec=spec)
    again = LoadResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    mixed = LoadSpec(target="h:1", size=(1, 2), sources=("127.0.0.2",), terminator=b"\r\n")
    assert LoadSpec.from_dict(json.loads(json.dumps(mixed.to_dict()))) == mixed


def test_the_merged_histogram_is_that_of_the_union():
    some, others = [k / 1e5 for k in range(1, 300)], [k / 1e3 for k in range(1, 200)]
    merged, union = merge_results([made(some), made(others)]), made(some + others)
    assert merged.histogram == union.histogram
    assert merged.percentiles == union.percentiles
    assert merged.rate == pytest.approx(len(some) + len(others))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 ns"), (5e-7, "500 ns"), (1.234e-5, "12.3 us"), (9.996e-4, "1.00 ms"), (0.0123, "12.3 ms"), (2.5, "2.50 s")],
)
def test_durations_are_shown_with_their_unit(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (7.5, "7.5"), (500.0, "500"), (1000.0, "1k"), (2500.0, "2.5k"), (3e5, "300k"), (1.25e6, "1.25M")],
)
def test_counts_on_an_axis_are_as_short_as_rate_takes_them(value, shown):
    assert count_tick(value) == shown


def test_the_histogram_counts_every_echo_once():
    result = made([0.001] * 500 + [0.0011] * 300 + [0.9])
    rows = histogram_rows(result.latencies)
    assert sum(count for *_, count in rows) == 801
    assert rows[-1][1] == pytest.approx(0.9)
    assert all(low < high for low, high, _ in rows)
    assert histogram_rows(Histogram()) == []
    assert bar(1, 10) == "█" * 10


@pytest.mark.parametrize("low", [1e-9, 3e-6, 1e-3, 0.7, 40])
@pytest.mark.parametrize("ratio", [1, 1.5, 9, 70, 5e3, 1e6])
def test_axes_hold_their_values_and_have_ticks(low, ratio):
    for axis in (nice_axis(low * ratio, str), log_axis(low, low * ratio, str), latency_axis([low, low * ratio], str)):
        assert axis.high >= low * ratio * 0.998
        assert 2 <= len(axis.ticks) <= 12 or axis.log
        assert all(0 <= axis.place(value) <= 1 for value, _ in axis.ticks)
