"""Every end and stop, with every trigger: exact, and told once, at the same offset for the same bytes."""

from __future__ import annotations

import contextlib
import random
import socket

import pytest

from clients import read_exactly, reset_socket
from faulty_harness import exchange, read_all
from patience import DEADLINE, wait_until

DATA = random.Random(4).randbytes(1 << 20)
ENDING = {"reset": "reset", "close": "eof"}


@pytest.mark.parametrize("kind", ENDING)
@pytest.mark.parametrize("offset", [0, 1, 17, 65535, 65536, 65537, 1 << 20])
def test_exactly_so_many_bytes_out(host, kind, offset):
    server = host(f"{kind}(after_sent={offset})")
    got, end = exchange(server.connect(), DATA)
    assert len(got) == offset
    assert got == DATA[:offset]
    assert end in ("eof", "reset") if kind == "reset" else end == "eof"
    seen = server.closed() if kind == "reset" else server.session()
    assert bytes(seen.sent) == DATA[:offset]
    assert seen.log == [(str(server.armed[0].fault), offset, "out", 0)]
    assert (server.armed[0].selected, server.armed[0].fired) == (1, 1)


@pytest.mark.parametrize("kind", ENDING)
def test_exact_at_random_offsets(host, kind):
    chance = random.Random(7)
    server = host("; ".join(f"{kind}(after_sent={chance.randrange(1 << 20)}).nth({n})" for n in range(1, 31)))
    for armed in server.armed:
        got, _ = exchange(server.connect(), DATA)
        offset = armed.fault.get("after_sent")
        assert len(got) == offset
        assert got == DATA[:offset]


@pytest.mark.parametrize("kind", ENDING)
@pytest.mark.parametrize(("trigger", "want"), [("after_received=6", 6), (r"on=b'o\r\n'", 7)])
@pytest.mark.parametrize("cut", [1, 3, 100])
def test_what_came_before_a_trigger_is_answered(host, kind, trigger, want, cut):
    server = host(f"{kind}({trigger})")
    sock = server.connect()
    data = b"hello\r\nmore"
    got, told_on_send = b"", False
    for at in range(0, len(data), cut):
        try:
            sock.sendall(data[at : at + cut])
        except OSError:
            told_on_send = True     # then the end reads like EOF (hazard 33)
        due = min(want, at + cut) - len(got)
        got += read_exactly(sock, due) if due > 0 else b""
    rest, end = read_all(sock)
    assert got + rest == data[:want]
    assert end == ENDING[kind] or (told_on_send and ENDING[kind] == "reset")
    sock.close()
    assert server.closed().log == [(str(server.armed[0].fault), want, "in", 0)]
    assert server.closed().cause == "fault"


def test_a_reset_reaches_a_client_that_waits(host):
    server = host("reset(after_received=5)")
    sock = server.connect()
    sock.sendall(b"hello")
    assert read_all(sock) == (b"hello", "reset")
    assert server.closed().cause == "fault"
    assert server.stats().ends["fault"] == 1


@pytest.mark.parametrize("trigger", ["", "after_sent=0", "after_received=0"])
@pytest.mark.parametrize("kind", ["reset", "close", "abort", "half_close"])
def test_a_fault_without_a_trigger_takes_effect_at_once(host, kind, trigger):
    server = host(f"{kind}({trigger})", greeting=b"hello")
    sock = server.connect()
    assert read_all(sock) == (b"", "reset" if kind == "reset" else "eof")
    sock.close()
    assert server.closed().log == [(str(server.armed[0].fault), 0, "out" if trigger == "after_sent=0" else "in", 0)]


def test_refuse_resets_before_a_byte_is_read(host):
    server = host("refuse()", greeting=b"hello")
    assert read_all(server.connect()) == (b"", "reset")
    seen = server.closed()
    assert (seen.cause, seen.log) == ("fault", [("refuse()", 0, "in", 0)])


def test_close_while_the_data_of_the_client_is_unread(host):
    server = host("close(after_sent=1000)", linger_timeout=60)
    sock = server.connect()
    sock.settimeout(DEADLINE)
    sock.sendall(DATA)  # all of it is read although nothing is answered, and none of it causes an RST
    assert read_all(sock) == (DATA[:1000], "eof")
    sock.sendall(b"more")
    assert not server.session().ended.is_set()
    sock.close()
    assert server.closed().cause == "fault"
    assert server.stats().bytes_discarded > 0


def test_the_linger_has_a_bound(host):
    server = host("close(after_received=1)", linger_timeout=0.05)
    sock = server.connect()
    sock.sendall(b"x")
    assert read_all(sock) == (b"x", "eof")
    assert server.closed().cause == "fault"


def test_an_abort_waits_for_nothing(host):
    server = host("abort(after_received=1000)")
    sock = server.connect(rcvbuf=4096)
    for at in range(0, 900, 300):
        sock.sendall(DATA[at : at + 300])
        read_exactly(sock, 300)
    sock.sendall(DATA[900:1000])
    seen = server.closed()
    assert (seen.cause, seen.log) == ("fault", [("abort(after_received=1000)", 1000, "in", 0)])
    assert read_all(sock) == (DATA[900:1000], "eof")


def test_an_abort_at_a_byte_out(host):
    server = host("abort(after_sent=7)", greeting=b"0123456789")
    got, end = read_all(server.connect())
    assert (got, end) == (b"0123456", "eof")
    assert server.closed().log == [("abort(after_sent=7)", 7, "out", 0)]


@pytest.mark.parametrize("trigger", ["on=b'QUIT\\r\\n'", "after_received=6", "after_sent=6"])
def test_half_close_reads_on(host, trigger):
    server = host(f"half_close({trigger})", linger_timeout=0.02)
    sock = server.connect()
    sock.sendall(b"QUIT\r\n")
    assert read_all(sock) == (b"QUIT\r\n", "eof")
    for at in range(0, 1 << 18, 1 << 16):
        sock.sendall(DATA[at : at + (1 << 16)])
    wait_until(lambda: len(server.session().received) == 6 + (1 << 18), "all of it is read")
    assert bytes(server.session().received) == b"QUIT\r\n" + DATA[: 1 << 18]
    assert not server.session().ended.is_set()
    sock.close()
    seen = server.closed()
    assert (seen.cause, seen.eof) == ("fault", True)
    assert bytes(seen.sent) == b"QUIT\r\n"


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("trigger", ["", "after_sent=3", "after_received=3", "on=b'abc'"])
def test_a_stall_neither_reads_nor_writes_and_notices_the_end(host, trigger, leave):
    server = host(f"stall({trigger})")
    sock = server.connect()
    sock.sendall(b"abcdef")
    assert read_exactly(sock, 3 if trigger else 0) == (b"abc" if trigger else b"")
    wait_until(lambda: server.session().log, "it stalls")
    received = len(server.session().received)
    sock.sendall(b"more")
    server.steer("push", b"pushed")
    assert not server.session().ended.is_set()
    if leave == "close":
        sock.close()
    else:
        reset_socket(sock)
    seen = server.closed()
    assert seen.cause == "fault"
    assert len(seen.received) == received
    assert len(seen.sent) == (3 if trigger else 0)


def blocks_after(sock, at_least=0):
    """How many bytes go before the kernel takes no more for a while."""
    sent = 0
    sock.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while sent < 1 << 23:
            sent += sock.send(b"x" * 1024)
    sock.settimeout(DEADLINE)
    return sent


def test_stop_reading_blocks_the_client_soon(host):
    server = host("stop_reading()", rcvbuf=9216 // 2)
    assert blocks_after(server.connect(sndbuf=4096)) <= 4 * 9216


def test_stop_reading_blocks_the_client_even_with_an_ordinary_listener(host):
    server = host("stop_reading()")
    assert blocks_after(server.connect(sndbuf=4096)) <= 1 << 17


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_stop_reading_writes_on_and_notices_the_end(host, leave):
    server = host("stop_reading(after_received=3)", greeting=b"hi")
    sock = server.connect()
    sock.sendall(b"abcdef")
    assert read_exactly(sock, 5) == b"hiabc"
    server.steer("push", b"pushed")
    assert read_exactly(sock, 6) == b"pushed"
    wait_until(lambda: server.session().log, "it is told")
    assert server.session().log == [("stop_reading(after_received=3)", 3, "in", 0)]
    if leave == "close":
        sock.close()
    else:
        reset_socket(sock)
    assert server.closed().cause == {"close": "eof", "reset": "reset"}[leave]


def test_a_blackhole_reads_and_does_not_answer(host):
    server = host("blackhole(); inject(0, b'x')", greeting=b"hello")
    sock = server.connect()
    sock.sendall(DATA)
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == (b"", "eof")
    seen = server.closed()
    assert (seen.cause, bytes(seen.received), seen.sent) == ("eof", DATA, b"")
    assert seen.log == [("blackhole()", 0, "in", 0)]
    stats = server.stats()
    assert (stats.bytes_in, stats.bytes_discarded, stats.bytes_out) == (1 << 20, 1 << 20, 0)


def test_slow_accept_holds_back_the_first_read(host):
    server = host("slow_accept(60)")
    sock = server.connect()
    sock.sendall(b"abc")
    wait_until(lambda: server.session().log, "it is told")
    server.steer("push", b"pushed")
    assert not server.session().received
    server.steer("reset")
    assert server.closed().cause == "fault"


def test_slow_accept_goes_on_after_its_delay(host):
    server = host("slow_accept(0.02)", greeting=b"1")
    sock = server.connect()
    server.steer("push", b"2")
    sock.sendall(b"3")
    assert read_exactly(sock, 3) == b"123"
    assert server.session().log == [("slow_accept(0.02)", 0, "in", 0)]


@pytest.mark.parametrize(
    ("faults", "out", "fired"),
    [
        ("reset(after_sent=5); close(after_sent=3)", 3, ("close(after_sent=3)", 3, "out", 0)),
        ("reset(after_received=50); close(after_sent=30)", 30, ("close(after_sent=30)", 30, "out", 0)),
        ("reset(after_received=50); close(after_sent=50)", 50, ("close(after_sent=50)", 50, "out", 0)),
        ("reset(after_received=50); close(after_sent=51)", 50, ("reset(after_received=50)", 50, "in", 0)),
        ("close(after_received=50); reset(after_received=20)", 20, ("reset(after_received=20)", 20, "in", 0)),
        ("close(after_received=20); reset(after_received=20)", 20, ("close(after_received=20)", 20, "in", 0)),
        ("close(); reset(after_received=20)", 0, ("close()", 0, "in", 0)),
        ("half_close(after_received=20); reset(after_received=40)", 20, ("half_close(after_received=20)", 20, "in", 0)),
    ],
)
@pytest.mark.parametrize("cut", [1, 100])
def test_the_end_that_is_reached_first_wins(host, faults, out, fired, cut):
    server = host(faults)
    sock = server.connect()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    got, _ = exchange(sock, DATA[:100], cut)
    assert got == DATA[:out]
    sock.close()
    assert server.closed().log == [fired]


def test_the_terminator_before_the_trigger(host):
    server = host("reset(after_received=10)", terminator=b"\0", match="anywhere")
    sock = server.connect()
    sock.sendall(b"hello\0and more than ten")
    assert read_all(sock) == (b"hello\0", "eof")
    sock.close()
    seen = server.closed()
    assert (seen.cause, seen.log) == ("terminator", [])


@pytest.mark.parametrize("match", ["tail", "anywhere"])
def test_the_trigger_before_the_terminator(host, match):
    server = host("reset(after_received=5)", terminator=b"\0", match=match)
    sock = server.connect()
    sock.sendall(b"hell\0\0")
    assert read_all(sock) == (b"hell\0", "reset")
    assert server.closed().cause == "fault"


def test_only_those_it_chose(host):
    server = host("reset(after_received=1).nth(2)")
    for number in range(1, 4):
        sock = server.connect()
        sock.sendall(b"ab")
        with contextlib.suppress(OSError):  # the reset may have arrived already
            sock.shutdown(socket.SHUT_WR)
        assert read_all(sock)[0] == (b"a" if number == 2 else b"ab")
    assert (server.armed[0].selected, server.armed[0].fired) == (1, 1)


def test_a_client_that_reads_slowly_still_gets_all_before_the_reset(host):
    server = host("reset(after_sent=300000)")
    sock = server.connect(rcvbuf=4096)
    got, _end = exchange(sock, DATA)
    assert got == DATA[:300000]


def test_a_reset_waits_for_a_client_that_does_not_read_yet(host):
    """Bytes that the kernel has not sent would be thrown away by an RST (hazard 33)."""
    server = host("reset(after_sent=200000)", greeting=DATA)
    sock = server.connect(rcvbuf=4096)
    wait_until(lambda: len(server.session().sent) == 200000, "all is with the kernel")
    assert not server.session().ended.is_set()
    assert read_all(sock) == (DATA[:200000], "reset")


def test_a_long_pattern_that_straddles_reads(host):
    pattern = bytes(range(65, 91)) * 4
    server = host()
    from fastecho.faults import Fault

    server.armed.append(server.armed_faults.arm(Fault.reset(on=pattern), 0))
    sock = server.connect()
    data = b"ABC" + pattern + b"more"
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(data), 7):
        sock.sendall(data[at : at + 7])
        if at + 7 < 3 + len(pattern):
            read_exactly(sock, 7)
        else:
            break
    _got, end = read_all(sock)
    assert end == "reset"
    assert server.closed().log[0][1] == 3 + len(pattern)
    assert bytes(server.closed().sent) == b"ABC" + pattern


LEAVES = {"close": socket.socket.close, "reset": reset_socket}


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("latency", ["", "latency(0.05); "])
@pytest.mark.parametrize("trigger", ["after_sent=2", "after_received=2", "on=b'b'"])
@pytest.mark.parametrize("kind", ["reset", "close", "abort", "half_close", "stall", "stop_reading"])
def test_a_client_that_leaves_before_the_fault_ends_the_connection(host, kind, trigger, latency, leave):
    """SIOCOUTQ stays above 0 on a socket that is closed: nothing may wait for it. (The write time-out is 30 s.)"""
    server = host(f"{latency}{kind}({trigger})")
    sock = server.connect()
    sock.sendall(b"abc")
    LEAVES[leave](sock)
    seen = server.closed()
    assert bytes(seen.sent) in (b"", b"ab", b"abc")
    assert server.call(lambda: server.group.count) == 0


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("size", [3, 1 << 20])
def test_a_client_that_leaves_while_a_reset_waits_for_it_ends_the_connection(host, size, leave):
    server = host(f"reset(after_sent={size})", greeting=bytes(1 << 20))
    sock = server.connect(rcvbuf=4096)
    wait_until(lambda: len(server.session().sent) == size, "all is with the kernel")
    LEAVES[leave](sock)
    assert server.closed().cause == "fault"


def test_a_client_that_resets_after_its_fin_is_noticed_before_its_echo_is_due(host):
    server = host("latency(3600)", greeting=b"hello")
    sock = server.connect()
    sock.sendall(b"abc")
    sock.shutdown(socket.SHUT_WR)
    wait_until(lambda: server.session().eof, "the FIN is seen")
    reset_socket(sock)
    assert server.closed().cause == "reset"


@pytest.mark.parametrize("leave", LEAVES)
def test_slow_accept_notices_that_the_client_has_gone(host, leave):
    server = host("slow_accept(3600)")
    sock = server.connect()
    server.session()
    LEAVES[leave](sock)
    assert server.closed().cause == {"close": "eof", "reset": "reset"}[leave]


def test_slow_accept_answers_a_client_that_has_sent_fin(host):
    server = host("slow_accept(0.05)")
    sock = server.connect()
    sock.sendall(b"abc")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == (b"abc", "eof")
    assert server.closed().cause == "eof"
