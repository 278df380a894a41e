"""The metric families of a service, and their values, read from its shared counters at each scrape.

Names follow the guide of Prometheus: base units, `_total` for what only grows. A family has all its label values from
the start, so that a rate over the first event is right.
"""

import platform
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from .._counters import CAUSES, OUTCOMES, SharedCounters
from .._version import __version__
from .state import RESTART_CAUSES, ServiceState

_ENDS: Final = tuple(cause for cause in CAUSES if cause != "none")
# Values that are there with any number of workers; each worker has two.
_WITHOUT_LABELS: Final = 7
_OF_THE_SERVICE: Final = _WITHOUT_LABELS + len(_ENDS) + len(OUTCOMES) + len(RESTART_CAUSES)


class ServiceCollector(Collector):
    """A collector for the registry of prometheus_client.

    Args:
        counters: those of all worker processes.
        state: what the supervisor publishes.
    """

    def __init__(self, counters: SharedCounters, state: ServiceState) -> None:
        self._counters = counters
        self._state = state

    def values(self) -> list[float]:
        """The values now, in the order of the families and their samples."""
        totals, workers = self._counters.totals(), self._state.workers()
        counters_of, restarts = self._counters.counters_of, self._state.restarts
        return [
            totals["accepted"],
            totals["active"],
            *totals["ends"].values(),
            totals["bytes_in"],
            totals["bytes_out"],
            totals["reads"],
            *totals["datagrams"].values(),
            totals["write_paused"],
            totals["buffers_in_use"],
            *(each.up for each in workers),
            *(counters_of(each.counters_index).snapshot()["active"] if each.up else 0 for each in workers),
            *(restarts[cause] for cause in RESTART_CAUSES),
        ]

    def collect(self) -> Iterator[Metric]:
        return self.families(self.values())

    def families(self, values: Sequence[float]) -> Iterator[Metric]:
        """The families with these values, in the order of `values()`."""
        value = iter(values)
        slots = [str(index) for index in range((len(values) - _OF_THE_SERVICE) // 2)]
        yield InfoMetricFamily(
            "fastecho_build",
            "Version of fastecho, and the Python that it runs on.",
            value={"version": __version__, "python": platform.python_version()},
        )
        yield CounterMetricFamily("fastecho_connections_accepted", "Connections accepted.", value=next(value))
        yield GaugeMetricFamily("fastecho_connections_active", "Connections being served now.", value=next(value))
        closed = CounterMetricFamily(
            "fastecho_connections_closed", "Connections closed, by the cause of their end.", labels=["cause"]
        )
        yield _labelled(closed, _ENDS, value)
        yield CounterMetricFamily("fastecho_received_bytes", "Bytes received.", value=next(value), unit="bytes")
        yield CounterMetricFamily("fastecho_sent_bytes", "Bytes handed to the kernel.", value=next(value), unit="bytes")
        yield CounterMetricFamily(
            "fastecho_reads", "Reads that brought bytes: each is echoed at once.", value=next(value)
        )
        datagrams = CounterMetricFamily("fastecho_datagrams", "Datagrams received, by outcome.", labels=["outcome"])
        yield _labelled(datagrams, OUTCOMES, value)
        yield GaugeMetricFamily(
            "fastecho_write_paused_connections",
            "Connections that wait until their client takes its echo.",
            value=next(value),
        )
        yield GaugeMetricFamily(
            "fastecho_buffers_in_use",
            "Buffers that hold bytes not sent yet; with --pin-buffers, that belong to a connection.",
            value=next(value),
        )
        up = GaugeMetricFamily("fastecho_worker_up", "Whether a process serves the worker slot.", labels=["worker"])
        yield _labelled(up, slots, value)
        active = GaugeMetricFamily(
            "fastecho_worker_connections",
            "Connections that the process of the worker slot serves now.",
            labels=["worker"],
        )
        yield _labelled(active, slots, value)
        restarts = CounterMetricFamily(
            "fastecho_worker_restarts", "Workers replaced, by the cause of the replacement.", labels=["cause"]
        )
        yield _labelled(restarts, RESTART_CAUSES, value)


def _labelled(
    family: CounterMetricFamily | GaugeMetricFamily, labels: Iterable[str], values: Iterator[float]
) -> CounterMetricFamily | GaugeMetricFamily:
    """`family` with a sample for each label, which takes the next of the values."""
    for label in labels:
        family.add_metric([label], next(values))
    return family
