"""A server inside an asyncio application, on whatever loop that runs: here uvloop, for speed."""

import asyncio

import uvloop

import fastecho


async def client(number: int, host: str, port: int) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"client %d\0" % number)  # a read that ends in NUL ends the session
    echo = await reader.read()
    writer.close()
    await writer.wait_closed()
    return echo.rstrip(b"\0").decode()


async def application() -> None:
    async with fastecho.EchoServer(port=0, idle_timeout=60) as server:
        echoes = await asyncio.gather(*(client(number, *server.address) for number in range(5)))
        print("echoed:", ", ".join(echoes))
        print("ended by the terminator:", server.stats.ends["terminator"])


if __name__ == "__main__":
    loop = uvloop.new_event_loop()
    loop.run_until_complete(application())
    loop.close()
