"""The buffer pool: lease and release, warm, at the edge of a slab, and against a fresh bytearray."""

from __future__ import annotations

import pytest

from fastecho._buffer import BufferPool


@pytest.mark.parametrize("held", [0, 32, 63, 64], ids=lambda held: f"{held} of 64 held")
def test_lease_and_release(benchmark, held):
    benchmark.group = "lease and release 64 KiB"
    pool = BufferPool(64, 65536)
    kept = [pool.lease() for _ in range(held)]

    def lease() -> None:
        pool.lease().release()

    benchmark(lease)
    assert pool.in_use == len(kept)


def test_fresh_bytearray(benchmark):
    benchmark.group = "lease and release 64 KiB"
    benchmark(bytearray, 65536)


def test_burst(benchmark):
    """A thousand stalled sessions come and go: fifteen slabs are mapped, and given back."""
    benchmark.group = "1000 leases, then 1000 releases"
    pool = BufferPool(64, 65536)

    def burst() -> None:
        for lease in [pool.lease() for _ in range(1000)]:
            lease.release()

    benchmark(burst)
    assert pool.capacity == pool.preallocated
