"""BufferPool: whole slabs, last-in first-out, one slot always ready, and memory that is never lent twice."""

import contextlib
import gc
import itertools
import mmap

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastecho._buffer import BufferPool

PAGE = mmap.PAGESIZE


def test_defaults():
    pool = BufferPool()
    assert (pool.preallocated, pool.buffer_size) == (64, 65536)
    assert (pool.capacity, pool.in_use, pool.free, pool.slabs) == (64, 0, 64, 1)


def test_a_lease_is_writable_memory_of_the_full_size():
    pool = BufferPool(4, 1000)
    with pool.lease() as lease:
        view = memoryview(lease)
        assert (view.nbytes, view.readonly, lease.size) == (1000, False, 1000)
        view[:] = b"\xaa" * 1000
        assert bytes(lease) == b"\xaa" * 1000
        view.release()
        assert pool.in_use == 1
    assert pool.in_use == 0


@pytest.mark.parametrize("size", [PAGE, 4 * PAGE, 65536])
def test_leases_are_page_aligned(size):
    pool = BufferPool(3, size)
    leases = [pool.lease() for _ in range(10)]
    assert all(lease.address % PAGE == 0 for lease in leases)


def test_the_slot_released_last_is_leased_next():
    pool = BufferPool(8, 512)
    leases = [pool.lease() for _ in range(4)]
    addresses = [lease.address for lease in leases]
    for index in (1, 3, 0, 2):
        leases[index].release()
    again = [pool.lease() for _ in range(4)]
    assert [lease.address for lease in again] == [addresses[index] for index in (2, 0, 3, 1)]


def test_leases_never_overlap():
    pool = BufferPool(3, 700)
    leases = [pool.lease() for _ in range(20)]
    starts = sorted(lease.address for lease in leases)
    assert all(after - before >= 700 for before, after in itertools.pairwise(starts))
    for number, lease in enumerate(leases):
        memoryview(lease)[:] = bytes([number]) * 700
    assert all(bytes(lease) == bytes([number]) * 700 for number, lease in enumerate(leases))


def test_releasing_twice_does_not_lend_the_slot_twice():
    pool = BufferPool(4, 512)
    lease = pool.lease()
    lease.release()
    with contextlib.suppress(ValueError):
        lease.release()
    assert (pool.in_use, pool.free) == (0, 4)
    first, second = pool.lease(), pool.lease()
    assert first.address != second.address


def test_a_released_lease_gives_no_more_memory():
    pool = BufferPool(4, 512)
    lease = pool.lease()
    lease.release()
    with pytest.raises((ValueError, BufferError)):
        memoryview(lease)


def test_releasing_while_a_view_is_alive_is_refused():
    pool = BufferPool(4, 512)
    lease = pool.lease()
    view = memoryview(lease)
    part = view[10:20]
    view.release()
    with pytest.raises(BufferError):
        lease.release()
    assert pool.in_use == 1
    part[:] = b"0123456789"
    assert bytes(part) == b"0123456789"
    part.release()
    lease.release()
    assert pool.in_use == 0


def test_a_collected_lease_goes_back():
    pool = BufferPool(4, 512)
    lease = pool.lease()
    del lease
    gc.collect()
    assert (pool.in_use, pool.free) == (0, 4)


def test_a_view_keeps_its_lease_from_being_collected():
    pool = BufferPool(4, 512)
    view = memoryview(pool.lease())
    gc.collect()
    assert pool.in_use == 1
    view[:] = b"\x55" * 512
    other = pool.lease()
    memoryview(other)[:] = b"\x00" * 512
    assert bytes(view) == b"\x55" * 512
    view.release()
    gc.collect()
    assert pool.in_use == 1


def test_memory_outlives_the_pool_while_it_is_leased():
    pool = BufferPool(2, 4096)
    lease = pool.lease()
    del pool
    gc.collect()
    memoryview(lease)[:] = b"\x01" * 4096
    assert bytes(lease) == b"\x01" * 4096


def test_one_slot_always_stands_ready():
    pool = BufferPool(2, 512)
    leases = []
    for _ in range(50):
        leases.append(pool.lease())
        assert pool.free >= 1


def test_growth_is_by_whole_slabs():
    pool = BufferPool(4, 4096)
    leases, seen = [], {1: pool.capacity}
    for _ in range(60):
        leases.append(pool.lease())
        assert seen.setdefault(pool.slabs, pool.capacity) == pool.capacity, "capacity changed without a slab"
        assert pool.capacity == pool.in_use + pool.free
    assert len(seen) > 1


def test_empty_slabs_are_given_back():
    pool = BufferPool(4, 65536)
    leases = [pool.lease() for _ in range(64)]
    assert pool.capacity > 64
    for lease in leases:
        lease.release()
    assert (pool.capacity, pool.slabs, pool.free) == (4, 1, 4)


def test_empty_slabs_are_given_back_in_whatever_order():
    for order in (slice(None), slice(None, None, -1), slice(0, None, 2)):
        pool = BufferPool(4, 4096)
        leases = [pool.lease() for _ in range(33)]
        for lease in leases[order]:
            lease.release()
        for lease in leases[1::2] if order.step == 2 else []:
            lease.release()
        assert (pool.capacity, pool.in_use) == (4, 0)


def test_lease_and_release_at_the_edge_does_not_thrash():
    """One buffer too many, again and again, must not map and unmap a slab each time."""
    pool = BufferPool(4, 4096)
    held = [pool.lease() for _ in range(4)]
    changes, before = 0, pool.slabs
    for _ in range(100):
        pool.lease().release()
        changes += pool.slabs != before
        before = pool.slabs
    assert changes <= 2
    del held


def test_limit():
    pool = BufferPool(4, 512, limit=6)
    leases = [pool.lease() for _ in range(6)]
    assert pool.capacity <= 6
    with pytest.raises(MemoryError):
        pool.lease()
    assert pool.in_use == 6
    leases.pop().release()
    leases.append(pool.lease())
    with pytest.raises(MemoryError):
        pool.lease()


def test_limit_of_the_preallocated():
    pool = BufferPool(2, 512, limit=2)
    leases = [pool.lease(), pool.lease()]
    assert (pool.capacity, pool.free) == (2, 0)
    with pytest.raises(MemoryError):
        pool.lease()
    leases[0].release()
    assert pool.free == 1


@pytest.mark.parametrize(
    "arguments", [(0, 512), (-1, 512), (4, 0), (4, -5), ("4", 512), (4, "512"), (4, 1 << 62), (1 << 62, 512)]
)
def test_bad_sizes(arguments):
    with pytest.raises((ValueError, TypeError, OverflowError, MemoryError)):
        BufferPool(*arguments)


class PoolMachine(RuleBasedStateMachine):
    """Lease and release in any order, and look at everything after each step."""

    def __init__(self):
        super().__init__()
        self.pool = BufferPool(3, 512, limit=20)
        self.held = []
        self.stack = []

    @rule(pattern=st.integers(0, 255))
    def lease(self, pattern):
        if len(self.held) == 20:
            with pytest.raises(MemoryError):
                self.pool.lease()
            return
        lease = self.pool.lease()
        memoryview(lease)[:] = bytes([pattern]) * 512
        self.held.append((lease, pattern))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        lease, pattern = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        assert bytes(lease) == bytes([pattern]) * 512
        lease.release()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def forget(self, data):
        self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))

    @precondition(lambda self: self.pool.free > 1)
    @rule()
    def the_last_is_the_next(self):
        lease = self.pool.lease()
        address = lease.address
        lease.release()
        lease = self.pool.lease()
        assert lease.address == address
        lease.release()

    @rule()
    def release_all(self):
        while self.held:
            self.held.pop()[0].release()
        assert self.pool.capacity == self.pool.preallocated == 3

    @invariant()
    def counts(self):
        pool = self.pool
        assert pool.in_use == len(self.held)
        assert pool.capacity == pool.in_use + pool.free
        assert 3 <= pool.capacity <= 20
        assert pool.free >= 1 or pool.capacity == 20
        assert len({lease.address for lease, _ in self.held}) == len(self.held)

    @invariant()
    def nothing_is_overwritten(self):
        assert all(bytes(lease) == bytes([pattern]) * 512 for lease, pattern in self.held)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=50)
