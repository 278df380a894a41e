"""The connections that a fault is for: the selectors, and the random numbers of `chance`.

A draw depends on nothing but its key - the seed, the arming, the connection's number and the purpose - so it is the
same for any other activity of the server, in any process, and in any order. Changing how it is made changes every
seeded test of every user: the tests pin it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ._kinds import brief, format_value, show_line, whole

if TYPE_CHECKING:
    from random import Random

_MOST: Final = (1 << 63) - 1


def _chance(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError("must be a number between 0 and 1")
    return float(value)


def _predicate(value: object) -> Callable[[object], object]:
    if not callable(value):
        raise ValueError("must be a function of the session")
    import inspect  # 4 ms, for those faults only

    if inspect.iscoroutinefunction(value):
        raise ValueError("must not be a coroutine function: it is called while a connection is accepted")
    try:
        inspect.signature(value).bind(None)
    except TypeError as error:
        raise ValueError(f"must be a function of the session: {error}") from None
    except ValueError:  # it is written in C, and does not say
        pass
    return value


_NUMBER = whole("a whole number", 1, _MOST)
# Each with the name of its one argument.
SELECTORS: Final[Mapping[str, tuple[str, Callable[[object], Any]]]] = {
    "nth": ("n", _NUMBER),
    "first": ("n", _NUMBER),
    "every": ("n", _NUMBER),
    "where": ("f", _predicate),
    "chance": ("p", _chance),
}


def normalize(selectors: Iterable[tuple[str, object]]) -> tuple[tuple[str, Any], ...]:
    """The selectors, checked. Raises ValueError."""
    normalized: list[tuple[str, Any]] = []
    for name, value in selectors:
        if name not in SELECTORS:
            raise ValueError(f"{show_line(str(name))}: no such selector")
        argument, check = SELECTORS[name]
        head = show_line(f"{name}({brief(value)})")
        # Two that differ never hold together, or (every, chance) do not mean what they seem to.
        if name != "where" and name in dict(normalized):
            raise ValueError(f"{head}: {name} is given twice")
        try:
            normalized.append((name, check(value)))
        except ValueError as error:
            raise ValueError(f"{head}: {argument} {error}") from None
    return tuple(normalized)


def holds(name: str, value: Any, number: int, seed: int, arm_number: int, session: object) -> bool:
    """Whether one selector takes the connection `number`, counted from 1."""
    if name == "nth":
        return bool(number == value)
    if name == "first":
        return bool(number <= value)
    if name == "every":
        return bool(number % value == 0)
    if name == "where":
        return bool(value(session))
    # The upper 53 bits, which are as many as a float has: uniform in [0, 1), so 0 is never and 1 is always.
    return bool((draw("chance", seed, arm_number, number) >> 11) / (1 << 53) < value)


def draw(purpose: str, seed: int, arm_number: int, number: int) -> int:
    """64 pseudo-random bits, equal for equal arguments on each platform and in each version."""
    from hashlib import blake2b  # 1 ms, that a server without faults need not pay

    key = f"fastecho:{purpose}:{seed}:{arm_number}:{number}"
    return int.from_bytes(blake2b(key.encode("ascii"), digest_size=8).digest(), "big")


def stream(seed: int, arm_number: int, number: int) -> Random:
    """What else is left to chance on one connection, such as jitter."""
    from random import Random

    return Random(draw("random", seed, arm_number, number))


def write(name: str, value: object) -> str:
    if name != "where":
        return f"{name}({format_value(value)})"
    # A function has no text form; its name identifies it, and its address does not.
    return f"where({getattr(value, '__name__', None) or f'<{type(value).__name__}>'})"
