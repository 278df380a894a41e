"""Is it exact? A fault at a random byte, met by clients on sockets, asyncio and trio: what could be read, how it ended.

    python tests/support/exact.py --runs 10000

Each client sends a whole message of 8 MiB and reads at the same time, until the end; each run has a server-side fault
at a byte drawn from 0 to 8 MiB. The message is random once, so that a byte in the wrong place shows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import trio

from fastecho.testing import Fault, Server, echo_server

SIZE = 8 << 20
MESSAGE = random.Random(8).randbytes(SIZE)
CHUNK = 1 << 18
SILENCE = 5.0

Ended = tuple[bytes, str]
"""What was read, and how it ended: fin, reset, or silence."""


def with_sockets(address: Any, expected: int, stalls: bool) -> Ended:
    with socket.create_connection(address) as sock:
        sock.setblocking(False)
        got, left, how = bytearray(), memoryview(MESSAGE), ""
        while not how and not (stalls and len(got) >= expected):
            readable, writable, _ = select.select([sock], [sock] if left else [], [], SILENCE)
            if not readable and not writable:
                return bytes(got), "silence"
            if readable:
                try:
                    part = sock.recv(CHUNK)
                    how = "" if part else "fin"
                    got += part
                except ConnectionResetError:
                    how = "reset"
            if writable and not how:
                try:
                    left = left[sock.send(left[:CHUNK]) :]
                except (ConnectionResetError, BrokenPipeError):
                    return _rest(sock, got)
        return bytes(got), how or _now(sock, got)


def _rest(sock: socket.socket, got: bytearray) -> Ended:
    """The error came on a send; what can still be read counts, and then it is EOF."""
    while True:
        try:
            part = sock.recv(CHUNK)
        except BlockingIOError:
            select.select([sock], [], [], SILENCE)
            continue
        except ConnectionResetError:
            part = b""
        if not part:
            return bytes(got), "reset"
        got += part


def _now(sock: socket.socket, got: bytearray) -> str:
    try:
        got += sock.recv(1)
    except BlockingIOError:
        return "silence"
    except ConnectionResetError:
        return "reset"
    return "more"


def with_asyncio(address: Any, expected: int, stalls: bool) -> Ended:
    """On the loop's socket calls: a StreamReader throws away what it has buffered when an RST comes, and a transport
    what it has not read when a send fails. Neither is the server's to mend."""

    async def dialogue(sock: socket.socket) -> Ended:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, address)
        failed = False

        async def send() -> None:
            nonlocal failed
            try:
                await loop.sock_sendall(sock, MESSAGE)
            except OSError:
                failed = True

        sending = asyncio.ensure_future(send())
        got, how = bytearray(), ""
        while not how and not (stalls and len(got) >= expected):
            try:
                part = await asyncio.wait_for(loop.sock_recv(sock, CHUNK), SILENCE)
                how = "" if part else "fin"
                got += part
            except asyncio.TimeoutError:
                how = "silence"
            except ConnectionResetError:
                how = "reset"
        if how == "fin":
            await asyncio.wait([sending], timeout=SILENCE)  # the error may come there
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        return bytes(got), "reset" if failed and how == "fin" else how or _now(sock, got)

    with socket.socket() as sock:
        sock.setblocking(False)
        return asyncio.run(dialogue(sock))


def with_trio(address: Any, expected: int, stalls: bool) -> Ended:
    async def dialogue() -> Ended:
        stream = await trio.open_tcp_stream(*address)
        got, how, failed = bytearray(), "", False

        async def send() -> None:
            nonlocal failed
            try:
                await stream.send_all(MESSAGE)
            except trio.BrokenResourceError:
                failed = True
            sent.set()

        sent = trio.Event()
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while not how and not (stalls and len(got) >= expected):
                with trio.move_on_after(SILENCE) as limit:
                    try:
                        part = await stream.receive_some(CHUNK)
                        how = "" if part else "fin"
                        got += part
                    except trio.BrokenResourceError:
                        how = "reset"
                if limit.cancelled_caught:
                    how = "silence"
            if how == "fin":
                with trio.move_on_after(SILENCE):
                    await sent.wait()
            with socket.socket(fileno=os.dup(stream.socket.fileno())) as raw:
                how = how or _now(raw, got)
            nursery.cancel_scope.cancel()
        return bytes(got), "reset" if failed and how == "fin" else how

    return trio.run(dialogue)


CLIENTS: dict[str, Callable[[Any, int, bool], Ended]] = {
    "sockets": with_sockets, "asyncio": with_asyncio, "trio": with_trio,
}
FAULTS: dict[str, tuple[Callable[..., Fault], str]] = {
    "reset": (Fault.reset, "reset"), "close": (Fault.close, "fin"), "stall": (Fault.stall, "silence"),
}


def once(server: Server, client: str, fault: str, offset: int) -> str:
    """What is wrong with one run; empty when nothing is."""
    make, expected = FAULTS[fault]
    with server.fault(make(after_sent=offset)):
        try:
            got, how = CLIENTS[client](server.address, offset, fault == "stall")
        except OSError:
            if offset or fault != "reset":
                raise
            got, how = b"", "reset"  # it came before the client's connect() had returned
    server.reset()
    if got != MESSAGE[:offset]:
        which = "the right ones" if MESSAGE.startswith(got) else "wrong ones"
        return f"{fault} at {offset}, {client}: {len(got)} bytes, {which}"
    return "" if how == expected else f"{fault} at {offset}, {client}: ended with {how}, not {expected}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", choices=FAULTS, action="append", help="default: all in turn")
    options = parser.parse_args()
    drawn = random.Random(options.seed)
    faults = options.fault or list(FAULTS)
    wrong: list[str] = []
    begin = time.monotonic()
    with echo_server(record_limit=0, timeout=30) as server:
        for number in range(options.runs):
            client = list(CLIENTS)[number % 3]
            fault = faults[number // 3 % len(faults)]
            if (complaint := once(server, client, fault, drawn.randint(0, SIZE))):
                wrong.append(complaint)
                print(complaint, flush=True)
    took = time.monotonic() - begin
    print(f"{', '.join(faults)}: exact in {options.runs - len(wrong)} of {options.runs}, in {took:.0f} s")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
