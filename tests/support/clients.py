"""Clients that misbehave on purpose: plain non-blocking sockets driven by the running loop."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Any

Address = tuple[Any, ...] | str
CHUNK = 1 << 16


def family(address: Address) -> socket.AddressFamily:
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def make_socket(address: Address, rcvbuf: int | None = None, sndbuf: int | None = None) -> socket.socket:
    sock = socket.socket(family(address), socket.SOCK_STREAM)
    if rcvbuf is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    if sndbuf is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    return sock


def connect_blocking(address: Address, timeout: float = 10) -> socket.socket:
    sock = make_socket(address)
    sock.settimeout(timeout)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def read_to_eof(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(CHUNK):
        parts.append(part)
    return b"".join(parts)


def read_exactly(sock: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        part = sock.recv(min(CHUNK, count - len(got)))
        if not part:
            raise EOFError(f"{len(got)} of {count} bytes, then EOF")
        got += part
    return bytes(got)


def reset_socket(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def pinned_listener(sndbuf: int = 4096, rcvbuf: int = 4096, backlog: int = 128) -> socket.socket:
    """A TCP listener whose accepted sockets have small kernel buffers (hazard 34)."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    sock.bind(("127.0.0.1", 0))
    sock.listen(backlog)
    sock.setblocking(False)
    return sock


class Client:
    """One connection. `async with Client.to(address) as client`."""

    def __init__(self, address: Address, rcvbuf: int | None = None, sndbuf: int | None = None) -> None:
        self.address = address
        self.sock = make_socket(address, rcvbuf, sndbuf)
        self.sock.setblocking(False)

    @classmethod
    def to(cls, address: Address, rcvbuf: int | None = None, sndbuf: int | None = None) -> Client:
        return cls(address, rcvbuf, sndbuf)

    async def connect(self) -> Client:
        await asyncio.get_running_loop().sock_connect(self.sock, self.address)
        return self

    async def __aenter__(self) -> Client:
        try:
            return await self.connect()
        except BaseException:
            self.close()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, count: int) -> bytes:
        """Exactly `count` bytes; EOFError when the peer ends before."""
        loop, got = asyncio.get_running_loop(), bytearray()
        while len(got) < count:
            part = await loop.sock_recv(self.sock, min(CHUNK, count - len(got)))
            if not part:
                raise EOFError(f"{len(got)} of {count} bytes, then EOF")
            got += part
        return bytes(got)

    async def some(self, most: int = CHUNK) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.sock, most)

    async def rest(self) -> bytes:
        """Everything up to the peer's FIN; ConnectionResetError when it is an RST."""
        loop, got = asyncio.get_running_loop(), bytearray()
        while part := await loop.sock_recv(self.sock, CHUNK):
            got += part
        return bytes(got)

    async def ask(self, data: bytes) -> bytes:
        """Send and wait for as many bytes: so the server's reads are known."""
        await self.send(data)
        return await self.receive(len(data))

    async def fill(self, quiet: float = 0.3, chunk: bytes = b"x" * CHUNK, most: int = 1 << 28) -> int:
        """Send without reading until nothing more is taken for `quiet` seconds; the bytes that went."""
        loop, sent, last = asyncio.get_running_loop(), 0, asyncio.get_running_loop().time()
        while sent < most:
            try:
                sent += self.sock.send(chunk)
                last = loop.time()
            except BlockingIOError:
                if loop.time() - last > quiet:
                    break
                await asyncio.sleep(0.002)
                continue
            await asyncio.sleep(0)
        return sent

    def eof(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        reset_socket(self.sock)

    def close(self) -> None:
        self.sock.close()


async def echo_once(address: Address, data: bytes) -> bytes:
    """Connect, send, half-close, return everything that comes back."""
    async with Client.to(address) as client:
        sending = asyncio.ensure_future(client.send(data))
        got = bytearray()
        while len(got) < len(data):
            part = await client.some()
            if not part:
                break
            got += part
        await sending
        client.eof()
        return bytes(got) + await client.rest()


def local_port(descriptor: int) -> int | None:
    """The local port of a descriptor of this process; None if it is closed, or no TCP socket."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    try:
        sock = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None
    with sock:
        name = sock.getsockname()
    return name[1] if isinstance(name, tuple) and len(name) > 1 else None
