"""When bytes may be sent, and how many at once: coalesce, latency, slice, bandwidth. Without I/O: the time is an
argument.

    feed ─► coalesce ─► DelayLine (latency) ─► slice ─► bandwidth ─► next

A piece is cut when it is due, not beforehand: `slice(1)` of 8 MiB is one chunk and a cursor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ._armed import Chosen

__all__ = ["PACING", "Pacing"]

PACING = frozenset({"coalesce", "slice", "latency", "bandwidth"})
_ENTRY = 256  # bytes of memory that a chunk needs in the delay line, besides its own
_QUANTUM = 0.005  # seconds: a bucket waits for as many bytes, so that it does not wake up for each byte
_MOST_WAITING = 262144  # queued bytes; with more, reading stops
_MOST_DELAYED = 64 << 20  # bytes of memory for what `latency` delays


class DelayLine:
    """Delays a stream and keeps its order. The throughput is that of the input: bytes are delayed side by side.

    Args:
        delays: each is called for every piece and returns seconds; their sum is the delay of the piece.
    """

    def __init__(self, delays: Sequence[Callable[[], float]]) -> None:
        self._delays = delays
        self._chunks: deque[tuple[float, memoryview]] = deque()
        self._bytes = 0
        self._ended_at: float | None = None
        self._due_at = 0.0
        self._is_drawn = False

    @property
    def size(self) -> int:
        """The memory in use, in bytes."""
        return self._bytes + _ENTRY * len(self._chunks)

    @property
    def empty(self) -> bool:
        """Whether everything was taken out, the end too."""
        return not self._chunks and self._ended_at is None

    def put(self, data: bytes, now: float) -> None:
        self._chunks.append((now, memoryview(data)))
        self._bytes += len(data)

    def put_end(self, now: float) -> None:
        """The stream ends here. The line is not empty until the end is due."""
        self._ended_at = now

    def due_at(self) -> float | None:
        """When the next piece is due; None if there is none. The time never goes back, so that jitter keeps the
        order."""
        return self._draw(self._chunks[0][0]) if self._chunks else None

    def cut(self, most: int) -> memoryview:
        """Take out the next piece, of one chunk and `most` bytes at most."""
        arrived, chunk = self._chunks.popleft()
        if most < len(chunk):
            self._chunks.appendleft((arrived, chunk[most:]))
            chunk = chunk[:most]
        self._bytes -= len(chunk)
        self._is_drawn = False
        return chunk

    def wait_for_end(self, now: float) -> float | None:
        """After the last piece: seconds until the end is due; None without an end, or when it is due."""
        if self._ended_at is None:
            return None
        wait = self._draw(self._ended_at) - now
        if wait <= 0:
            self._ended_at = None
        return wait if wait > 0 else None

    def clear(self) -> None:
        """Discard the contents."""
        self._chunks.clear()
        self._bytes = 0
        self._ended_at = None

    def _draw(self, arrived: float) -> float:
        """When the piece that has `arrived` then is due. The delay is drawn once for each piece."""
        if not self._is_drawn:
            self._is_drawn = True
            self._due_at = max(self._due_at, arrived + sum(delay() for delay in self._delays))
        return self._due_at


class _Slices:
    def __init__(self, chosen: Chosen) -> None:
        self._sizes: tuple[int, ...] = chosen.fault.get("sizes")
        self._interval: float = chosen.fault.get("interval")
        self._turn = 0
        self.left = self._sizes[0]
        self.not_before = 0.0

    def sent(self, count: int, now: float) -> None:
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
    """A token bucket: it holds `burst` bytes and begins full. With `whole`, a piece is cut only if it is larger than
    `burst`."""

    def __init__(self, chosen: Chosen, whole: bool) -> None:
        self._rate: float = chosen.fault.get("bytes_per_s")
        self._burst: int = chosen.fault.get("burst")
        self._least = self._burst if whole else max(1, min(self._burst, int(self._rate * _QUANTUM)))
        self._tokens = float(self._burst)
        self._at = 0.0

    def allowed(self, now: float, wanted: int) -> int:
        """How many bytes may be sent, `wanted` at most; 0 while there are too few for a send."""
        if self._at:
            self._tokens = min(float(self._burst), self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        tokens = int(self._tokens + 1e-9)
        return min(tokens, wanted) if tokens >= min(wanted, self._least) else 0

    def wait(self, wanted: int) -> float:
        """Seconds until `allowed` returns more than 0."""
        missing: float = min(wanted, self._least) - self._tokens
        return max(missing / self._rate, 1e-4)

    def sent(self, count: int) -> None:
        self._tokens -= count


class Pacing:
    """The queue of one connection. Each chunk that is fed becomes one send, unless a fault cuts it."""

    def __init__(self, chosen: Sequence[Chosen]) -> None:
        def of(kind: str) -> list[Chosen]:
            return [each for each in chosen if each.fault.kind == kind]

        self._coalesced: list[tuple[int, bytearray]] = [(each.fault.get("n"), bytearray()) for each in of("coalesce")]
        self._slices = [_Slices(each) for each in of("slice")]
        self._buckets = [_Bucket(each, bool(self._slices or self._coalesced)) for each in of("bandwidth")]
        self._line = DelayLine([_Latency(each).draw for each in of("latency")])
        self._head: memoryview | None = None
        self.queued = 0
        """Bytes that may be sent when they are due; without those that `coalesce` holds back."""

    @property
    def empty(self) -> bool:
        """Whether nothing is left to send (except what `coalesce` holds back), and the end may be sent."""
        return self._head is None and self._line.empty

    def is_full(self, now: float) -> bool:
        """Whether so much is queued that reading must stop. Delayed bytes have a higher limit: a low one would limit
        the throughput."""
        if self._line.size > _MOST_DELAYED:
            return True
        return self.queued > _MOST_WAITING and (self._head is not None or self._is_due(now))

    def feed(self, data: bytes, now: float) -> None:
        self._enter([data], now, 0)

    def end_stream(self, now: float) -> None:
        """The stream ends: what is held back is due as it is."""
        for index, (_, held) in enumerate(self._coalesced):
            rest = bytes(held)
            held.clear()
            if rest:
                self._enter([rest], now, index + 1)
        self._line.put_end(now)

    def _enter(self, chunks: list[bytes], now: float, stage: int) -> None:
        for size, held in self._coalesced[stage:]:
            whole_chunks: list[bytes] = []
            for chunk in chunks:
                held += chunk
                whole = len(held) - len(held) % size
                if whole:
                    view = bytes(memoryview(held)[:whole])
                    whole_chunks += [view[at : at + size] for at in range(0, whole, size)]
                    del held[:whole]
            chunks = whole_chunks
        for chunk in chunks:
            if chunk:
                self.queued += len(chunk)
                self._line.put(chunk, now)

    def next(self, now: float) -> memoryview | float | None:
        """The piece that may be sent now, or the seconds until one may be, or None where nothing is queued."""
        if self._head is None:
            due_at = self._line.due_at()
            if due_at is None:
                return self._line.wait_for_end(now)
            due_at = max([due_at, *(each.not_before for each in self._slices)])
            if due_at > now:
                return due_at - now
            self._head = self._cut(now)
        room = len(self._head)
        for bucket in self._buckets:
            wanted, room = room, bucket.allowed(now, room)
            if not room:
                return bucket.wait(wanted)
        return self._head[:room]

    def _is_due(self, now: float) -> bool:
        due_at = self._line.due_at()
        return due_at is not None and due_at <= now

    def _cut(self, now: float) -> memoryview:
        """The next piece: a chunk as it was fed, or a slice of the chunks that are due."""
        if not self._slices:
            return self._line.cut(self.queued)
        missing = min(each.left for each in self._slices)
        parts = []
        while missing and self._is_due(now):
            parts.append(self._line.cut(missing))
            missing -= len(parts[-1])
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def sent(self, count: int, now: float) -> None:
        """`count` bytes of the piece that `next` returned are sent."""
        assert self._head is not None
        self.queued -= count
        self._head = self._head[count:] if count < len(self._head) else None
        for bucket in self._buckets:
            bucket.sent(count)
        for each in self._slices:
            each.sent(count, now)

    def clear(self) -> None:
        """Discard what is queued."""
        self._line.clear()
        self._head = None
        self.queued = 0
        for _, held in self._coalesced:
            held.clear()
