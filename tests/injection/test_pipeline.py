"""The pipeline without a socket, any cuts, against the reference; and once more over one."""

from __future__ import annotations

import random
import socket
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clients import read_exactly
from fastecho._injection._armed import Armed, Chosen
from fastecho._injection._edits import Edits
from fastecho._injection._pacing import Pacing
from fastecho.faults import Fault
from faulty_harness import exchange, read_all
from faulty_model import cut, edited
from patience import wait_until

offsets = st.integers(0, 12)
counts = st.integers(1, 6)
edit = st.one_of(
    st.builds(Fault.corrupt, offsets, st.integers(1, 255)),
    st.builds(Fault.drop, offsets, counts),
    st.builds(Fault.duplicate, offsets, counts),
    st.builds(Fault.inject, offsets, st.binary(min_size=1, max_size=3)),
)
cuts = st.lists(st.integers(1, 5), max_size=12)


def choose(*faults):
    return [Chosen(Armed(fault, number, 0), random.Random(number)) for number, fault in enumerate(faults, 1)]


def run_edits(chosen, pieces):
    """The bytes, and the marks with the place in the output where they stand."""
    edits, out, marks = Edits(chosen), b"", []
    for piece in [*((piece, False) for piece in [b"", *pieces]), (b"", True)]:
        for each in edits.feed(*piece):
            marks += [(len(out), str(mark.chosen.fault), mark.offset, mark.size, mark.gap) for mark in each.marks]
            out += each.data
    return out, marks


@settings(max_examples=600)
@given(st.binary(max_size=16), st.lists(edit, max_size=5), cuts)
@example(b"0123456789", [Fault.duplicate(3, 2), Fault.inject(5, b"!"), Fault.drop(5, 2)], [5])
@example(b"01234", [Fault.drop(2, 3), Fault.duplicate(0, 5), Fault.duplicate(0, 4)], [4])
@example(b"01234", [Fault.drop(4), Fault.duplicate(0, 5), Fault.duplicate(0, 4)], [])
@example(b"01234", [Fault.duplicate(3, 9), Fault.inject(5, b"!")], [1, 2])
def test_edits_are_those_of_the_reference_for_any_cuts(data, faults, cuts):
    chosen = choose(*faults)
    out, marks = run_edits(chosen, cut(data, cuts))
    assert out == edited(data, faults)
    assert (out, marks) == run_edits(chosen, [data] if data else [])
    assert len({mark[1] for mark in marks}) <= len(faults)


def run_pace(chosen, pieces, most=1 << 30):
    """The sends, and the elapsed time. The time jumps to the end of each wait."""
    pace, now, sends = Pacing(chosen), 100.0, []

    def drain():
        nonlocal now
        while (piece := pace.next(now)) is not None:
            if isinstance(piece, float):
                assert piece > 0
                now += piece
            else:
                assert len(piece) > 0
                sends.append(bytes(piece[:most]))
                pace.sent(len(sends[-1]), now)

    for piece in pieces:
        pace.feed(piece, now)
        drain()
    held = pace.queued
    pace.end_stream(now)
    drain()
    assert (held, pace.queued) == (0, 0)
    return sends, now - 100.0


@given(st.binary(max_size=60), st.integers(1, 9), cuts)
def test_coalesced_sends_do_not_depend_on_the_cuts(data, size, cuts):
    sends, _ = run_pace(choose(Fault.coalesce(size)), cut(data, cuts))
    assert sends == [data[at : at + size] for at in range(0, len(data), size)]


@given(st.binary(max_size=60), st.lists(st.integers(1, 9), min_size=1, max_size=4), cuts, st.integers(1, 4))
def test_slices_end_at_the_same_offsets_for_any_cuts(data, sizes, cuts, most):
    borders, at, turn = set(), 0, 0
    while at < len(data):
        at, turn = at + sizes[turn % len(sizes)], turn + 1
        borders.add(min(at, len(data)))
    whole, _ = run_pace(choose(Fault.slice(sizes)), [data] if data else [])
    assert ends(whole) == borders
    sends, _ = run_pace(choose(Fault.slice(sizes)), cut(data, cuts), most)
    assert b"".join(sends) == data
    assert ends(sends) >= borders


def ends(sends):
    found, at = set(), 0
    for each in sends:
        at += len(each)
        found.add(at)
    return found


def test_slices_with_an_interval_take_their_time():
    _, took = run_pace(choose(Fault.slice([3, 5], 0.5)), [bytes(16)])
    assert took == pytest.approx(1.5)


@pytest.mark.parametrize("burst", [1, 7, 100])
def test_a_rate_is_kept(burst):
    sends, took = run_pace(choose(Fault.bandwidth(100, burst)), [bytes(500)])
    assert sum(map(len, sends)) == 500
    assert took == pytest.approx((500 - burst) / 100, rel=0.02)


def test_a_fast_rate_is_not_a_send_for_each_byte():
    sends, took = run_pace(choose(Fault.bandwidth(1e6)), [bytes(1 << 20)])
    assert took == pytest.approx(((1 << 20) - 100_000) / 1e6, rel=0.02)
    assert len(sends) < 1000


def test_latency_delays_each_piece_and_keeps_the_order():
    chosen = choose(Fault.latency(0.5, 0.5), Fault.slice(1, 0))
    pace = Pacing(chosen)
    pace.feed(bytes(range(100)), 10.0)
    now, got, times = 10.0, b"", []
    while (piece := pace.next(now)) is not None:
        if isinstance(piece, float):
            now += piece
        else:
            got += bytes(piece)
            times.append(now)
            pace.sent(len(piece), now)
    assert got == bytes(range(100))
    assert times == sorted(times)
    assert times[0] >= 10.0
    assert times[-1] <= 11.0 + 1e-6
    assert len(set(times)) > 2, "there is jitter"


# -- over a socket -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_all_of_it_over_a_socket(host, seed):
    chance = random.Random(seed)
    size = chance.choice([100, 5000, 300_000])
    data = chance.randbytes(size)

    few = size // 25
    made = [
        Fault.corrupt(chance.randrange(few)), Fault.drop(5 * few, chance.randrange(1, few)),
        Fault.duplicate(10 * few, chance.randrange(1, few)), Fault.inject(chance.randrange(size), b"injected"),
        Fault.coalesce(chance.choice([7, 1000, 400_000])), Fault.slice([chance.randrange(50, 500), 3000]),
        Fault.latency(0.002, 0.001), Fault.bandwidth(5e6),
    ]  # fmt: skip
    faults = chance.sample(made, chance.randrange(1, len(made)))
    server = host("; ".join(map(str, faults)))
    logs = []
    for chunk in (chance.randrange(1, size), size):
        got, end = exchange(server.connect(), data, chunk, eof=True)
        assert got == edited(data, faults)
        assert end == "eof"
        seen = server.closed()
        assert seen.cause == "eof"
        assert bytes(seen.sent) == got
        logs.append(seen.log)
        assert sorted(line[0] for line in seen.log) == sorted(map(str, faults))
    assert logs[0] == logs[1], "the log does not depend on the cuts"


@pytest.mark.parametrize(
    ("faults", "log"),
    [
        ("corrupt(10); reset(after_sent=5)", [("reset(after_sent=5)", 5, "out", 0)]),
        ("corrupt(5); reset(after_sent=5)", [("reset(after_sent=5)", 5, "out", 0)]),
        ("corrupt(4); reset(after_sent=5)", [("corrupt(4)", 4, "out", 1), ("reset(after_sent=5)", 5, "out", 0)]),
        ("drop(5); reset(after_sent=5)", [("reset(after_sent=5)", 5, "out", 0)]),
        ("drop(4); reset(after_sent=5)", [("drop(4)", 4, "out", 1), ("reset(after_sent=5)", 5, "out", 0)]),
        ("inject(3, b'x'); close(after_received=9)",
         [("inject(3, b'x')", 3, "out", 1), ("close(after_received=9)", 9, "in", 0)]),
        ("drop(8); stop_reading(after_received=9)",
         [("drop(8)", 8, "out", 1), ("stop_reading(after_received=9)", 9, "in", 0)]),
    ],
)
@pytest.mark.parametrize("cut", [1, 20])
def test_what_is_told_when_an_end_comes_too(host, faults, log, cut):
    server = host(faults)
    sock = server.connect()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, 20, cut):
        try:
            sock.sendall(bytes(range(at, at + cut)))
        except OSError:
            break
    wait_until(lambda: len(server.session().log) >= len(log), "it is told")
    sock.close()
    assert server.closed().log == log


def test_coalesce_holds_back_more_than_the_queue_may_hold(host):
    data = random.Random(1).randbytes(1_000_000)
    server = host("coalesce(1000000)")
    sock = server.connect()
    sock.sendall(data[:-1])
    wait_until(lambda: len(server.session().received) == 999_999, "all of it is read")
    assert not server.session().sent
    sock.sendall(data[-1:])
    assert read_exactly(sock, 1_000_000) == data
    sock.sendall(b"rest")
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == (b"rest", "eof")


# The delay line: times are those of the pace itself, which is told what time it is.


def outputs(chosen, arrivals, ends=None, look=None):
    """Feed `arrivals`, pairs of time and bytes, and look every `look` seconds, or whenever the pace says so. What came
    out and when; and when the end could be sent."""
    pace, out, now = Pacing(chosen), [], 0.0
    pending = [*arrivals, (ends, None)] if ends is not None else list(arrivals)
    while True:
        while pending and pending[0][0] <= now:
            _, data = pending.pop(0)
            if data is None:
                pace.end_stream(now)
            else:
                pace.feed(data, now)
        wait = pace.next(now)
        if wait is not None and not isinstance(wait, float):
            out.append((now, bytes(wait)))
            pace.sent(len(wait), now)
        elif wait is None and not pending:
            return out, now, pace
        else:
            steps = [look] if look else [wait] if wait is not None else []
            now = min([*(now + step for step in steps), *(each[0] for each in pending[:1])])


def test_latency_is_a_delay_line():
    """A stream of any length is as late as its first byte; one buffer after the other would be 100 x later."""
    arrivals = [(0.01 * number, bytes([number]) * 65536) for number in range(100)]
    out, _, _ = outputs(choose(Fault.latency(0.5)), arrivals)
    assert [data for _, data in out] == [data for _, data in arrivals]
    assert [when for when, _ in out] == pytest.approx([when + 0.5 for when, _ in arrivals])


def test_the_end_is_as_late_as_the_bytes():
    out, end, pace = outputs(choose(Fault.latency(0.5)), [(0.0, b"a")], ends=0.3)
    assert (out, end) == ([(0.5, b"a")], pytest.approx(0.8))
    assert pace.empty
    out, end, pace = outputs(choose(Fault.latency(0.5)), [], ends=0.3)
    assert (out, end) == ([], pytest.approx(0.8))
    assert pace.empty


def test_the_end_waits_for_its_time():
    pace = Pacing(choose(Fault.latency(0.5)))
    pace.end_stream(1.0)
    assert pace.next(1.1) == pytest.approx(0.4)
    assert not pace.empty


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 1000))
def test_jitter_reorders_nothing_and_adds_up_to_nothing(pauses, seed):
    arrivals, now = [], 0.0
    for number, pause in enumerate(pauses):
        now += pause
        arrivals.append((now, bytes([number])))
    chosen = [Chosen(Armed(Fault.latency(0.5, 0.3), 1, 0), random.Random(seed))]
    out, end, _ = outputs(chosen, arrivals, ends=now)
    assert [data for _, data in out] == [data for _, data in arrivals]
    for (came, _), (went, _) in zip(arrivals, out, strict=True):
        assert came + 0.2 - 1e-9 <= went <= max(when for when, _ in arrivals if when <= came) + 0.8 + 1e-9
    assert end <= now + 0.8 + 1e-9


def test_latencies_add_up():
    out, _, _ = outputs(choose(Fault.latency(0.5), Fault.latency(0.25)), [(0.0, b"a"), (1.0, b"b")])
    assert out == [(0.75, b"a"), (1.75, b"b")]


def test_slices_come_late_and_apart():
    out, end, _ = outputs(choose(Fault.latency(0.5), Fault.slice(1, 0.1)), [(0.0, b"abc")], ends=0.0)
    assert [data for _, data in out] == [b"a", b"b", b"c"]
    assert [when for when, _ in out] == pytest.approx([0.5, 0.6, 0.7])
    assert end == pytest.approx(0.7)


def test_a_rate_comes_late():
    out, _, _ = outputs(choose(Fault.latency(0.5), Fault.bandwidth(100, 10)), [(0.0, bytes(10)), (0.0, bytes(20))])
    assert out[0] == (0.5, bytes(10))
    assert out[-1][0] == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("burst", [8, 100])
def test_a_rate_does_not_cut_slices(burst):
    sends, took = run_pace(choose(Fault.slice([3, 5], 0), Fault.bandwidth(100, burst)), [bytes(160)])
    assert [len(each) for each in sends] == [3, 5] * 20
    assert took == pytest.approx((160 - burst) / 100, rel=0.05, abs=0.01)


def test_a_rate_cuts_what_its_bucket_cannot_hold():
    sends, took = run_pace(choose(Fault.slice(20, 0), Fault.bandwidth(100, 8)), [bytes(40)])
    assert max(map(len, sends)) == 8
    assert took == pytest.approx(0.32, rel=0.05)


def test_a_rate_does_not_cut_what_was_coalesced():
    sends, _ = run_pace(choose(Fault.coalesce(10), Fault.bandwidth(100, 10)), [bytes(3)] * 10)
    assert [len(each) for each in sends] == [10, 10, 10]


def test_a_slice_spans_chunks_that_are_due():
    pace = Pacing(choose(Fault.slice(20, 0.1)))
    pace.feed(bytes(25), 0.0)
    pace.feed(bytes(25), 0.0)
    sizes, now = [], 0.0
    while (piece := pace.next(now)) is not None:
        if isinstance(piece, float):
            now += piece
        else:
            sizes.append(len(piece))
            pace.sent(len(piece), now)
    assert sizes == [20, 20, 10]


def test_reading_goes_on_while_bytes_are_only_late():
    pace = Pacing(choose(Fault.latency(0.5)))
    pace.feed(bytes(1 << 20), 1.0)
    assert not pace.is_full(1.4)
    assert pace.is_full(1.5), "now they wait for the client"


def test_the_memory_of_the_delay_line_is_bounded():
    pace = Pacing(choose(Fault.latency(3600)))
    for _ in range(64):
        assert not pace.is_full(1.0)
        pace.feed(bytes(1 << 20), 1.0)
    assert pace.is_full(1.0)
    small = Pacing(choose(Fault.latency(3600)))
    for _ in range((64 << 20) // 256):
        small.feed(b"x", 1.0)
    assert small.is_full(1.0), "a byte takes the memory of its bookkeeping, too"


def test_reading_pauses_while_much_is_queued(host):
    server = host("bandwidth(1)")
    sock = server.connect()
    sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        sock.sendall(bytes(64 << 20))
    received = len(server.session().received)
    assert 262144 < received <= 262144 + 65536


def test_reading_goes_on_while_latency_holds_more_than_that(host):
    data = random.Random(3).randbytes(4 << 20)
    server = host("latency(3600)")
    sock = server.connect()
    sock.sendall(data)
    wait_until(lambda: len(server.session().received) == len(data), "all of it is read before the first byte is sent")
    assert not server.session().sent


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("size", [1, 700])
def test_a_client_sees_slices_fifty_times_of_fifty(host, certificates, size, secure):
    server = host(f"slice({size})", context=certificates.server if secure else None)
    for _ in range(50):
        sock = server.connect_tls(certificates.client()) if secure else server.connect()
        sock.sendall(bytes(3 * size))
        pieces = 0
        got = 0
        while got < 3 * size:
            got += len(sock.recv(65536))
            pieces += 1
        assert pieces > 1
        sock.close()


def test_slice_of_one_is_a_send_for_each_byte(host):
    data = random.Random(1).randbytes(1 << 16)
    server = host("slice(1, interval=0)")
    got, _ = exchange(server.connect(), data, eof=True)
    assert got == data
    assert set(server.closed().sends) == {1}


def test_latency_is_never_less(host):
    server = host("latency(0.05)")
    sock = server.connect()
    began = time.monotonic()
    sock.sendall(b"x")
    assert read_exactly(sock, 1) == b"x"
    assert time.monotonic() - began >= 0.05


def test_the_tail_of_a_delayed_stream_comes_before_the_fin(host):
    server = host("latency(0.05); coalesce(100)")
    sock = server.connect()
    sock.sendall(b"x" * 150)
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == (b"x" * 150, "eof")
    assert server.closed().cause == "eof"


def test_a_banner_and_pushed_bytes_count_with_the_replies(host):
    server = host("corrupt(2); corrupt(4); corrupt(6)", greeting=b"000", reply=lambda data: data.upper())
    sock = server.connect()
    assert read_exactly(sock, 3) == b"00\xcf"
    server.steer("push", b"000")
    assert read_exactly(sock, 3) == b"0\xcf0"
    sock.sendall(b"a")
    assert read_exactly(sock, 1) == bytes([ord("A") ^ 0xFF])
