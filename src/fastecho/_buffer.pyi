"""The C-accelerated buffer path: pooled memory and the terminator. Owns memory, knows no asyncio and no socket."""

import sys
from types import TracebackType
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
    """`count` slots of `size` bytes cut from one Memory. Raises MemoryError."""

    def __new__(cls, count: int, size: int) -> Self: ...

@final
class BufferPool:
    """Buffers cut from page-aligned slabs and leased last in, first out.

    Args:
        buffers: slots preallocated in one slab; they are never given back. Default 64.
        buffer_size: bytes of a slot. Default 65536.
        limit: the most slots ever; None is no limit.

    One slot stands ready at all times, so that a read can begin without allocating: the pool grows by a slab (1 MiB of
    slots, at least one) when its last free slot is leased. A slab beyond the preallocated one goes back to the system
    once all of it is free and as many slots are free elsewhere. Memory is resident only once it was written to.

    Raises:
        ValueError: `buffers` or `buffer_size` below 1, or `limit` below `buffers`.
        MemoryError: the system has no memory for the first slab.

    Not thread-safe: one pool a loop.
    """

    def __new__(cls, buffers: int = 64, buffer_size: int = 65536, *, limit: int | None = None) -> Self: ...
    @property
    def buffer_size(self) -> int:
        """Bytes of a slot."""
    @property
    def preallocated(self) -> int:
        """Slots that are never given back."""
    @property
    def capacity(self) -> int:
        """Slots allocated now."""
    @property
    def in_use(self) -> int:
        """Slots leased now."""
    @property
    def free(self) -> int:
        """Slots that can be leased without growing."""
    @property
    def slabs(self) -> int:
        """Slabs allocated now, the preallocated one among them."""
    def lease(self) -> Lease:
        """The slot that was released last. Raises MemoryError at the limit, or when the system has no memory."""

@final
class Lease:
    """One slot, owned by whoever holds this object; writable through the buffer protocol.

    It goes back to the pool with `release`, at the end of a `with` block, or when the object is collected.
    """

    @property
    def address(self) -> int:
        """Where the slot is in memory. Raises ValueError after `release`."""
    @property
    def size(self) -> int:
        """Bytes of the slot."""
    def release(self) -> None:
        """Give the slot back. Raises ValueError the second time, BufferError while a view of it is alive."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    if sys.version_info >= (3, 12):  # the buffer protocol itself is there on every version (PEP 688)
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Terminator:
    """Finds the end of a stream that arrives in cuts.

    Args:
        value: 1 to 64 bytes, or None: the stream never ends by one (the plain echo of RFC 862).
        match: "tail": the stream ends when what was fed so far ends with the terminator, at the end of a feed.
            "anywhere": it ends at the terminator's first occurrence. Default "tail".

    The work is linear in the bytes fed, whatever the cuts: between two feeds it remembers the longest prefix of the
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
