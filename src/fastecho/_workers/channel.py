"""The control channel between the supervisor and one worker: one message a datagram, never waiting.

A message that cannot be sent at once is dropped, and that is safe: the queue is full only when the other side has
hundreds unread, and a worker that does not read is about to be killed for its silence.
"""

from __future__ import annotations

import socket

# From the worker.
READY = b"ready"
LEAVING = b"leaving"
"""The worker alone got a SIGTERM, or has lacked memory: it serves on until its successor is ready."""
DRAINED = b"drained"
"""After REMOVE and STOP: every client in the queues has been accepted, and the sockets are closed here."""

# From the supervisor.
RETIRE = b"retire"
REMOVE = b"remove"
"""The slot goes: no other process accepts on its sockets."""
STOP = b"stop"

_FAILED = b"failed:"
_LONGEST = 2048
# SOCK_SEQPACKET also reports that the other end is closed; macOS has no such UNIX socket.
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

    def send(self, message: bytes) -> bool:
        """Send `message`; False when the other end is closed or does not read."""
        try:
            self._sock.send(message)
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """The next message; None when there is none; empty when the other end is closed."""
        try:
            return self._sock.recv(_LONGEST)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        self._sock.close()


def failed(code: int, reason: str) -> bytes:
    """The message of a worker that cannot start: the exit code and one line."""
    line = " ".join(reason.split()) or "no reason given"
    return b"%s%d:%s" % (_FAILED, code, line.encode(errors="replace")[: _LONGEST - 32])


def parse_failed(message: bytes) -> tuple[int, str]:
    """The exit code and the line of a `failed` message."""
    code, _, line = message[len(_FAILED) :].partition(b":")
    return int(code), line.decode(errors="replace")
