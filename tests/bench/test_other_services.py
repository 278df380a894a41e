"""Targets that are no echo server, or speak TLS where none is expected: one line says what they are."""

import socket
from types import SimpleNamespace

import pytest

from bench_servers import echo, serving, silent_after, tls_context
from fastecho.bench.ping import Pinger
from fastecho.bench.target import Target
from patience import DEADLINE

QUICK = ["--duration", "500ms", "--warmup", "0", "--connections", "2", "--timeout", "500ms", "-q"]
PING = ["-c", "1", "-W", "500ms"]


def answering(answer, *, first=False):
    """Answers what it is sent, or before that, then closes."""

    def session(sock):
        if first:
            sock.sendall(answer)
        sock.recv(65536)
        if not first:
            sock.sendall(answer)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    return session


HTTP = answering(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nno")
SSH = answering(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", first=True)
SHORT_HTTP = answering(b"HTTP/1.0 400 \r\n\r\n")


@pytest.mark.parametrize(
    ("session", "said"),
    [
        (HTTP, "came 'HTTP/1.1 400 Bad Request\\r\\nContent-Type: '..., not "),
        (SHORT_HTTP, "came 'HTTP/1.0 400 \\r\\n\\r\\n', not "),
        (HTTP, "the target is an HTTP server"),
        (SSH, "came 'SSH-2.0-OpenSSH_9.2p1 Debian-2\\r\\n', "),
        (SSH, "the target is an SSH server"),
        (answering(b""), "closed by the server after 0 "),
    ],
    ids=["http", "short http", "http named", "ssh", "ssh named", "closing"],
)
@pytest.mark.parametrize("command", ["bench", "bench --no-verify", "bench --churn", "bench --rate 100", "ping"])
def test_what_came_is_shown(fastecho, command, session, said):
    with serving(session) as target:
        if command == "ping":
            code, out, err = fastecho("ping", target, *PING)
        else:
            code, out, err = fastecho(target, *QUICK, *command.split()[1:])
    assert code == 3
    if command == "bench --no-verify" and session in (SHORT_HTTP, SSH):
        said = ""  # fewer bytes than were sent are taken for a part of the echo
    assert said in out + err


def test_a_service_is_named_though_its_first_byte_was_sent_by_chance():
    with serving(HTTP) as target:
        pinger = Pinger(Target.parse(target), size=64, timeout=DEADLINE, terminator=None, proxy_protocol=None,
                        tls_ca=None, tls_insecure=False)  # fmt: skip
        pinger.random = SimpleNamespace(choices=lambda letters, k: b"H" * k)
        reply = pinger.ping(1)
    assert "after 0 bytes of echo came 'HTTP/1.1 400" in reply.problem
    assert reply.problem.endswith("the target is an HTTP server")


def test_more_than_was_sent_is_shown(fastecho):
    def session(sock):
        while data := sock.recv(65536):
            sock.sendall(data + b"and more")

    with serving(session) as target:
        code, out, _ = fastecho(target, *QUICK)
        ping_code, ping_out, _ = fastecho("ping", target, *PING)
    assert code == ping_code == 3
    for text in (out, ping_out):
        assert "after 64 bytes of echo came 'and more', which was not sent" in text


def test_a_reply_that_turns_wrong_in_the_middle_is_shown(fastecho):
    def session(sock):
        while data := sock.recv(65536):
            sock.sendall(data[:20] + bytes(byte ^ 0xFF for byte in data[20:]))

    with serving(session) as target:
        code, out, _ = fastecho(target, *QUICK)
        ping_code, ping_out, _ = fastecho("ping", target, *PING)
    assert code == ping_code == 3
    for text in (out, ping_out):
        assert "after 20 bytes of echo came " in text


def test_tls_behind_a_tcp_target(fastecho):
    with serving(echo, tls=tls_context()) as target:
        plain = target.replace("tls://", "tcp://")
        code, out, err = fastecho(plain, *QUICK)
        ping_code, ping_out, _ = fastecho("ping", plain, *PING)
    assert code == ping_code == 3
    assert "use tls://" in out + err
    assert "use tls://" in ping_out


def test_a_tls_alert_is_known(fastecho):
    with serving(answering(b"\x15\x03\x01\x00\x02\x02\x46")) as target:
        code, out, err = fastecho(target, *QUICK)
        ping_code, ping_out, _ = fastecho("ping", target, *PING)
    assert code == ping_code == 3
    assert "the target speaks TLS: use tls://" in out + err
    assert "the target speaks TLS: use tls://" in ping_out


@pytest.fixture
def complaint(fastecho):
    """The one line of bench, which is that of ping."""

    def run(target, *options):
        outcomes = fastecho(target, *QUICK, *options), fastecho("ping", target, *PING, *options)
        for code, out, err in outcomes:
            assert (code, out) == (5, "")
            assert err.count("\n") == 1
            assert err.startswith(f"fastecho: cannot connect to {target}: ")
        assert outcomes[0][2] == outcomes[1][2]
        return outcomes[0][2]

    return run


def test_a_certificate_that_is_not_trusted(complaint):
    with serving(echo, tls=tls_context()) as target:
        line = complaint(target)
    assert "the server's certificate is not trusted: unable to get local issuer certificate" in line
    assert "--tls-ca FILE" in line
    assert "--tls-insecure" in line


def test_a_certificate_for_another_name(complaint, tmp_path):
    ca = tmp_path / "ca.pem"
    with serving(echo, tls=tls_context("other.example", ca)) as target:
        line = complaint(target, "--tls-ca", str(ca))
    assert "certificate is not valid for 'localhost'" in line
    assert "--tls-insecure" in line


@pytest.mark.parametrize("session", [echo, HTTP, SSH], ids=["echo", "http", "ssh"])
def test_a_plain_server_behind_a_tls_target(complaint, session):
    with serving(session) as target:
        line = complaint(target.replace("tcp://", "tls://"), "--tls-insecure")
    assert "the server does not speak TLS" in line
    assert "tcp://" in line


def test_a_plain_server_that_closes_or_is_silent_behind_a_tls_target(complaint):
    with serving(answering(b"")) as target:
        assert "closed by the server in the TLS handshake" in complaint(target.replace("tcp", "tls"), "--tls-insecure")
    with serving(silent_after(0)) as target:
        assert "no answer to the TLS handshake" in complaint(target.replace("tcp", "tls"), "--tls-insecure")


def test_a_server_that_asks_for_another_version_of_tls(complaint, monkeypatch):
    import ssl

    context = tls_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    make = ssl.create_default_context

    def old(**settings):
        made = make(**settings)
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        return made

    monkeypatch.setattr(ssl, "create_default_context", old)
    with serving(echo, tls=context) as target:
        assert "TLS: tlsv1 alert protocol version" in complaint(target, "--tls-insecure")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_will_not_do(fastecho, tmp_path, monkeypatch, content):
    """Of two addresses, as `localhost` has in many places, one is chosen by connecting to it; that is later."""
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 1)) for host in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    for arguments in (["tls://localhost:1"], ["ping", "tls://localhost:1"]):
        code, out, err = fastecho(*arguments, "--tls-ca", str(path))
        assert (code, out) == (2, "")
        assert err.startswith(f"fastecho: --tls-ca {path}: must be a file of certificates in PEM")
