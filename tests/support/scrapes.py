"""Requests to the metrics of a service, and what they answer."""

from __future__ import annotations

import http.client
import urllib.parse
from typing import NamedTuple

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from patience import DEADLINE
from processes import Service

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Samples = dict[tuple[str, str], float]


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def metrics_url(service: Service) -> str:
    """What follows the addresses at the ready descriptor."""
    return service.addresses[-1]


def ask(url: str, path: str | None = None, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """The answer to one request; `path` instead of that of `url`. Names of headers have _ for -."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=DEADLINE)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path or parts.path, body, named)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def status(url: str, path: str) -> int:
    return ask(url, path).status


def samples(url: str, openmetrics: bool = False) -> Samples:
    """Value by name and labels, such as ("fastecho_connections_closed_total", "eof"); parsed by prometheus_client."""
    answer = ask(url, Accept=OPENMETRICS) if openmetrics else ask(url)
    parse = parse_openmetrics if openmetrics else parse_text
    return {
        (sample.name, " ".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(answer.body.decode())
        for sample in family.samples
    }
