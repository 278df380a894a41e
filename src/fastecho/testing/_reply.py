"""`reply`: what a server of the fixture answers. The echo, nothing, a greeting before the echo, or a test's
function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from ._failures import place_of
from ._record import ReplyMode

Reply = str | bytes | Callable[..., Any]


def check_reply(reply: Reply) -> None:
    """Raises ConfigError."""
    if callable(reply):
        if wrong := _wrong_function(reply):
            raise ConfigError("reply", reply, f"{_ACCEPTED}, {wrong}{place_of(reply)}")
    elif reply not in ("echo", "discard") and not isinstance(reply, (bytes, bytearray)):
        raise ConfigError("reply", reply, "must be echo, discard, bytes, or a function of the bytes received")


class Responder:
    """The `reply` in force. It may change while connections are open."""

    def __init__(self, reply: Reply) -> None:
        self.mode = ReplyMode(True)
        self.set(reply)

    def set(self, reply: Reply) -> None:
        check_reply(reply)
        self.reply = reply
        self.greeting = bytes(reply) if isinstance(reply, (bytes, bytearray)) else b""
        self.mode.echoes = reply != "discard" and not callable(reply)
        self._wants_session = callable(reply) and len(_required(reply)) == 2

    def respond(self, data: bytes, session: object) -> bytes:
        """The answer to `data`. Raises what the test's function raises, and TypeError if it returns neither bytes nor
        None."""
        if not callable(self.reply):
            return data if self.mode.echoes else b""
        answer = self.reply(data, session) if self._wants_session else self.reply(data)
        if answer is not None and not isinstance(answer, (bytes, bytearray, memoryview)):
            if inspect.iscoroutine(answer):
                answer.close()
            found = f"{type(answer).__name__}{place_of(self.reply)}"
            raise TypeError(f"reply returned {found}: must be bytes, or None for no answer")
        return bytes(answer or b"")


_ACCEPTED = "must be a function of the bytes received, or of those and the session"


def _required(function: Callable[..., Any]) -> list[str]:
    """The positional parameters without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C, without a signature
        return [""]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in parameters if each.kind in positional and each.default is each.empty]


def _wrong_function(function: Callable[..., Any]) -> str:
    """Why `function` cannot be a `reply`; empty if it can."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return "not a coroutine function: it is called on the server's thread, and cannot wait"
    required = _required(function)
    if len(required) > 2:
        return f"not of {len(required)} arguments: {', '.join(required)}"
    try:
        inspect.signature(function).bind(*[b""] * max(1, len(required)))
    except TypeError as error:
        return f"which this is not: {error}"
    except ValueError:  # as above
        return ""
    return ""
