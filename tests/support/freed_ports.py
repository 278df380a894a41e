"""Whether a port is free again."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from clients import Address, family

_TRIES = 3


def assert_port_freed(use: Callable[[], Address]) -> None:
    """Assert that another socket can listen at the address that `use` has used, and freed before it returned.

    A process that runs beside the test may take a freed port first. So `use` is called again, up to three times in all:
    a port that is never freed fails each time.
    """
    for _ in range(_TRIES):
        address = use()
        with socket.socket(family(address)) as successor:
            successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                successor.bind(address)
                successor.listen()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return
    raise AssertionError(f"{address} is still in use")
