"""What an ordinary user may do: no CAP_NET_ADMIN, which Linux 6.18 wants for a socket filter.

python unprivileged.py COMMAND... replaces itself with COMMAND, for good without the capability.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_PR_CAPBSET_DROP, _CAP_NET_ADMIN = 24, 12
_VERSION = 0x20080522


def drop_from_bounding_set() -> None:
    """Root gets at exec(2) what the bounding set has. A user who may not change it has no capability to lose."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_CAPBSET_DROP, _CAP_NET_ADMIN, 0, 0, 0)


def without_net_admin(work: Callable[[], Any]) -> Any:
    """What `work` returns, called in a thread that has given up the capability: it is each thread's own."""
    results: list[Any] = []

    def body() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(_VERSION, 0)
        sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then those from number 32 on
        assert libc.capget(header, sets) == 0
        for index in range(3):
            sets[index] &= ~(1 << _CAP_NET_ADMIN)
        assert libc.capset(header, sets) == 0
        results.append(work())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return results[0]


def command(*arguments: str) -> list[str]:
    """`python ARGUMENTS` without the capability, as a list for subprocess."""
    return [sys.executable, __file__, sys.executable, *arguments]


if __name__ == "__main__":
    drop_from_bounding_set()
    os.execv(sys.argv[1], sys.argv[1:])
