"""Rates from one scrape to the next, and those before."""

from collections import deque

from .scrape import Sample

LENGTH = 300
RATES = {
    "echoes/s": "fastecho_reads_total",
    "bytes in/s": "fastecho_received_bytes_total",
    "bytes out/s": "fastecho_sent_bytes_total",
    "accepts/s": "fastecho_connections_accepted_total",
}
"""The counter of each rate that is kept."""


class History:
    """The last sample, and up to `LENGTH` values of each rate and of the connections."""

    def __init__(self) -> None:
        self.last: Sample | None = None
        self._before: Sample | None = None
        self._kept: dict[str, deque[float]] = {}

    def add(self, sample: Sample) -> None:
        self._before, self.last = self.last, sample
        if self._before is not None:
            for name, counter in RATES.items():
                self._keep(name, self.rate((counter, "")))
        self._keep("connections", sample.value("fastecho_connections_active"))

    def rate(self, key: tuple[str, str]) -> float:
        """Per second, between the last two samples; 0 before there are two."""
        if self.last is None or self._before is None:
            return 0.0
        now, then = self.last.values.get(key, 0.0), self._before.values.get(key, 0.0)
        # A counter that has fallen began again at 0, with the service.
        grown = now - then if now >= then else now
        return grown / max(self.last.at - self._before.at, 1e-9)

    def series(self, name: str) -> list[float]:
        """The values of a rate, or of `connections`; the last one is the newest."""
        return list(self._kept.get(name, ()))

    def _keep(self, name: str, value: float) -> None:
        self._kept.setdefault(name, deque(maxlen=LENGTH)).append(value)
