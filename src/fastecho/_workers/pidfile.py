"""The pid file: complete whenever it can be seen, never taken from a process that runs, removed by its owner only.

It is written under a temporary name and then linked to the path, or renamed over a stale file. A lock on the stale file
makes check and rename one step among instances that start together.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from pathlib import Path

from ..errors import AddressInUseError, ConfigError, FastechoError, PermissionDeniedError

__all__ = ["PidFile"]

_MOST = 32
"""Bytes of a pid file; more is another file."""


class PidFile:
    """The file of `--pid-file`, which exists from `write` to `remove`."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._shown = path
        self._inode: tuple[int, int] | None = None
        self._owner = os.getpid()
        self._lock: int | None = None
        """Holds the POSIX lock that says that the owner of the file runs, also after the clock was set."""

    def write(self) -> None:
        """Write the pid of this process.

        Raises:
            AddressInUseError: the file is that of a process that runs.
            PermissionDeniedError: the file may not be written.
            ConfigError: it cannot be written, or it is something else than a pid file.
        """
        try:
            self._write()
        except FastechoError:
            raise
        except PermissionError:
            raise PermissionDeniedError(f"pid_file {self._shown}: permission denied") from None
        except OSError as error:
            raise ConfigError("pid_file", self._shown, f"cannot be written: {error.strerror}") from None

    def remove(self) -> None:
        """Remove the file, if it still is the one written here. Without permission, it stays, and is stale."""
        if self._inode is None or self._owner != os.getpid():
            return
        self.close_copy()
        with contextlib.suppress(OSError):
            # The system gives the number of a removed file to the next one.
            if _inode(os.lstat(self._path)) == self._inode and Path(self._path).read_text() == f"{self._owner}\n":
                os.unlink(self._path)
        self._inode = None

    def close_copy(self) -> None:
        """Close the file; in a forked child, which does not own its lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self) -> None:
        temporary = f"{self._path}~{secrets.token_hex(3)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with contextlib.ExitStack() as undo:
            undo.callback(_unlink, temporary)
            undo.callback(os.close, descriptor)
            os.write(descriptor, b"%d\n" % self._owner)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            while not self._put(temporary):
                pass
            self._inode = _inode(os.fstat(descriptor))
            undo.pop_all()
            self._lock = descriptor
        _unlink(temporary)

    def _put(self, temporary: str) -> bool:
        """Give `temporary` the path; False if another process has changed the file there meanwhile."""
        try:
            os.link(temporary, self._path, follow_symlinks=False)
            return True
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            # A file system without links.
            if not os.path.lexists(self._path):
                os.rename(temporary, self._path)
                return True
        try:
            stale = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        with open(stale, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            status = os.fstat(file.fileno())
            content = file.read(_MOST + 1) if stat.S_ISREG(status.st_mode) else None
            self._refuse_live(content, status.st_mtime, _is_locked(file.fileno()))
            with contextlib.suppress(FileNotFoundError):
                if _inode(os.lstat(self._path)) == _inode(status):
                    os.rename(temporary, self._path)
                    return True
        return False

    def _refuse_live(self, content: bytes | None, written: float, locked: bool) -> None:
        """Raise unless `content`, written at that time of `time.time`, is the pid of a process that has ended.

        A process that runs may seem to be younger than its file, where the clock was set forward: its lock tells.
        """
        text = content.strip() if content is not None and len(content) <= _MOST else None
        if text is None or (text and not text.isdigit()):
            raise ConfigError("pid_file", self._shown, "must be a new file, or one that holds a pid")
        pid = int(text or b"0")
        if pid and pid != os.getpid() and (locked or _is_alive(pid, written)):
            raise AddressInUseError(f"pid_file {self._shown}: is that of the process {pid}, which runs")


def _is_locked(descriptor: int) -> bool:
    """Whether another process holds the lock of the file."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        return error.errno == errno.EACCES
    return False


def _is_alive(pid: int, since: float) -> bool:
    """Whether a process `pid` runs that had started at the time `since`; a later one has got the number by chance."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    try:
        started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, ValueError, IndexError, AttributeError):
        return True
    return boot + started <= since + 1.0


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # it has been renamed
        os.unlink(path)


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
