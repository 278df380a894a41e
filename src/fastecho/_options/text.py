"""Options with a grammar: hosts, addresses, paths and terminators.

Pure functions, which raise a plain `ValueError` that states what is accepted. A terminator is written as text with
the escapes `\\0` `\\r` `\\n` `\\t` `\\\\` and `\\xNN`, or as `hex:` and digits.
"""

import os
import re
import sys
from collections.abc import Callable
from typing import Any, Final

LONGEST_TERMINATOR: Final = 64
# `sun_path`, less its NUL and the 7 bytes of the temporary name that a UNIX socket is bound to before it is renamed.
LONGEST_UNIX_PATH: Final = (107 if sys.platform.startswith("linux") else 103) - 7

_HOSTS: Final = "must be addresses or host names, separated by commas, or * for all interfaces"
_HOST_PORT: Final = "must be HOST:PORT, such as 127.0.0.1:9100, [::1]:9100 or *:9100"
_TERMINATOR: Final = f"must be 1 to {LONGEST_TERMINATOR} bytes, such as \\0, \\r\\n or hex:0d0a, or none"
_ESCAPES: Final = {"0": b"\0", "r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}
# \0 before a digit is octal to a C programmer and NUL to others; it is refused.
_PIECE: Final = re.compile(r"\\x([0-9a-fA-F]{2})|\\(0(?![0-9])|[rnt\\])|([^\\]+)")


def path_validator(longest: int | None = None) -> Callable[[Any], str]:
    """A function that validates paths. `longest` is a limit in bytes, the kernel's rather than the file system's."""

    def validate(value: Any) -> str:
        if not isinstance(value, (str, os.PathLike)):
            raise ValueError("must be a path")
        path = os.fsdecode(value)
        if not path or "\0" in path:
            raise ValueError(f"must be a path, not {'one with a NUL in it' if path else 'empty'}")
        length = len(os.fsencode(path))
        if longest is not None and length > longest:
            raise ValueError(f"must be a path of at most {longest} bytes, not {length}")
        return path

    return validate


def is_abstract(path: str) -> bool:
    """Whether `path` names an abstract UNIX socket of Linux: `@name`. The file of that name is `./@name`."""
    return path.startswith("@")


def validate_unix(value: Any) -> str:
    """The path of a UNIX socket, or `@` and the name of an abstract one."""
    path = path_validator(LONGEST_UNIX_PATH)(value)
    if is_abstract(path):
        if not sys.platform.startswith("linux"):
            raise ValueError("must be a path: only Linux has abstract sockets (./@name is a file)")
        if path == "@":
            raise ValueError("must be a path, or @ and a name")
    return path


def validate_account(value: Any) -> str:
    """The name or the number of a user or a group; whether it exists is another question."""
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value or ":" in value:
        raise ValueError("must be a name or a number")
    return value


def validate_hosts(value: Any) -> str:
    """Addresses and names, separated by commas; `*` alone is every interface, IPv4 and IPv6."""
    if not isinstance(value, str):
        raise ValueError(_HOSTS)
    hosts = dict.fromkeys(_validate_host(host.strip()) for host in value.split(","))
    if "*" in hosts and len(hosts) > 1:
        raise ValueError("must not have other addresses beside *, which is all of them")
    return ",".join(hosts)


def _validate_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if ":" in host:
        import ipaddress  # seldom needed, and 3 ms of start-up

        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("must be addresses or host names; the port is another option") from None
        return host
    # Names that the resolver would answer with errors of other kinds (UnicodeError, ValueError).
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(_HOSTS) from None
    bad = any(not 1 <= len(label) <= 63 for label in name.removesuffix(".").split("."))
    if bad or any(each in name for each in "[] ") or len(name) > 253 or not name.isprintable():
        raise ValueError(_HOSTS)
    return host


def validate_host_port(value: Any) -> str:
    """One address or name and a port; an IPv6 address is in brackets, and `*` is every interface."""
    if not isinstance(value, str):
        raise ValueError(_HOST_PORT)
    host, port = split_host_port(value)
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or "," in host:
        raise ValueError(_HOST_PORT)
    if (":" in host) != value.startswith("["):  # of an IPv6 address, and of nothing else
        raise ValueError(_HOST_PORT)
    try:
        _validate_host(host)
    except ValueError:
        raise ValueError(_HOST_PORT) from None
    return value


def split_host_port(text: str) -> tuple[str, str]:
    """Host, without brackets, and port of `HOST:PORT`."""
    host, _, port = text.rpartition(":")
    return (host[1:-1] if host.startswith("[") and host.endswith("]") else host), port


def validate_terminator(value: Any) -> bytes:
    if isinstance(value, str):
        raise ValueError(f"must be bytes, 1 to {LONGEST_TERMINATOR} of them, not str")
    if not isinstance(value, (bytes, bytearray, memoryview)) or not 1 <= len(value) <= LONGEST_TERMINATOR:
        raise ValueError(_TERMINATOR)
    return bytes(value)


def parse_terminator(text: str) -> bytes:
    if text.startswith("hex:"):
        try:
            return bytes.fromhex(text[4:])
        except ValueError:
            raise ValueError("must have pairs of hexadecimal digits after hex:, such as hex:0d0a") from None
    pieces = []
    at = 0
    while at < len(text):
        match = _PIECE.match(text, at)
        if match is None:
            raise ValueError(r"must have no escapes but \0 (not before a digit), \r, \n, \t, \\ and \xNN")
        digits, letter, plain = match.groups()
        if digits:
            pieces.append(bytes.fromhex(digits))
        elif letter:
            pieces.append(_ESCAPES[letter])
        else:
            # An argument's bytes that are not UTF-8 come as surrogates, and become what they were.
            pieces.append(_encode(plain))
        at = match.end()
    return b"".join(pieces)


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(_TERMINATOR) from None


def format_terminator(value: bytes) -> str:
    common = {b"\0": "\\0", b"\n": "\\n", b"\r\n": "\\r\\n"}
    if value in common:
        return common[value]
    text = value.decode("latin-1")
    plain = text.isascii() and text.isprintable() and "\\" not in text
    return text if plain and text != "none" and not text.startswith("hex:") else f"hex:{value.hex()}"
