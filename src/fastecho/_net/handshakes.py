"""TCP handshakes under way: clients that have sent a SYN, and whose ACK has not come.

For such a client `connect` may have succeeded. If the listener is closed before its ACK comes, the kernel resets it.
Linux lists them (`man 7 sock_diag`).
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator

__all__ = ["handshakes_under_way", "wait_for_handshakes"]

_INTERVAL = 0.02
_UNLISTED = 0.25
"""Seconds to wait where the system does not list them."""

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_SYN_RECV = 1 << 3
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBxI")  # inet_diag_req_v2: family, protocol, extensions, states; then the sockid
_SOCKID = slice(_HEADER.size + 4, _HEADER.size + 52)  # of inet_diag_msg: ports, addresses, interface, cookie
_REPLY = 1 << 16


async def wait_for_handshakes(sockets: Iterable[socket.socket], limit: float) -> None:
    """Wait until the handshakes under way at the ports of the TCP sockets have ended, for at most `limit` seconds.

    Those that begin meanwhile are not waited for. Where the system does not list them, wait for 0.25 s.
    """
    ports = {sock.getsockname()[1] for sock in sockets if sock.family != socket.AF_UNIX}
    await asyncio.sleep(_INTERVAL)  # until a SYN that has passed the filter is in the kernel's table
    if not ports:
        return
    if (waiting := handshakes_under_way(ports)) is None:
        await asyncio.sleep(min(limit, _UNLISTED))
        return
    for _ in range(int(limit / _INTERVAL)):
        if not waiting:
            break
        await asyncio.sleep(_INTERVAL)
        waiting &= handshakes_under_way(ports) or frozenset()


def handshakes_under_way(ports: Collection[int]) -> frozenset[bytes] | None:
    """An identifier of each handshake under way at the local ports; None where the system does not list them.

    A handshake with a SYN cookie is not listed: only its client knows of it.
    """
    if not hasattr(socket, "AF_NETLINK"):
        return None
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diagnostics:
            return frozenset(
                found
                for port in ports
                for family in (socket.AF_INET, socket.AF_INET6)
                for found in _dump(diagnostics, family, port)
            )
    except OSError:
        return None


def _dump(diagnostics: socket.socket, family: int, port: int) -> Iterator[bytes]:
    sockid = struct.pack("!H", port).ljust(_SOCKID.stop - _SOCKID.start, b"\0")
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _SYN_RECV) + sockid
    diagnostics.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _DUMP, 0, 0) + request)
    while True:
        reply = diagnostics.recv(_REPLY)
        while reply:
            length, kind, *_ = _HEADER.unpack_from(reply)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", reply, _HEADER.size)[0]
                raise OSError(number, os.strerror(number))
            yield reply[_SOCKID]
            reply = reply[(length + 3) & ~3 :]
