"""An echo server that takes a little longer for each echo: `spinning.py NANOSECONDS`; it prints its port.

It ends when its standard input does.
"""

import asyncio
import sys
import time

import uvloop

SPIN = int(sys.argv[1])


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if SPIN:
            until = time.perf_counter_ns() + SPIN
            while time.perf_counter_ns() < until:
                pass
        self.transport.write(data)  # type: ignore[attr-defined]


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


uvloop.run(main())
