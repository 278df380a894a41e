"""Every fault through a server of the fixture, seen by a plain socket; and the arming of faults."""

import contextlib
import random
import select
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from clients import connect_blocking, make_socket, read_exactly, read_to_eof
from fastecho.testing import Fault, FaultNotFired, certificates, echo_server
from patience import DEADLINE, wait_until

DATA = bytes(range(256)) * 40


@pytest.fixture
def server():
    with echo_server(timeout=DEADLINE) as server:
        yield server


def until_the_end(sock):
    """What can be read, and how it ended: "FIN" or "RST"."""
    got = b""
    try:
        while part := sock.recv(65536):
            got += part
    except ConnectionResetError:
        return got, "RST"
    return got, "FIN"


def say(sock, data):
    """Send; the send may fail. Whether a reset met the send: recv is then told of an end only (hazard 33)."""
    try:
        if data:
            sock.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def outcome(server, data=b"", close=False):
    try:
        sock = connect_blocking(server.address)
    except ConnectionResetError:  # the reset was there before connect() looked
        return b"", "RST"
    with sock:
        reset = say(sock, data)
        if close and not reset:
            sock.shutdown(socket.SHUT_WR)
        got, end = until_the_end(sock)
        return got, "RST" if reset else end


def dialogue(server, data=b"hello"):
    """One clean exchange."""
    with connect_blocking(server.address) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_to_eof(sock)


def quiet(sock, seconds=0.05):
    return not select.select([sock], [], [], seconds)[0]


# Ends


@pytest.mark.parametrize("n", [0, 1, 17, 10_239, 10_240])
def test_reset_after_exactly_so_many_bytes(server, n):
    with server.fault(Fault.reset(after_sent=n)) as armed:
        assert outcome(server, DATA) == (DATA[:n], "RST")
    assert (armed.fired, armed.selected) == (1, 1)
    server.wait_closed()
    (session,) = server.connections
    assert session.faults_fired == (f"reset(after_sent={n})",)
    assert session.bytes_out == n
    assert session.close_reason == "fault"
    assert server.fault_log == (f"connection 0: reset(after_sent={n}) at out {n}",)


def test_reset_at_random_bytes(server):
    """Exact each time; the offsets are drawn, and said when it fails."""
    data = random.Random(1).randbytes(400_000)
    for n in random.Random(2).sample(range(len(data)), 20):
        with server.fault(Fault.reset(after_sent=n)), ThreadPoolExecutor(1) as pool:
            with connect_blocking(server.address) as sock:
                sending = pool.submit(say, sock, data)
                got, end = until_the_end(sock)
                assert got == data[:n], n
                assert sending.result(DEADLINE) or end == "RST", n


@pytest.mark.parametrize("n", [0, 1, 17, 10_239, 10_240])
def test_close_after_exactly_so_many_bytes_is_a_fin(server, n):
    with server.fault(Fault.close(after_sent=n)):
        assert outcome(server, DATA) == (DATA[:n], "FIN")
    assert server.connections[0].bytes_out == n


def test_close_is_a_fin_while_data_is_unread(server):
    data = random.Random(3).randbytes(200_000)
    for n in random.Random(4).sample(range(len(data)), 20):
        with server.fault(Fault.close(after_sent=n)):
            with connect_blocking(server.address) as sock:
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.send(data)
                sock.settimeout(DEADLINE)
                assert until_the_end(sock) == (data[:n], "FIN"), n


def test_ends_after_in(server):
    with server.fault(Fault.close(after_received=5)) as armed, connect_blocking(server.address) as sock:
        sock.sendall(b"1234")
        assert read_exactly(sock, 4) == b"1234"
        sock.sendall(b"5")
        assert until_the_end(sock)[1] == "FIN"
    assert armed.fired == 1


def test_ends_on_these_bytes_for_any_segmentation(server):
    with server.fault(Fault.reset(on=b"QUIT\r\n")), connect_blocking(server.address) as sock:
        for part in (b"HELO QUI", b"T", b"\r"):
            sock.sendall(part)
            assert read_exactly(sock, len(part)) == part
        say(sock, b"\n")
        assert until_the_end(sock)[1] == "RST"


def test_abort_is_the_end_one_way_or_another(server):
    with server.fault(Fault.abort(after_sent=5)) as armed:
        got, _ = outcome(server, b"hello, this is not all read")
        assert b"hello".startswith(got) or got == b"hello"
    assert armed.fired == 1
    server.wait_closed()
    assert server.connections[0].close_reason == "fault"


def test_half_close_reads_on(server):
    with server.fault(Fault.half_close(after_sent=5)), connect_blocking(server.address) as sock:
        sock.sendall(b"hello")
        assert until_the_end(sock) == (b"hello", "FIN")
        sock.sendall(b"go on")
        server.connections[0].wait_received(b"hellogo on")
        assert server.connections[0].is_open
        sock.close()
        server.wait_closed()


def test_half_close_on_a_command(server):
    with server.fault(Fault.half_close(on=b"QUIT\r\n")), connect_blocking(server.address) as sock:
        sock.sendall(b"QUIT\r\n")
        assert until_the_end(sock)[1] == "FIN"


def test_stall_neither_reads_nor_writes_and_stays_open(server):
    with server.fault(Fault.stall(after_sent=5)), connect_blocking(server.address) as sock:
        sock.sendall(b"hello world")
        assert read_exactly(sock, 5) == b"hello"
        server.wait_received(5)
        assert quiet(sock)
        sock.sendall(b"more")
        assert quiet(sock)
        assert server.connections[0].is_open
        assert server.connections[0].bytes_out == 5


def test_stop_reading_blocks_the_client_after_a_window(server):
    """3.9 MB would go without (hazard 34)."""
    with server.fault(Fault.stop_reading(window=9216)):
        with make_socket(server.address, sndbuf=4096) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(server.address)
            wait_until(lambda: server.connections[0].faults_fired, "the fault has taken effect")
            sock.setblocking(False)
            sent = 0
            while select.select([], [sock], [], 0.1)[1]:
                sent += sock.send(bytes(1024))
            assert 0 < sent < 200_000
        assert server.connections[0].bytes_in == 0


# What becomes of the bytes


def test_latency_keeps_the_bytes_and_delays_them(server):
    with server.fault(Fault.latency(0.05)):
        assert dialogue(server, DATA) == DATA
    (session,) = server.connections
    assert session.sent_chunks[0].time - session.chunks[0].time >= 0.05 * 0.99


def test_jitter_keeps_the_order(server):
    with server.fault(Fault.latency(0.005, jitter=0.005)), connect_blocking(server.address) as sock:
        for number in range(20):
            sock.sendall(bytes([number]))
            server.wait_received(number + 1)
        assert read_exactly(sock, 20) == bytes(range(20))


def test_rate_takes_at_least_as_long_as_it_says(server):
    with server.fault(Fault.bandwidth(50_000, burst=1000)):
        assert dialogue(server, DATA) == DATA
    (session,) = server.connections
    took = session.sent_chunks[-1].time - session.chunks[0].time
    assert took >= (len(DATA) - 1000) / 50_000 * 0.99


@pytest.mark.parametrize(("sizes", "expected"), [(1, [1] * 11), ([3, 5, 8], [3, 5, 3]), (4, [4, 4, 3])])
def test_slice_cuts_the_answer_into_sends(server, sizes, expected):
    with server.fault(Fault.slice(sizes)):
        assert dialogue(server, b"hello world") == b"hello world"
    assert [chunk.size for chunk in server.connections[0].sent_chunks] == expected
    server.assert_sent_in(chunks=len(expected))


def test_coalesce_holds_back_until_enough_is_together(server):
    with server.fault(Fault.coalesce(10)), connect_blocking(server.address) as sock:
        for part in (b"1234", b"5678"):
            sock.sendall(part)
            server.wait_received(part)
        assert quiet(sock)
        sock.sendall(b"90")
        assert read_exactly(sock, 10) == b"1234567890"
        sock.sendall(b"end")
        sock.shutdown(socket.SHUT_WR)
        assert read_to_eof(sock) == b"end"
    assert [chunk.size for chunk in server.connections[0].sent_chunks] == [10, 3]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.corrupt(at=4, xor=0x20), b"hellO world"),
        (Fault.corrupt(0), b"\x97ello world"),
        (Fault.drop(5, count=6), b"hello"),
        (Fault.drop(0), b"ello world"),
        (Fault.duplicate(0, count=5), b"hellohello world"),
        (Fault.duplicate(10), b"hello worldd"),
        (Fault.inject(5, b", my"), b"hello, my world"),
        (Fault.inject(0, b">"), b">hello world"),
    ],
    ids=str,
)
@pytest.mark.parametrize("parts", [[b"hello world"], [b"hel", b"lo wor", b"ld"]], ids=["one read", "three reads"])
def test_what_becomes_of_the_bytes(server, fault, expected, parts):
    with server.fault(fault) as armed, connect_blocking(server.address) as sock:
        total = 0
        for part in parts:
            sock.sendall(part)
            total += len(part)
            server.wait_received(total)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_eof(sock) == expected
    assert armed.fired == 1
    server.assert_received(b"hello world")
    assert server.connections[0].sent == expected


def test_several_faults_take_effect_on_one_connection(server):
    with server.fault(Fault.corrupt(1, xor=1), Fault.slice(2), Fault.reset(after_sent=5)) as armed:
        assert outcome(server, b"hello world") == (b"hdllo", "RST")
    assert [each.fired for each in armed] == [1, 1, 1]
    assert [each.fault.kind for each in armed] == ["corrupt", "slice", "reset"]


# At the accept


def test_refuse_is_a_reset_at_once(server):
    with server.fault(Fault.refuse()) as armed:
        assert outcome(server) == (b"", "RST")
    assert armed.fired == 1


def test_blackhole_reads_everything_and_answers_nothing(server):
    with server.fault(Fault.blackhole()), connect_blocking(server.address) as sock:
        sock.sendall(DATA)
        server.assert_received(DATA)
        assert quiet(sock)
        assert server.bytes_out == 0


def test_slow_accept_delays_the_first_byte(server):
    with server.fault(Fault.slow_accept(0.05)):
        assert dialogue(server, DATA) == DATA
    (session,) = server.connections
    assert session.chunks[0].time - session.opened >= 0.05 * 0.99


# TLS


@pytest.fixture
def tls_server():
    with echo_server(tls=True, timeout=DEADLINE) as server:
        yield server


def secure(server, **options):
    return certificates().client_context().wrap_socket(
        connect_blocking(server.address), server_hostname="localhost", suppress_ragged_eofs=False, **options
    )


def test_tls_abort_fails_the_handshake(tls_server):
    with tls_server.fault(Fault.tls_abort()) as armed, pytest.raises((ConnectionResetError, BrokenPipeError)):
        secure(tls_server)
    assert armed.fired == 1
    with secure(tls_server) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"


def test_tls_stall_holds_up_the_handshake(tls_server):
    with tls_server.fault(Fault.tls_stall()) as armed:
        with connect_blocking(tls_server.address, timeout=0.2) as raw, pytest.raises(TimeoutError):
            certificates().client_context().wrap_socket(raw, server_hostname="localhost")
    assert armed.fired == 1


def test_no_close_notify_is_a_truncation(tls_server):
    with tls_server.fault(Fault.no_close_notify(), Fault.close(after_sent=5)), secure(tls_server) as sock:
        sock.sendall(b"hello")
        assert read_exactly(sock, 5) == b"hello"
        with pytest.raises(ssl.SSLEOFError):
            sock.recv(1)


@pytest.mark.parametrize("n", [0, 1, 17, 10_000])
def test_reset_after_exactly_so_many_bytes_of_plaintext(tls_server, n):
    """The TLS is done in memory: `ssl` tells some resets as an EOF."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificates().client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with tls_server.fault(Fault.reset(after_sent=n)) as armed, connect_blocking(tls_server.address) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        tls.write(DATA)
        reset = say(sock, outgoing.read())
        got, end = until_the_end(sock)
        assert reset or end == "RST"
        incoming.write(got)
        plain = b""
        with pytest.raises(ssl.SSLWantReadError):  # noqa: PT012
            while True:
                plain += tls.read(65536)
        assert plain == DATA[:n]
    assert armed.fired == 1


@pytest.mark.parametrize("n", [0, 1, 17, 10_000])
def test_close_after_exactly_so_many_bytes_of_plaintext(tls_server, n):
    with tls_server.fault(Fault.close(after_sent=n)), secure(tls_server) as sock:
        say(sock, DATA)
        assert read_to_eof(sock) == DATA[:n]


@pytest.mark.parametrize("text", ["slice(3)", "corrupt(0, xor=1)", "inject(2, b'!')", "latency(0.01)"])
def test_bytes_of_plaintext_are_changed(tls_server, text):
    expected = {"corrupt(0, xor=1)": b"iello", "inject(2, b'!')": b"he!llo"}.get(text, b"hello")
    with tls_server.fault(text) as armed, secure(tls_server) as sock:
        sock.sendall(b"hello")
        assert read_exactly(sock, len(expected)) == expected
    assert armed.fired == 1


def test_a_tls_fault_needs_tls(server):
    """It is refused when it is armed; nothing stays behind."""
    for fault in (Fault.tls_abort(), "tls_stall()", Fault.no_close_notify()):
        with pytest.raises(ValueError, match="TLS"):
            server.arm(fault)
    assert dialogue(server) == b"hello"


# On every family


@pytest.mark.parametrize("family", ["tcp6", "dual", "unix"])
def test_ends_on_other_families(family):
    with echo_server(family=family) as server:
        with server.fault("close(after_sent=3)"):
            assert outcome(server, b"hello") == (b"hel", "FIN")
        if family != "unix":
            with server.fault("reset(after_sent=3)"):
                assert outcome(server, b"hello") == (b"hel", "RST")
        with server.fault("slice(1)", "drop(0)"):
            assert dialogue(server) == b"ello"


# Which connections


@pytest.mark.parametrize(
    ("fault", "hit"),
    [
        (Fault.close(after_sent=0), [0, 1, 2, 3, 4, 5]),
        (Fault.close(after_sent=0).nth(3), [2]),
        (Fault.close(after_sent=0).first(2), [0, 1]),
        (Fault.close(after_sent=0).every(2), [1, 3, 5]),
        (Fault.close(after_sent=0).every(2).first(4), [1, 3]),
        (Fault.close(after_sent=0).where(lambda session: session.index in (0, 4)), [0, 4]),
        (Fault.close(after_sent=0).chance(1.0), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_selectors_choose_the_connections(server, fault, hit):
    with server.fault(fault) as armed:
        outcomes = [dialogue(server) for _ in range(6)]
    assert [number for number, got in enumerate(outcomes) if got == b""] == hit
    assert [got for got in outcomes if got] == [b"hello"] * (6 - len(hit))
    assert armed.fired == armed.selected == len(hit)


def test_where_sees_the_session(server):
    seen = []

    def choose(session):
        seen.append((session.index, session.peer))
        return False

    with server.fault(Fault.refuse().where(choose), must_fire=False), connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        assert read_exactly(sock, 1) == b"x"
        assert seen == [(0, sock.getsockname())]


def test_connections_are_counted_since_the_arming(server):
    assert [dialogue(server) for _ in range(3)] == [b"hello"] * 3
    with server.fault("close(after_sent=1).nth(2)"):
        assert [dialogue(server) for _ in range(3)] == [b"hello", b"h", b"hello"]
    assert dialogue(server) == b"hello"


def test_each_arming_counts_for_itself(server):
    with server.fault("close(after_sent=1).nth(2)"):
        dialogue(server)
        with server.fault("drop(0).nth(1)"):
            assert dialogue(server, b"xyz") == b"y"
        dialogue(server)


# Arming


def test_after_the_block_connections_are_clean(server):
    with server.fault(Fault.refuse()):
        assert outcome(server) == (b"", "RST")
    assert dialogue(server) == b"hello"


def test_a_connection_keeps_its_fault_after_the_block(server):
    sock = connect_blocking(server.address)
    with sock:
        with server.fault(Fault.close(after_sent=3), must_fire=False), connect_blocking(server.address) as inside:
            pass_on = inside.dup()
        with pass_on:
            pass_on.sendall(b"hello")
            assert until_the_end(pass_on) == (b"hel", "FIN")
        sock.sendall(b"hello")
        assert read_exactly(sock, 5) == b"hello"


def test_arming_takes_effect_before_it_returns(server):
    for _ in range(100):
        armed = server.arm(Fault.refuse())
        assert outcome(server) == (b"", "RST")
        server.disarm(armed)
        assert armed.fired == 1


def test_a_client_that_connected_before_the_arming_is_not_affected(server):
    """Even if the loop had no turn between its connect and the arming."""
    for _ in range(100):
        with connect_blocking(server.address) as before:
            with server.fault(Fault.refuse()):
                assert outcome(server) == (b"", "RST")
            before.sendall(b"hello")
            assert read_exactly(before, 5) == b"hello"


def test_a_client_that_connected_before_the_end_of_the_block_is_affected(server):
    """Even if the loop had no turn between its connect and the end of the block."""
    for _ in range(100):
        with server.fault(Fault.close(after_sent=0), must_fire=False):
            sock = connect_blocking(server.address)
        with sock:
            assert until_the_end(sock) == (b"", "FIN")


def test_a_fault_of_a_client_that_connected_last_has_fired(server):
    """The end of the block looks at those that the loop has not accepted yet, too."""
    for _ in range(50):
        with server.fault(Fault.close(after_sent=0)) as armed:
            sock = connect_blocking(server.address)
        sock.close()
        assert armed.fired == 1


def test_arming_never_waits_for_a_peer(server):
    """Clients that take nothing, send nothing or are stalled do not hold it up."""
    held = [connect_blocking(server.address) for _ in range(3)]
    server.connections[0].send(bytes(8 << 20))
    server.connections[1].pause()
    stalled = server.arm(Fault.stall())
    held.append(connect_blocking(server.address))
    server.disarm(stalled)
    with server.fault(Fault.close(after_sent=0)):
        assert outcome(server, b"x") == (b"", "FIN")
    for sock in held:
        sock.close()


def test_faults_from_the_start():
    with echo_server(faults=[Fault.close(after_sent=2).nth(1), "refuse().nth(2)"]) as server:
        assert outcome(server, b"hello") == (b"he", "FIN")
        assert outcome(server, b"hello") == (b"", "RST")
        assert dialogue(server) == b"hello"
        server.check_fired()


def test_a_fault_as_text(server):
    with server.fault("reset(after_sent=2)") as armed:
        assert outcome(server, b"hello") == (b"he", "RST")
    assert armed.fault == Fault.reset(after_sent=2)


def test_a_fault_that_is_none_is_refused(server):
    for wrong in ("resett()", 3, None):
        with pytest.raises((ValueError, TypeError)):
            server.arm(wrong)
    assert dialogue(server) == b"hello"


# Faults that never fire


def test_a_fault_that_never_fires_fails_the_test(server):
    """And the message says which, and why not."""
    with pytest.raises(FaultNotFired, match=r"reset\(after_sent=17\).*no client connected"):
        with server.fault(Fault.reset(after_sent=17)):
            pass
    with pytest.raises(FaultNotFired, match=r"reset\(after_sent=17\).*did not get as far.*17"):
        with server.fault(Fault.reset(after_sent=17)):
            dialogue(server)
    with pytest.raises(FaultNotFired, match=r"refuse\(\)\.nth\(3\)"):
        with server.fault(Fault.refuse().nth(3)):
            dialogue(server)
    assert issubclass(FaultNotFired, AssertionError)
    assert dialogue(server) == b"hello"


def test_only_the_one_that_did_not_fire_is_named(server):
    with pytest.raises(FaultNotFired, match=r"corrupt\(at=500\)|corrupt\(500\)") as caught:
        with server.fault("slice(1)", "corrupt(500)"):
            dialogue(server)
    assert "slice" not in str(caught.value)


def test_unless_told_otherwise(server):
    with server.fault(Fault.reset(after_sent=17), must_fire=False) as armed:
        dialogue(server)
    assert (armed.fired, armed.selected) == (0, 1)


def test_an_exception_in_the_block_goes_first(server):
    with pytest.raises(ZeroDivisionError):
        with server.fault(Fault.refuse()):
            raise ZeroDivisionError
    assert dialogue(server) == b"hello"


def test_check_fired_raises_for_a_fault_that_never_fired(server):
    server.check_fired()
    server.arm("refuse().nth(5)", must_fire=False)
    server.check_fired()
    armed = server.arm("close(after_sent=1)")
    with pytest.raises(FaultNotFired, match=r"close\(after_sent=1\)"):
        server.check_fired()
    assert outcome(server, b"hello") == (b"h", "FIN")
    server.check_fired()
    assert armed.fired == 1


def test_check_fired_of_faults_from_the_start():
    with echo_server(faults=["reset(after_sent=17)"]) as server:
        with pytest.raises(FaultNotFired, match=r"reset\(after_sent=17\)"):
            server.check_fired()


# The log


def test_the_log_names_each_fault_that_fired(server):
    with server.fault("reset(after_sent=2).nth(1)", "close(on=b'lo').nth(2)"):
        outcome(server, b"hello")
        outcome(server, b"hello")
    dialogue(server)
    log = server.fault_log
    assert [line.split(":")[0] for line in log] == ["connection 0", "connection 1"]
    assert log[0] == "connection 0: reset(after_sent=2).nth(1) at out 2"
    assert log[1].startswith("connection 1: close(on=b'lo').nth(2) at in ")
    assert server.connections[2].faults_fired == ()


def draw(seed, noise=False):
    """The log of 20 connections made one after another, beside threads that only take time."""
    stop = threading.Event()
    threads = [threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)]) for _ in range(2 * noise)]
    for thread in threads:
        thread.start()
    try:
        with echo_server(seed=seed, faults=["close(after_sent=3).chance(0.3)", "slice(2).chance(0.5)"]) as server:
            for _ in range(20):
                dialogue(server, b"hello world") if not noise else outcome(server, b"hello world", close=True)
            return server.fault_log
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_log():
    expected = draw(7)
    assert len(expected) > 5
    for turn in range(10):
        assert draw(7, noise=turn % 3 == 2) == expected
    assert draw(8) != expected


def test_another_server_and_other_connections_have_no_say():
    expected = draw(7)
    with echo_server(seed=7) as other, connect_blocking(other.address) as sock:
        sock.sendall(b"x")
        with other.fault("slice(1).chance(0.5)", must_fire=False):
            dialogue(other)
            assert draw(7) == expected


def test_the_draw_is_that_of_the_documentation():
    """Seed 7, the first arming, chance 0.25: connections 3, 4, 22, 23, 27 and 28 of the first 30."""
    with echo_server(seed=7) as server, server.fault("close(after_sent=0).chance(0.25)"):
        hit = [number for number in range(1, 31) if dialogue(server) == b""]
    assert hit == [3, 4, 22, 23, 27, 28]


def test_the_order_in_the_log_is_that_of_connections(server):
    """Not that in which they happened to fire, which threads decide."""
    with server.fault("close(on=b'x')"):
        first, second = connect_blocking(server.address), connect_blocking(server.address)
        with first, second:
            for sock in (second, first):
                sock.sendall(b"x")
                assert until_the_end(sock)[1] == "FIN"
    assert [line.split(":")[0] for line in server.fault_log] == ["connection 0", "connection 1"]


def test_a_faulty_connection_can_be_steered(server):
    with server.fault("slice(2)"), connect_blocking(server.address) as sock:
        (session,) = server.connections
        session.send(b"hello")
        assert read_exactly(sock, 5) == b"hello"
        server.read_pending()
        assert [chunk.size for chunk in session.sent_chunks] == [2, 2, 1]
        session.pause()
        sock.sendall(b"unread")
        with connect_blocking(server.address) as other:
            other.sendall(b"x")
            assert read_exactly(other, 1) == b"x"
        assert session.bytes_in == 0
        session.resume()
        assert read_exactly(sock, 6) == b"unread"
        session.shutdown_write()
        assert read_to_eof(sock) == b""
        session.reset()
        session.wait_closed()
        assert session.close_reason == "test"


def test_a_faulty_connection_is_recorded_like_any_other(server):
    with server.fault("latency(0.001)"):
        dialogue(server, b"hello")
    server.assert_all_closed()
    (session,) = server.connections
    assert (session.received, session.sent, session.close_reason) == (b"hello", b"hello", "eof")
    assert session.half_closed
    session.assert_received(b"hello")
    session.assert_sent_in(chunks=1)


def test_a_stop_ends_faulty_connections():
    with echo_server(faults=["stall()", "latency(10).nth(2)"]) as server:
        socks = [connect_blocking(server.address) for _ in range(3)]
        for sock in socks:
            sock.sendall(b"x")
    assert {session.close_reason for session in server.connections} == {"server_stopped"}
    for sock in socks:
        with sock:
            assert until_the_end(sock) == (b"", "RST")


def test_faults_of_a_server_option():
    """`fault=` is `ServerConfig`'s name for it."""
    with echo_server(fault="close(after_sent=2)") as server:
        assert outcome(server, b"hello") == (b"he", "FIN")
        assert server.connections[0].faults_fired == ("close(after_sent=2)",)


@pytest.mark.parametrize("faults", [["reset(after_sent=2)"], ["latency(0.2)", "reset(after_sent=2)"]])
def test_a_client_that_gave_up_before_the_reset_has_closed(faults):
    """The client was right: its FIN came first, and nothing waits for bytes that it will not acknowledge."""
    with echo_server() as server:
        with server.fault(*faults) as armed:
            with connect_blocking(server.address) as sock:
                sock.sendall(b"abc")
            server.assert_all_closed()
            assert all(each.fired for each in (armed if isinstance(armed, tuple) else (armed,)))
        assert server.connections[0].close_reason == "fault"
