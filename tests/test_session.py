"""The session driven through get_buffer and buffer_updated with chosen cuts, against the reference model."""

import asyncio
import contextlib
import select
import socket
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients import connect_blocking, read_to_eof
from cuts import cut, every_cut, matches, sizes, streams, terminators
from driven import Driven, Wire
from fastecho import ServerConfig
from fastecho._session import Sessions
from fastecho._sessions import PythonSession
from patience import until

CAPACITY = 512
takes = st.lists(st.one_of(st.none(), st.integers(0, 40), st.just(0)), min_size=1, max_size=5)
flushes = st.lists(st.one_of(st.none(), st.integers(1, 700)), min_size=1, max_size=4)


def fill(driven, data):
    """Read `data` as the loop does, up to `buffer_updated`."""
    driven.buffer()[: len(data)] = data
    return data


@contextlib.contextmanager
def group_of(loop, **options):
    config = ServerConfig(buffer_size=CAPACITY, **{"buffers": 2, "write_timeout": 30.0, **options})
    group = Sessions(config, loop)
    try:
        yield group, config
    finally:
        group.close()


def run_to_the_end(loop, config, group, reads, wire=None, flush=None):
    driven = Driven(group, config, loop, wire)
    for read in reads:
        driven.read(read, flush)
    driven.until_reading(flush or [None])
    driven.eof()
    driven.finish(flush)
    driven.check()
    return driven


def check_counters(stats, sessions):
    """The counters say what the models say."""
    models = [driven.model for driven in sessions]
    assert stats["bytes_out"] == sum(len(model.echo) for model in models)
    assert stats["bytes_discarded"] == sum(model.discarded for model in models)
    assert stats["bytes_in"] == sum(model.received for model in models)
    for cause in ("eof", "terminator"):
        assert stats["ends"][cause] == sum(model.end == cause for model in models)
    assert stats["active"] == 0
    assert stats["buffers_in_use"] == 0, "a buffer was not given back"


@pytest.mark.slow
@settings(max_examples=700)
@given(data=st.data())
def test_any_bytes_any_cut_any_terminator(loop, pinned, data):
    terminator = data.draw(st.one_of(st.none(), terminators, terminators, terminators))
    match = data.draw(matches)
    with group_of(loop, terminator=terminator, match=match, pin_buffers=pinned) as (group, config):
        stream = data.draw(streams(terminator))
        reads = cut(stream, data.draw(sizes(CAPACITY)))
        driven = run_to_the_end(
            loop, config, group, reads, Wire(data.draw(takes)), data.draw(flushes)
        )
        assert group.count == 0
        check_counters(group.stats(), [driven])


@settings(max_examples=250)
@given(data=st.data())
def test_interleaved_sessions_share_buffers_but_no_byte(loop, pinned, data):
    """Sessions with unsent tails beside sessions that read: no memory is lent to two of them."""
    with group_of(loop, terminator=b"\0\0", match="anywhere", pin_buffers=pinned) as (group, config):
        count = data.draw(st.integers(2, 5))
        sessions = [Driven(group, config, loop, Wire(data.draw(takes))) for _ in range(count)]
        for turn in range(data.draw(st.integers(1, 25))):
            driven = sessions[data.draw(st.integers(0, count - 1))]
            if driven.lost or driven.wire.closing:
                continue
            kind = data.draw(st.sampled_from(["read", "read", "read", "big", "flush", "idle poll", "lose"]))
            if kind == "lose" and not data.draw(st.integers(0, 3)):
                driven.lose(data.draw(st.sampled_from([None, ConnectionResetError()])))
            elif kind == "flush":
                driven.wire.flush(data.draw(st.integers(1, 600)))
            elif driven.wire.reading_paused:
                continue
            elif kind == "idle poll":
                driven.buffer()
            else:
                size = CAPACITY if kind == "big" else data.draw(st.integers(1, 80))
                driven.read(bytes([turn + 1]) * size + b"\0" * data.draw(st.integers(0, 2)), [64])
        for driven in sessions:
            if not driven.lost:
                driven.until_reading([None])
                driven.eof()
                driven.finish()
                driven.check()
            assert not driven.wire.violations
            assert driven.model.echo.startswith(bytes(driven.wire.sent))
        assert group.stats()["buffers_in_use"] == 0
        assert group.count == 0


@pytest.mark.parametrize("match", ["tail", "anywhere"])
@pytest.mark.parametrize("terminator", [b"\0", b"\r\n", b"aab", b"abab", b"a" * 64, None], ids=repr)
def test_every_cut_of_one_stream(loop, pinned, terminator, match):
    value = terminator or b"\0"
    stream = b"xx" + value[:-1] + b"x" + value + b"yy" + value
    with group_of(loop, terminator=terminator, match=match, pin_buffers=pinned) as (group, config):
        ended = [run_to_the_end(loop, config, group, reads) for reads in every_cut(stream, CAPACITY)]
        check_counters(group.stats(), ended)


@pytest.mark.parametrize("size", [CAPACITY - 1, CAPACITY, CAPACITY + 1, 2 * CAPACITY, 40 * CAPACITY + 3])
def test_around_the_capacity(loop, pinned, size):
    for terminator in (None, b"\0", b"\r\n"):
        with group_of(loop, terminator=terminator, pin_buffers=pinned, buffers=2) as (group, config):
            stream = b"x" * (size - 2) + b"\r\n"
            driven = run_to_the_end(loop, config, group, [stream], Wire([None, 0, 100]))
            check_counters(group.stats(), [driven])


def test_a_zero_length_read_never_looks_at_the_buffer(loop, pinned):
    with group_of(loop, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop)
        view = driven.buffer()
        view[:] = b"\0" * len(view)
        driven.session.buffer_updated(0)
        driven.lose_if_flushed()
        assert not driven.wire.sent
        assert not driven.wire.eof_asked
        assert not driven.lost
        driven.read(b"x")
        driven.eof()
        driven.finish()
        driven.check()


@pytest.mark.parametrize("hint", [-1, 0, 1, 65536, 1 << 30])
def test_get_buffer_ignores_the_hint_and_never_fails(loop, pinned, hint):
    """Hazard 16: an empty view or an exception there kills the connection without a word."""
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        driven = Driven(group, config, loop)
        for _ in range(300):
            view = memoryview(driven.session.get_buffer(hint))
            assert (view.nbytes, view.readonly) == (CAPACITY, False)
        driven.read(b"x" * 3000)
        driven.check()
        driven.lose(None)


def test_all_sessions_share_one_get_buffer_unless_buffers_are_pinned(loop, pinned):
    with group_of(loop, pin_buffers=pinned) as (group, config):
        one, other = (Driven(group, config, loop) for _ in range(2))
        assert (one.session.get_buffer is other.session.get_buffer) is not pinned
        one.lose(None)
        other.lose(None)


@pytest.mark.parametrize("between", ["nothing found", "another session"])
def test_full_reads_of_two_wake_ups_are_not_in_a_row(loop, pinned, between):
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        driven, other = (Driven(group, config, loop) for _ in range(2))
        driven.turn(2)
        for _ in range(2):
            driven.read(b"x" * (400 * CAPACITY))    # a session yields after 512 full reads in a row
            (driven if between == "nothing found" else other).buffer()
        assert group.stats()["yields"] == 0
        driven.check()
        driven.lose(None)
        other.lose(None)


def test_a_read_that_found_nothing_keeps_at_most_one_buffer(loop, pinned):
    """buffer_updated does not come when the read hit EAGAIN: that lease serves the next read."""
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        driven = Driven(group, config, loop)
        for _ in range(100):
            driven.buffer()
        assert group.stats()["buffers_in_use"] <= 1
        driven.read(b"abc")
        driven.check()
        driven.buffer()
        driven.eof()
        driven.finish()
        assert group.stats()["buffers_in_use"] == 0


def test_a_session_holds_no_buffer_while_it_is_quiet(loop):
    with group_of(loop, terminator=None) as (group, config):
        sessions = [Driven(group, config, loop) for _ in range(100)]
        for driven in sessions:
            driven.read(b"x" * CAPACITY)
        for driven in sessions:
            driven.check()
        assert group.stats()["buffers_in_use"] == 0
        assert group.stats()["buffers_total"] <= 4
        for driven in sessions:
            driven.lose(None)


def test_a_pinned_buffer_is_one_for_life(loop):
    with group_of(loop, terminator=None, pin_buffers=True) as (group, config):
        sessions = [Driven(group, config, loop) for _ in range(10)]
        assert group.stats()["buffers_in_use"] == 10
        for driven in sessions:
            driven.read(b"x" * 3 * CAPACITY)
            driven.check()
        assert group.stats()["buffers_in_use"] == 10
        for driven in sessions:
            driven.lose(None)
        assert group.stats()["buffers_in_use"] == 0


def test_high_water_is_zero(loop, pinned):
    """Hazard 7: the default low mark is 16 bytes; one byte that is queued must already pause."""
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        wire = Wire([0])
        driven = Driven(group, config, loop, wire)
        driven.read(b"x")
        assert (wire.high, wire.low) == (0, 0)
        assert wire.reading_paused, "an unsent byte did not pause reading"
        assert group.stats()["pauses"] == 1
        wire.flush()
        driven.until_reading([None])
        driven.check()
        driven.lose(None)


def test_reading_resumes_only_when_the_last_byte_is_flushed(loop, pinned):
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        wire = Wire([0])
        driven = Driven(group, config, loop, wire)
        driven.read(b"abcdef")
        for _ in range(5):
            wire.flush(1)
            driven.turn(3)
            assert wire.reading_paused
        wire.flush(1)
        driven.turn(3)
        assert not wire.reading_paused
        driven.check()
        driven.lose(None)


@pytest.mark.parametrize("call", ["pause_writing", "resume_writing", "resume_reading", "add_reader"])
def test_a_session_goes_on_after_a_lack_of_memory(loop, pinned, call):
    """Hazard 51: the transport does not call again, and sends the tail from the memory that it was given."""
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        wire, other = Wire([1]), Driven(group, config, loop)
        driven = Driven(group, config, loop, wire)
        wire.lacks_memory_for.add(call)
        driven.read(b"abcdef")
        assert wire.reading_paused
        other.read(b"uvwxyz")
        wire.flush()
        group.sweep(1.0)
        assert not wire.lacks_memory_for
        assert not wire.reading_paused
        assert not wire.deaf
        wire.takes = [None]
        driven.read(b"ghi")
        for each in (driven, other):
            each.check()
            each.lose(None)
        assert group.stats()["write_paused"] == 0


@pytest.mark.parametrize("call", ["pause_writing", "resume_writing"])
def test_a_terminator_ends_the_session_after_a_lack_of_memory(loop, pinned, call):
    with group_of(loop, pin_buffers=pinned) as (group, config):
        wire = Wire([1])
        driven = Driven(group, config, loop, wire)
        wire.lacks_memory_for.add(call)
        driven.read(b"abcdef\0")
        assert not wire.eof_asked
        wire.flush()
        group.sweep(1.0)
        assert wire.eof_asked
        driven.check()
        driven.lose(None)


@pytest.mark.parametrize("why", ["failed", "aborted", "write time-out", "lingered"])
def test_a_transport_that_never_loses_its_connection_is_given_up(loop, pinned, why):
    """Hazard 51: without memory a transport does not schedule connection_lost, and abort() does nothing any more."""
    with group_of(loop, pin_buffers=pinned, terminator=None, write_timeout=5.0) as (group, config):
        wire, times = Wire([1]), iter(range(1, 1000))
        driven = Driven(group, config, loop, wire)
        driven.session.buffer_updated(len(fill(driven, b"abcdef")))
        if why == "failed":
            wire.closing = True
        elif why == "aborted":
            group.abort_all()
        elif why == "lingered":
            wire.flush()
            driven.session.eof_received()
        while not (wire.aborted if why == "lingered" else wire.closing):
            group.sweep(float(next(times)))
        group.sweep(float(next(times)))
        group.sweep(float(next(times)))
        assert group.stats()["active"] == 1, "connection_lost may still come"
        for _ in range(2):
            group.sweep(float(next(times)))
        assert group.stats()["active"] == group.stats()["buffers_in_use"] == 0
        driven.lose(None)
        assert sum(group.stats()["ends"].values()) == 1
        assert not wire.violations


def test_the_client_of_a_transport_that_is_given_up_is_reset(loop):
    group = Sessions(ServerConfig(terminator=None), loop, direct=True)
    with socket.create_server(("127.0.0.1", 0)) as listener, connect_blocking(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        accepted.setblocking(False)
        transport, _ = loop.run_until_complete(loop.connect_accepted_socket(group.new_session, accepted))
        transport.abort()
        for now in range(3):
            group.sweep(float(now))
        assert group.stats()["ends"]["error"] == 1
        loop.run_until_complete(until(lambda: select.select([client], [], [], 0)[0], "the end of the connection"))
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert sum(group.stats()["ends"].values()) == 1
    group.close()


def test_the_client_of_a_transport_that_never_closes_its_socket_is_reset(loop, pinned):
    """Hazard 51: something refers to the transport for ever, as libuv does in the middle of a write."""
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        with socket.create_server(("127.0.0.1", 0)) as listener, connect_blocking(listener.getsockname()) as client:
            accepted, _ = listener.accept()
            with accepted:
                wire = Wire(extra={"socket": accepted})
                driven = Driven(group, config, loop, wire)
                wire.closing = True
                for now in range(3):
                    group.sweep(float(now))
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
                driven.lose(None)


def test_a_session_that_has_no_memory_to_begin_resets_its_client(loop):
    """The loop would leave the connection open, and never read from it."""

    def source_of(address):
        raise MemoryError

    group, errors = Sessions(ServerConfig(terminator=None), loop, direct=True), []
    group.source_of = source_of
    loop.set_exception_handler(lambda loop, context: errors.append(context["exception"]))
    with socket.create_server(("127.0.0.1", 0)) as listener, connect_blocking(listener.getsockname()) as client:
        client.sendall(b"x")
        accepted, _ = listener.accept()
        accepted.setblocking(False)

        async def accept():
            connecting = asyncio.ensure_future(loop.connect_accepted_socket(group.new_session, accepted))
            await until(lambda: group.stats()["ends"]["error"], "the end of the session")
            connecting.cancel()
            await asyncio.wait([connecting])

        loop.run_until_complete(accept())
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert group.stats()["active"] == 0
    assert [type(error) for error in errors] == [MemoryError]
    group.close()


def test_a_yield_that_the_loop_does_not_end_is_ended_by_the_sweep(loop, pinned):
    """Hazard 51: without memory a loop reports an error in place of the call."""

    class DeafLoop:
        time = loop.time

        def call_soon(self, callback):
            pass

    config = ServerConfig(terminator=None, pin_buffers=pinned)
    group = Sessions(config, DeafLoop())
    driven = Driven(group, config, loop)
    while not driven.wire.reading_paused:
        view = driven.buffer()
        view[:] = b"x" * len(view)
        driven.session.buffer_updated(len(view))
    group.sweep(1.0)
    assert not driven.wire.reading_paused
    driven.lose(None)
    group.close()


def test_a_transport_that_flushes_before_it_closes_is_waited_for(loop, pinned):
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        wire = Wire([1])
        driven = Driven(group, config, loop, wire)
        driven.read(b"abcdef")
        driven.eof()
        for now in range(1, 20):
            group.sweep(float(now))
        assert wire.closing
        assert group.stats()["active"] == 1
        wire.flush()
        driven.lose_if_flushed()
        driven.check()


class ShortLoop:
    """For sessions: a loop that has no memory to schedule a callback."""

    def __init__(self, loop):
        self.time = loop.time

    def call_soon(self, callback):
        raise MemoryError


def test_a_client_whose_bytes_were_lost_for_lack_of_memory_is_reset(loop):
    """The kernel would send FIN: nothing is unread."""
    group = Sessions(ServerConfig(terminator=None, buffer_size=16384), ShortLoop(loop), direct=True)
    loop.set_exception_handler(lambda loop, context: None)
    with socket.socket() as listener:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            listener.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with connect_blocking(listener.getsockname()) as client:
            client.sendall(bytes(16 * 16384))  # what one session may read before it yields
            accepted, _ = listener.accept()
            accepted.setblocking(False)
            loop.run_until_complete(loop.connect_accepted_socket(group.new_session, accepted))
            loop.run_until_complete(until(lambda: group.stats()["ends"]["error"], "the end of the session"))
            assert group.stats()["bytes_in"] == 16 * 16384
            with pytest.raises(ConnectionResetError):
                read_to_eof(client)
    group.close()


def test_a_yield_ends_after_a_lack_of_memory(loop, pinned):
    with group_of(loop, terminator=None, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop)
        driven.turn(2)
        while not driven.wire.reading_paused:
            view = driven.buffer()
            view[:] = b"x" * len(view)
            driven.session.buffer_updated(len(view))
        driven.wire.lacks_memory_for.add("resume_reading")
        with pytest.raises(MemoryError):
            driven.session.end_yield()
        assert driven.wire.reading_paused
        group.sweep(1.0)
        assert not driven.wire.reading_paused
        driven.lose(None)


def test_a_transport_that_takes_all_is_never_paused(loop, pinned):
    """Hazard 6: only pause_writing decides; a session that paused by itself would wait for ever."""
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        wire = Wire()
        driven = Driven(group, config, loop, wire)
        for _ in range(50):
            driven.read(b"x" * 100)
            assert not wire.reading_paused
        driven.check()
        driven.lose(None)


def test_a_hot_connection_yields_after_its_share(loop, pinned):
    """Hazard 28: 8 full buffers, or 256 KiB if that is more, in one wake-up; the next turn goes on."""
    for size in (512, 65536):
        config = ServerConfig(buffer_size=size, buffers=2, terminator=None, pin_buffers=pinned)
        group = Sessions(config, loop)
        driven = Driven(group, config, loop)
        driven.turn(2)
        share = max(8, 262144 // size)
        reads = 0
        while not driven.wire.reading_paused and reads <= 2 * share:
            view = driven.buffer()
            view[:] = b"x" * size
            driven.session.buffer_updated(size)
            reads += 1
        assert reads == share
        assert group.stats()["yields"] == 1
        assert len(driven.wire.sent) == share * size, "what was read is echoed before the pause"
        driven.turn(2)
        assert not driven.wire.reading_paused
        driven.lose(None)
        group.close()


def test_a_yield_does_not_resume_a_session_that_waits_for_its_flush(loop, pinned):
    """The share is used up by the very read whose tail stays: only resume_writing may resume."""
    config = ServerConfig(buffer_size=65536, buffers=2, terminator=None, pin_buffers=pinned)
    group = Sessions(config, loop)
    wire = Wire([None] * 7 + [10])
    driven = Driven(group, config, loop, wire)
    driven.turn(2)
    for _ in range(8):
        assert not wire.reading_paused
        view = driven.buffer()
        view[:] = b"x" * len(view)
        driven.session.buffer_updated(len(view))
    assert wire.queue
    for _ in range(3):
        driven.turn()
        assert wire.reading_paused
    wire.flush()
    driven.turn(3)
    assert not wire.reading_paused
    assert len(wire.sent) == 8 * 65536
    driven.lose(None)
    group.close()


@pytest.mark.parametrize("size", [1, CAPACITY + 1])
def test_a_read_without_its_buffer_or_beyond_it_is_refused(loop, size):
    with group_of(loop) as (group, config):
        driven = Driven(group, config, loop)
        if size > CAPACITY:
            driven.buffer()
        with pytest.raises(ValueError, match=f"buffer_updated\\({size}\\): must follow get_buffer"):
            driven.session.buffer_updated(size)
        driven.lose(None)


def test_sessions_count_to_their_limit_though_nothing_asks_to_be_told(loop):
    config = ServerConfig()
    sessions = Sessions(config, loop, limit=1)
    driven = Driven(sessions, config, loop)
    assert sessions.at_capacity
    driven.lose(None)
    assert not sessions.at_capacity
    sessions.close()


def test_a_session_in_python_is_unregistered_once(loop):
    class Silent(PythonSession):
        def on_sweep(self, now): ...
        def on_abort(self): ...

    with group_of(loop) as (group, _):
        session = Silent()
        assert session.register(group, ("127.0.0.1", 1))
        assert group.stats()["active"] == 1
        for _ in range(2):
            session.unregister("eof")
            assert (group.stats()["active"], group.stats()["ends"]["eof"]) == (0, 1)


def test_a_yielding_session_that_is_lost_is_left_alone(loop, pinned):
    """Hazard 29: the scheduled resume_reading comes after connection_lost."""
    config = ServerConfig(buffer_size=65536, buffers=2, terminator=None, pin_buffers=pinned)
    group = Sessions(config, loop)
    driven = Driven(group, config, loop)
    for _ in range(8):
        view = driven.buffer()
        driven.session.buffer_updated(len(view))
    assert driven.wire.reading_paused
    driven.lose(ConnectionResetError())
    driven.turn(3)
    assert not driven.wire.violations
    group.close()


def test_eof_while_a_tail_is_queued(loop, pinned):
    """Everything received is flushed before the end; the lease stays until then (hazard 10)."""
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        wire = Wire([0])
        driven = Driven(group, config, loop, wire)
        driven.read(b"abc" * 100)
        driven.eof()
        assert group.stats()["buffers_in_use"] == 1
        other = Driven(group, config, loop)
        other.read(b"z" * CAPACITY)
        driven.finish([7])
        driven.check()
        other.check()
        assert group.stats()["ends"]["eof"] == 1
        other.lose(None)
        assert group.stats()["buffers_in_use"] == 0


def test_eof_received_lets_the_transport_close(loop, pinned):
    """Hazard 10: True would leave the connection open for ever."""
    with group_of(loop, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop)
        driven.read(b"x")
        assert not driven.session.eof_received() or driven.wire.closing
        driven.lose(None)


def test_lost_while_a_tail_is_queued(loop, pinned):
    with group_of(loop, pin_buffers=pinned, terminator=None) as (group, config):
        driven = Driven(group, config, loop, Wire([3]))
        driven.read(b"abcdef")
        assert group.stats()["buffers_in_use"] == 1
        driven.lose(ConnectionResetError())
        driven.turn(2)
        group.sweep(1e9)
        assert not driven.wire.violations
        assert group.stats()["ends"]["reset"] == 1
        assert (group.count, group.stats()["buffers_in_use"]) == (0, 0)


def test_lost_before_the_first_read(loop, pinned):
    with group_of(loop, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop)
        driven.lose(None)
        assert (group.count, group.stats()["buffers_in_use"]) == (0, 0)
        assert group.stats()["accepted"] == 1


@pytest.mark.parametrize("cause", [ConnectionResetError, BrokenPipeError, TimeoutError, OSError])
def test_every_kind_of_loss_is_counted_once(loop, pinned, cause):
    with group_of(loop, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop)
        driven.read(b"x")
        driven.lose(cause())
        ends = {cause: count for cause, count in group.stats()["ends"].items() if count}
        assert sum(ends.values()) == 1
        if cause is not OSError:
            assert ends == {"reset": 1}


def test_after_the_terminator_the_session_lingers(loop, pinned):
    """Echo, FIN, then read and discard until the peer's FIN; no close while input may be unread."""
    with group_of(loop, pin_buffers=pinned, match="anywhere") as (group, config):
        driven = Driven(group, config, loop)
        driven.read(b"abc\0def")
        driven.turn(2)
        assert bytes(driven.wire.sent) == b"abc\0"
        assert driven.wire.eof_asked, "no FIN after the terminator's echo"
        assert not driven.wire.closing, "closed while the peer may still be sending (hazard 11)"
        for _ in range(20):
            driven.read(b"more\0" * 100)
        assert bytes(driven.wire.sent) == b"abc\0"
        driven.eof()
        driven.finish()
        driven.check()
        check_counters(group.stats(), [driven])


def test_the_fin_waits_for_the_flush(loop, pinned):
    with group_of(loop, pin_buffers=pinned) as (group, config):
        driven = Driven(group, config, loop, Wire([1]))
        driven.read(b"abc\0")
        driven.turn(2)
        assert not driven.wire.closing
        driven.until_reading([1])
        driven.turn(2)
        assert bytes(driven.wire.sent) == b"abc\0"
        assert driven.wire.eof_asked
        driven.eof()
        driven.finish()
        driven.check()


def test_a_transport_without_half_close_is_closed(loop, pinned):
    """TLS: close (close_notify) stands for FIN and linger."""
    with group_of(loop, pin_buffers=pinned, tls_cert="cert.pem") as (group, config):
        ssl_object = SimpleNamespace(begin_reads=lambda: None, out_of_time=False)
        wire = Wire([2], extra={"sslcontext": object(), "ssl_object": ssl_object})
        wire.has_eof = False
        driven = Driven(group, config, loop, wire)
        driven.read(b"abc\0")
        driven.finish([1])
        driven.check()
        assert wire.closing
        assert not wire.aborted
        assert group.stats()["ends"]["terminator"] == 1


def test_many_sessions_leave_nothing_behind(loop, pinned):
    with group_of(loop, pin_buffers=pinned, match="anywhere") as (group, config):
        for number in range(300):
            driven = Driven(group, config, loop, Wire([None, 0, 5]))
            driven.read(b"x" * number + (b"\0y" if number % 3 == 0 else b""))
            if number % 5 == 0:
                driven.lose(ConnectionResetError())
            else:
                driven.until_reading([None])
                driven.eof()
                driven.finish()
        stats = group.stats()
        assert stats["accepted"] == 300
        assert (group.count, stats["active"], stats["buffers_in_use"]) == (0, 0, 0)
        assert sum(stats["ends"].values()) == 300
