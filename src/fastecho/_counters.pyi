"""Counters in shared memory: each process writes its own block, anybody may read them all."""

from typing import Final, final

from typing_extensions import Self

COUNTERS: Final[tuple[str, ...]]
"""The names of all counters; `fastecho.Stats` says what each means."""
GAUGES: Final[tuple[str, ...]]
"""Those of COUNTERS that fall again and end with their process."""

def monotonic_ms() -> int:
    """Milliseconds of the monotonic clock, the same for all processes of a machine."""

@final
class SharedCounters:
    """Blocks of counters in anonymous shared memory, for a process and those it forks.

    Args:
        slots: how many processes may count at once; at least 1.
    """

    def __new__(cls, slots: int) -> Self: ...
    @property
    def slots(self) -> int:
        """How many processes may count at once."""
    def slot(self, index: int, /) -> Counters:
        """The block of one process. Raises IndexError."""
    def retire(self, index: int, /) -> None:
        """Keep what a process that is gone has counted, forget its gauges, and clear its block for another one."""
    def totals(self) -> dict[str, int]:
        """The sums over all processes, those that are gone among them."""
    def active(self) -> int:
        """Sessions being served by all processes together."""
    def ticket(self) -> int:
        """1, 2, …: a number for a connection, which no other process of the service gives out too."""
    @property
    def accept_paused(self) -> bool:
        """Whether the last place of `max_connections` is taken."""
    @accept_paused.setter
    def accept_paused(self, paused: bool) -> None: ...

@final
class Counters:
    """The block of one process; made by `SharedCounters.slot`."""

    @property
    def shared(self) -> SharedCounters:
        """The memory that it is part of."""
    def beat(self) -> None:
        """Say that the process is alive."""
    @property
    def heartbeat(self) -> int:
        """When it last said so, in `monotonic_ms`; 0 is never."""
    @property
    def pid(self) -> int:
        """The process that owns the block; 0 is nobody."""
    @pid.setter
    def pid(self, pid: int) -> None: ...
    def snapshot(self) -> dict[str, int]:
        """The counters by name."""
