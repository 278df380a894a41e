"""Churn where the server closes first: the message ends in the terminator, the connection with the server's EOF."""

import json
import socket
import struct

import pytest

from bench_servers import echo, serving, tls_context
from fastecho.bench import LoadSpec, SizeRange, run_load
from patience import DEADLINE

# TCP_CORK, or its BSD name: the bytes wait for the FIN and leave in one segment.
CORK = getattr(socket, "TCP_CORK", None) or getattr(socket, "TCP_NOPUSH", 4)
ENGINES = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


def load(target, **settings):
    more = {"tls_insecure": True} if target.startswith("tls:") else {}
    base = {"target": target, "duration": 0.4, "warmup": 0.1, "connections": 4, "timeout": 2.0}
    return run_load(LoadSpec(**{**base, "churn": True, "server_closes": True, **more, **settings}))


def served(session, tls, **settings):
    """The result of a load on `session`."""
    with serving(session, tls=tls_context() if tls else None) as target:
        return load(target, **settings)


def message_of(sock, terminator=b"\0"):
    """What comes, up to a read that ends in `terminator`."""
    message = b""
    while not message.endswith(terminator) and (data := sock.recv(65536)):
        message += data
    return message


def ending(end, terminator=b"\0"):
    """Passes each message to `end(sock, message)`, then closes with FIN."""

    def session(sock):
        if message := message_of(sock, terminator):
            end(sock, message)

    return session


def echoing(sock, message):
    sock.sendall(message)


@ENGINES
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"connections": 1, "size": 1},
        {"size": 2, "terminator": b"\r\n"},
        {"size": SizeRange(3, 3000), "terminator": b"\n\n"},
        {"size": (3, 64, 100_000), "terminator": b"END"},
        {"size": 1_000_000, "connections": 2},
        {"rate": 200.0},
        {"rate": 200.0, "arrivals": "poisson"},
        {"verify": False},
    ],
    ids=str,
)
def test_a_server_that_closes_after_the_terminator_has_no_errors(tls, settings):
    messages = []

    def end(sock, message):
        messages.append(message)
        sock.sendall(message)

    terminator = settings.get("terminator", b"\0")
    result = served(ending(end, terminator), tls, timeout=DEADLINE, **settings)
    assert result.ok, result.error_details
    assert result.bytes >= result.echoes
    assert all(message.endswith(terminator) and message.count(terminator) == 1 for message in messages)
    assert any(message[: -len(terminator)] for message in messages) == (settings.get("size", 64) not in (1, 2))


def test_threads_and_unix_sockets(tmp_path):
    assert served(ending(echoing), False, threads=2, connections=5).ok
    with serving(ending(echoing), unix=tmp_path / "echo.sock") as target:
        assert load(target).ok


@ENGINES
def test_an_echo_in_pieces_is_complete(tls):
    def end(sock, message):
        for byte in message:
            sock.sendall(bytes([byte]))

    result = served(ending(end, b"\r\n"), tls, terminator=b"\r\n", size=5)
    assert result.ok, result.error_details


def test_an_echo_and_a_fin_that_come_together_end_the_cycle():
    def end(sock, message):
        sock.setsockopt(socket.IPPROTO_TCP, CORK, 1)
        sock.sendall(message)

    result = served(ending(end), False)
    assert result.ok, result.error_details


def test_a_close_notify_is_eof():
    def end(sock, message):
        sock.sendall(message)
        sock.unwrap()

    result = served(ending(end), True)
    assert result.ok, result.error_details


@ENGINES
def test_the_next_connection_waits_for_eof(tls):
    """A server that echoes and does not close: one echo a time-out, on each connection."""
    result = served(echo, tls, timeout=2.0, warmup=0, duration=3.0, connections=3)
    assert result.errors["timeout"] > 0
    assert sum(result.errors.values()) == result.errors["timeout"]
    assert 0 < result.echoes <= result.errors["timeout"]
    assert "no EOF for 2 s after 64 bytes of echo" in result.error_details[0]


@ENGINES
def test_an_echo_that_does_not_come_is_not_called_a_missing_eof(tls):
    def session(sock):
        while sock.recv(65536):
            pass

    result = served(session, tls, timeout=0.4, duration=1.0)
    assert "nothing for 0.4 s after 0 bytes of echo" in result.error_details[0]


def with_reset(sock, message):
    sock.sendall(message)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@ENGINES
@pytest.mark.parametrize(
    ("end", "kind", "offset"),
    [
        (with_reset, "reset", 64),
        (lambda sock, message: sock.sendall(message + b"x"), "excess", 64),
        (lambda sock, message: [sock.sendall(message), sock.sendall(b"x")], "excess", 64),
        (lambda sock, message: sock.sendall(message[:-1]), "short", 63),
        (lambda sock, message: None, "short", 0),
        (lambda sock, message: sock.sendall(message[:-1] + b"x"), "corrupt", 63),
        (lambda sock, message: sock.sendall(b"x" + message[1:]), "corrupt", 0),
    ],
    ids=["reset", "more", "more later", "less", "nothing", "terminator changed", "payload changed"],
)
def test_every_other_end_is_an_error(tls, end, kind, offset):
    result = served(ending(end), tls)
    assert result.errors[kind] > 0
    assert sum(result.errors.values()) == result.errors[kind], result.error_details
    assert f"after {offset} bytes of echo" in result.error_details[0]
    assert result.echoes == 0 or offset == 64


@ENGINES
def test_the_wrong_byte_is_shown_beside_the_terminator(tls):
    result = served(ending(lambda sock, message: sock.sendall(message[:-1] + b"x")), tls)
    assert r"came 'x', not '\x00'" in result.error_details[0]


@ENGINES
@pytest.mark.parametrize("server_closes", [True, False])
def test_the_client_closes_with_rst_only_after_the_server(tls, server_closes):
    """After the server's FIN, the client's RST frees the server's port; a client that closes first sends FIN."""
    ends = []

    def session(sock):
        sock.sendall(message_of(sock, b"\n") if server_closes else sock.recv(64))
        if server_closes:
            sock.shutdown(socket.SHUT_WR)
        try:
            while sock.recv(64):  # a TLS client may send an alert first
                pass
            ends.append("fin")
        except ConnectionResetError:
            ends.append("reset")

    result = served(session, tls, server_closes=server_closes, terminator=b"\n", warmup=0)
    assert result.ok, result.error_details
    assert len(ends) >= result.echoes > 0
    assert set(ends) == {"reset" if server_closes else "fin"}


def test_the_option_on_the_command_line(fastecho):
    """Without a target, bench starts a server with the terminator of the load."""
    code, out, err = fastecho("--churn", "--server-closes", "-c", "4", "-d", "500ms", "--warmup", "0", "-q",
                              "--terminator", r"\r\n", "--json", "-")  # fmt: skip
    assert code == 0, err
    assert "a connection a message, closed by the server" in err
    assert json.loads(out)["result"]["spec"]["server_closes"] is True


def test_the_spec_survives_json():
    spec = LoadSpec(target="h:1", churn=True, server_closes=True)
    assert LoadSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
