"""The message of a failed `assert_received`: where two byte strings differ first. It stays short for long strings.

difflib compares the rows of a hex dump around the first difference. (For whole strings its time is quadratic.)
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

__all__ = ["difference", "plural"]

_ROW = 16
_ROWS_BEFORE, _ROWS = 1, 4
Pieces = Sequence[tuple[int, int, float]]
"""Offset, size and time of each read, or of each send."""


def difference(expected: bytes, got: bytes, chunks: Pieces = (), truncated: bool = False) -> str:
    """Where `got` first differs from `expected`, as text; empty if it does not.

    Args:
        chunks: the reads that brought `got`, in order.
        truncated: more bytes than `got` were received, and were not recorded.
    """
    at = _first_difference(expected, got)
    if at == len(expected) == len(got) and not truncated:
        return ""
    lines = [_headline(expected, got, at, truncated)]
    if at < max(len(expected), len(got)):
        lines.append("  - expected, + received:")
        lines += [f"  {line.rstrip()}" for line in difflib.ndiff(_rows(expected, at), _rows(got, at))]
    near = _near(chunks, at)
    if near:
        lines.append(near)
    return "\n".join(lines)


def _first_difference(one: bytes, other: bytes) -> int:
    """The length of the common prefix, by bisection: comparing slices is a thousand times as fast as a loop."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _headline(expected: bytes, got: bytes, at: int, truncated: bool) -> str:
    if at == len(got) and truncated:
        return (
            f"the record ends after {_bytes(len(got))} (record_limit), which agree with what is expected; more came, "
            f"and {_bytes(len(expected))} in all were expected"
        )
    if at == len(got):
        if not got:
            return f"nothing came, where {_bytes(len(expected))} were expected"
        missing = _bytes(len(expected) - len(got))
        return f"{missing} missing: the {len(got):,} that came are the beginning of the {len(expected):,} expected"
    if at == len(expected):
        extra = f"{_bytes(len(got) - len(expected))} too many"
        if not expected:
            return f"{extra}: nothing was expected"
        return f"{extra}: the {len(expected):,} expected are the beginning of the {len(got):,} that came"
    return (
        f"first difference at offset {at}: 0x{got[at]:02x} where 0x{expected[at]:02x} was expected "
        f"({len(got):,} came, {len(expected):,} expected)"
    )


def plural(count: int, noun: str) -> str:
    """The form of `noun` for `count` of them."""
    return noun if count == 1 else f"{noun}s"


def _bytes(count: int) -> str:
    return f"{count:,} {plural(count, 'byte')}"


def _rows(data: bytes, at: int) -> list[str]:
    """A hex dump of the rows around `at`."""
    first = max(at // _ROW - _ROWS_BEFORE, 0) * _ROW
    rows = []
    for offset in range(first, min(first + _ROWS * _ROW, len(data)), _ROW):
        piece = data[offset : offset + _ROW]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        rows.append(f"{offset:08x}  {piece.hex(' '):<{3 * _ROW - 1}}  |{text}|")
    return rows


def _near(chunks: Pieces, at: int) -> str:
    """The chunk that holds `at` (the last one, if none does), between its neighbours."""
    if not chunks:
        return ""
    low, high = 0, len(chunks) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if chunks[middle][0] <= at:
            low = middle
        else:
            high = middle - 1
    shown = []
    for index in range(max(low - 1, 0), min(low + 2, len(chunks))):
        begin, size, _ = chunks[index]
        mark = " (here)" if begin <= at < begin + size else ""
        shown.append(f"#{index} at {begin}, {_bytes(size)}{mark}")
    border = ", a border between two" if at and chunks[low][0] == at else ""
    return f"  chunks near offset {at}{border}: {'; '.join(shown)} (of {len(chunks):,})"
