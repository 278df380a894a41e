from collections.abc import Sequence

class Plan:
    """What an engine is to do, in C memory.

    Raises ValueError for an address that is not numeric or of another family, or for too small a table.
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
