"""The triggers of faults that end or stop a connection: at once, after bytes sent or received, or on a pattern."""

from __future__ import annotations

from collections.abc import Sequence

from .._buffer import Terminator
from ._armed import Chosen

__all__ = ["ENDS", "Triggers"]

ENDS = frozenset({"reset", "close", "abort", "half_close", "stall", "stop_reading"})
_LONGEST = 64  # of a Terminator


class _Count:
    """Reached after `count` bytes."""

    def __init__(self, count: int) -> None:
        self._left = count

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` come before the trigger, if it is reached; else -1."""
        if len(data) >= self._left:
            return self._left
        self._left -= len(data)
        return -1


class _Pattern:
    """Reached with the last byte of the first occurrence; for a pattern that is too long for a Terminator."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._tail = b""

    def feed(self, data: bytes) -> int:
        known = len(self._tail)
        stream = self._tail + data
        at = stream.find(self._value)
        if at >= 0:
            return at + len(self._value) - known
        self._tail = stream[-(len(self._value) - 1) :]
        return -1


class Triggers:
    """The triggers of the faults `chosen`.

    Attributes:
        at_once: faults without a trigger.
        limit: sent bytes at which the next `after_sent` is reached, or None.
    """

    def __init__(self, chosen: Sequence[Chosen]) -> None:
        self.at_once: list[Chosen] = []
        self._out: list[tuple[int, Chosen]] = []
        self._in: list[tuple[_Count | _Pattern | Terminator, Chosen]] = []
        for each in chosen:
            fault = each.fault
            if fault.kind not in ENDS:
                continue
            pattern = fault.get("on")
            if fault.get("after_sent") is not None:
                self._out.append((fault.get("after_sent"), each))
            elif fault.get("after_received") is not None:
                self._in.append((_Count(fault.get("after_received")), each))
            elif pattern is None:
                self.at_once.append(each)
            else:
                short = len(pattern) <= _LONGEST
                self._in.append((Terminator(pattern, "anywhere") if short else _Pattern(pattern), each))
        self._out.sort(key=lambda pair: pair[0])

    @property
    def limit(self) -> int | None:
        return self._out[0][0] if self._out else None

    def pop_limit(self) -> Chosen:
        """The fault whose limit is reached."""
        return self._out.pop(0)[1]

    def feed(self, data: bytes) -> tuple[int, list[Chosen]]:
        """The next received bytes: how many of them come before the first trigger that is reached (all, if none is),
        and the faults of that trigger. Later triggers are void: each of these faults stops reading or answering."""
        if not self._in:
            return len(data), []
        reached = [(at, each) for trigger, each in self._in if (at := trigger.feed(data)) >= 0]
        if not reached:
            return len(data), []
        self._in = []
        first = min(at for at, _ in reached)
        return first, [each for at, each in reached if at == first]
