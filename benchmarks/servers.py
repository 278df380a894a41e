"""Servers for the benchmarks: `servers.py leased|pinned|polling|plain --ready-fd N [--terminator]`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import uvloop

import fastecho


class PlainPython(asyncio.BufferedProtocol):
    """What one writes by hand: a buffer a connection, echoed through the transport."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(65536))

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=0)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.buffer[:nbytes])

    def pause_writing(self) -> None:
        self.buffer = memoryview(bytearray(65536))  # the old one is the transport's until it is flushed
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class PlainProtocol(asyncio.Protocol):
    """The loop allocates the buffers. A connection ends when a read ends in NUL."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        if data.endswith(b"\0"):
            self.transport.close()


async def main(kind: str, ready: int, terminator: bool) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if kind == "plain":
        protocol: Any = PlainProtocol if terminator else PlainPython
        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=4096)
        address = server.sockets[0].getsockname()
        os.write(ready, b"tcp://%s:%d\n" % (address[0].encode(), address[1]))
        await stop.wait()
        server.close()
        return
    ends = b"\0" if terminator else None
    options = {"pinned": {"pin_buffers": True}, "polling": {"busy_poll": "auto"}}.get(kind, {})
    async with fastecho.EchoServer(port=0, terminator=ends, drain_timeout=0.5, **options) as echo:
        os.write(ready, echo.addresses[0].encode() + b"\n")
        await stop.wait()


if __name__ == "__main__":
    loop = uvloop.new_event_loop()
    loop.run_until_complete(main(sys.argv[1], int(sys.argv[3]), "--terminator" in sys.argv))
