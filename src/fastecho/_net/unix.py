"""A UNIX listening socket at a path: never open to others, never stolen from a server that lives.

It is bound under a temporary name, gets mode 0600 before clients can connect, listens, and is then renamed
over the path, unless a server answers there. A lock on the directory makes probe and rename one step among
instances that start together. The kernel goes on calling the socket by its temporary name, so that name is
the path plus a suffix that can be recognised and removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import posix  # which stays where a test has replaced `os` (pyfakefs)
import secrets
import socket
import stat
import time
from collections.abc import Iterator

from .kernel import monotonic

TEMPORARY_SUFFIX = r"~[0-9a-f]{6}\Z"
"""Matches what `bind_path` adds to the path for the temporary name."""

_LOCK_PATIENCE = 1.0


def bind_path(path: str, backlog: int) -> tuple[socket.socket, tuple[int, int]]:
    """Listen at `path`, non-blocking, mode 0600; return the socket and the path's (device, inode).

    Raises `OSError` with EADDRINUSE when a server lives there, EEXIST when something else than a socket
    is there, no errno when the path is too long, or what the system says; `ValueError` for a NUL.
    """
    temporary = f"{path}~{secrets.token_hex(3)}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        sock.setblocking(False)
        sock.bind(temporary)
        undo.callback(posix.unlink, temporary)
        posix.chmod(temporary, 0o600)
        inode = _inode(temporary)
        sock.listen(backlog)
        with _directory_lock(path):
            _refuse_occupied(path)
            posix.rename(temporary, path)
        undo.pop_all()
    return sock, inode


def remove_path(path: str, inode: tuple[int, int]) -> None:
    """Unlink `path` if it still is the socket `inode`, and not the socket of another server."""
    with _directory_lock(path), contextlib.suppress(OSError):
        if _inode(path) == inode:
            posix.unlink(path)


def give_path(path: str, inode: tuple[int, int], uid: int, gid: int) -> None:
    """Make the user and the group the owners of the socket `inode` at `path`, and of no file that took its place.

    Raises `OSError`.
    """
    if not hasattr(posix, "O_PATH"):
        posix.chown(path, uid, gid, follow_symlinks=False)
        return
    descriptor = posix.open(path, posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    try:
        status = posix.fstat(descriptor)
        if (status.st_dev, status.st_ino) == inode:
            posix.chown(f"/proc/self/fd/{descriptor}", uid, gid)
    finally:
        posix.close(descriptor)


def _refuse_occupied(path: str) -> None:
    """Raise unless `path` is free or holds a socket on which no process listens."""
    try:
        mode = posix.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except PermissionError:
            raise
        except OSError:
            # EAGAIN: its backlog is full; EPROTOTYPE: it is a datagram socket. Either way it lives.
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


@contextlib.contextmanager
def _directory_lock(path: str) -> Iterator[None]:
    """Hold the lock of the directory of `path`, if it can be had in a second; it only narrows a race."""
    try:
        directory = posix.open(os.path.dirname(path) or ".", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        deadline = monotonic() + _LOCK_PATIENCE
        while monotonic() < deadline:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.005)
            except OSError:
                break
        yield
    finally:
        posix.close(directory)


def _inode(path: str) -> tuple[int, int]:
    status = posix.lstat(path)
    return status.st_dev, status.st_ino
