"""The kinds of fault and their arguments: the check of each, its default, and how it is written.

A check raises a plain `ValueError` that states what is accepted ("must be ..."); `normalize` puts the fault and the
name of the argument before it.

To add a fault, add its arguments to `KINDS` here, its function to `_fault.Fault`, its behaviour to `_injection/`,
and its section to docs/faults.md. The behaviour of an end or a stop is in `_ending` and `_triggers.ENDS`, that of a
delay or a size in `_pacing`, that of a change of bytes in `_edits`, and that of the accept in `_session`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..errors import show_value

# An offset in a stream that a test lives to see; what is above is a slip, and would be no int64 in C.
_FARTHEST: Final = (1 << 63) - 1
# What is held in memory, or asked of the kernel as the size of a buffer, which is an int there.
_MOST_BYTES: Final = 1 << 30
_DAY: Final = 86400.0
_VISIBLE: Final = 0.005
"""Seconds between two sends that a client on this machine sees as two while it reads: on two busy CPUs a client saw two
in 98 of 100 tries at 1 ms, in 99 at 2 ms, in 100 at 5 ms."""
_LONGEST_DATA: Final = 1 << 16
_MOST_SIZES: Final = 1000


class Argument(NamedTuple):
    name: str
    check: Callable[[object], Any]
    default: Any = ...  # none: it must be given


def whole(what: str, low: int, high: int) -> Callable[[object], int]:
    """A check for whole numbers; `what` as in "a whole number of bytes"."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"must be {what}, {low} or more")
        if value > high:
            raise ValueError(f"must be {what}, {high} at most")
        return int(value)

    return check


def _number(what: str, low: float, high: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        # NaN is not between anything; an int that no float can hold compares all the same.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"must be {what} between {low:g} and {high:g}")
        return float(value)

    return check


def _xor(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 255:
        raise ValueError("must be a whole number between 1 and 255; 0 changes nothing")
    return int(value)


def _data(value: object) -> bytes:
    if isinstance(value, str):
        raise ValueError("must be bytes, not str")
    if not isinstance(value, (bytes, bytearray, memoryview)) or not 1 <= len(bytes(value)) <= _LONGEST_DATA:
        raise ValueError("must be bytes, 1 to 64 KiB of them")
    return bytes(value)


def _sizes(value: object) -> tuple[int, ...]:
    if isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, Sequence):
        return (_COUNT(value),)
    if not 1 <= len(value) <= _MOST_SIZES:
        raise ValueError(f"must be a whole number of bytes, or a list of 1 to {_MOST_SIZES} of them")
    return tuple(map(_COUNT, value))


_OFFSET = whole("a whole number of bytes", 0, _FARTHEST)
_COUNT = whole("a whole number of bytes", 1, _FARTHEST)
_BYTES = whole("a whole number of bytes", 1, _MOST_BYTES)
_SECONDS = _number("a number of seconds", 0, _DAY)
_RATE = _number("a number of bytes a second", 0.001, 1e12)

TRIGGERS: Final = (
    Argument("after_sent", _OFFSET, None),
    Argument("after_received", _OFFSET, None),
    Argument("on", _data, None),
)
KINDS: Final[Mapping[str, tuple[Argument, ...]]] = {
    "reset": TRIGGERS,
    "close": TRIGGERS,
    "abort": TRIGGERS,
    "half_close": TRIGGERS,
    "stall": TRIGGERS,
    "stop_reading": (Argument("window", _BYTES, 9216), *TRIGGERS),
    "latency": (Argument("mean", _SECONDS), Argument("jitter", _SECONDS, 0.0)),
    "bandwidth": (Argument("bytes_per_s", _RATE), Argument("burst", _COUNT, None)),
    "slice": (Argument("sizes", _sizes), Argument("interval", _SECONDS, _VISIBLE)),
    "coalesce": (Argument("n", _BYTES),),
    "corrupt": (Argument("at", _OFFSET), Argument("xor", _xor, 0xFF)),
    "drop": (Argument("at", _OFFSET), Argument("count", _COUNT, 1)),
    "duplicate": (Argument("at", _OFFSET), Argument("count", _BYTES, 1)),
    "inject": (Argument("at", _OFFSET), Argument("data", _data)),
    "refuse": (),
    "blackhole": (),
    "slow_accept": (Argument("delay", _SECONDS),),
    "tls_abort": (),
    "tls_stall": (),
    "no_close_notify": (),
}
TLS_KINDS: Final = frozenset({"tls_abort", "tls_stall", "no_close_notify"})
TCP_NEEDS: Final[Mapping[str, str]] = {
    "reset": "reset sends RST",
    "refuse": "refuse sends RST",
    "tls_abort": "tls_abort sends RST",
    "stop_reading": "stop_reading(window) sets the receive window",
}


def by_position(kind: str) -> list[str]:
    """The arguments that may be given without their names: all but the triggers."""
    return [each.name for each in KINDS[kind] if each not in TRIGGERS]


def required(kind: str) -> list[str]:
    return [each.name for each in KINDS[kind] if each.default is ...]


def normalize(kind: str, given: Iterable[tuple[str, object]]) -> tuple[tuple[str, Any], ...]:
    """What was given, checked, in the order of the signature, without what is the default anyway.

    Raises:
        ValueError: there is no such kind or argument, one is missing, or one will not do.
    """
    values = dict(given)

    def wrong(why: str) -> ValueError:
        shown = [(name, value) for name, value in values.items() if not _is_default(kind, name, value)]
        return ValueError(f"{show_line(format_call(kind, shown))}: {why}")

    if kind not in KINDS:
        raise wrong(f"no such fault{hint(kind, KINDS)}")
    arguments = KINDS[kind]
    names = [each.name for each in arguments]
    for name in values:
        if name not in names:
            raise wrong(f"no such argument: {show_value(name)}{hint(name, names)}")
    normalized: dict[str, Any] = {}
    for name, check, default in arguments:
        if name not in values:
            if default is ...:
                raise wrong(f"needs {name}")
        elif values[name] is not None or default is not None:
            try:
                value = check(values[name])
            except ValueError as error:
                raise wrong(f"{name} {error}") from None
            if value != default:
                normalized[name] = value
    triggers = [each.name for each in TRIGGERS if each.name in normalized]
    if len(triggers) > 1:
        raise wrong(f"accepts one trigger only, not {len(triggers)} ({', '.join(triggers)})")
    if normalized.get("jitter", 0.0) > normalized.get("mean", 0.0):
        raise wrong("jitter must be at most the mean: no piece leaves before it is there")
    return tuple(normalized.items())


def _is_default(kind: str, name: str, value: object) -> bool:
    """Whether `value`, of any type, is the default."""
    return any(
        each.name == name and type(value) is type(each.default) and value == each.default
        for each in KINDS.get(kind, ())
    )


def default(kind: str, name: str, normalized: Mapping[str, Any]) -> Any:
    """The value of an argument that was not given."""
    if name == "burst":
        return max(1, int(normalized["bytes_per_s"] / 10))
    return next(each.default for each in KINDS[kind] if each.name == name)


def hint(wrong: str, names: Iterable[str]) -> str:
    """What to say of a name that is none of `names`."""
    from difflib import get_close_matches  # for mistakes only, and 2 ms of start-up

    known = list(names)
    close = get_close_matches(wrong, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; must be one of {', '.join(known)}" if known else "; it takes no arguments"


def format_call(name: str, arguments: Iterable[tuple[str, object]]) -> str:
    """For a message: everything by its name, and cut where it is long."""
    return f"{name}({', '.join(f'{key}={brief(value)}' for key, value in arguments)})"


def brief(value: object) -> str:
    """`value` as a message shows it."""
    try:
        return show_value(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "..."


def format_value(value: object) -> str:
    """In text that reads as `value`."""
    if isinstance(value, tuple):
        return repr(value[0]) if len(value) == 1 else repr(list(value))
    if isinstance(value, float) and value.is_integer():
        return repr(int(value))
    return repr(value)


def show_line(text: str, longest: int = 80) -> str:
    """`text` in a message: one line, of characters that can be printed, and no more of them than `longest`."""
    line = " ".join(text[: 10 * longest].split())
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
    return shown if len(shown) <= longest and len(text) <= 10 * longest else shown[: longest - 3] + "..."
