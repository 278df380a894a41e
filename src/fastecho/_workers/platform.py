"""What only some systems offer: ending with the parent, and descriptors of processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_GET_PDEATHSIG = 2
_PR_SET_NO_NEW_PRIVS = 38

# Looked up before any fork, so that a child has it at hand.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends; at once if that is over.

    Linux only. Elsewhere a worker ends when the control channel is closed. Changing the user id clears it: call it
    last.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def set_process_name(name: str) -> None:
    """Name this process in /proc/PID/comm, by at most 15 characters. Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


@contextlib.contextmanager
def keep_death_signal() -> Iterator[None]:
    """Around a change of the user id, which clears it: the signal that this process gets when its parent ends."""
    number = ctypes.c_int(0)
    if _libc is not None:
        _libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0)
    yield
    if _libc is not None and number.value:
        _libc.prctl(_PR_SET_PDEATHSIG, number.value, 0, 0, 0)


def refuse_new_privileges() -> None:
    """No program that this process starts gains privileges, setuid or not. Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the child `pid` ends, or None where there are none: then SIGCHLD reports
    the end."""
    with contextlib.suppress(AttributeError, OSError):
        return os.pidfd_open(pid)
    return None
