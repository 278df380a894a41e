"""What a test can wait for or assert, independent of how it waits.

A condition is checked after each event on the server. `check` returns the result when the condition holds, and None
while it may still come to hold. It raises AssertionError when the condition can no longer hold. `timeout_error` makes
the error for the end of the time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ._connection import ConnectionLog
from ._difference import difference, plural

T = TypeVar("T")
Wanted = int | bytes | Callable[[bytes], object]
Logs = Callable[[], Sequence[ConnectionLog]]


@dataclass(frozen=True, slots=True)
class Condition(Generic[T]):
    check: Callable[[], T | None]
    timeout_error: Callable[[], BaseException]
    when_idle: bool = False
    """Check only when nothing is in flight: the count could still grow."""


def connections(timeout: float, logs: Logs, count: int) -> Condition[bool]:
    _check_count(count, "a number of connections")

    def timeout_error() -> BaseException:
        made = _count(len(logs()), "connection")
        return TimeoutError(f"{made} within {timeout:g} s, not {count}{_listed(logs())}")

    return Condition(lambda: len(logs()) >= count or None, timeout_error)


def exactly(timeout: float, logs: Logs, count: int) -> Condition[bool]:
    _check_count(count, "a number of connections")

    def wrong() -> AssertionError:
        wanted = "none" if count == 0 else str(count)
        return AssertionError(f"{_count(len(logs()), 'connection')} made, expected {wanted}{_listed(logs())}")

    def check() -> bool | None:
        if len(logs()) > count:
            raise wrong()
        return len(logs()) == count or None

    return Condition(check, wrong)


def received(timeout: float, logs: Logs, wanted: Wanted) -> Condition[bytes]:
    if isinstance(wanted, (int, float)):
        _check_count(wanted, "a number of bytes")
    elif not isinstance(wanted, (bytes, bytearray, memoryview)) and not callable(wanted):
        kind = type(wanted).__name__
        raise TypeError(f"{wanted!r}: must be bytes, a number of bytes, or a function of bytes, not {kind}")
    elif inspect.iscoroutinefunction(wanted):
        raise TypeError(f"{_name(wanted)}: must be no coroutine function: it is called on the server's thread")

    def check() -> bytes | None:
        if isinstance(wanted, int):
            return _received(logs()) if _total(logs()) >= wanted else None
        data = _received(logs())
        holds = wanted in data if isinstance(wanted, (bytes, bytearray, memoryview)) else wanted(data)
        return data if holds else None

    def timeout_error() -> BaseException:
        if isinstance(wanted, int):
            what = f"{wanted} bytes"
        else:
            what = repr(wanted[:64]) if isinstance(wanted, bytes) else f"what {_name(wanted)} accepts"
        more = _limit_hint(logs())
        return TimeoutError(
            f"{what} not received within {timeout:g} s: {_total(logs())} bytes came, "
            f"ending in {_received(logs())[-32:]!r}{more}{_listed(logs())}"
        )

    return Condition(check, timeout_error)


def received_exactly(timeout: float, logs: Logs, expected: bytes) -> Condition[bool]:
    if not isinstance(expected, (bytes, bytearray, memoryview)):
        raise TypeError(f"{expected!r}: must be bytes, not {type(expected).__name__}")
    expected = bytes(expected)

    def wrong() -> AssertionError:
        found = logs()
        chunks = found[0].record.chunks(0) if len(found) == 1 else ()
        truncated = any(log.record.truncated for log in found)
        return AssertionError(difference(expected, _received(found), chunks, truncated))

    def check() -> bool | None:
        data = _received(logs())
        if _total(logs()) > len(data):
            raise AssertionError(
                f"cannot compare: {_total(logs())} bytes were received, and {len(data)} kept{_limit_hint(logs())}"
            )
        if data == expected:
            return True
        if expected.startswith(data):
            return None
        raise wrong()

    return Condition(check, wrong)


def sent_in(timeout: float, logs: Logs, chunks: int) -> Condition[bool]:
    _check_count(chunks, "a number of chunks")

    def check() -> bool:
        sizes = [size for log in logs() for _, size, _ in log.record.chunks(1)]
        if len(sizes) != chunks:
            shown = ", ".join(map(str, sizes[:16])) + (", …" if len(sizes) > 16 else "")
            found = _count(len(sizes), "chunk") + (f" ({shown} bytes)" if sizes else "")
            raise AssertionError(f"sent in {found}, expected {chunks}{_limit_hint(logs())}")
        return True

    return Condition(check, lambda: TimeoutError(f"still sending after {timeout:g} s"), when_idle=True)


def all_closed(timeout: float, logs: Logs, error: type[Exception] = TimeoutError) -> Condition[bool]:
    def still_open() -> list[ConnectionLog]:
        return [log for log in logs() if log.closed_at is None]

    def timeout_error() -> BaseException:
        found = still_open()
        return error(f"{_count(len(found), 'connection')} still open after {timeout:g} s{_listed(found)}")

    return Condition(lambda: not still_open() or None, timeout_error)


def idle(timeout: float, logs: Logs) -> Condition[bool]:
    def timeout_error() -> BaseException:
        busy = [log for log in logs() if log.closed_at is None]
        return TimeoutError(f"not idle within {timeout:g} s{_listed(busy)}")

    return Condition(lambda: True, timeout_error, when_idle=True)


def _check_count(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r}: must be {what}, not {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{value}: must be {what}, 0 or more")


def _total(logs: Sequence[ConnectionLog]) -> int:
    return sum(log.record.total(0) for log in logs)


def _received(logs: Sequence[ConnectionLog]) -> bytes:
    return b"".join([log.record.data(0) for log in logs])


def _limit_hint(logs: Sequence[ConnectionLog]) -> str:
    if not any(log.record.truncated for log in logs):
        return ""
    kept = f"the first {logs[0].record.limit} bytes of a connection"
    return f" (record_limit keeps {kept}; fastecho_record_limit in pytest's ini file)"


def _count(count: int, noun: str) -> str:
    return f"{count or 'no'} {plural(count, noun)}"


def _name(wanted: object) -> str:
    return str(getattr(wanted, "__name__", wanted))


def _listed(logs: Sequence[ConnectionLog]) -> str:
    lines = [log.describe() for log in logs[:10]]
    if len(logs) > 10:
        lines.append(f"and {len(logs) - 10} more")
    return "".join(f"\n  {line}" for line in lines)
