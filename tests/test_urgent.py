"""Urgent bytes (MSG_OOB) stay in the stream: every class of session, every family, the service and the fixture."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import fastecho
from clients import Client, connect_blocking, read_to_eof
from fastecho.testing import echo_server
from processes import Service

SESSIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pinned": {"pin_buffers": True},
    "busy poll": {"busy_poll": 50},
    "busy poll, auto": {"busy_poll": "auto"},
    "faulty": {"fault": "slice(64)"},
    "small buffers": {"buffer_size": 512},
}
WHERE: dict[str, dict[str, Any]] = {
    "tcp": {"port": 0},
    "tcp6": {"port": 0, "host": "::1"},
    "unix": {"unix": "echo.sock"},
}


def send_urgent(sock: socket.socket, before: bytes = b"abc", after: bytes = b"def") -> bytes:
    """Send `before`, an urgent X, `after` and FIN; all that is due."""
    sock.sendall(before)
    sock.send(b"X", socket.MSG_OOB)
    sock.sendall(after)
    sock.shutdown(socket.SHUT_WR)
    return before + b"X" + after


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("sessions", SESSIONS)
def test_an_urgent_byte_comes_back_in_its_place(run, tmp_path, monkeypatch, sessions, where):
    monkeypatch.chdir(tmp_path)

    async def body():
        options = {"terminator": None, **SESSIONS[sessions], **WHERE[where]}
        async with fastecho.EchoServer(**options) as server:
            for before in (b"abc", b"a" * 2000):
                async with Client.to(server.address) as client:
                    due = send_urgent(client.sock, before)
                    assert await client.rest() == due

    run(body())


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_an_urgent_terminator_ends_the_session(run, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)

    async def body():
        async with fastecho.EchoServer(terminator=b"X", match="anywhere", **WHERE[where]) as server:
            async with Client.to(server.address) as client:
                send_urgent(client.sock)
                assert await client.rest() == b"abcX"

    run(body())


@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_workers_echo_urgent_bytes(tmp_path, where):
    unix = str(tmp_path / "echo.sock") if where == "unix" else None
    with Service("--terminator", "none", "--workers", "2", unix=unix) as service:
        for _ in range(4):
            with connect_blocking(service.address) as sock:
                due = send_urgent(sock)
                assert read_to_eof(sock) == due


@pytest.mark.parametrize("options", [{}, {"faults": "slice(2)"}, {"reply": lambda data: data}],
                         ids=["recorded", "faulty", "reply"])
@pytest.mark.parametrize("family", ["tcp", "tcp6", "dual", "unix"])
def test_the_fixture_echoes_urgent_bytes(family, options):
    with echo_server(family=family, **options) as server:
        for _ in range(2):
            with connect_blocking(server.address) as sock:
                due = send_urgent(sock)
                assert read_to_eof(sock) == due
            with server.down():
                pass  # it listens anew
