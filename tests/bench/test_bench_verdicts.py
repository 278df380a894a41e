"""What is concluded from a run: warnings, objectives, differences. No sockets here."""

import dataclasses
import random

import pytest

from fastecho.bench import LoadResult, LoadSpec, Sample, SizeRange, hdr
from fastecho.bench._hdr import Histogram
from fastecho.bench.compare import compare
from fastecho.bench.measure import Report, Server
from fastecho.bench.merge import merge_results
from fastecho.bench.result import percentiles_of
from fastecho.bench.slo import Slo
from fastecho.bench.svg import latency_axis, log_axis, nice_axis
from fastecho.bench.text import bar, duration, histogram_rows
from fastecho.errors import ConfigError


def made(latencies, *, cpu=0.1, rates=(), **changes):
    histogram = Histogram()
    for seconds in latencies:
        histogram.record(round(seconds * 1e9))
    samples = tuple(Sample(k, 1.0, round(rate), 64, 1e-3, 2e-3, 3e-3) for k, rate in enumerate(rates))
    base = LoadResult(
        spec=LoadSpec(target="h:1"), started=0.0, echoes=len(latencies), bytes=64 * len(latencies), seconds=1.0,
        min=histogram.min / 1e9, mean=histogram.mean / 1e9, percentiles=percentiles_of(histogram),
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


@pytest.mark.parametrize(
    ("text", "met"),
    [("p99<1ms", False), ("p99<=2.001ms", True), ("p50<3ms", True), ("max<1.9ms", False), ("rate>99", True),
     ("rate<50", False), ("errors=0", True), ("mean>=1500us", True), ("p99.9 < 2.1 ms", True)],
)  # fmt: skip
def test_objectives(text, met):
    assert Slo.parse(text).met(made([0.002] * 100)) is met


@pytest.mark.parametrize(
    "text", ["", "p99", "p99<", "p99<1", "p99<1h", "q9<1ms", "p<1ms", "p101<1ms", "rate>1ms", "p9.<1s"]
)
def test_no_objective(text):
    with pytest.raises(ConfigError, match="slo"):
        Slo.parse(text)


def test_a_result_survives_json():
    import json

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


def test_compare_tells_apart_what_differs_and_not_what_does_not():
    draw = random.Random(7)

    def rates(mean):
        return [draw.gauss(mean, 50) for _ in range(50)]

    a, b, c = made([0.001], rates=rates(1000)), made([0.001], rates=rates(1100)), made([0.001], rates=rates(1000))
    better = compare(a, b)[0]
    assert better.verdict(0.02) == "better"
    assert better.low < 0.1 < better.high
    assert compare(b, a)[0].verdict(0.02) == "worse"
    assert compare(b, a)[0].verdict(0.5) == "same", "below the threshold"
    assert compare(a, c)[0].verdict(0.02) == "same"


def test_the_interval_holds_the_truth_as_often_as_it_says():
    draw = random.Random(3)
    held = 0
    for _ in range(60):
        a, b = (made([0.001], rates=[draw.gauss(mean, 80) for _ in range(40)]) for mean in (1000, 1050))
        found = compare(a, b, draws=200)[0]
        held += found.low <= 0.05 <= found.high
    assert held >= 50


def test_too_few_samples_to_compare():
    with pytest.raises(ValueError, match="samples with echoes"):
        compare(made([0.001], rates=[1] * 5), made([0.001], rates=[1] * 50))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 ns"), (5e-7, "500 ns"), (1.234e-5, "12.3 us"), (9.996e-4, "1.00 ms"), (0.0123, "12.3 ms"), (2.5, "2.50 s")],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


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
