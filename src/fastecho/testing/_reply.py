"""What a server answers: the echo, nothing, a greeting first, or what a function of the test says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError

Reply = str | bytes | Callable[..., Any]


def check_reply(reply: Reply) -> None:
    """Raises ConfigError."""
    if reply not in ("echo", "discard") and not isinstance(reply, (bytes, bytearray)) and not callable(reply):
        raise ConfigError("reply", reply, "must be echo, discard, bytes, or a function of the bytes received")


class Responder:
    """The answer in force; it may change while connections are open."""

    def __init__(self, reply: Reply) -> None:
        self.set(reply)

    def set(self, reply: Reply) -> None:
        check_reply(reply)
        self.reply = reply
        self.banner = bytes(reply) if isinstance(reply, (bytes, bytearray)) else b""
        self.echoes = reply != "discard" and not callable(reply)
        self._wants_session = callable(reply) and _takes_two(reply)

    def respond(self, data: bytes, session: object) -> bytes:
        """The answer to `data`. Raises what the test's function raises, TypeError for what is no answer."""
        if not callable(self.reply):
            return data if self.echoes else b""
        answer = self.reply(data, session) if self._wants_session else self.reply(data)
        if answer is not None and not isinstance(answer, (bytes, bytearray, memoryview)):
            raise TypeError(f"reply returned {type(answer).__name__}: must be bytes, or None for no answer")
        return bytes(answer or b"")


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(b"", None)
    except (TypeError, ValueError):  # takes one; or is written in C, and does not say
        return False
    return True
