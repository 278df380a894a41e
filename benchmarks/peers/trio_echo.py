"""An echo server on trio: the one of its tutorial, a task per connection.

usage: trio_echo.py PORT     listens on 127.0.0.1, prints the port when ready
"""

import contextlib
import functools
import sys

import trio


async def echo(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            await stream.send_all(data)


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, host="127.0.0.1", backlog=4096)
        listeners = await nursery.start(serve, echo, port)
        print(listeners[0].socket.getsockname()[1], flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
