"""An echo server in plain Python on uvloop: an asyncio.BufferedProtocol in the style of uvloop's own example,
with a bytearray of 256 KiB a session and a copy of what was read handed to the transport.

usage: uvloop_buffered.py PORT [--end-at-nul]     listens on 127.0.0.1, prints the port when ready
"""

import asyncio
import sys

import uvloop


class EchoBufferedProtocol(asyncio.BufferedProtocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.buffer = bytearray(256 * 1024)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A slice of a bytearray is a copy: the transport may hold it past the next read.
        self.transport.write(self.buffer[:nbytes])


class EndAtNulProtocol(EchoBufferedProtocol):
    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(self.buffer[:nbytes])
        if self.buffer[nbytes - 1] == 0:
            self.transport.close()


async def main(port: int, protocol: type[EchoBufferedProtocol]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    protocol = EndAtNulProtocol if "--end-at-nul" in sys.argv[2:] else EchoBufferedProtocol
    uvloop.run(main(int(sys.argv[1]), protocol))
