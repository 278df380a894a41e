"""Servers that are wrong in one way each: every one is caught, counted by its kind, and makes the run a failure."""

import os
import socket

import pytest

from bench_servers import changed, closing, corrupting, resetting, serving, silent_after, tls_context, trickling
from fastecho.bench import LoadSpec, run_load

# TCP_CORK, or its BSD name: the bytes wait for the FIN and leave in one segment.
CORK = getattr(socket, "TCP_CORK", None) or getattr(socket, "TCP_NOPUSH", 4)


def load(target, **settings):
    base = {"target": target, "duration": 0.5, "warmup": 0.1, "connections": 4, "size": 1000, "timeout": 0.5}
    return run_load(LoadSpec(**{**base, **settings}))


def test_one_byte_in_a_million():
    made = []
    with serving(corrupting(1_000_000, made)) as target:
        result = load(target, size=16384, duration=1.0)
    assert result.bytes > 2_000_000
    assert result.errors["corrupt"] == len(made) > 0, "each one is caught"
    assert sum(result.errors.values()) == result.errors["corrupt"]
    assert not result.ok
    assert result.error_details[0].startswith("corrupt: connection ")
    assert result.echoes > 100, "the run goes on beside it"


def test_without_verify_it_is_not_seen():
    """What --no-verify does not find."""
    with serving(corrupting(100_000)) as target:
        assert load(target, verify=False).ok


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda data, offset: data[1:] + data[:1], "corrupt"),
        (lambda data, offset: data[1:] + b"x", "corrupt"),
        (lambda data, offset: bytes(len(data)), "corrupt"),
        (lambda data, offset: data[: len(data) // 2], "timeout"),
        (lambda data, offset: data + b"x", "excess"),
        (lambda data, offset: data[:-64] + data[-128:-64], "corrupt"),
    ],
    ids=["rotated", "shifted", "zeroed", "lost", "doubled", "a line repeated"],
)
def test_changed_bytes_are_counted_as_corrupt(change, kind):
    with serving(changed(change, 10_000)) as target:
        result = load(target, duration=1.2)
    assert result.errors[kind] > 0, result.error_details
    assert not result.ok


def test_a_block_lost_in_a_stream():
    """Pipelined, the bytes behind the hole come in its place: only their content can tell."""
    with serving(changed(lambda data, offset: data[1024:], 50_000)) as target:
        result = load(target, depth=64, size=1024)
    assert result.errors["corrupt"] + result.errors["timeout"] > 0
    assert result.errors["corrupt"] > 0


def test_bytes_of_another_connection_are_counted_as_corrupt():
    """Two connections that get each other's bytes, each the right number of them."""
    import threading

    barrier, box = threading.Barrier(2, timeout=5), {}

    def session(sock):
        me = len(box)
        if me > 1:
            return
        box[me] = b""
        while data := sock.recv(65536):
            box[me] = data
            try:
                barrier.wait()
                other = box[1 - me]
                barrier.wait()
            except threading.BrokenBarrierError:
                return
            sock.sendall(other)

    with serving(session) as target:
        result = load(target, connections=2, warmup=0, duration=0.3)
        barrier.abort()
    assert result.errors["corrupt"] >= 1


def test_a_reset_is_counted_as_one():
    with serving(resetting(10_000)) as target:
        result = load(target)
    assert result.errors["reset"] > 0
    assert "reset" in " ".join(result.error_details).lower()


def test_a_reply_that_ends_early_is_counted_as_short():
    with serving(closing(10_500)) as target:
        result = load(target)
    assert result.errors["short"] > 0, (result.errors, result.error_details, result.echoes)
    assert "closed by the server after 10500 bytes of echo" in " ".join(result.error_details)


@pytest.mark.parametrize("settings", [{}, {"rate": 200.0}, {"depth": 8}, {"threads": 2}], ids=str)
def test_a_server_that_stops_answering_is_reported_not_waited_for(settings):
    with serving(silent_after(50_000)) as target:
        result = load(target, duration=600.0, **settings)
    assert result.errors["timeout"] >= 4
    assert result.stopped is not None
    assert "no answer for" in result.stopped
    assert not result.ok


def test_a_server_that_never_answers():
    with serving(silent_after(0)) as target:
        result = load(target, duration=30.0)
    assert result.echoes == 0
    assert not result.ok
    assert result.errors["timeout"] > 0


def test_tls_sees_the_same(tmp_path):
    import ssl

    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    for session, kind in ((corrupting(50_000), "corrupt"), (silent_after(20_000), "timeout")):
        with serving(session, tls=context) as target:
            result = load(target, tls_insecure=True, duration=1.0)
        assert result.errors[kind] > 0


def test_bytes_and_fin_that_come_together():
    """One event for both: an edge-triggered reader that stops at the short read would wait for ever."""

    def session(sock):
        sock.recv(65536)
        sock.setsockopt(socket.IPPROTO_TCP, CORK, 1)
        sock.sendall(b"x")
        sock.shutdown(socket.SHUT_WR)
        sock.recv(65536)

    with serving(session) as target:
        result = load(target, verify=False, duration=1.5)
    assert result.errors["short"] > 0
    assert result.errors["timeout"] == 0


def test_a_tls_server_that_goes_on_without_tls():
    """As one that breaks down below its TLS layer."""

    def session(sock):
        sock.sendall(sock.recv(65536))
        with socket.socket(fileno=os.dup(sock.fileno())) as plain:
            plain.sendall(b"HTTP/1.1 500 Internal Server Error\r\n\r\n")
            while plain.recv(65536):
                pass

    with serving(session, tls=tls_context()) as target:
        result = load(target, tls_insecure=True)
    assert result.errors["reset"] > 0
    assert "wrong version number" in " ".join(result.error_details)


def test_a_tls_server_that_resets():
    """It was said to have closed the connection in the handshake."""
    with serving(resetting(10_000), tls=tls_context()) as target:
        result = load(target, tls_insecure=True)
    assert result.errors["reset"] > 0
    [line] = result.error_details
    assert line.endswith(": Connection reset by peer")


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
@pytest.mark.parametrize("tls", [False, True])
def test_what_a_silent_server_was_never_sent_is_overdue(tls, arrivals):
    """But not what was due in the warm-up."""
    settings = {"rate": 1000.0, "arrivals": arrivals, "duration": 0.2, "timeout": 1.5, "tls_insecure": tls}
    with serving(silent_after(0), tls=tls_context() if tls else None) as target:
        result = load(target, **settings)
    assert result.echoes == 0
    assert result.errors["timeout"] == 4
    assert result.overdue == pytest.approx(1000 * result.seconds, rel=0.5)


def test_a_server_whose_echo_outlasts_the_run():
    """A byte at a time: no time-out ends it, and it would take a minute."""
    with serving(trickling) as target:
        result = load(target, connections=1, size=16 << 20, duration=0.1, warmup=0)
    assert result.stopped == "replies were still coming in long after the end"
    assert not result.ok
