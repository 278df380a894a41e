"""Which connections a fault takes: the selectors, and the draws behind `chance`.

A draw depends on nothing but its key - the seed, the arming, the connection's number and the purpose - so it is the
same whatever else happens on the server, in which process, and in which order. Changing how it is made changes every
seeded test of every user: the tests pin it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ._kinds import brief, show_line, whole, write_value

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


def settle(selectors: Iterable[tuple[str, object]]) -> tuple[tuple[str, Any], ...]:
    """The selectors, checked. Raises ValueError."""
    settled: list[tuple[str, Any]] = []
    for name, value in selectors:
        if name not in SELECTORS:
            raise ValueError(f"{show_line(str(name))}: no such selector")
        argument, check = SELECTORS[name]
        head = show_line(f"{name}({brief(value)})")
        # Two that differ never hold together, or (every, chance) do not mean what they seem to.
        if name != "where" and name in dict(settled):
            raise ValueError(f"{head}: {name} is given twice")
        try:
            settled.append((name, check(value)))
        except ValueError as error:
            raise ValueError(f"{head}: {argument} {error}") from None
    return tuple(settled)


def holds(name: str, value: Any, number: int, seed: int, arming: int, session: object) -> bool:
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
    return bool((draw("chance", seed, arming, number) >> 11) / (1 << 53) < value)


def draw(purpose: str, seed: int, arming: int, number: int) -> int:
    """64 bits that look random, and are the same for the same arguments everywhere and for ever."""
    from hashlib import blake2b  # 1 ms, that a server without faults need not pay

    key = f"fastecho:{purpose}:{seed}:{arming}:{number}"
    return int.from_bytes(blake2b(key.encode("ascii"), digest_size=8).digest(), "big")


def stream(seed: int, arming: int, number: int) -> Random:
    """What else is left to chance on one connection, such as jitter."""
    from random import Random

    return Random(draw("random", seed, arming, number))


def write(name: str, value: object) -> str:
    if name != "where":
        return f"{name}({write_value(value)})"
    # Functions have no text form; their names tell people which one it was, and addresses do not.
    return f"where({getattr(value, '__name__', None) or f'<{type(value).__name__}>'})"
