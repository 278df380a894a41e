"""The controlling terminal: after it is closed, SIGHUP does not mean reload."""

from __future__ import annotations

import errno
import os

# No controlling terminal, or one that was hung up.
_GONE = frozenset({errno.ENXIO, errno.EIO})


class ControllingTerminal:
    """Whether this process has lost the controlling terminal that it had when the object was made."""

    def __init__(self) -> None:
        self._existed = _error() is None

    @property
    def closed(self) -> bool:
        return self._existed and _error() in _GONE


def _error() -> int | None:
    """Why the controlling terminal cannot be opened; None if it can."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno
    return None
