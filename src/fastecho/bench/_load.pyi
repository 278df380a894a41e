"""The load engine: Cython over epoll, or poll(2) where that is not; one `Engine` a thread."""

import enum
from collections.abc import Sequence
from typing import final

from typing_extensions import Self

from ._errors import ERROR_KINDS as ERROR_KINDS
from ._errors import NO_EOF as NO_EOF
from ._errors import FirstError
from ._hdr import Histogram

class Phase(enum.IntFlag):
    """The phases of a run; see the diagram in `_load.pxd`."""

    CONNECT = 0
    WARM_UP = 1
    MEASURE = 2
    DRAIN = 3
    STOP = 4

def may_send(phase: Phase, open_loop: bool) -> bool:
    """Whether a connection may send in this phase. An open loop sends what was due in DRAIN, too."""

def is_timed(phase: Phase, open_loop: bool, when: int, from_time: int, to_time: int) -> bool:
    """Whether the latency of a message that was sent or due at `when` counts, if its echo comes in this phase.

    In a closed loop it counts if the echo comes within the window; in an open loop if the message was due between
    `from_time` and `to_time`.
    """

def now() -> int:
    """The engine's clock: monotonic, in nanoseconds."""

def close_means_reset(fd: int) -> None:
    """Close the socket with RST instead of FIN."""

def proxy_header(fd: int, version: int) -> bytes:
    """The header of the PROXY protocol, version 1 or 2, for a connected socket.

    It names the socket's own address as the client's; on a UNIX socket it names none. Raises OSError when the
    connection has ended.
    """

@final
class Engine:
    """The load of one thread. `run()` holds no interpreter lock; the other methods may be called meanwhile.

    A new engine is in the phase CONNECT.

    With `churn`, a `terminator` that is not empty ends every message, and the server closes first.
    With `count_all`, echoes count in every phase, as those in the window do.

    Raises:
        ValueError: an address is not numeric or of another family, or the table is too small.
    """

    def __new__(
        cls,
        *,
        family: int,
        host: str,
        port: int,
        sources: Sequence[str],
        connections: int,
        depth: int,
        sizes: Sequence[int],
        table: bytes,
        chunk: int,
        verify: bool,
        churn: bool,
        terminator: bytes,
        rate: float,
        poisson: bool,
        offset: float,
        timeout: float,
        seed: int,
        index: int,
        proxy_protocol: int,
        count_all: bool,
    ) -> Self: ...

    def run(self) -> None:
        """Load the target until DRAIN has ended, or until STOP."""
    def close(self) -> None:
        """Close the connections; only after `run()` has returned."""
    def enter_phase(self, phase: Phase, at: int) -> None:
        """Change to `phase`, which begins `at` on the engine's clock."""
    @property
    def histogram(self) -> Histogram: ...
    @property
    def connected(self) -> int: ...
    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Echoes in all, echoes in the window, their bytes, arrivals never sent."""
    @property
    def cpu(self) -> float:
        """CPU seconds of the engine's thread inside the window."""
    @property
    def errors(self) -> dict[str, int]: ...
    @property
    def first_errors(self) -> dict[str, FirstError]: ...
