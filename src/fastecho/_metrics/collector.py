"""The metric families of a service, made from its shared counters at each scrape.

Names follow the guide of Prometheus: base units, `_total` for what only grows. A family has all its label values from
the start, so that a rate over the first event is right.
"""

import platform
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from .._counters import SharedCounters
from .._version import __version__
from .state import ServiceState


class ServiceCollector(Collector):
    """A collector for the registry of prometheus_client.

    Args:
        counters: those of all worker processes.
        state: what the supervisor publishes.
    """

    def __init__(self, counters: SharedCounters, state: ServiceState) -> None:
        self._counters = counters
        self._state = state

    def collect(self) -> Iterator[Metric]:
        totals = self._counters.totals()
        yield InfoMetricFamily(
            "fastecho_build",
            "Version of fastecho, and the Python that it runs on.",
            value={"version": __version__, "python": platform.python_version()},
        )
        yield CounterMetricFamily(
            "fastecho_connections_accepted", "Connections accepted.", value=totals["accepted"]
        )
        yield GaugeMetricFamily(
            "fastecho_connections_active", "Connections being served now.", value=totals["active"]
        )
        closed = CounterMetricFamily(
            "fastecho_connections_closed", "Connections closed, by the cause of their end.", labels=["cause"]
        )
        for cause, count in totals["ends"].items():
            closed.add_metric([cause], count)
        yield closed
        yield CounterMetricFamily(
            "fastecho_received_bytes", "Bytes received.", value=totals["bytes_in"], unit="bytes"
        )
        yield CounterMetricFamily(
            "fastecho_sent_bytes", "Bytes handed to the kernel.", value=totals["bytes_out"], unit="bytes"
        )
        yield CounterMetricFamily(
            "fastecho_reads", "Reads that brought bytes: each is echoed at once.", value=totals["reads"]
        )
        yield from self._datagrams(totals)
        yield GaugeMetricFamily(
            "fastecho_write_paused_connections",
            "Connections that wait until their client takes its echo.",
            value=totals["write_paused"],
        )
        yield GaugeMetricFamily(
            "fastecho_buffers_in_use",
            "Buffers that hold bytes not sent yet; with --pin-buffers, that belong to a connection.",
            value=totals["buffers_in_use"],
        )
        yield from self._workers()

    def _datagrams(self, totals: dict[str, Any]) -> Iterator[Metric]:
        family = CounterMetricFamily("fastecho_datagrams", "Datagrams received, by outcome.", labels=["outcome"])
        for outcome, count in totals["datagrams"].items():
            family.add_metric([outcome], count)
        yield family

    def _workers(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("fastecho_worker_up", "Whether a process serves the worker slot.", labels=["worker"])
        active = GaugeMetricFamily(
            "fastecho_worker_connections",
            "Connections that the process of the worker slot serves now.",
            labels=["worker"],
        )
        for index, worker in enumerate(self._state.workers()):
            up.add_metric([str(index)], worker.up)
            counters = self._counters.counters_of(worker.counters_index)
            active.add_metric([str(index)], counters.snapshot()["active"] if worker.up else 0)
        yield up
        yield active
        restarts = CounterMetricFamily(
            "fastecho_worker_restarts", "Workers replaced, by the cause of the replacement.", labels=["cause"]
        )
        for cause, count in self._state.restarts.items():
            restarts.add_metric([cause], count)
        yield restarts
