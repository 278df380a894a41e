"""Over a socket: the same bytes give the same answer and the same log, however they are cut."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastecho.faults import Fault
from faulty_harness import Host, read_all
from faulty_model import cut, edited
from patience import wait_until

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}

offsets = st.integers(0, 14)
counts = st.integers(1, 4)
triggers = st.one_of(
    st.builds(lambda n: {"after_sent": n}, offsets),
    st.builds(lambda n: {"after_received": n}, offsets),
    st.builds(lambda on: {"on": on}, st.binary(min_size=1, max_size=2)),
)
ends = st.builds(
    lambda make, trigger: make(**trigger), st.sampled_from([Fault.reset, Fault.close, Fault.half_close]), triggers
)
others = st.one_of(
    st.builds(Fault.corrupt, offsets),
    st.builds(Fault.drop, offsets, counts),
    st.builds(Fault.duplicate, offsets, counts),
    st.builds(Fault.inject, offsets, st.binary(min_size=1, max_size=3)),
    st.builds(Fault.coalesce, st.integers(1, 5)),
    st.builds(Fault.slice, st.integers(1, 5)),
)
few = st.sampled_from([0, 1])
streams = st.lists(few, max_size=14).map(bytes)
"""Two values only: so that a pattern is found now and then."""


def talk(server, pieces):
    """Send the pieces, each once the one before was read; what came back, and the log."""
    sock = server.connect()
    seen, sent = server.session(), 0
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        for piece in pieces:
            sock.sendall(piece)
            sent += len(piece)
            wait_until(functools.partial(read_or_over, seen, sent), "it is read")
        sock.shutdown(socket.SHUT_WR)
    got, _ = read_all(sock)
    sock.close()
    return got, server.closed().log


def read_or_over(seen, count):
    ended = any(line[0].startswith(("reset", "close", "half_close")) for line in list(seen.log))
    return ended or seen.ended.is_set() or len(seen.received) >= count


@pytest.mark.parametrize("name", LOOPS)
def test_the_cuts_change_nothing(name):
    @settings(max_examples=60)
    @given(streams, st.lists(ends, max_size=2), st.lists(others, max_size=4), st.lists(st.integers(1, 4), max_size=6))
    @example(b"\0" * 14, [Fault.reset(after_received=9), Fault.close(after_sent=7)], [Fault.coalesce(4)], [3, 3])
    def check(data, ends, others, cuts):
        faults = [*ends, *others]
        with Host(LOOPS[name], "; ".join(map(str, faults)) or "none") as server:
            whole = talk(server, [data] if data else [])
            server.accepted = 0
            assert talk(server, cut(data, cuts)) == whole
            if not ends:
                assert whole[0] == edited(data, others)

    check()
