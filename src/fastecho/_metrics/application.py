"""What a request gets: `/metrics`, `/healthz` and `/readyz`, as a WSGI application."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, make_wsgi_app

from .._counters import SharedCounters
from .collector import ServiceCollector
from .state import ServiceState

Headers = list[tuple[str, str]]
Answer = tuple[str, Headers, bytes]

_OK = "200 OK"
_PATHS = "/metrics, /healthz and /readyz"

_log = logging.getLogger("fastecho")


class Application:
    """The WSGI application for one service."""

    def __init__(self, counters: SharedCounters, state: ServiceState) -> None:
        self._state = state
        registry = CollectorRegistry()
        registry.register(ServiceCollector(counters, state))
        self._exposition = make_wsgi_app(registry)
        self._paths: dict[str, Callable[[dict[str, Any]], Answer]] = {
            "/metrics": self._metrics,
            "/healthz": lambda environ: _plain(_OK, "ok"),
            "/readyz": self._readyz,
        }

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, headers, body = self._answer(environ)
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        path = self._paths.get(environ["PATH_INFO"])
        if path is None:
            return _plain("404 Not Found", f"not found; there are {_PATHS}")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _plain("405 Method Not Allowed", "only GET and HEAD", ("Allow", "GET, HEAD"))
        try:
            return path(environ)
        except Exception:
            _log.exception("a request for %s failed", environ["PATH_INFO"])
            return _plain("500 Internal Server Error", "the log has the reason")

    def _metrics(self, environ: dict[str, Any]) -> Answer:
        """The exposition of prometheus_client, in the format and with the names that the request asks for."""
        begun: list[tuple[str, Headers]] = []

        def start_response(status: str, headers: Headers, exc_info: object = None) -> None:
            begun.append((status, headers))

        body = b"".join(self._exposition({**environ, "REQUEST_METHOD": "GET"}, start_response))
        status, headers = begun[0]
        return status, headers, body

    def _readyz(self, environ: dict[str, Any]) -> Answer:
        unready = self._state.unready()
        return _plain(_OK, "ready") if unready is None else _plain("503 Service Unavailable", unready)


def _plain(status: str, text: str, *headers: tuple[str, str]) -> Answer:
    kind = ("Content-Type", "text/plain; charset=utf-8")
    return status, [kind, ("Cache-Control", "no-store"), *headers], f"{text}\n".encode()
