"""Clients that connect again and again while the service changes under them."""

from __future__ import annotations

import socket
import struct
import threading

from clients import Address, family, read_to_eof
from patience import DEADLINE

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Load:
    """Threads that connect, send, read to the end, and connect again; counts what went wrong after a connect."""

    def __init__(self, address: Address, threads: int = 6, total: int | None = None) -> None:
        self.address = address
        self.failures: list[str] = []
        self.refused: list[str] = []
        self._done = [0] * threads
        self._total = total
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(threads)]

    @property
    def done(self) -> int:
        return sum(self._done)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(6 * DEADLINE)
            assert not thread.is_alive()

    def _run(self, index: int) -> None:
        while not self._stop.is_set() and (self._total is None or self.done < self._total):
            data = b"%d.%d\0" % (index, self._done[index])
            with socket.socket(family(self.address)) as sock:
                sock.settimeout(DEADLINE)
                try:
                    sock.connect(self.address)
                except OSError as exc:
                    self.refused.append(repr(exc))
                    return
                try:
                    sock.sendall(data)
                    got = read_to_eof(sock)
                    if got != data:
                        self.failures.append(f"sent {data!r}, got {got!r}")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                except OSError as exc:
                    self.failures.append(f"{data!r}: {exc!r}")
            self._done[index] += 1
