"""A TLS alert tells a client why its handshake is refused: on both loops, in the service and in the fixture."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

import fastecho
from clients import connect_blocking
from fastecho.testing import echo_server
from patience import DEADLINE, until
from processes import Service

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")

TRUSTED = trustme.CA()
STRANGER = trustme.CA().issue_cert("stranger@example.org")


def client_context(authority: trustme.CA, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def old(context: ssl.SSLContext) -> None:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")


def without_certificate_1_2(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def without_certificate_1_3(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3


def strange_certificate(context: ssl.SSLContext) -> None:
    STRANGER.configure_cert(context)


REFUSED: dict[str, tuple[Callable[[ssl.SSLContext], None], str]] = {
    "protocol version": (old, "ALERT_PROTOCOL_VERSION"),
    "no certificate, TLS 1.2": (without_certificate_1_2, "ALERT_HANDSHAKE_FAILURE"),
    "no certificate, TLS 1.3": (without_certificate_1_3, "ALERT_CERTIFICATE_REQUIRED"),
    "unknown CA": (strange_certificate, "ALERT_UNKNOWN_CA"),
}
refused = pytest.mark.parametrize("case", REFUSED)


def alert(address: Any, authority: trustme.CA, case: str) -> str:
    """The alert that the client gets."""
    prepare, _ = REFUSED[case]
    context = client_context(authority)
    prepare(context)
    with pytest.raises(ssl.SSLError) as caught:
        with context.wrap_socket(
            connect_blocking(address, DEADLINE), server_hostname="localhost", suppress_ragged_eofs=False
        ) as sock:
            sock.recv(1)  # with TLS 1.3 the client is done before the server has seen its certificate
    return str(caught.value.reason)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    TRUSTED.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    TRUSTED.cert_pem.write_to_path(str(folder / "ca.pem"))
    return {"tls_cert": str(folder / "server.pem"), "tls_client_ca": str(folder / "ca.pem")}


@refused
@pytest.mark.parametrize(
    "options", [{}, {"fault": "slice(2)"}, {"pin_buffers": True}], ids=["plain", "faulty", "pinned"]
)
def test_a_refused_client_gets_the_alert(run: Any, files: dict[str, str], options: dict[str, Any], case: str) -> None:
    async def body() -> None:
        async with fastecho.EchoServer(port=0, **files, **options) as server:
            told = await asyncio.to_thread(alert, server.address, TRUSTED, case)
            assert REFUSED[case][1] in told
            await until(lambda: server.stats.active == 0, "nothing is left of it")

    run(body())


@refused
def test_a_refused_client_of_a_unix_socket_gets_the_alert(
    run: Any, files: dict[str, str], case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def body() -> None:
        async with fastecho.EchoServer(unix="echo.sock", **files):
            assert REFUSED[case][1] in await asyncio.to_thread(alert, "echo.sock", TRUSTED, case)

    run(body())


def test_a_refused_client_of_the_service_gets_the_alert(files: dict[str, str]) -> None:
    arguments = ["--tls-cert", files["tls_cert"], "--tls-client-ca", files["tls_client_ca"]]
    with Service("--workers", "2", *arguments) as service:
        for case, (_, expected) in REFUSED.items():
            assert expected in alert(service.address, TRUSTED, case)
        # What is left of them does not hold up the end.
        assert service.stop() == 0


@refused
@pytest.mark.parametrize("faults", [(), "slice(2)"], ids=["recorded", "faulty"])
def test_a_refused_client_of_the_fixture_gets_the_alert(files: dict[str, str], faults: Any, case: str) -> None:
    with echo_server(faults=faults, **files) as server:
        assert REFUSED[case][1] in alert(server.address, TRUSTED, case)
        [session] = server.wait_connections(1)
        session.wait_closed()
        assert session.close_reason == "tls_handshake"


def test_after_the_alert_the_server_closes_when_the_client_does(run: Any, files: dict[str, str]) -> None:
    """The server waits for the client's FIN, or it would reset the connection and the alert with it."""

    def talk(address: Any) -> None:
        with connect_blocking(address, DEADLINE) as sock:
            sock.sendall(b"\x16\x03\x01\x00\x05" + b"\x01\x00\x00\x01\xff")  # a broken ClientHello
            assert sock.recv(100)[0] == 21, "an alert record"
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100) == b""

    async def body() -> None:
        async with fastecho.EchoServer(port=0, **files) as server:
            await asyncio.to_thread(talk, server.address)

    run(body())
