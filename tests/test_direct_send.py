"""send(2) past the transport: a session on one end of a socket pair, its transport watched.
hazards 13, 14 and 15 (docs/hazards.md).
"""

import contextlib
import socket

import pytest

from driven import Driven, Wire
from fastecho import ServerConfig
from fastecho._session import Sessions


@contextlib.contextmanager
def direct(loop, **options):
    """group, session on a real descriptor, the peer's end."""
    config = ServerConfig(**{"terminator": None, "buffers": 2, **options})
    group = Sessions(config, loop, direct=True)
    mine, peer = socket.socketpair()
    try:
        mine.setblocking(False)
        peer.settimeout(5)
        wire = Wire(extra={"socket": mine})
        yield group, Driven(group, config, loop, wire), mine, peer
    finally:
        group.close()
        mine.close()
        peer.close()


def received(peer):
    peer.setblocking(False)
    got = bytearray()
    with contextlib.suppress(BlockingIOError):
        while part := peer.recv(1 << 16):
            got += part
    return bytes(got)


def test_the_bytes_go_past_the_transport(loop, pinned):
    with direct(loop, pin_buffers=pinned) as (group, driven, _, peer):
        driven.read(b"hello")
        assert received(peer) == b"hello"
        assert driven.wire.writes == 0, "a socket that takes all was served through the transport"
        assert group.stats()["bytes_out"] == 5
        driven.lose(None)
        assert not driven.wire.violations


def test_what_send_leaves_goes_through_the_transport(loop, pinned):
    with direct(loop, pin_buffers=pinned, buffer_size=1 << 20) as (group, driven, mine, peer):
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        driven.wire.takes = [0]
        data = bytes(range(256)) * 4096
        driven.read(data)
        sent = received(peer)
        queued = b"".join(map(bytes, driven.wire.queue))
        assert 0 < len(sent) < len(data)
        assert sent + queued == data
        assert driven.wire.reading_paused
        assert group.stats()["buffers_in_use"] == 1
        driven.lose(None)
        assert group.stats()["buffers_in_use"] == 0


def test_never_ahead_of_what_the_transport_has_queued(loop, pinned):
    """Hazard 13: a send(2) while bytes are queued would reorder the stream."""
    with direct(loop, pin_buffers=pinned, buffer_size=4096) as (_, driven, mine, peer):
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        driven.wire.takes = [0]
        while not driven.wire.queue:
            driven.read(b"a" * 4096)
        first = received(peer)
        # The socket has room again, the transport has not flushed: the next read must queue behind.
        view = driven.buffer()
        view[:1] = b"b"
        driven.session.buffer_updated(1)
        assert b"b" not in received(peer)
        driven.wire.flush()
        driven.until_reading([None])
        assert not received(peer)
        assert set(first) == {ord("a")}
        assert driven.wire.sent.endswith(b"ab")
        driven.lose(None)


@pytest.mark.parametrize("terminator", [None, b"\0"], ids=repr)
def test_a_peer_that_is_gone(loop, pinned, terminator):
    """Hazard 15: EPIPE from send(2) is not known to the loop: abort, count a reset, raise nothing."""
    with direct(loop, pin_buffers=pinned, terminator=terminator) as (group, driven, _, peer):
        peer.close()
        driven.read(b"x\0")
        assert driven.wire.aborted
        driven.lose_if_flushed()
        assert group.stats()["ends"]["reset"] == 1
        assert (group.count, group.stats()["buffers_in_use"]) == (0, 0)
        assert not driven.wire.violations


def test_a_descriptor_is_forgotten_when_the_connection_is_lost(loop, pinned):
    """Hazard 14: the number is the next connection's; nothing of this session may reach it."""
    with direct(loop, pin_buffers=pinned) as (group, driven, mine, _):
        driven.read(b"x")
        number = mine.fileno()
        driven.lose(None)
        mine.close()
        stranger, watcher = socket.socketpair()
        try:
            if number not in (stranger.fileno(), watcher.fileno()):
                pytest.skip("the descriptor was not reused")
            group.sweep(1e9)
            driven.turn(2)
            assert received(watcher if stranger.fileno() == number else stranger) == b""
            assert not driven.wire.violations
        finally:
            stranger.close()
            watcher.close()


def test_a_terminator_at_the_end_of_a_direct_send(loop, pinned):
    with direct(loop, pin_buffers=pinned, terminator=b"\0") as (group, driven, _, peer):
        driven.read(b"abc\0")
        driven.turn(2)
        assert received(peer) == b"abc\0"
        assert peer.recv(1) == b"", "no FIN behind the echo"
        assert not driven.wire.closing
        driven.eof()
        driven.finish()
        assert group.stats()["ends"]["terminator"] == 1
        assert not driven.wire.violations
