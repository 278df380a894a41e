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


def streams(terminator: bytes | None, most: int = 24) -> st.SearchStrategy[bytes]:
    """Bytes made of the terminator's own pieces and of noise, so that near misses are common.

    Two drawn bytes make one piece: a single draw is quick, and shrinks well.
    """
    value = terminator or b"ab\0"

    def piece(kind: int, size: int) -> bytes:
        at = size % (len(value) + 1)
        noise = bytes([b"ab\0"[size % 3]]) * (1 + size // 64)
        # Without a terminator the whole value is as good as any noise.
        kinds = [value[:at], value[at:], value, value[: at // 2] + value, value[:at] + value]
        kinds += [noise, bytes([size]), b"x" * (5 * size)]
        return kinds[kind % len(kinds)]

    def stream(program: bytes) -> bytes:
        return b"".join(piece(*program[at : at + 2]) for at in range(0, len(program) - 1, 2))

    return st.binary(max_size=2 * most).map(stream)


def sizes(capacity: int) -> st.SearchStrategy[list[int]]:
    """Sizes of the reads: whole, one at a time, around capacity, or anything."""
    return st.one_of(
        st.sampled_from([[1 << 20], [1], [capacity - 1], [capacity], [capacity + 1], [1, capacity]]),
        st.lists(st.integers(1, 70), min_size=1, max_size=6),
        st.lists(st.integers(1, 2 * capacity), min_size=1, max_size=4),
    )
