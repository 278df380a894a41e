"""Pooled buffers and the terminator, in C. This module uses neither asyncio nor sockets."""

import sys
from typing import Final, Literal, final

from typing_extensions import Buffer, Self

BUILD: Final[Literal["release", "debug", "coverage"]]
"""How the extension modules were built (`FASTECHO_BUILD`)."""
MATCHES: Final[tuple[str, ...]]

@final
class Memory:
    """Page-aligned memory of `size` bytes from the system, writable through the buffer protocol, unmapped with the last
    view of it. Raises MemoryError."""

    def __new__(cls, size: int) -> Self: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Slab:
    """`count` buffers of `size` bytes cut from one Memory. Raises MemoryError."""

    def __new__(cls, count: int, size: int) -> Self: ...

@final
class BufferPool:
    """Buffers of one size. The one that was released last is acquired next.

    Args:
        buffers: preallocated in one slab, which is never unmapped. Default 64.
        buffer_size: bytes of a buffer. Default 65536.

    One buffer is ready at all times, so that a read can begin without allocating: the pool grows by a slab (1 MiB of
    buffers, at least one) when its last free buffer is acquired. A slab beyond the preallocated one goes back to the
    system when all of it is free and as many buffers are free elsewhere. Memory is resident only once it was written
    to.

    Raises:
        ValueError: `buffers` or `buffer_size` is below 1.
        MemoryError: the system has no memory for the first slab.

    Not thread-safe: one pool a loop.
    """

    def __new__(cls, buffers: int = 64, buffer_size: int = 65536) -> Self: ...
    @property
    def buffer_size(self) -> int:
        """Bytes of a buffer."""
    @property
    def preallocated(self) -> int:
        """Buffers of the first slab, which is never unmapped."""
    @property
    def capacity(self) -> int:
        """Buffers that exist now, free or held."""
    @property
    def in_use(self) -> int:
        """Buffers held by sessions."""
    @property
    def free(self) -> int:
        """Buffers that can be acquired without growing; at least 1."""
    @property
    def slabs(self) -> int:
        """Slabs allocated now, the preallocated one among them."""
    def get_buffer(self, sizehint: int, /) -> memoryview:
        """The ready buffer, for a read that begins now."""

@final
class Terminator:
    """Finds the end of a stream that arrives in cuts.

    Args:
        value: 1 to 64 bytes, or None: the stream never ends by one (the plain echo of RFC 862).
        match: "tail": the stream ends when what was fed so far ends with the terminator, at the end of a feed.
            "anywhere": it ends at the terminator's first occurrence. Default "tail".

    The work is linear in the bytes fed for every segmentation: between two feeds it keeps the longest prefix of the
    terminator that the stream ends with (Knuth, Morris, Pratt 1977).

    Raises:
        TypeError: `value` is neither bytes nor None.
        ValueError: `value` is empty or longer than 64 bytes, or `match` is neither of the two.
    """

    def __new__(cls, value: bytes | None, match: Literal["tail", "anywhere"] = "tail") -> Self: ...
    @property
    def value(self) -> bytes | None:
        """The terminator."""
    @property
    def match(self) -> Literal["tail", "anywhere"]:
        """Where it counts."""
    @property
    def ended(self) -> bool:
        """Whether the stream has ended."""
    def feed(self, data: Buffer, /) -> int:
        """Look at the next cut of the stream, any contiguous buffer.

        Returns:
            -1 while the stream goes on; at its end, how many bytes of this cut belong to it ("tail": all, "anywhere":
            up to and including the terminator). An empty cut ends nothing.

        Raises:
            ValueError: the stream has ended before.
            TypeError: `data` is no buffer.
            BufferError: the buffer is not contiguous.
        """
    def reset(self) -> None:
        """Begin a new stream."""
