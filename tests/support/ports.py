"""Ports for programs that cannot choose one and say which."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterable, Iterator

ANY = (0,)
PRIVILEGED = range(1023, 500, -1)


@contextlib.contextmanager
def held_port(of: Iterable[int] = ANY) -> Iterator[int]:
    """A free TCP port of 127.0.0.1 for one server. Nothing listens there, so that a client is refused until it does.

    On Linux no other program gets the port meanwhile, unless it asks for this one: a socket is bound to it. It has
    SO_REUSEADDR only afterwards: it shares the port with a server that sets this option, but not with another test that
    looks for a port.
    """
    with socket.socket() as holder:
        for port in of:
            with contextlib.suppress(OSError):
                holder.bind(("127.0.0.1", port))
                break
        else:
            raise AssertionError("no port is free")
        found = int(holder.getsockname()[1])
        if sys.platform == "linux":
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            holder.close()
        yield found
