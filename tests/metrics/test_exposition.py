"""The text of a scrape is byte for byte what prometheus_client writes, also after requests for other formats."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence

import pytest
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from fastecho._counters import SharedCounters
from fastecho._metrics.application import Application
from fastecho._metrics.collector import ServiceCollector
from fastecho._metrics.exposition import Exposer, Request
from fastecho._metrics.state import Phase, ServiceState, WorkerState

TEXT, OPENMETRICS = None, "application/openmetrics-text; version=1.0.0; charset=utf-8"
GZIP = "gzip, deflate"


def test_a_request_that_fails_is_answered_with_500_and_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken(name: str) -> str | None:
        raise RuntimeError("no header today")

    answer = Application(SharedCounters(1), ServiceState()).answer("GET", "/metrics", broken)
    assert (answer.status, answer.body) == (500, b"the log has the reason\n")
    assert [record.getMessage() for record in caplog.records] == ["a request for /metrics failed"]


class Families(Collector):
    """An info, a counter, a gauge with a sample for each of `gauge`, and another counter."""

    def __init__(self) -> None:
        self.counter = 0.0
        self.gauge = [1.0]

    def values(self) -> list[float]:
        return [self.counter, *self.gauge, 7]

    def collect(self) -> Iterator[Metric]:
        return self.families(self.values())

    def families(self, values: Sequence[float]) -> Iterator[Metric]:
        first, *among, last = values
        yield InfoMetricFamily("a_build", "The version.", value={"version": "2.0 # 3"})
        yield CounterMetricFamily("a_counter", "With a # and a\nline.", value=first)
        gauge = GaugeMetricFamily("a_gauge", "By label.", labels=["label"])
        for number, value in enumerate(among):
            gauge.add_metric([f'{number} "quoted" 7'], value)
        yield gauge
        yield CounterMetricFamily("a_last", "Behind it.", value=last)


def written(collector: Collector, request: Request) -> bytes:
    """By prometheus_client alone, without compression."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": request.query, "HTTP_ACCEPT": request.accept}
    return b"".join(make_wsgi_app(registry)(environ, lambda status, headers: None))


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS], ids=["text", "openmetrics"])
@pytest.mark.parametrize("query", ["", "name[]=a_gauge&name[]=a_last_total"], ids=["all", "some"])
@pytest.mark.parametrize("accept_encoding", [None, GZIP], ids=["plain", "gzip"])
def test_the_text_is_that_of_prometheus_client(accept: str | None, query: str, accept_encoding: str | None) -> None:
    families, request = Families(), Request(query, accept, accept_encoding)
    exposer = Exposer(families)
    for families.counter in (0, 1, 2, 0.5, 999_999, 1_000_000, 123_456_789_012, float(1 << 63)):
        for families.gauge in ([1.0], [2.0], [3, 4, 5.5], [], [0]):
            answer = exposer.write(request)
            body = gzip.decompress(answer.body) if accept_encoding else answer.body
            assert body == written(families, request)
            assert (b"a_counter" in body) == (not query)
            assert b"a_last_total 7.0\n" in body
            assert dict(answer.headers).get("Content-Encoding") == ("gzip" if accept_encoding else None)
            assert dict(answer.headers)["Content-Type"].startswith((accept or "text/plain").partition(";")[0])


def test_more_formats_than_are_kept() -> None:
    families = Families()
    exposer = Exposer(families)
    for number in range(100):
        families.counter = number
        assert f"a_counter_total {number}.0\n".encode() in exposer.write(Request(f"x={number}", None, None)).body
    assert f"a_counter_total {number}.0\n".encode() in exposer.write(Request("x=3", None, None)).body


def test_the_values_of_a_service_are_in_the_order_of_its_families() -> None:
    counters, state = SharedCounters(3), ServiceState()
    for workers in (1, 3, 2):
        state.publish(Phase.READY, [WorkerState(True, index) for index in range(workers)])
        collector = ServiceCollector(counters, state)
        values = collector.values()
        families = list(collector.families(range(len(values))))
        numbers = [sample.value for family in families if family.type != "info" for sample in family.samples]
        assert numbers == list(range(len(values)))
        by_name = {sample.name: values[int(sample.value)] for family in families for sample in family.samples}
        assert by_name["fastecho_worker_up"] == 1
        assert {name for name, value in by_name.items() if value} == {"fastecho_worker_up"}
        assert Exposer(collector).write(Request("", None, None)).body == written(collector, Request("", None, None))
