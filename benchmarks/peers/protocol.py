"""An echo server in plain Python: an asyncio.Protocol that writes what it is given, on uvloop or on asyncio's own loop.

usage: protocol.py PORT [--loop uvloop|asyncio] [--end-at-nul]     listens on 127.0.0.1, prints the port when ready
"""

import argparse
import asyncio

import uvloop


class EchoProtocol(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EndAtNulProtocol(EchoProtocol):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        if data[-1] == 0:
            self.transport.close()


async def main(port: int, protocol: type[EchoProtocol]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--end-at-nul", action="store_true")
    arguments = parser.parse_args()
    run = uvloop.run if arguments.loop == "uvloop" else asyncio.run
    run(main(arguments.port, EndAtNulProtocol if arguments.end_at_nul else EchoProtocol))
