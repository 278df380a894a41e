"""`sweep()`: the same dialogue, broken at every byte in turn, and what became of the client each time."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Final, Literal

from ..faults import Fault, parse_faults
from ._options import check_seconds
from ._sync import Server, echo_server

__all__ = ["CleanRunError", "Outcome", "Sweep", "sweep"]

Dialogue = Callable[[Server], Any]
What = Literal["survived", "failed", "hung"]

_PLACES: Final = ("after_sent", "at")
_MOST_OFFSETS: Final = 10_000
_SUCH_AS: Final = "such as Fault.reset, Fault.corrupt"
_STAR: Final = 987_654_321
_END_SECONDS: Final = 1.0
"""For a dialogue that hangs to end once its connections are reset."""


class CleanRunError(AssertionError):
    """The dialogue does not work without any fault, so there is nothing to learn from breaking it."""


@dataclass(frozen=True)
class Outcome:
    """What the client made of the fault at one offset.

    Attributes:
        offset: bytes that the server had sent on a connection when it struck.
        what: `survived` (the dialogue returned), `failed` (it raised) or `hung` (it did neither in time).
        error: the type of the exception of one that failed.
        text: its type and text; for others a remark, mostly empty.
    """

    offset: int
    what: What
    error: type[BaseException] | None = None
    text: str = ""

    def _kind(self) -> tuple[str, str]:
        """Equal for outcomes on one line of the table: numbers in the text may differ."""
        return self.what, re.sub(r"\d+", "0", self.text)


@dataclass(frozen=True)
class Sweep:
    """The outcomes of a sweep, in order of the offsets; `str()` is the table.

    Attributes:
        fault: the fault as text, `*` where its offset stood.
        size: bytes that the server sent in the clean run, on the connection where it sent most.
        outcomes: one for each offset.
    """

    fault: str
    size: int
    outcomes: tuple[Outcome, ...]

    @property
    def survived(self) -> tuple[int, ...]:
        """The offsets where the dialogue returned."""
        return self._where("survived")

    @property
    def failed(self) -> tuple[int, ...]:
        """The offsets where it raised."""
        return self._where("failed")

    @property
    def hung(self) -> tuple[int, ...]:
        """The offsets where it did neither in time."""
        return self._where("hung")

    def assert_no_hangs(self) -> None:
        """The client has ended by itself at each offset."""
        self._assert(not self.hung, "the client hangs", self.hung)

    def assert_survives_everywhere(self) -> None:
        """The client copes with the fault wherever it strikes: what to ask of one that retries."""
        others = self.failed + self.hung
        self._assert(not others, "the client does not survive", others)

    def assert_fails_everywhere(self, *errors: type[BaseException]) -> None:
        """The client takes no broken answer for a whole one: it raises, one of `errors` if any are given.

        At an offset of `size` or more everything was sent before the fault struck; there it may survive as well.
        """
        early = [each for each in self.outcomes if each.offset < self.size or each.what == "hung"]
        quiet = tuple(each.offset for each in early if each.what != "failed")
        self._assert(not quiet, "the client does not fail", quiet)
        others = tuple(each.offset for each in self.outcomes if each.error and not issubclass(each.error, errors))
        names = " or ".join(error.__name__ for error in errors)
        self._assert(not (errors and others), f"the client fails with another error than {names}", others)

    def __str__(self) -> str:
        rows = []
        for _, grouped in groupby(self.outcomes, Outcome._kind):
            run = list(grouped)
            remark = run[0].text + (" (and alike)" if len({each.text for each in run}) > 1 else "")
            rows.append((_span([each.offset for each in run]), run[0].what, remark))
        width = max([len("offset"), *(len(span) for span, *_ in rows)])
        lines = [f"{self.fault}: the server sent {self.size} bytes in the clean run", f"{'offset':<{width}}  outcome"]
        lines += [f"{span:<{width}}  {what:<8}  {remark}".rstrip() for span, what, remark in rows]
        return "\n".join(lines)

    def _where(self, what: What) -> tuple[int, ...]:
        return tuple(each.offset for each in self.outcomes if each.what == what)

    def _assert(self, holds: bool, complaint: str, offsets: tuple[int, ...]) -> None:
        if not holds:
            shown = ", ".join(map(str, offsets[:10])) + (f", … ({len(offsets)} in all)" if len(offsets) > 10 else "")
            raise AssertionError(f"{complaint} at offset {shown}\n{self}")


def sweep(
    fault: Fault | Callable[..., Fault] | str,
    dialogue: Dialogue,
    *,
    offsets: Iterable[int] | None = None,
    timeout: float = 5.0,
    echo: Callable[[str], object] | None = print,
    **options: Any,
) -> Sweep:
    """Run `dialogue` once undisturbed, then once for each offset of what the server sent, with the fault there.

    Args:
        fault: a function of `Fault` that takes `after_sent` or `at`, such as `Fault.reset` or `Fault.corrupt`; or a
            fault with one of them, whose number is replaced: `Fault.close(after_sent=0).first(1)`.
        dialogue: the client, a function or coroutine function that is given the `Server`. It runs in a thread of
            its own each time, on a new loop if it is a coroutine function, and should make new connections.
        offsets: where to strike; by default 0 to the number of bytes sent in the clean run.
        timeout: seconds after which a run counts as hung. Its connections are reset then, so that it ends; one
            that does not end even so is named in the table, and its thread is left behind.
        echo: what the table is given to.
        options: those of `echo_server`.

    Raises:
        CleanRunError: the dialogue fails, hangs, or has the server send nothing, without a fault.
        ValueError: the fault has no offset, an offset is beyond what is sent, or there are so many bytes that `offsets`
            must be chosen.

        >>> sweep(Fault.reset, lambda server: fetch(server.url)).assert_no_hangs()
    """
    place, make = _maker(fault)
    check_seconds("timeout", timeout)
    if not callable(dialogue):
        raise TypeError(f"dialogue {dialogue!r}: must be a function that is given the server")
    if offsets is not None:
        offsets = _checked_offsets(offsets)
    with echo_server(**options) as server:
        server._fixture.validate_faults([make(0)])  # whether it suits the server is said before the clean run
        clean = _Run(dialogue, server)
        if clean.outlasts(timeout):
            raise CleanRunError(f"the dialogue hangs without any fault: not back within {timeout:g} s")
        if clean.error is not None:
            raise CleanRunError(f"the dialogue fails without any fault: {_text(clean.error)}") from clean.error
        size = max((session.bytes_out for session in server.connections), default=0)
        if size == 0:
            raise CleanRunError("the server sends nothing without any fault: there is no place to break it at")
        places = range(size + (place == "after_sent"))  # byte number `size` never comes, but the end does
        if offsets is None:
            offsets = places
            if len(offsets) > _MOST_OFFSETS:
                raise ValueError(f"{size} bytes were sent: choose, such as offsets=range(0, {size}, {size // 100})")
        offsets = tuple(offsets)
        if beyond := [each for each in offsets if each not in places]:
            raise ValueError(f"offset {beyond[0]}: must be between 0 and {places[-1]}, for {size} bytes are sent")
        outcomes = tuple(_strike(server, make(offset), offset, dialogue, timeout) for offset in offsets)
    text = str(make(_STAR)).replace(str(_STAR), "*")
    result = Sweep(text, size, outcomes)
    if echo is not None:
        echo(str(result))
    return result


def _maker(fault: Fault | Callable[..., Fault] | str) -> tuple[str, Callable[[int], Fault]]:
    """The name of the argument that is swept, and what makes the fault for a value of it. Raises ValueError."""
    if isinstance(fault, str):
        found = parse_faults(fault)
        if len(found) != 1:
            raise ValueError(f"sweep needs one fault, not {len(found)}: {fault}")
        fault = found[0]
    if isinstance(fault, Fault):
        given, names = fault, [name for name, _ in fault.arguments]

        def make(offset: int) -> Fault:
            arguments = tuple((name, offset if name == place else value) for name, value in given.arguments)
            return Fault(given.kind, arguments, given.selectors)
    elif callable(fault):
        kind, names = fault, list(inspect.signature(fault).parameters)

        def make(offset: int) -> Fault:
            return kind(**{place: offset})
    else:
        raise ValueError(f"sweep needs a fault with after_sent or at, not {fault!r}: {_SUCH_AS}")

    for place in _PLACES:
        if place in names:
            break
    else:
        shown = fault if isinstance(fault, Fault) else getattr(fault, "__name__", fault)
        raise ValueError(f"sweep needs a fault with after_sent or at, not {shown}: {_SUCH_AS}")
    try:
        made = make(0)
    except (TypeError, ValueError) as error:  # another trigger beside the one that is swept, or what is missing
        raise ValueError(f"sweep gives {place} and nothing else: {error}") from None
    if not isinstance(made, Fault):
        raise ValueError(f"sweep needs a function that returns a fault, not {made!r}: {_SUCH_AS}")
    return place, make


def _checked_offsets(offsets: Iterable[int]) -> tuple[int, ...]:
    if isinstance(offsets, (str, bytes)) or not isinstance(offsets, Iterable):
        raise TypeError(f"offsets {offsets!r}: must be whole numbers, such as range(0, 100, 10)")
    found = tuple(offsets)
    for each in found:
        if isinstance(each, bool) or not isinstance(each, int):
            raise TypeError(f"offset {each!r}: must be a whole number, not {type(each).__name__}")
    return found


def _strike(server: Server, fault: Fault, offset: int, dialogue: Dialogue, timeout: float) -> Outcome:
    server.reset()
    armed = server.arm(fault, must_fire=False)
    run = _Run(dialogue, server)
    if run.outlasts(timeout):
        stuck = "" if run.ended else "; its thread does not end, even with its connections reset"
        return Outcome(offset, "hung", None, f"not back within {timeout:g} s{stuck}")
    reached = any(session.bytes_out >= offset for session in server.connections)
    missed = "" if armed.fired or (armed.selected and reached) else "the fault never struck"
    if run.error is None:
        return Outcome(offset, "survived", None, missed)
    return Outcome(offset, "failed", type(run.error), _text(run.error) + (missed and f" ({missed})"))


class _Run:
    """A dialogue in a new thread, in the context of the caller."""

    def __init__(self, dialogue: Dialogue, server: Server) -> None:
        self.error: BaseException | None = None
        self._dialogue = dialogue
        self._server = server
        context = contextvars.copy_context()
        # A daemon: one that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=context.run, args=(self._talk,), name="fastecho-sweep", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def outlasts(self, timeout: float) -> bool:
        """Wait; one that takes longer is made to end."""
        self._thread.join(timeout)
        if self.ended:
            return False
        self._server.down()  # before the reset, so that one that tries again is refused
        self._server._fixture.call(self._server._fixture.close_all, "reset")
        self._thread.join(_END_SECONDS)
        self._server.up()
        return True

    def _talk(self) -> None:
        try:
            talk = self._dialogue(self._server)
            if inspect.iscoroutine(talk):
                asyncio.run(talk)
        except BaseException as error:  # pytest.fail() is no Exception, and nothing may end in the thread's own hook
            # Without this frame, which holds `self`: a cycle would keep the client's sockets until a collection.
            self.error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)


def _text(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def _span(offsets: list[int]) -> str:
    """`0-16`, or `0-16 by 4`, or the first and the last of what has no pattern."""
    first, last = offsets[0], offsets[-1]
    if len(offsets) == 1:
        return str(first)
    steps = {after - before for before, after in pairwise(offsets)}
    step = steps.pop()
    if steps or step < 1:
        return f"{first}-{last} ({len(offsets)} of them)"
    return f"{first}-{last}" + (f" by {step}" if step > 1 else "")
