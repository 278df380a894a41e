"""BufferPool: it grows and shrinks by slabs, one buffer is always ready, and no two sessions hold the same memory.

The tests hold buffers as the server does: a session with `pin_buffers` holds one from connection_made to
connection_lost.
"""

import asyncio
import ctypes
import gc
import itertools
import mmap

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastecho import ServerConfig
from fastecho._buffer import BufferPool
from fastecho._session import Sessions

PAGE = mmap.PAGESIZE


class Holder:
    """A session that holds one buffer."""

    def __init__(self, sessions):
        self.session = sessions.new_session()
        self.session.connection_made(asyncio.Transport())
        self.view = self.session.get_buffer(-1)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.view))

    def release(self):
        self.session.connection_lost(None)


@pytest.fixture
def make():
    """Sessions with a pool of `buffers` buffers of `size` bytes."""
    loop = asyncio.SelectorEventLoop()
    made = []

    def make(buffers, size):
        made.append(Sessions(ServerConfig(buffers=buffers, buffer_size=size, pin_buffers=True), loop))
        return made[-1]

    yield make
    for sessions in made:
        sessions.close()
    loop.close()


def test_the_pool_has_64_buffers_of_64_kib_by_default():
    pool = BufferPool()
    assert (pool.preallocated, pool.buffer_size) == (64, 65536)
    assert (pool.capacity, pool.in_use, pool.free, pool.slabs) == (64, 0, 64, 1)


def test_a_session_holds_writable_memory_of_the_full_size(make):
    sessions = make(4, 1000)
    holder = Holder(sessions)
    assert (holder.view.nbytes, holder.view.readonly) == (1000, False)
    holder.view[:] = b"\xaa" * 1000
    assert bytes(holder.view) == b"\xaa" * 1000
    assert sessions.pool.in_use == 1
    holder.release()
    assert sessions.pool.in_use == 0


@pytest.mark.parametrize("size", [PAGE, 4 * PAGE, 65536])
def test_buffers_are_page_aligned(make, size):
    sessions = make(3, size)
    assert all(Holder(sessions).address % PAGE == 0 for _ in range(10))


def test_the_buffer_released_last_is_acquired_next(make):
    sessions = make(8, 512)
    holders = [Holder(sessions) for _ in range(4)]
    addresses = [holder.address for holder in holders]
    for index in (1, 3, 0, 2):
        holders[index].release()
    again = [Holder(sessions) for _ in range(4)]
    assert [holder.address for holder in again] == [addresses[index] for index in (2, 0, 3, 1)]


def test_buffers_never_overlap(make):
    sessions = make(3, 700)
    holders = [Holder(sessions) for _ in range(20)]
    starts = sorted(holder.address for holder in holders)
    assert all(after - before >= 700 for before, after in itertools.pairwise(starts))
    for number, holder in enumerate(holders):
        holder.view[:] = bytes([number]) * 700
    assert all(bytes(holder.view) == bytes([number]) * 700 for number, holder in enumerate(holders))


def test_a_buffer_is_released_once_though_its_session_is_closed_twice(make):
    sessions = make(4, 512)
    first = Holder(sessions)
    first.release()
    sessions.close()
    assert (sessions.pool.in_use, sessions.pool.free) == (0, 4)


def test_a_view_outlives_the_pool(make):
    sessions = Sessions(ServerConfig(buffers=2, buffer_size=4096, pin_buffers=True), asyncio.SelectorEventLoop())
    sessions.loop.close()
    holder = Holder(sessions)
    view = holder.view
    holder.release()
    del sessions, holder
    gc.collect()
    view[:] = b"\x01" * 4096
    assert bytes(view) == b"\x01" * 4096


def test_one_buffer_is_always_ready(make):
    sessions = make(2, 512)
    for _ in range(50):
        Holder(sessions)
        assert sessions.pool.free >= 1


def test_the_pool_grows_by_whole_slabs(make):
    sessions = make(4, 4096)
    pool = sessions.pool
    seen = {1: pool.capacity}
    for _ in range(600):
        Holder(sessions)
        assert seen.setdefault(pool.slabs, pool.capacity) == pool.capacity, "capacity changed without a slab"
        assert pool.capacity == pool.in_use + pool.free
    assert len(seen) > 1


def test_empty_slabs_are_unmapped(make):
    sessions = make(4, 65536)
    pool = sessions.pool
    holders = [Holder(sessions) for _ in range(64)]
    assert pool.capacity > 64
    for holder in holders:
        holder.release()
    assert (pool.capacity, pool.slabs, pool.free) == (4, 1, 4)


@pytest.mark.parametrize("order", ["first to last", "last to first", "even, then odd"])
def test_empty_slabs_are_unmapped_in_each_order_of_release(make, order):
    sessions = make(4, 4096)
    holders = [Holder(sessions) for _ in range(33)]
    if order == "last to first":
        holders.reverse()
    elif order == "even, then odd":
        holders = holders[::2] + holders[1::2]
    for holder in holders:
        holder.release()
    assert (sessions.pool.capacity, sessions.pool.in_use) == (4, 0)


def test_an_empty_slab_is_unmapped_when_another_one_becomes_empty(make):
    sessions = make(16, 65536)
    pool = sessions.pool
    holders = [Holder(sessions) for _ in range(47)]
    assert (pool.capacity, pool.slabs) == (48, 3)
    for holder in holders[16:32]:
        holder.release()
    assert pool.slabs == 3, "few buffers are free beside it"
    for holder in holders[32:]:
        holder.release()
    assert (pool.capacity, pool.slabs, pool.in_use) == (32, 2, 16)


def test_one_buffer_more_and_less_at_the_edge_of_a_slab_does_not_map_each_time(make):
    sessions = make(4, 4096)
    pool = sessions.pool
    for _ in range(4):
        Holder(sessions)
    changes, before = 0, pool.slabs
    for _ in range(100):
        Holder(sessions).release()
        changes += pool.slabs != before
        before = pool.slabs
    assert changes <= 2


@pytest.mark.parametrize(
    "arguments", [(0, 512), (-1, 512), (4, 0), (4, -5), ("4", 512), (4, "512"), (4, 1 << 62), (1 << 62, 512)]
)
def test_a_pool_of_an_impossible_size_is_refused(arguments):
    with pytest.raises((ValueError, TypeError, OverflowError, MemoryError)):
        BufferPool(*arguments)


class PoolMachine(RuleBasedStateMachine):
    """Sessions begin and end in any order; everything is checked after each step."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.SelectorEventLoop()
        config = ServerConfig(buffers=2, buffer_size=300_000, pin_buffers=True)  # three buffers a slab
        self.sessions = Sessions(config, self.loop)
        self.pool = self.sessions.pool
        self.held = []

    def teardown(self):
        self.sessions.close()
        self.loop.close()

    @rule(pattern=st.integers(0, 255))
    def hold(self, pattern):
        holder = Holder(self.sessions)
        holder.view[:512] = bytes([pattern]) * 512
        self.held.append((holder, pattern))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        holder, pattern = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        assert bytes(holder.view[:512]) == bytes([pattern]) * 512
        holder.release()

    @precondition(lambda self: self.pool.free > 1)
    @rule()
    def the_last_is_the_next(self):
        first = Holder(self.sessions)
        first.release()
        second = Holder(self.sessions)
        assert second.address == first.address
        second.release()

    @rule()
    def release_all(self):
        while self.held:
            self.held.pop()[0].release()
        assert self.pool.capacity == self.pool.preallocated == 2

    @invariant()
    def the_counts_are_right(self):
        pool = self.pool
        assert pool.in_use == len(self.held)
        assert pool.capacity == pool.in_use + pool.free
        assert pool.capacity >= 2
        assert pool.free >= 1
        assert len({holder.address for holder, _ in self.held}) == len(self.held)

    @invariant()
    def nothing_is_overwritten(self):
        assert all(bytes(holder.view[:512]) == bytes([pattern]) * 512 for holder, pattern in self.held)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=50)
