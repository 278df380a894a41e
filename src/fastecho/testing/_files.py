"""Files on the disk, for OpenSSL and the kernel, which see no fake file system.

A test may have replaced `os`, `io`, `pathlib` and `shutil` (pyfakefs). `posix`, below them, is not replaced.
"""

from __future__ import annotations

import contextlib
import os
import posix
import secrets
import tempfile
from collections.abc import Iterator

from .._options.text import LONGEST_UNIX_PATH
from ..errors import AddressError

__all__ = ["SOCKET", "make_folder", "read", "remove_folder", "socket_folder", "write"]

SOCKET = "socket"
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")

try:
    TEMPORARY = tempfile.gettempdir()
except FileNotFoundError:  # no folder that Python tries can be written to
    TEMPORARY = ""


def make_folder(parent: str = TEMPORARY) -> str:
    """A new folder in `parent`, of this user only."""
    path = f"{parent}/fastecho-{secrets.token_hex(4)}"
    posix.mkdir(path, 0o700)
    return path


def write(path: str, content: bytes) -> None:
    """A new file, of this user only."""
    descriptor = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600)
    try:
        while content:
            content = content[posix.write(descriptor, content) :]
    finally:
        posix.close(descriptor)


def read(path: str) -> bytes:
    """The first 4 KiB of a file."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(descriptor, 4096)
    finally:
        posix.close(descriptor)


def remove_folder(path: str) -> None:
    """The folder and the files in it, as far as they are there."""
    with contextlib.suppress(OSError):
        for name in posix.listdir(path):
            with contextlib.suppress(OSError):
                posix.unlink(f"{path}/{name}")
        posix.rmdir(path)


def socket_folder() -> str:
    """A new folder for a UNIX socket, for this user alone: in `TMPDIR` if the path is short enough for the kernel.

    Raises:
        AddressError: no folder is suitable.
    """
    tried = []
    for parent in _parents():
        try:
            folder = make_folder(parent)
        except OSError as error:
            tried.append(f"{parent}: {error.strerror}")
            continue
        if len(os.fsencode(os.path.join(folder, SOCKET))) <= LONGEST_UNIX_PATH:
            return folder
        remove_folder(folder)
        tried.append(f"{parent}: too long")
    raise AddressError(f"no folder for a UNIX socket: {'; '.join(tried)}; give its path (unix=)")


def _parents() -> Iterator[str]:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    yield from (each for each in (TEMPORARY, *_SHORT, runtime) if each)
