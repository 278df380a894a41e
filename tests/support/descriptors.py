"""The descriptors that are open in this process, as identities: their number alone hides one that took another's place.

A loop opens some at its first use, and libuv keeps one more from the first connection on.
"""

from __future__ import annotations

import os

Descriptor = tuple[int, int, int]
"""Its number, and device and inode of what is open there."""


def open_descriptors() -> set[Descriptor]:
    found = set()
    for number in map(int, os.listdir("/dev/fd")):
        try:
            status = os.fstat(number)
        except OSError:  # that of the listing itself, or closed by another thread
            continue
        found.add((number, status.st_dev, status.st_ino))
    return found
