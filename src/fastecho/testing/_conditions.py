"""What a test can wait for or assert, apart from how it waits.

A condition is looked at again after each event on the server. `check` gives the result once it holds, None while it may
still come, and raises AssertionError when it cannot come any more. `late` is the error when time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ._difference import difference
from ._notes import Notes, peer_name

if TYPE_CHECKING:
    from ._peer import Peer

T = TypeVar("T")
Wanted = int | bytes | Callable[[bytes], object]
Which = Callable[[], Sequence["Notes"]]


@dataclass(frozen=True, slots=True)
class Condition(Generic[T]):
    check: Callable[[], T | None]
    late: Callable[[], BaseException]
    when_idle: bool = False
    """Look only once nothing is under way: what is counted could still grow."""


def connections(peer: Peer, which: Which, count: int) -> Condition[bool]:
    if not isinstance(count, int):
        raise TypeError(f"{count!r}: must be a number of connections")

    def late() -> BaseException:
        made = _many(len(which()), "connection")
        return TimeoutError(f"{made} within {peer.timeout:g} s, not {count}{_list(which())}")

    return Condition(lambda: len(which()) >= count or None, late)


def exactly(peer: Peer, which: Which, count: int) -> Condition[bool]:
    if not isinstance(count, int):
        raise TypeError(f"{count!r}: must be a number of connections")

    def wrong() -> AssertionError:
        wanted = "none" if count == 0 else str(count)
        return AssertionError(f"{_many(len(which()), 'connection')} made, expected {wanted}{_list(which())}")

    def check() -> bool | None:
        if len(which()) > count:
            raise wrong()
        return len(which()) == count or None

    return Condition(check, wrong)


def received(peer: Peer, which: Which, wanted: Wanted) -> Condition[bytes]:
    if isinstance(wanted, str):
        raise TypeError(f"{wanted!r}: must be bytes, a number of bytes, or a function of bytes, not str")

    def check() -> bytes | None:
        if isinstance(wanted, int):
            return _received(which()) if _total(which()) >= wanted else None
        data = _received(which())
        holds = wanted in data if isinstance(wanted, (bytes, bytearray, memoryview)) else wanted(data)
        return data if holds else None

    def late() -> BaseException:
        if isinstance(wanted, int):
            what = f"{wanted} bytes"
        else:
            what = repr(wanted[:64]) if isinstance(wanted, bytes) else f"what {_name(wanted)} accepts"
        more = _limit(which())
        return TimeoutError(
            f"{what} not received within {peer.timeout:g} s: {_total(which())} bytes came, "
            f"ending in {_received(which())[-32:]!r}{more}{_list(which())}"
        )

    return Condition(check, late)


def received_exactly(peer: Peer, which: Which, expected: bytes) -> Condition[bool]:
    if not isinstance(expected, (bytes, bytearray, memoryview)):
        raise TypeError(f"{expected!r}: must be bytes, not {type(expected).__name__}")
    expected = bytes(expected)

    def wrong() -> AssertionError:
        notes = which()
        chunks = notes[0].record.chunks(0) if len(notes) == 1 else ()
        return AssertionError(difference(expected, _received(notes), chunks, any(n.record.truncated for n in notes)))

    def check() -> bool | None:
        data = _received(which())
        if _total(which()) > len(data):
            raise AssertionError(
                f"cannot compare: {_total(which())} bytes were received, and {len(data)} kept{_limit(which())}"
            )
        if data == expected:
            return True
        if expected.startswith(data):
            return None
        raise wrong()

    return Condition(check, wrong)


def sent_in(peer: Peer, which: Which, chunks: int) -> Condition[bool]:
    def check() -> bool:
        sizes = [size for notes in which() for _, size, _ in notes.record.chunks(1)]
        if len(sizes) != chunks:
            shown = ", ".join(map(str, sizes[:16])) + (", …" if len(sizes) > 16 else "")
            found = f"{_many(len(sizes), 'chunk')} ({shown} bytes)"
            raise AssertionError(f"sent in {found}, expected {chunks}{_limit(which())}")
        return True

    return Condition(check, lambda: TimeoutError(f"still sending after {peer.timeout:g} s"), when_idle=True)


def all_closed(peer: Peer, which: Which, error: type[Exception] = TimeoutError) -> Condition[bool]:
    def still_open() -> list[Notes]:
        return [notes for notes in which() if notes.closed_at is None]

    def late() -> BaseException:
        found = still_open()
        return error(f"{_many(len(found), 'connection')} still open after {peer.timeout:g} s{_list(found)}")

    return Condition(lambda: not still_open() or None, late)


def idle(peer: Peer) -> Condition[bool]:
    def late() -> BaseException:
        busy = [notes for notes in peer.notes if notes.closed_at is None]
        return TimeoutError(f"not idle within {peer.timeout:g} s{_list(busy)}")

    return Condition(lambda: True, late, when_idle=True)


def waits_for(notes: Notes) -> str:
    """One line for a connection that is still open: who it is, what went over it, whose turn it is."""
    turn = "its client has sent FIN" if notes.half_closed_at is not None else "its client has not closed it"
    if notes.due:
        turn = f"its client has not taken {notes.due} bytes that are due to it"
    return f"{_went(notes)}; {turn}"


def _total(which: Sequence[Notes]) -> int:
    return sum(notes.record.total(0) for notes in which)


def _received(which: Sequence[Notes]) -> bytes:
    return b"".join([notes.record.data(0) for notes in which])


def _limit(which: Sequence[Notes]) -> str:
    if not any(notes.record.truncated for notes in which):
        return ""
    kept = f"the first {which[0].record.limit} bytes of a connection"
    return f" (record_limit keeps {kept}; fastecho_record_limit in pytest's ini file)"


def _many(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _name(wanted: object) -> str:
    return str(getattr(wanted, "__name__", wanted))


def _list(which: Sequence[Notes]) -> str:
    shown = "".join(f"\n  {waits_for(notes) if notes.closed_at is None else _ended(notes)}" for notes in which[:10])
    return shown + (f"\n  and {len(which) - 10} more" if len(which) > 10 else "")


def _ended(notes: Notes) -> str:
    return f"{_went(notes)}; closed: {notes.cause}"


def _went(notes: Notes) -> str:
    went = f"{notes.record.total(0)} B in, {notes.record.total(1)} B out"
    return f"connection {notes.index} of {peer_name(notes.name)}: {went}"
