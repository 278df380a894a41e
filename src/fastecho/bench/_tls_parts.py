"""What the TLS engine and `fastecho ping` share: how a client trusts; and a connection of the engine."""

import collections
import socket
import ssl
from dataclasses import dataclass, field

from .spec import LoadError


@dataclass(eq=False)
class Connection:
    """As in `_load.pxd`; `messages` are (when, size), `shaken` says that the handshake is done."""

    index: int
    sock: socket.socket | None = None
    shaken: bool = False
    messages: collections.deque[tuple[int, int]] = field(default_factory=collections.deque)
    due: int = 0
    unsent: int = 0
    tx_at: int = 0
    rx_at: int = 0
    received: int = 0
    last: int = 0


def client_context(ca: str | None, insecure: bool) -> ssl.SSLContext:
    """Raises LoadError when `ca` cannot be read."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise LoadError(f"{ca}: cannot be read as certificates in PEM: {error}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
