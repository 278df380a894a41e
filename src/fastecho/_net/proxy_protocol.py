"""The PROXY protocol, versions 1 and 2: a header before the first byte, in which a proxy names the client.

Source: Willy Tarreau, "The PROXY protocol", versions 1 and 2, sections 2.1 and 2.2.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

__all__ = ["HEADER_TIMEOUT", "ProxyHeaderError", "parse_header", "read_header"]

HEADER_TIMEOUT = 5.0
"""Seconds for a header to arrive: a proxy sends it with the connection. (The document asks for at least 3.)"""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_LONGEST_LINE = 107  # of version 1, with CR LF
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21  # version and command
_STREAM4, _STREAM6, _STREAM_UNIX = 0x11, 0x21, 0x31
_ADDRESS_SIZES = {_STREAM4: 12, _STREAM6: 36, _STREAM_UNIX: 216}
_PEEKED = 4096


def _parse_ipv6(text: str) -> ipaddress.IPv6Address:
    if "%" in text:  # a zone, which Python takes, may hold any text
        raise ValueError(text)
    return ipaddress.IPv6Address(text)


_LINE_FAMILIES: dict[str, Callable[[str], _Address]] = {"TCP4": ipaddress.IPv4Address, "TCP6": _parse_ipv6}


class ProxyHeaderError(ValueError):
    """What arrived is no header of the PROXY protocol; one line."""


def _header_size(data: bytes) -> int | None:
    """The bytes of the header that `data` begins with; None: more of it must arrive first. ProxyHeaderError: none."""
    if data[:6] == b"PROXY "[: len(data)]:
        end = data.find(b"\r\n", 0, _LONGEST_LINE)
        if end < 0 and len(data) >= _LONGEST_LINE:
            raise ProxyHeaderError(f"a line of version 1 is longer than {_LONGEST_LINE} bytes")
        return end + 2 if end >= 0 else None
    if data[:12] != _SIGNATURE[: len(data)]:
        raise ProxyHeaderError(f"neither version 1 nor version 2 begins with {data[:12]!r}")
    return 16 + int.from_bytes(data[14:16], "big") if len(data) >= 16 else None


def parse_header(header: bytes) -> str | None:
    """The address of the client that a whole header names, such as `192.0.2.7:4711`; None if it names none.

    A header names none when the proxy speaks for itself (LOCAL), or for a protocol that it does not know (UNKNOWN).
    Extensions (TLVs) of version 2 are passed over.

    Raises:
        ProxyHeaderError: the header is malformed.
    """
    return _parse_line(header) if header.startswith(b"PROXY ") else _parse_binary(header)


def _parse_line(header: bytes) -> str | None:
    parts = header.removesuffix(b"\r\n").decode("ascii", "replace").split(" ")
    if parts[1] == "UNKNOWN":
        return None
    try:
        family, source, destination, *ports = parts[1:]
        address = _LINE_FAMILIES[family]
        source_address, _ = address(source), address(destination)
        port, _ = map(_parse_port, ports)
    except (ValueError, KeyError):
        raise ProxyHeaderError(f"malformed line of version 1: {' '.join(parts)[:80]!r}") from None
    return _format_client(source_address, port)


def _parse_port(text: str) -> int:
    if not (text.isdecimal() and text.isascii() and str(int(text)) == text and int(text) <= 65535):
        raise ValueError(text)
    return int(text)


def _parse_binary(header: bytes) -> str | None:
    command, family = header[12], header[13]
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"version and command {command:#04x}: must be 0x20 or 0x21")
    if command == _LOCAL or family not in _ADDRESS_SIZES:
        return None
    addresses = header[16:]
    size = _ADDRESS_SIZES[family]
    if len(addresses) < size:
        raise ProxyHeaderError(f"{len(addresses)} bytes of addresses: family {family:#04x} has {size}")
    if family == _STREAM_UNIX:
        return "unix:" + addresses[:108].rstrip(b"\0").decode("utf-8", "backslashreplace")
    if family == _STREAM4:
        return _format_client(ipaddress.IPv4Address(addresses[:4]), int.from_bytes(addresses[8:10], "big"))
    return _format_client(ipaddress.IPv6Address(addresses[:16]), int.from_bytes(addresses[32:34], "big"))


def _format_client(address: _Address, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


async def read_header(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> str | None:
    """Read the header from a non-blocking socket, and nothing after it. The result is that of `parse_header`.

    Raises:
        ProxyHeaderError: it is malformed, or the connection ended within it.
        asyncio.TimeoutError: it was not complete within `HEADER_TIMEOUT`.
        OSError: the connection was reset.
    """
    return parse_header(await asyncio.wait_for(_read(loop, connection), HEADER_TIMEOUT))


async def _read(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    header = b""
    while True:
        await _until_readable(loop, connection)
        try:
            peeked = connection.recv(_PEEKED, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            continue
        if not peeked:
            raise ProxyHeaderError(f"the connection ended after {len(header)} bytes of the header")
        size = _header_size(header + peeked)
        # All that was peeked is header as long as its end was not.
        header += connection.recv(len(peeked) if size is None else min(size - len(header), len(peeked)))
        if len(header) == size:
            return header


async def _until_readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    readable = asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
