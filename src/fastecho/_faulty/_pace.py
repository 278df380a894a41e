"""When bytes may go, and how many at once: coalesce, slice, latency, rate. Pure: the time is given.

The pieces are cut when they are asked for, not beforehand: `slice(1)` of 8 MiB is one chunk and a cursor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ._armory import Chosen

__all__ = ["PACING", "Pace"]

PACING = frozenset({"coalesce", "slice", "latency", "rate"})
_QUANTUM = 0.005  # seconds of its rate that a bucket waits for, so that it need not wake for each byte


class _Slices:
    def __init__(self, chosen: Chosen) -> None:
        self._sizes: tuple[int, ...] = chosen.fault.get("sizes")
        self._interval: float = chosen.fault.get("interval")
        self._turn = 0
        self.left = self._sizes[0]
        self.not_before = 0.0

    def took(self, count: int, now: float) -> None:
        self.left -= count
        if self.left == 0:
            self._turn = (self._turn + 1) % len(self._sizes)
            self.left = self._sizes[self._turn]
            self.not_before = now + self._interval


class _Latency:
    def __init__(self, chosen: Chosen) -> None:
        self._mean: float = chosen.fault.get("mean")
        self._jitter: float = chosen.fault.get("jitter")
        self._random = chosen.random

    def draw(self) -> float:
        if not self._jitter:
            return self._mean
        return max(0.0, self._mean + self._random.uniform(-self._jitter, self._jitter))


class _Bucket:
    """A token bucket: it holds `burst` bytes and begins full."""

    def __init__(self, chosen: Chosen) -> None:
        self._rate: float = chosen.fault.get("bytes_per_s")
        self._burst: int = chosen.fault.get("burst")
        self._quantum = max(1, min(self._burst, int(self._rate * _QUANTUM)))
        self._tokens = float(self._burst)
        self._at = 0.0

    def room(self, now: float, wanted: int) -> int:
        """How many bytes may go, `wanted` at most; 0 while that is not worth a send."""
        if self._at:
            self._tokens = min(float(self._burst), self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        tokens = int(self._tokens + 1e-9)
        return min(tokens, wanted) if tokens >= min(wanted, self._quantum) else 0

    def wait(self, wanted: int) -> float:
        """Seconds until it is worth to look again."""
        missing: float = min(wanted, self._quantum) - self._tokens
        return max(missing / self._rate, 1e-4)

    def took(self, count: int) -> None:
        self._tokens -= count


class Pace:
    """The queue of what is due to the peer. Each chunk that is fed is a send of its own, unless it is cut."""

    def __init__(self, chosen: Sequence[Chosen]) -> None:
        def of(kind: str) -> list[Chosen]:
            return [each for each in chosen if each.fault.kind == kind]

        self._coalesced: list[tuple[int, bytearray]] = [(each.fault.get("n"), bytearray()) for each in of("coalesce")]
        self._slices = [_Slices(each) for each in of("slice")]
        self._latencies = [_Latency(each) for each in of("latency")]
        self._buckets = [_Bucket(each) for each in of("rate")]
        self._queue: deque[tuple[float, memoryview]] = deque()
        self._head: memoryview | None = None
        self._due = 0.0
        self.queued = 0
        """Bytes that may go when their time has come. What `coalesce` holds back is not among them: more must come."""

    def feed(self, data: bytes, now: float) -> None:
        self._enter([data], now, 0)

    def finish(self, now: float) -> None:
        """No more comes: what is held back goes as it is."""
        for index, (_, held) in enumerate(self._coalesced):
            rest = bytes(held)
            held.clear()
            if rest:
                self._enter([rest], now, index + 1)

    def _enter(self, chunks: list[bytes], now: float, stage: int) -> None:
        for size, held in self._coalesced[stage:]:
            gathered: list[bytes] = []
            for chunk in chunks:
                held += chunk
                whole = len(held) - len(held) % size
                if whole:
                    view = bytes(memoryview(held)[:whole])
                    gathered += [view[at : at + size] for at in range(0, whole, size)]
                    del held[:whole]
            chunks = gathered
        for chunk in chunks:
            if chunk:
                self.queued += len(chunk)
                self._queue.append((now, memoryview(chunk)))

    def next(self, now: float) -> memoryview | float | None:
        """What may be sent now, or the seconds until something may, or None where nothing is queued."""
        if self._head is None:
            if not self._queue:
                return None
            self._cut_head()
        assert self._head is not None
        if self._due > now:
            return self._due - now
        room = len(self._head)
        for bucket in self._buckets:
            wanted, room = room, bucket.room(now, room)
            if not room:
                return bucket.wait(wanted)
        return self._head[:room]

    def _cut_head(self) -> None:
        arrived, chunk = self._queue.popleft()
        size = min([len(chunk), *(each.left for each in self._slices)])
        if size < len(chunk):
            self._queue.appendleft((arrived, chunk[size:]))
        self._head = chunk[:size]
        arrived += sum(each.draw() for each in self._latencies)
        self._due = max([self._due, arrived, *(each.not_before for each in self._slices)])

    def took(self, count: int, now: float) -> None:
        """`count` bytes of what `next` gave are sent."""
        assert self._head is not None
        self.queued -= count
        self._head = self._head[count:] if count < len(self._head) else None
        for bucket in self._buckets:
            bucket.took(count)
        for each in self._slices:
            each.took(count, now)

    def clear(self) -> None:
        """Forget what is queued."""
        self._queue.clear()
        self._head = None
        self.queued = 0
        for _, held in self._coalesced:
            held.clear()
