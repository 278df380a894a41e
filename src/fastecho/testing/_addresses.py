"""Addresses that do not serve: one refuses every connection, the other never answers.

Both belong to this process until the block ends, so that no other program can listen there.
"""

from __future__ import annotations

import errno
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ._blocks import both_ways

__all__ = ["blackhole_address", "refused_address"]

_FAMILIES = {"tcp": (socket.AF_INET, "127.0.0.1"), "tcp6": (socket.AF_INET6, "::1")}
_ANSWER_SECONDS = 1.0
"""A loopback handshake takes microseconds: what is not answered by then is not answered at all."""
_MOST_CONNECTIONS = 1024


@both_ways
@contextmanager
def refused_address(family: str = "tcp") -> Iterator[tuple[str, int]]:
    """(host, port) where connections are refused, and go on being refused while the block lasts.

    The port is bound and not listening. Without SO_REUSEADDR no other socket can be bound to it, and the kernel gives
    it to no client, so that none connects to itself there.

    Args:
        family: `tcp` (127.0.0.1) or `tcp6` (::1).
    """
    with _bound(family) as holder:
        yield holder.getsockname()[:2]


@both_ways
@contextmanager
def blackhole_address(family: str = "tcp") -> Iterator[tuple[str, int]]:
    """(host, port) where a SYN is never answered, so that `connect` runs into the client's own time-out.

    It listens, and its queue of connections is full: the kernel drops every further SYN.

    Args:
        family: `tcp` (127.0.0.1) or `tcp6` (::1).
    """
    with ExitStack() as stack:
        listener = stack.enter_context(_bound(family))
        listener.listen(0)
        _fill(listener, stack)
        yield listener.getsockname()[:2]


@contextmanager
def _bound(family: str) -> Iterator[socket.socket]:
    if family not in _FAMILIES:
        raise ValueError(f"family {family!r}: must be {' or '.join(_FAMILIES)}")
    number, host = _FAMILIES[family]
    with socket.socket(number, socket.SOCK_STREAM) as holder:
        holder.bind((host, 0))
        yield holder


def _fill(listener: socket.socket, stack: ExitStack) -> None:
    """Fill the accept queue of `listener`. The connections stay open as long as `stack`.

    Linux queues one connection at a backlog of 0, other systems more: there, the first connection without an answer
    shows that the queue is full. Linux without SYN cookies answers none at a backlog of 0, so the first attempt already
    ends the loop.
    """
    for _ in range(_MOST_CONNECTIONS):
        filler = stack.enter_context(socket.socket(listener.family, socket.SOCK_STREAM))
        filler.setblocking(False)
        error = filler.connect_ex(listener.getsockname())
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, "cannot fill the queue of a blackhole address")
        if not _within(filler, select.POLLOUT):
            return
        # The client's side is connected before the listener has seen the last ACK; only then the place is taken.
        if sys.platform == "linux" and _within(listener, select.POLLIN):
            return


def _within(sock: socket.socket, event: int) -> bool:
    poll = select.poll()  # not select(): a test may have thousands of descriptors open
    poll.register(sock, event)
    return bool(poll.poll(1000 * _ANSWER_SECONDS))
