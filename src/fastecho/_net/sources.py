"""Which addresses count as one source, for `max_per_source`."""

from __future__ import annotations

import ipaddress
from typing import Any

__all__ = ["source_of"]


def source_of(address: Any) -> str | None:
    """The source of an address: the IPv4 address, or the /64 of an IPv6 address, since one host may use all of it.

    Args:
        address: as `getpeername` returns it, or as text such as `192.0.2.7:4711` and `[2001:db8::7]:4711`.

    Returns:
        None for a UNIX socket, and for a client that has left.
    """
    if not address:
        return None
    host = address[0] if isinstance(address, tuple) else address.rpartition(":")[0].strip("[]")
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:  # a path
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)
