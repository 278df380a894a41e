"""The program behind children.ChildServer: python child_server.py uvloop "{'terminator': None}".

One JSON line when it listens, one for each "stats" on standard input; drains and exits at its end. The option
`nofile` sets the descriptor limit, hard and soft, before the server starts.
"""

import ast
import asyncio
import dataclasses
import json
import resource
import sys

import uvloop

import fastecho


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


async def main(options: dict) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    async with fastecho.EchoServer(**{"port": 0, **options}) as server:

        def on_input() -> None:
            line = sys.stdin.readline()
            if line.strip() == "stats":
                say(dataclasses.asdict(server.stats))
            elif not line and not ended.done():
                ended.set_result(None)

        loop.add_reader(sys.stdin.fileno(), on_input)
        say({"address": server.address, "limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0]})
        await ended
        loop.remove_reader(sys.stdin.fileno())


if __name__ == "__main__":
    chosen = ast.literal_eval(sys.argv[2])
    if (limit := chosen.pop("nofile", None)) is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    new_loop = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}[sys.argv[1]]
    loop = new_loop()
    try:
        loop.run_until_complete(main(chosen))
    finally:
        loop.close()
