"""Where two byte strings differ, for the message of a failed assertion: short, however long they are."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["difference"]

_ROW = 16
_ROWS_BEFORE, _ROWS_AFTER = 1, 2
Pieces = Sequence[tuple[int, int, float]]
"""Offset, size and time of each read, or of each send."""


def difference(expected: bytes, got: bytes, chunks: Pieces = (), truncated: bool = False) -> str:
    """Say where `got` first differs from `expected`; empty when it does not.

    Args:
        chunks: how `got` came, in order of their offsets.
        truncated: more than `got` came, and was not recorded.
    """
    at = _first_difference(expected, got)
    if at == len(expected) == len(got) and not truncated:
        return ""
    lines = [_headline(expected, got, at, truncated)]
    if at < max(len(expected), len(got)):
        lines += ["  expected:", *_dump(expected, at), "  got:", *_dump(got, at)]
    near = _near(chunks, at)
    if near:
        lines.append(near)
    return "\n".join(lines)


def _first_difference(one: bytes, other: bytes) -> int:
    """The length of the common beginning; by halves, because slices compare a thousand times as fast as a loop."""
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


def _bytes(count: int) -> str:
    return f"{count:,} byte{'' if count == 1 else 's'}"


def _dump(data: bytes, at: int) -> list[str]:
    """The rows around `at`, and a mark under it."""
    if not data:
        return ["    (nothing)"]
    first = max(at // _ROW - _ROWS_BEFORE, 0)
    last = at // _ROW + _ROWS_AFTER
    lines = []
    for row in range(first, last + 1):
        piece = data[row * _ROW : (row + 1) * _ROW]
        if piece:
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
            lines.append(f"    {row * _ROW:08x}  {piece.hex(' '):<{3 * _ROW - 1}}  |{text}|")
        if row == at // _ROW:
            end = "" if at < len(data) else f" ends here, after {_bytes(len(data))}"
            lines.append(f"    {'':8}  {'   ' * (at % _ROW)}^^{end}")
    return lines


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
