"""The text of a scrape. prometheus_client writes it once for each format, and later scrapes put in their values.

Names, labels and help make up most of the text, and stay the same: to write them anew is most of what a scrape costs.
"""

import gzip
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# A layout has numbers from here on for values: the value of an info is 1.
_FIRST: Final = 2
# Clients choose the formats that they ask for.
_MOST_LAYOUTS: Final = 16


class Request(NamedTuple):
    """What a scrape asks for: its query, and its headers `Accept` and `Accept-Encoding`, or None."""

    query: str
    accept: str | None
    accept_encoding: str | None


class Exposition(NamedTuple):
    """The answer to a scrape: its headers without Content-Length, and the body."""

    headers: list[tuple[str, str]]
    body: bytes


class Source(Protocol):
    """Where the samples come from. Their names and labels depend on their number alone."""

    def values(self) -> Sequence[float]:
        """The values now."""

    def families(self, values: Sequence[float]) -> Iterable[Metric]:
        """The families with these values; an info takes none of them."""


class Exposer:
    """Writes the samples of a source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._layouts: dict[tuple[Request, int], _Layout] = {}

    def write(self, request: Request) -> Exposition:
        """The samples now, in the format and with the encoding and the names that are asked for."""
        values = self._source.values()
        key = request, len(values)
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[key] = _Layout(
                self._source.families(range(_FIRST, _FIRST + len(values))), request
            )
        return layout.fill(values)


class _Layout:
    """What prometheus_client writes for a request, cut at the values."""

    def __init__(self, families: Iterable[Metric], request: Request) -> None:
        registry = CollectorRegistry(auto_describe=True)
        registry.register(_Families(list(families)))
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": request.query,
            "HTTP_ACCEPT": request.accept,
            "HTTP_ACCEPT_ENCODING": request.accept_encoding,
        }
        self._headers: list[tuple[str, str]] = []
        written = make_wsgi_app(registry)(environ, lambda status, headers: self._headers.extend(headers))
        body = b"".join(written)
        self._compressed = ("Content-Encoding", "gzip") in self._headers
        text = (gzip.decompress(body) if self._compressed else body).decode()
        self._parts: list[str] = []
        self._places: list[tuple[int, int]] = []
        """Where in the parts a value belongs, and the number of that value."""
        for line in text.splitlines(keepends=True):
            name, space, value = line.rpartition(" ")
            if line.startswith("#") or float(value) < _FIRST:
                self._parts.append(line)
            else:
                self._places.append((len(self._parts) + 1, int(float(value)) - _FIRST))
                self._parts += [name + space, "", "\n"]

    def fill(self, values: Sequence[float]) -> Exposition:
        parts = self._parts.copy()
        for place, number in self._places:
            parts[place] = floatToGoString(values[number])  # type: ignore[no-untyped-call]
        body = "".join(parts).encode()
        return Exposition(self._headers, gzip.compress(body) if self._compressed else body)


class _Families(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
