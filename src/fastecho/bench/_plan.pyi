"""What a load engine is to do, checked and copied into C memory."""

from collections.abc import Sequence

from typing_extensions import Self, disjoint_base

@disjoint_base
class Plan:
    """What an engine is to do, in C memory.

    Raises ValueError for an address that is not numeric or of another family, or for too small a table.
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
        rate: float,
        poisson: bool,
        offset: float,
        timeout: float,
        seed: int,
        index: int,
    ) -> Self: ...
