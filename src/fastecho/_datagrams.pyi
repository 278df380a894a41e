"""UDP: one datagram in, the same datagram out, in batches of up to 64, in C."""

import asyncio
import socket
from collections.abc import Iterable
from typing import final

from typing_extensions import Self

from ._counters import Counters

@final
class RateTable:
    """How many datagrams a second are answered to each network, in memory of a fixed size.

    Args:
        rate: datagrams a second, 1 to 1,000,000,000. A network that was silent may send one second's datagrams at once.

    It remembers 4,096 networks. Of those that share a place in the table, a new one replaces the one that has most left
    to send. The places are chosen by a random key.
    """

    def __new__(cls, rate: int) -> Self: ...
    def allow(self, network: int, now: int, /) -> bool:
        """Whether a datagram of `network` is answered at `now`, in nanoseconds; it then counts."""

@final
class DatagramEcho:
    """Answers the datagrams of UDP sockets on a loop. Refused datagrams and errors are counted, and never raised.

    Args:
        loop: with `add_reader`.
        sockets: bound and not connected; closed by `close`.
        counters: where to count; private memory by default.
        rate: datagrams a second that are answered to one source network (IPv4 /24, IPv6 /64); None for no limit.
            Loopback has none.
        size: bytes of a buffer: a larger datagram is truncated, and not answered. Default 65535, the largest there is.
    """

    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        sockets: Iterable[socket.socket],
        counters: Counters | None = None,
        rate: int | None = None,
        size: int = 65535,
    ) -> Self: ...
    def start(self) -> None:
        """Answer from now on."""
    def read(self, index: int, /) -> None:
        """Answer what is queued at a socket, up to 256 datagrams. Called by the loop."""
    def close(self, answer: bool = False) -> None:
        """Stop, and close the sockets.

        Args:
            answer: first answer what is queued.
        """
    def close_copies(self) -> None:
        """In a forked child: close its copies of the sockets. The loop is the parent's, and not touched."""
