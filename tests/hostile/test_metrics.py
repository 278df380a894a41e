"""Clients of the metrics port that misbehave. The memory is that of the metrics process; the other clients echo."""

from __future__ import annotations

import contextlib
import socket
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients import reset_socket
from hostility import DEADLINE, Stage, Table, Visit, play_one, prove, push, read_to_the_end, send, trickle
from neighbours import Neighbours
from processes import Service, one_echo
from scrapes import ask, metrics_url, samples, status

HTTP = Table()


def request(target: str = "/metrics", *lines: str, version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"GET {target} {version}", "Host: x", *lines, "", ""]).encode("latin-1")


def answer(visit: Visit, data: bytes) -> bytes:
    """What comes back until the server closes, the client having sent FIN."""
    sock = visit.connect()
    send(sock, data)
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
    return read_to_the_end(sock)


@HTTP
def says_nothing(visit: Visit) -> None:
    """Connects, and sends no request."""
    visit.connect()


@HTTP
def sends_half_a_request(visit: Visit) -> None:
    """Half a header, and no more."""
    visit.connect().sendall(request()[:-10])


@HTTP
def sends_half_a_request_and_fin(visit: Visit) -> None:
    """Half a header, and the end."""
    answer(visit, request()[:-10])


@HTTP
def sends_its_header_a_byte_at_a_time(visit: Visit) -> None:
    """Slowloris."""
    trickle(visit.connect(), b"GET /metrics HTTP/1.1\r\nX-a: " + b"b" * 200)


@HTTP
def sends_a_hundred_giant_headers_but_for_the_last_byte(visit: Visit) -> None:
    """Each line is 60 KiB; http.client alone would keep 6 MB of them."""
    send(visit.connect(), b"GET /metrics HTTP/1.1\r\n" + (b"X-a: " + b"b" * 60_000 + b"\r\n") * 99)


@HTTP
def sends_a_line_without_an_end(visit: Visit) -> None:
    """A header line of megabytes."""
    sock = visit.connect()
    send(sock, b"GET /metrics HTTP/1.1\r\nX-a: ")
    push(sock, most=4 << 20)


@HTTP
def sends_a_target_without_an_end(visit: Visit) -> None:
    """A request line of megabytes."""
    sock = visit.connect()
    send(sock, b"GET /metrics?")
    push(sock, most=4 << 20)


@HTTP
def sends_thousands_of_headers(visit: Visit) -> None:
    """More than the hundred that are taken."""
    assert b" 431 " in answer(visit, request("/metrics", *["a: b"] * 2000))


@HTTP
def pipelines_its_requests(visit: Visit) -> None:
    """Two hundred requests at once; each is answered, in order."""
    assert answer(visit, request("/healthz") * 200).count(b"200 OK") == 200


@HTTP
def pipelines_and_never_reads(visit: Visit) -> None:
    """Thousands of requests, whose answers stay with the server."""
    push(visit.connect(rcvbuf=1), request() * 500, 2 << 20)


@HTTP
def speaks_http_0_9(visit: Visit) -> None:
    """A request line of two words."""
    assert b"fastecho_" in answer(visit, b"GET /metrics\r\n\r\n")


@HTTP
def speaks_http_2(visit: Visit) -> None:
    """The preface of HTTP/2."""
    answer(visit, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100))


@HTTP
def speaks_tls(visit: Visit) -> None:
    """A ClientHello where a request is due."""
    answer(visit, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)))


@HTTP
def speaks_echo(visit: Visit) -> None:
    """A client of the echo, at the wrong port."""
    answer(visit, b"hello\0")


@HTTP
def asks_for_a_version_that_is_no_number(visit: Visit) -> None:
    """A version of the format that cannot be compared with another one."""
    for version in ("x", "1.x", "", "1..2", "9" * 5000, "2\r\n x", "-1", "1e9"):
        for kind in ("application/openmetrics-text", "text/plain"):
            assert b" 200 OK" in answer(visit, request("/metrics", f"Accept: {kind};version={version}"))


@HTTP
def asks_for_a_thousand_formats(visit: Visit) -> None:
    """A header Accept with very many parts."""
    answer(visit, request("/metrics", "Accept: " + "text/plain;q=0.1," * 1000))


@HTTP
def asks_for_names_that_are_none(visit: Visit) -> None:
    """A query with broken escapes, NUL, and names without end."""
    answer(visit, request("/metrics?name[]=%zz%00&name[]=" + "&name[]=x" * 1000 + "&=&&;"))


@HTTP
def sends_a_body_without_end(visit: Visit) -> None:
    """A POST whose body never ends."""
    sock = visit.connect()
    send(sock, b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    push(sock, b"ffff\r\n" + b"x" * 65535, 4 << 20)


@HTTP
def hides_a_request_in_a_body(visit: Visit) -> None:
    """Content-Length and Transfer-Encoding disagree: what follows is no second request."""
    hidden = request("/healthz", "Content-Length: 6", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + request("/readyz")
    assert answer(visit, hidden).count(b" 200 OK") == 1


@HTTP
def folds_its_headers(visit: Visit) -> None:
    """A header that goes on in the next line, with control characters."""
    answer(visit, b"GET /metrics HTTP/1.1\r\nAccept: a\r\n \x1b[2J\r\n\tb\x00\r\n\r\n")


@HTTP
def names_methods_that_there_are_not(visit: Visit) -> None:
    """CONNECT, OPTIONS *, and a word with control characters."""
    for line in (b"CONNECT a:1", b"OPTIONS *", b"\x1b[2J /metrics", b"get /metrics", b"GET " + b"/" * 3000):
        answer(visit, line + b" HTTP/1.1\r\nHost: x\r\n\r\n")


@HTTP
def resets_behind_its_request(visit: Visit) -> None:
    """RST while the answer is made."""
    sock = visit.connect()
    sock.sendall(request())
    reset_socket(sock)


@HTTP
def connects_in_a_storm(visit: Visit) -> None:
    """A hundred connections, each reset at once."""
    for _ in range(100):
        reset_socket(visit.connect())


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Service("--metrics", "127.0.0.1:0") as service, Neighbours(service.address) as neighbours:
        url = metrics_url(service)
        parts = urllib.parse.urlsplit(url)
        [process] = [pid for pid in service.workers() if "metric" in Path(f"/proc/{pid}/comm").read_text()]

        def alive() -> None:
            assert one_echo(service.address) == b"hello\0"
            assert status(url, "/readyz") == 200
            assert samples(url)["fastecho_worker_up", "0"] == 1
            assert ask(url, Accept_Encoding="gzip").status == 200

        yield Stage(service, neighbours, alive, process=process, address=(parts.hostname, parts.port))


@pytest.mark.parametrize("name", HTTP)
def test_a_hostile_client_of_the_metrics_keeps_within_its_bounds(stage: Stage, name: str) -> None:
    play_one(stage, HTTP, name, times=2)


@pytest.mark.alone
@pytest.mark.timeout(12 * DEADLINE)
@pytest.mark.proof(
    "A hostile client of the metrics port costs at most 256 KiB of the metrics process, crashes nothing, causes no "
    "traceback, and leaves the p99 of echo clients within 5 ms."
)
def test_no_hostile_client_of_the_metrics_slows_the_echo(stage: Stage, amount: Any, record_property: Any) -> None:
    prove(stage, HTTP, amount, record_property)
