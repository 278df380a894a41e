"""The control channel between the supervisor and one worker: one message a datagram, never waiting.

A message that cannot be sent at once is dropped, and that is safe: the queue is full only when the other side
has hundreds unread, of which `ROOM` says no more than "look again", and a worker that does not read is about
to be killed for its silence.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from ._descriptors import receive_sockets, send_sockets

# From the worker.
READY = b"ready"
PAUSED = b"paused"
RESUMED = b"resumed"
RETIRED = b"retired"
LEAVING = b"leaving"
"""The worker got a SIGTERM of its own: it serves on until its successor is there."""

# From the supervisor.
RETIRE = b"retire"
STOP = b"stop"
ADOPT = b"adopt"
ROOM = b"room"

_FAILED = b"failed:"
_LONGEST = 2048
# SOCK_SEQPACKET also tells when the other end is gone; macOS has no such UNIX socket.
_KIND = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)


class Channel:
    """One end of a control channel."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, _KIND)
        except OSError:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: bytes, sockets: Sequence[socket.socket] = ()) -> bool:
        """Send `message`, with `sockets` if any; False when the other end is gone or reads nothing."""
        try:
            if sockets:
                send_sockets(self._sock, message, sockets)
            else:
                self._sock.send(message)
        except OSError:
            return False
        return True

    def receive(self) -> tuple[bytes, list[socket.socket]] | None:
        """The next message and what came with it; None when none waits; empty when the other end is gone."""
        try:
            return receive_sockets(self._sock, _LONGEST)
        except BlockingIOError:
            return None
        except OSError:
            return b"", []

    def close(self) -> None:
        self._sock.close()


def failed(code: int, reason: str) -> bytes:
    """The message of a worker that cannot start: the exit code and one line."""
    line = " ".join(reason.split()) or "no reason given"
    return b"%s%d:%s" % (_FAILED, code, line.encode(errors="replace")[: _LONGEST - 32])


def parse_failed(message: bytes) -> tuple[int, str] | None:
    """The exit code and the line of a `failed` message; None for any other."""
    if not message.startswith(_FAILED):
        return None
    code, _, line = message[len(_FAILED) :].partition(b":")
    return int(code), line.decode(errors="replace")
