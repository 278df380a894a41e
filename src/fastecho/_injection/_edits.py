"""Faults that change the bytes: corrupt, drop, duplicate, inject. Without I/O: pieces in, pieces out.

Offsets count the bytes of the stream as it was fed, before any edit, so a piece knows its offset in that stream. Edits
run in the order of the kinds above, and within a kind in the order of arming. Neither bytes nor marks depend on how
the stream is cut when it is fed: each edit has an offset, and what belongs right after a byte is emitted with that
byte, not with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from ._armed import Chosen

__all__ = ["Edits", "Mark", "Piece"]


class Mark(NamedTuple):
    """A fault takes effect here: at the byte after the mark, or (`gap`) between the bytes around it."""

    chosen: Chosen
    offset: int
    size: int
    gap: bool = False


class Piece(NamedTuple):
    """Some bytes, or a hole: bytes of the stream that were dropped, which later edits still count."""

    start: int
    data: bytes
    injected: bool = False  # not of the stream: comes before the byte at `start`
    marks: tuple[Mark, ...] = ()
    hole: int = 0

    def __bool__(self) -> bool:
        return bool(self.data) or self.hole > 0

    @property
    def stop(self) -> int:
        return self.start if self.injected else self.start + len(self.data) + self.hole

    def cut(self, at: int) -> tuple[Piece, Piece]:
        """The parts before and from the offset `at`; either may be empty. The marks are at the front."""
        if at <= self.start:
            return Piece(self.start, b""), self
        length = min(at, self.stop) - self.start
        before = self._replace(data=self.data[:length], hole=min(self.hole, length))
        return before, Piece(self.start + length, self.data[length:], hole=self.hole - before.hole)


class Edit(Protocol):
    """One fault, applied to the pieces of a stream."""

    def run(self, pieces: Iterable[Piece], passed: int, ended: bool) -> Iterator[Piece]:
        """The pieces with the fault applied.

        Args:
            passed: bytes of the stream that were fed, those of `pieces` included.
            ended: no more bytes follow.
        """


class _At:
    """The offset of a fault, and its mark."""

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen
        self.at: int = chosen.fault.get("at")
        self.done = False

    def mark(self, count: int, gap: bool = False) -> tuple[Mark, ...]:
        """The mark of this fault; empty after the first call."""
        if self.done:
            return ()
        self.done = True
        return (Mark(self.chosen, self.at, count, gap),)


class Corrupt(_At):
    def run(self, pieces: Iterable[Piece], passed: int, ended: bool) -> Iterator[Piece]:
        for piece in pieces:
            if piece.injected or not piece.start <= self.at < piece.stop:
                yield piece
                continue
            before, rest = piece.cut(self.at)
            byte, after = rest.cut(self.at + 1)
            if before:
                yield before
            changed = bytes([byte.data[0] ^ self.chosen.fault.get("xor")])
            yield Piece(self.at, changed, False, byte.marks + self.mark(1))
            if after:
                yield after


class Drop(_At):
    def run(self, pieces: Iterable[Piece], passed: int, ended: bool) -> Iterator[Piece]:
        count: int = self.chosen.fault.get("count")
        for piece in pieces:
            if piece.injected or piece.hole or piece.stop <= self.at or piece.start >= self.at + count:
                yield piece
                continue
            before, rest = piece.cut(self.at)
            dropped, after = rest.cut(self.at + count)
            if before:
                yield before
            yield Piece(dropped.start, b"", False, self.mark(count, gap=True), len(dropped.data))
            if after:
                yield after


class Duplicate(_At):
    def __init__(self, chosen: Chosen) -> None:
        super().__init__(chosen)
        self._end: int = self.at + chosen.fault.get("count")
        self._span: list[Piece] = []

    def run(self, pieces: Iterable[Piece], passed: int, ended: bool) -> Iterator[Piece]:
        for piece in pieces:
            if piece.start >= self._end:
                yield from self._again()
            if piece.injected or self.done or piece.stop <= self.at or piece.start >= self._end:
                yield piece
                continue
            before, rest = piece.cut(self.at)
            span, after = rest.cut(self._end)
            if before:
                yield before
            if span.data:
                self._span.append(Piece(span.start, span.data))
            yield span
            if after:
                yield from self._again()
                yield after
        if passed >= self._end or ended:
            yield from self._again()

    def _again(self) -> Iterator[Piece]:
        for each in self._span:
            yield each._replace(marks=self.mark(self._end - self.at))
        self._span.clear()


class Inject(_At):
    def run(self, pieces: Iterable[Piece], passed: int, ended: bool) -> Iterator[Piece]:
        for piece in pieces:
            if not self.done:
                if piece.start > self.at or (piece.start == self.at and not piece.injected):
                    yield self._data()
                elif not piece.injected and self.at < piece.stop:
                    before, piece = piece.cut(self.at)
                    yield before
                    yield self._data()
            yield piece
        if not self.done and passed >= self.at:
            yield self._data()

    def _data(self) -> Piece:
        data: bytes = self.chosen.fault.get("data")
        return Piece(self.at, data, True, self.mark(len(data)))


_KINDS: dict[str, Callable[[Chosen], Edit]] = {
    "corrupt": Corrupt,
    "drop": Drop,
    "duplicate": Duplicate,
    "inject": Inject,
}


class Edits:
    """The edits of one connection, in order."""

    def __init__(self, chosen: Sequence[Chosen]) -> None:
        self._edits = [make(each) for kind, make in _KINDS.items() for each in chosen if each.fault.kind == kind]
        self._passed = 0

    def feed(self, data: bytes, ended: bool = False) -> list[Piece]:
        """The pieces for the next bytes of the stream. Without bytes: the pieces that are due by now."""
        start, self._passed = self._passed, self._passed + len(data)
        pieces: Iterable[Piece] = [Piece(start, data)] if data else []
        for edit in self._edits:
            pieces = edit.run(pieces, self._passed, ended)
        return list(pieces)
