"""Errors of a load: the first of each kind, as a line; and the one that prevents it."""

import errno
import os
from typing import Final, NamedTuple

from ..errors import EX_FAILURE, SHORTAGES, FastechoError

ERROR_KINDS: Final = ("connect", "reset", "short", "corrupt", "excess", "timeout")

NO_EOF: Final = "no EOF"
DATAGRAM_KINDS: Final = ("connect", "reset", "lost", "duplicated", "reordered", "altered")
"""Of a udp:// target."""

_LONGEST: Final = 40
# What other services send, and what that means for a user who took one for an echo server.
_SERVICES: Final = (
    (b"HTTP/", "the target is an HTTP server"),
    (b"SSH-", "the target is an SSH server"),
    (b"\x15\x03", "the target speaks TLS: use tls://"),
    (b"\x16\x03", "the target speaks TLS: use tls://"),
)
# The client has run out of them, ports included; the server is not to blame.
CLIENT_SHORTAGES: Final = SHORTAGES | {errno.EADDRNOTAVAIL, errno.EADDRINUSE}


class LoadError(FastechoError):
    """Nothing could be measured: the target cannot be reached, or this machine has not what the load needs.

    `exit_code` distinguishes these cases.
    """

    def __init__(self, message: str, exit_code: int = EX_FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class FirstError(NamedTuple):
    """`connection` is its number, `offset` the bytes of echo before it, `error` an errno.

    `reason` says more than the errno where something does. `got` begins with the first bytes that are wrong, `expected`
    with those that should have come in their place.
    """

    connection: int
    offset: int
    error: int = 0
    reason: str = ""
    got: bytes = b""
    expected: bytes = b""

    def as_os_error(self) -> OSError:
        return OSError(self.error, reason(self))


def reason(error: FirstError) -> str:
    return error.reason or os.strerror(error.error)


def shown(data: bytes) -> str:
    """The first of `data` as text, with escapes for what cannot be printed."""
    return repr(data[:_LONGEST]).removeprefix("b") + ("..." if len(data) > _LONGEST else "")


def service(got: bytes) -> str:
    """What `got`, the first bytes of a server, says of it: a clause that begins with a comma, or nothing."""
    return next((f", {meaning}" for start, meaning in _SERVICES if got.startswith(start)), "")


def wrong_bytes(offset: int, got: bytes, expected: bytes) -> str:
    """`expected` is empty when more came than had been sent."""
    what = f"not {shown(expected)}" if expected else "which was not sent"
    return f"after {offset} bytes of echo came {shown(got)}, {what}{service(got) if offset == 0 else ''}"


def tls_hint(offset: int, *, plain: bool) -> str:
    """What may explain a `plain` TCP connection that ends without an echo: OpenSSL sends no alert in that case."""
    return " (if it speaks TLS, use tls://)" if plain and offset == 0 else ""


def describe(kind: str, error: FirstError, *, timeout: float, plain: bool) -> str:
    """`plain` says that the target is TCP without TLS."""
    where = f"connection {error.connection}"
    if kind == "connect":
        return f"connect: {reason(error)}"
    if kind in ("corrupt", "excess"):
        return f"{kind}: {where}, {wrong_bytes(error.offset, error.got, error.expected)}"
    if kind in ("lost", "duplicated", "reordered"):
        why = f", nothing for {timeout:g} s" if kind == "lost" else ""
        return f"{kind}: {where}, datagram {error.offset}{why}"
    if kind == "altered":
        if error.offset < 0:
            return f"altered: {where}, a datagram that was not sent"
        return f"altered: {where}, datagram {error.offset}: {shown(error.got)} came, not {shown(error.expected)}"
    if kind == "timeout":
        return f"timeout: {where}, {error.reason or 'nothing'} for {timeout:g} s after {error.offset} bytes of echo"
    hint = tls_hint(error.offset, plain=plain)
    if kind == "short":
        return f"short: {where}, closed by the server after {error.offset} bytes of echo{hint}"
    return f"reset: {where}, after {error.offset} bytes of echo: {reason(error)}{hint}"
