from collections.abc import Sequence

from ._hdr import Histogram

ERROR_KINDS: tuple[str, ...]

def now() -> int:
    """The engine's clock: monotonic, in nanoseconds."""

class Engine:
    """The load of one thread: `run()` holds no interpreter lock, all else may be called beside it.

    The phases of `enter_phase` are 1 warm up, 2 measure, 3 drain, 4 stop; a new engine is in 0, connecting.
    """

    def __init__(
        self,
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
        rate: float,
        poisson: bool,
        offset: float,
        timeout: float,
        seed: int,
        index: int,
    ) -> None: ...
    def run(self) -> None:
        """Load the target until phase 3 has drained, or phase 4."""
    def close(self) -> None:
        """Close the connections; only after `run()` has returned."""
    def enter_phase(self, phase: int, at: int) -> None:
        """Go on to `phase`, whose first moment is `at` on the engine's clock."""
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
    def first_errors(self) -> dict[str, tuple[int, int, int, int, int]]:
        """By kind: connection, errno, offset in the echoed stream, byte expected, byte got (-1: not known)."""
