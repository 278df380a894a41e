"""A scrape of the metrics of a service: HTTP, and the parser of prometheus_client."""

import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException

from ..errors import FastechoError, MissingExtraError

_TIMEOUT = 5.0
_LARGEST = 4 << 20

Key = tuple[str, str]
"""The name of a sample, and the values of its labels with spaces between."""


class ScrapeError(FastechoError):
    """The metrics cannot be had: one line."""


@dataclass(frozen=True)
class Sample:
    """The values of one scrape, at `at` (seconds of a monotonic clock). `state` is the answer of /readyz."""

    at: float
    values: dict[Key, float]
    build: dict[str, str] = field(default_factory=dict)
    state: str = ""

    def value(self, name: str) -> float:
        return self.values.get((name, ""), 0.0)

    def by_label(self, name: str) -> dict[str, float]:
        """The values of a family with one label, in their order."""
        return {label: value for (each, label), value in self.values.items() if each == name}


class Scraper:
    """Scrapes the service at `url`. MissingExtraError without prometheus_client."""

    def __init__(self, url: str) -> None:
        try:
            from prometheus_client.parser import text_string_to_metric_families
        except ImportError:
            raise MissingExtraError(
                "fastecho top needs rich and prometheus_client: pip install 'fastecho[top]'"
            ) from None
        self.url = url
        self._parse = text_string_to_metric_families
        # The service is near: no proxy.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def scrape(self) -> Sample:
        """The values now. Raises ScrapeError."""
        text = self._get(self.url)
        values: dict[Key, float] = {}
        build: dict[str, str] = {}
        try:
            for family in self._parse(text):
                for sample in family.samples:
                    if sample.name == "fastecho_build_info":
                        build = sample.labels
                    elif sample.name.startswith("fastecho_"):
                        values[sample.name, " ".join(sample.labels.values())] = sample.value
        except ValueError as error:
            raise ScrapeError(f"{self.url}: no metrics: {error}") from None
        if not values:
            raise ScrapeError(f"{self.url}: no metrics of fastecho")
        return Sample(time.monotonic(), values, build, self._state())

    def _state(self) -> str:
        try:
            return self._get(urllib.parse.urljoin(self.url, "readyz")).strip()
        except ScrapeError:
            return ""

    def _get(self, url: str) -> str:
        try:
            with self._opener.open(url, timeout=_TIMEOUT) as answer:
                return str(answer.read(_LARGEST).decode(errors="replace"))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 503:
                    return error.read(_LARGEST).decode(errors="replace")
                raise ScrapeError(f"{url}: {error.code} {error.reason}") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ScrapeError(f"{url}: {getattr(reason, 'strerror', None) or reason}") from None
