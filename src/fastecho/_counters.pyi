"""Counters in shared memory: each process writes its own, any process may read them all."""

import enum
from typing import Any, Final, final

from typing_extensions import Self

CAUSES: Final[tuple[str, ...]]
"""The names of the causes of an end, by `End`: `none`, then those of `Stats.ends`."""

OUTCOMES: Final[tuple[str, ...]]
"""The names of the outcomes of a datagram, by `Outcome`: those of `Stats.datagrams`."""

class End(enum.IntFlag):
    """Why a session ended."""

    END_NONE = 0
    END_EOF = 1
    END_TERMINATOR = 2
    END_RESET = 3
    END_IDLE = 4
    END_WRITE_TIMEOUT = 5
    END_DRAIN = 6
    END_DRAIN_TIMEOUT = 7
    END_ERROR = 8
    END_REFUSED = 9
    END_FAULT = 10

class Outcome(enum.IntFlag):
    """What became of a datagram."""

    DATAGRAM_ECHOED = 0
    DATAGRAM_TRUNCATED = 1
    DATAGRAM_REFUSED_PORT = 2
    DATAGRAM_REFUSED_ADDRESS = 3
    DATAGRAM_REFUSED_ECHO = 4
    DATAGRAM_RATE_LIMITED = 5
    DATAGRAM_DROPPED = 6
    DATAGRAM_SEND_ERROR = 7
    DATAGRAM_RECEIVE_ERROR = 8

def monotonic_ms() -> int:
    """Milliseconds of the monotonic clock, which all processes of a machine share."""

@final
class SharedCounters:
    """Counters in anonymous shared memory, for a process and those it forks.

    Args:
        size: how many processes may count at the same time; at least 1.
    """

    def __new__(cls, size: int) -> Self: ...
    @property
    def size(self) -> int:
        """How many processes may count at the same time."""
    def counters_of(self, index: int, /) -> Counters:
        """The counters of one process. Raises IndexError."""
    def retire(self, index: int, /) -> None:
        """Clear the gauges of a process that has ended. The next process of these counters counts on from there, so the
        totals never fall."""
    def totals(self) -> dict[str, Any]:
        """The sums over all processes, also those that have ended, with the names of `Stats`."""
    def next_connection_number(self) -> int:
        """1, 2, …: a number that no other connection of the service has."""

@final
class Counters:
    """The counters of one process; made by `SharedCounters.counters_of`."""

    @property
    def shared(self) -> SharedCounters:
        """The memory that they are part of."""
    def beat(self) -> None:
        """Record that the process is alive."""
    @property
    def heartbeat(self) -> int:
        """Time of the last `beat`, in `monotonic_ms`; 0 before the first."""
    @property
    def pid(self) -> int:
        """The process that writes these counters; 0 for none."""
    @pid.setter
    def pid(self, pid: int) -> None: ...
    def snapshot(self) -> dict[str, Any]:
        """The counters, with the names of `Stats`."""
