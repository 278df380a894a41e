"""What a request gets: `/metrics`, `/healthz` and `/readyz`, on any transport."""

import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from .._counters import SharedCounters
from .collector import ServiceCollector
from .exposition import Exposer, Request
from .state import ServiceState

Header = Callable[[str], str | None]
"""The value of a header of the request; None without it."""
METHODS = ("GET", "HEAD")

# prometheus_client compares versions as numbers: TypeError for what is none. It also repeats them in its answer.
_NO_VERSION = re.compile(r"version=(?!\d{1,9}(?:\.\d{1,9})*\s*(?:[;,]|\Z))")
_PATHS = "/metrics, /healthz and /readyz"
_TEXT = ("Content-Type", "text/plain; charset=utf-8")

_log = logging.getLogger("fastecho")


class Answer(NamedTuple):
    """To a request: its status, headers without Content-Length, and the body that GET gets."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes


class Application:
    """Answers the requests to one service."""

    def __init__(self, counters: SharedCounters, state: ServiceState) -> None:
        self._state = state
        self._exposer = Exposer(ServiceCollector(counters, state))
        self._paths: dict[str, Callable[[str, Header], Answer]] = {
            "/metrics": self._metrics,
            "/healthz": lambda query, header: _plain(HTTPStatus.OK, "ok"),
            "/readyz": self._readyz,
        }

    def answer(self, method: str, target: str, header: Header) -> Answer:
        """The answer to a request for `target`, a path and perhaps a query."""
        name, _, query = target.partition("?")
        path = self._paths.get(name)
        if path is None:
            return _plain(HTTPStatus.NOT_FOUND, f"not found; there are {_PATHS}")
        if method not in METHODS:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", ("Allow", ", ".join(METHODS)))
        try:
            return path(query, header)
        except Exception:
            _log.exception("a request for %s failed", name)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "the log has the reason")

    def _metrics(self, query: str, header: Header) -> Answer:
        accepted = header("Accept")
        if accepted is not None and _NO_VERSION.search(accepted):
            accepted = None
        request = Request(query, accepted, header("Accept-Encoding"))
        return Answer(HTTPStatus.OK, *self._exposer.write(request))

    def _readyz(self, query: str, header: Header) -> Answer:
        unready = self._state.unready()
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE, unready) if unready else _plain(HTTPStatus.OK, "ready")


def _plain(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, [_TEXT, ("Cache-Control", "no-store"), *headers], f"{text}\n".encode())
