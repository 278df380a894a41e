"""Questions to the kernel, asked in C.

Tests replace `time` (freezegun), `os` and `fcntl` (pyfakefs), `select` (gevent) below a server that runs beside them.
The server still needs the time that passes and the sockets that exist.
"""

def monotonic() -> float:
    """Seconds of the monotonic clock, which no test can stop."""

def unacknowledged(fd: int) -> int:
    """Bytes that the client's side has not acknowledged, a FIN counts as one. 0 where that cannot be known, and on a
    TCP socket that a reset has closed: its bytes will never be acknowledged. (UNIX sockets: memory held by what the
    client has not read.)"""

def unread(fd: int) -> int:
    """Bytes that the kernel has received and the server has not read; 0 where that cannot be known."""

def left(fd: int) -> str | None:
    """What became of the client, asked without reading: "eof", "reset", or None while it is there."""

def inode(fd: int) -> int:
    """The inode of a descriptor; 0 for a descriptor that is not open."""

def close_means_reset(fd: int) -> None:
    """Have close(2) send an RST instead of a FIN. Does nothing to a socket that the client has reset (macOS)."""

def would_block(error: int) -> bool:
    """Whether this `errno` of recv(2) or send(2) means: nothing can be transferred now, but the connection is open."""
