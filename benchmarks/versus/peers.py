"""The servers of the comparison, and what each is expected to do; nothing else knows them by name."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from benchmarks.peers.build import OUTPUT, SOURCES

FASTECHO, PINNED, SPINNING = "fastecho", "fastecho-pinned", "fastecho-spin"
FLOOR, FLOOR_SPINNING = "epoll", "epoll-spin"
BUSY_POLL_US = 50


@dataclass(frozen=True)
class Peer:
    """One server.

    command: PORT is replaced by the port, READY_FD by a descriptor to write the address to; a server without
    the latter prints its port on standard output.
    ends_at_nul: a read that ends in NUL ends the session, the rule of the Asio session.
    half_close: what came before the client's FIN is echoed in full.
    parallel: serves more than one client at a time.
    spins: polls before it sleeps; measured where latency is the figure, and only there.
    """

    name: str
    label: str
    family: str
    command: tuple[str, ...]
    ends_at_nul: bool = False
    half_close: bool = True
    parallel: bool = True
    spins: bool = False

    @property
    def ours(self) -> bool:
        return self.family == "fastecho"


def compiled(program: str, *options: str) -> tuple[str, ...]:
    return (str(OUTPUT / program), "PORT", *options)


def asio(name: str, label: str, program: str, parallel: bool = True) -> Peer:
    return Peer(name, f"C++, Asio, {label}", "c++", compiled(program), ends_at_nul=True, parallel=parallel)


def python(name: str, label: str, program: str, *options: str) -> Peer:
    command = (sys.executable, str(SOURCES / program), "PORT", *options)
    return Peer(name, f"Python, {label}", "python", command)


def fastecho(name: str, label: str, *options: str, spins: bool = False) -> Peer:
    # With its defaults, the scan for the terminator among them: what a user starts, and the C++ scans too.
    command = (sys.executable, "-m", "fastecho", "--port", "PORT", "--workers", "1", "--ready-fd", "READY_FD")
    return Peer(name, label, "fastecho", (*command, *options), ends_at_nul=True, spins=spins)


SPIN = ("--busy-poll", str(BUSY_POLL_US))
PEERS = (
    fastecho(FASTECHO, "fastecho"),
    fastecho(PINNED, "fastecho --pin-buffers", "--pin-buffers"),
    fastecho(SPINNING, f"fastecho --busy-poll {BUSY_POLL_US}", *SPIN, spins=True),
    Peer(FLOOR, "C, epoll (the floor)", "c", compiled("epoll_echo")),
    Peer(FLOOR_SPINNING, "C, epoll, spinning as long", "c", compiled("epoll_echo", *SPIN), spins=True),
    asio("asio-1k", "array of 1 KiB", "asio_echo_1k"),
    asio("asio-64k", "array of 64 KiB", "asio_echo_64k"),
    asio("asio-threaded", "a thread a session", "asio_threaded"),
    asio("asio-iterative", "one client at a time", "asio_iterative", parallel=False),
    Peer("libuv", "C, libuv", "c", compiled("libuv_echo")),
    Peer("go", "Go, net", "go", compiled("echo_go")),
    python("uvloop-protocol", "Protocol on uvloop", "uvloop_protocol.py"),
    python("uvloop-buffered", "BufferedProtocol on uvloop", "uvloop_buffered.py"),
    python("streams-uvloop", "streams on uvloop", "streams.py", "--loop", "uvloop"),
    python("streams-asyncio", "streams on asyncio", "streams.py", "--loop", "asyncio"),
)
BY_NAME = {peer.name: peer for peer in PEERS}
