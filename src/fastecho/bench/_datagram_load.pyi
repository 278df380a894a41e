"""The load engine for UDP."""

from collections.abc import Sequence
from typing import Any, final

from typing_extensions import Self

from ._errors import FirstError
from ._hdr import Histogram
from ._load import Phase

@final
class DatagramEngine:
    """The load of one thread over UDP, with the methods and phases of `_load.Engine`.

    Args:
        address: to connect each socket to, of `family`.
        sources: addresses to bind the sockets to, in turn; empty for none.
        connections: sockets. depth: datagrams in flight on each.
        sizes: of the datagrams, in turn; at least 16.
        table: payload bytes, `_load.PERIOD` and 65,536 more.
        rate: datagrams a second (open loop), or 0. offset: nanoseconds before the first.
        timeout: seconds after which a datagram counts as lost.

    Raises:
        OSError: a socket cannot be made or connected.
        ValueError: the table is too small.
    """

    def __new__(
        cls,
        *,
        address: tuple[Any, ...],
        family: int,
        sources: Sequence[str],
        connections: int,
        depth: int,
        sizes: Sequence[int],
        table: bytes,
        verify: bool,
        rate: float,
        poisson: bool,
        offset: float,
        timeout: float,
        seed: int,
        index: int,
    ) -> Self: ...
    def run(self) -> None:
        """Load the target until DRAIN has ended, or until STOP."""
    def close(self) -> None:
        """Close the sockets; only after `run()` has returned."""
    def enter_phase(self, phase: Phase, at: int) -> None:
        """Change to `phase`, which begins `at` on the engine's clock."""
    @property
    def histogram(self) -> Histogram: ...
    @property
    def connected(self) -> int: ...
    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Datagrams that came back in all, those in the window, their bytes, arrivals never sent."""
    @property
    def cpu(self) -> float:
        """CPU seconds of the engine's thread inside the window."""
    @property
    def errors(self) -> dict[str, int]:
        """By kind: connect, reset (an ICMP error), lost, duplicated, reordered, altered."""
    @property
    def first_errors(self) -> dict[str, FirstError]:
        """The first of each kind; its `offset` is the sequence of the datagram, -1 where that cannot be read."""
