"""What the configuration promises holds for sessions that misbehave, and so does what a test steers."""

from __future__ import annotations

import logging
import random
import socket
import tempfile
import time
from pathlib import Path

import pytest

from clients import read_exactly, reset_socket
from faulty_harness import read_all
from patience import wait_until

FAULT = "latency(0)"


@pytest.mark.parametrize("match", ["tail", "anywhere"])
def test_the_terminator_ends_a_faulty_session(host, match):
    server = host(FAULT, terminator=b"END", match=match, linger_timeout=60)
    sock = server.connect()
    sock.sendall(b"helloEN")
    assert read_exactly(sock, 7) == b"helloEN"
    sock.sendall(b"D")
    assert read_all(sock) == (b"D", "eof")
    sock.sendall(b"in vain")
    sock.close()
    seen = server.closed()
    assert (seen.cause, bytes(seen.received)) == ("terminator", b"helloEND")
    assert server.stats().bytes_discarded == 7


def test_an_idle_faulty_session_is_closed(host):
    server = host(FAULT, idle_timeout=0.05)
    sock = server.connect()
    assert read_all(sock) == (b"", "eof")
    sock.close()
    assert server.closed().cause == "idle"


def test_a_peer_that_takes_nothing_is_reset(host):
    server = host(FAULT, write_timeout=0.1, greeting=bytes(8 << 20))
    sock = server.connect(rcvbuf=4096)
    assert server.closed().cause == "write_timeout"
    assert read_all(sock)[1] == "reset"


def test_what_the_kernel_does_not_take_is_sent_later(host):
    data = random.Random(2).randbytes(12 << 20)  # more than the two buffers hold
    server = host("close(after_sent=12000000)", greeting=data)
    sock = server.connect(rcvbuf=4096)
    wait_until(lambda: server.session().sent and server.sessions[0].blocked, "the kernel takes no more")
    assert not server.session().log
    assert read_all(sock) == (data[:12_000_000], "eof")


def test_bytes_that_wait_for_their_time_starve_no_connection(host):
    server = host("latency(0.3)", write_timeout=0.05)
    sock = server.connect()
    sock.sendall(b"x")
    assert read_exactly(sock, 1) == b"x"
    assert not server.session().ended.is_set()


def test_a_reset_that_waits_for_a_peer_that_takes_nothing_has_a_bound(host):
    server = host("reset(after_sent=1000000)", write_timeout=0.1, greeting=bytes(1 << 20))
    server.connect(rcvbuf=4096)
    assert server.closed().cause == "write_timeout"


def test_a_read_takes_a_buffer_at_most(host):
    sizes = []
    server = host(FAULT, buffer_size=512, reply=lambda data: sizes.append(len(data)) or data)
    sock = server.connect()
    sock.sendall(bytes(100_000))
    read_exactly(sock, 100_000)
    assert max(sizes) == 512


def test_drain_ends_quiet_sessions(host):
    server = host(FAULT, drain_grace=0.02)
    sock = server.connect()
    sock.sendall(b"x")
    read_exactly(sock, 1)
    server.call(setattr, server.group, "draining_since", time.monotonic())
    assert read_all(sock) == (b"", "eof")
    sock.close()
    assert server.closed().cause == "drain"


def test_the_sessions_that_are_left_are_reset(host):
    server = host("stall()")
    sock = server.connect()
    wait_until(lambda: server.session().log, "it stalls")
    server.call(server.group.abort_all)
    assert server.closed().cause == "drain_timeout"
    assert read_all(sock)[1] == "reset"


def test_refused_when_the_group_is_closed(host):
    server = host(FAULT)
    server.call(setattr, server.group, "closed", True)
    sock = server.connect()
    assert read_all(sock) == (b"", "reset")
    assert server.closed().cause == "refused"


def test_the_peer_resets(host, caplog):
    with caplog.at_level(logging.DEBUG, "fastecho.session"):
        server = host(FAULT)
        sock = server.connect()
        sock.sendall(b"x")
        read_exactly(sock, 1)
        reset_socket(sock)
        assert server.closed().cause == "reset"
    assert caplog.records
    assert all(record.levelno == logging.DEBUG and not record.exc_info for record in caplog.records)


def test_the_peer_resets_behind_much_data(host):
    """libuv watches no more after an error: what is unread then must still be looked at."""
    server = host(FAULT, reply=lambda data: b"", buffer_size=512)
    for _ in range(20):
        sock = server.connect()
        sock.sendall(bytes(100_000))
        reset_socket(sock)
    wait_until(lambda: len(server.seen) == 20 and all(each.ended.is_set() for each in server.seen), "all have ended")
    assert {each.cause for each in server.seen} == {"reset"}


def test_the_peer_half_closes(host):
    server = host(FAULT)
    sock = server.connect()
    sock.sendall(b"x" * 100_000)
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == (b"x" * 100_000, "eof")
    seen = server.closed()
    assert (seen.cause, seen.eof) == ("eof", True)


def test_a_reply_that_raises(host):
    def reply(data):
        raise KeyError("oh")

    server = host(FAULT, reply=reply)
    sock = server.connect()
    sock.sendall(b"x")
    assert read_all(sock) == (b"", "reset")
    seen = server.closed()
    assert seen.cause == "error"
    assert isinstance(seen.error, KeyError)


@pytest.mark.parametrize("method", ["reset", "finish", "push"])
def test_a_reply_that_steers_its_own_session(host, method):
    def reply(data):
        getattr(server.sessions[0], method)(*([b"p"] if method == "push" else []))
        return b"r"

    server = host(FAULT, reply=reply)
    sock = server.connect()
    sock.sendall(b"x")
    if method == "push":
        assert read_exactly(sock, 2) == b"pr"
    else:
        assert read_all(sock) == (b"", "eof" if method == "finish" else "reset")


@pytest.mark.parametrize(("method", "end"), [("reset", "reset"), ("finish", "eof"), ("shutdown_write", "eof")])
def test_a_test_can_end_a_faulty_session_in_each_way(host, method, end):
    server = host("coalesce(100)")
    sock = server.connect()
    server.steer("push", b"pushed")
    server.steer(method)
    assert read_all(sock) == (b"" if method == "reset" else b"pushed", end)
    if method == "shutdown_write":
        sock.sendall(b"more")
        wait_until(lambda: bytes(server.session().received) == b"more", "it reads on")
    sock.close()
    assert server.closed().cause == "fault"
    assert server.steer("undelivered") == 0
    assert server.steer("idle")
    for each in ("reset", "finish", "shutdown_write", "pause", "resume"):
        server.steer(each)
    server.steer("push", b"nothing")
    assert server.stats().ends["fault"] == 1


def test_pause_and_resume(host):
    server = host(FAULT)
    sock = server.connect()
    server.steer("pause")
    sock.sendall(b"x")
    assert not server.session().received
    server.steer("push", b"p")
    assert read_exactly(sock, 1) == b"p"
    assert not server.session().received
    server.steer("resume")
    assert read_exactly(sock, 1) == b"x"


def test_a_faulty_session_counts_like_a_plain_one(host):
    server = host("drop(0); inject(1, b'abc')")
    sock = server.connect()
    sock.sendall(b"12345")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == (b"abc2345", "eof")
    server.closed()
    stats = server.stats()
    assert (stats.bytes_in, stats.bytes_out, stats.accepted, stats.active) == (5, 7, 1, 0)


def test_faults_work_over_unix_sockets(host):
    with tempfile.TemporaryDirectory() as folder:
        server = host("corrupt(0); close(after_received=5)", unix=str(Path(folder) / "s"))
        sock = server.connect()
        sock.sendall(b"hello")
        assert read_all(sock) == (bytes([ord("h") ^ 0xFF]) + b"ello", "eof")
        sock.close()
        assert server.closed().cause == "fault"


def test_the_same_seed_the_same_choice(host):
    logs = []
    for _ in range(2):
        server = host("close(after_received=1).chance(0.5)", seed=11)
        for _ in range(20):
            sock = server.connect()
            sock.sendall(b"ab")
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)
            sock.close()
        logs.append([server.closed(index).log for index in range(20)])
    assert logs[0] == logs[1]
    assert 0 < sum(map(bool, logs[0])) < 20


@pytest.mark.parametrize("fault", ["stall()", "slow_accept(60)", "stop_reading()"])
def test_drain_ends_sessions_that_stand_still(host, fault):
    server = host(fault, drain_grace=0.02)
    with server.connect() as sock:
        wait_until(lambda: server.group.count == 1, "it is there")
        server.call(setattr, server.group, "draining_since", time.monotonic())
        assert read_all(sock) == (b"", "reset")
    assert server.closed().cause == "drain"
