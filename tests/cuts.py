"""Ways to cut a stream into reads, and hypothesis strategies that hit the terminator's edges."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

# Each overlaps itself, so that a scan which restarts at the wrong place misses it.
OVERLAPPING = [b"aab", b"abab", b"aaab", b"abaab", b"aabaabaaab"]
OVERLAPPING += [b"ab" * 16 + b"aba", b"a" * 63 + b"b", b"a" * 64]
PLAIN = [b"\0", b"\r\n", b"\n", b"a", b"\0\0", b"\r\n.\r\n", bytes(range(64))]


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    """Pieces of the given sizes, in turn and over again, until the stream is used up."""
    pieces, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        pieces.append(stream[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def every_cut(stream: bytes, capacity: int) -> Iterator[list[bytes]]:
    """Whole, one at a time, at every single boundary, at capacity and at capacity + 1."""
    yield [stream]
    yield cut(stream, [1])
    for boundary in range(1, len(stream)):
        yield [stream[:boundary], stream[boundary:]]
    yield cut(stream, [capacity])
    yield cut(stream, [capacity + 1])


terminators = st.one_of(
    st.sampled_from(PLAIN + OVERLAPPING),
    st.binary(min_size=1, max_size=64),
    st.text("ab", min_size=1, max_size=64).map(str.encode),
    st.tuples(st.text("ab", min_size=1, max_size=4).map(str.encode), st.integers(1, 64)).map(
        lambda pair: (pair[0] * 64)[: pair[1]]
    ),
)
matches = st.sampled_from(["tail", "anywhere"])


@st.composite
def streams(draw: st.DrawFn, terminator: bytes | None, most: int = 24) -> bytes:
    """Bytes made of the terminator's own pieces and of noise, so that near misses are common."""
    value = terminator or b"\0"
    near = st.integers(0, len(value)).map(lambda n: value[:n])
    far = st.integers(0, len(value)).map(lambda n: value[n:])
    noise = st.one_of(st.text("ab\0", max_size=8).map(str.encode), st.binary(max_size=8))
    whole = st.just(value) if terminator else noise
    long = st.integers(1, 1100).map(lambda n: b"x" * n)
    return b"".join(draw(st.lists(st.one_of(near, near, far, noise, noise, whole, long), max_size=most)))


def sizes(capacity: int) -> st.SearchStrategy[list[int]]:
    """Sizes of the reads: whole, one at a time, around capacity, or anything."""
    return st.one_of(
        st.sampled_from([[1 << 20], [1], [capacity - 1], [capacity], [capacity + 1], [1, capacity]]),
        st.lists(st.integers(1, 70), min_size=1, max_size=6),
        st.lists(st.integers(1, 2 * capacity), min_size=1, max_size=4),
    )
