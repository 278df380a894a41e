"""The specification in code: what a terminator matches and what a session owes its peer.

Written to be obviously right, not fast: every rule looks at the whole stream so far. The tests ask it what to
expect; nothing here is shared with the implementation.
"""

from __future__ import annotations


class Terminator:
    """`tail`: the stream read so far ends with the value at the end of a read. `anywhere`: the
    value first occurs in the stream, at any offset."""

    def __init__(self, value: bytes | None, match: str = "tail") -> None:
        self.value = value
        self.match = match
        self.stream = b""
        self.ended = False

    def feed(self, read: bytes) -> int:
        """-1 while the stream goes on, else how many bytes of this read are due to be echoed."""
        if self.ended:
            raise ValueError("the stream has ended")
        if not read:
            return -1
        before = len(self.stream)
        self.stream += read
        if self.value is None:
            return -1
        if self.match == "tail":
            self.ended = self.stream.endswith(self.value)
            return len(read) if self.ended else -1
        at = self.stream.find(self.value)
        self.ended = at >= 0
        return at + len(self.value) - before if self.ended else -1

    def reset(self) -> None:
        self.stream = b""
        self.ended = False


class Session:
    """All that is received is echoed, up to what the terminator allows; then it ends."""

    def __init__(self, terminator: bytes | None, match: str = "tail") -> None:
        self.terminator = Terminator(terminator, match)
        self.received = 0
        self.echo = b""
        self.discarded = 0
        self.end: str | None = None

    def read(self, read: bytes) -> None:
        self.received += len(read)
        if self.end is not None:
            self.discarded += len(read)
            return
        due = self.terminator.feed(read)
        if due < 0:
            self.echo += read
        else:
            self.echo += read[:due]
            self.discarded += len(read) - due
            self.end = "terminator"

    def eof(self) -> None:
        if self.end is None:
            self.end = "eof"


def echo_of(stream: bytes, terminator: bytes | None, match: str = "tail") -> bytes:
    """What comes back when the whole stream is one read."""
    session = Session(terminator, match)
    session.read(stream)
    return session.echo
