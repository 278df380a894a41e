"""The servers of the comparison, and what each is expected to do; nothing else knows them by name."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from benchmarks.peers.build import PROGRAMS, SOURCES

FASTECHO, PINNED, SPINNING, DATAGRAMS = "fastecho", "fastecho-pinned", "fastecho-spin", "fastecho-udp"
OTHER = os.environ.get("FASTECHO_OTHER")
"""The Python interpreter of another build of fastecho, which is then measured too."""
FLOOR, FLOOR_SPINNING, FLOOR_TLS = "epoll", "epoll-spin", "openssl"
BUSY_POLL_US = 50


@dataclass(frozen=True)
class Peer:
    """One server.

    command: PORT is replaced by the port, CERT by a PEM file with key and certificate, READY_FD by a descriptor to
    write the address to. A server without READY_FD prints its port on standard output.
    chart_name: the name on the chart; empty: not on the chart.
    chart_only: measured in the rows of the chart only.
    module: the Python module that the server imports and that may be missing.
    install: the command that installs what the server needs.
    silent: prints no port; its listening socket is looked up in /proc.
    ends_at_nul: a read that ends in NUL ends the session, the rule of the Asio session.
    nul_option: the options with which a server that does not end at NUL does; it is measured in more rows with them.
    tls: serves TLS and nothing else; measured in the rows of TLS only.
    tls_option: the options with which a server that does not serve TLS does; it is measured in more rows with them.
    half_close: what came before the client's FIN is echoed in full.
    parallel: serves more than one client at a time.
    udp: echoes datagrams; measured in the rows of UDP, and only there.
    spins: polls before it sleeps; measured where latency is the figure, and only there.
    most_idle: the number of idle connections when the row has more: a process or a thread each is too much.
    """

    name: str
    label: str
    family: str
    command: tuple[str, ...]
    chart_name: str = ""
    chart_only: bool = False
    module: str = ""
    install: str = ""
    silent: bool = False
    ends_at_nul: bool = False
    nul_option: tuple[str, ...] = ()
    tls: bool = False
    tls_option: tuple[str, ...] = ()
    half_close: bool = True
    parallel: bool = True
    udp: bool = False
    spins: bool = False
    most_idle: int | None = None

    @property
    def ours(self) -> bool:
        return self.family == "fastecho"

    def ending_at_nul(self) -> Peer | None:
        """The server as it ends sessions at NUL; None if it cannot."""
        if self.ends_at_nul:
            return self
        if not self.nul_option:
            return None
        return replace(self, command=(*self.command, *self.nul_option), ends_at_nul=True, nul_option=())

    def serving_tls(self) -> Peer | None:
        """The server as it serves TLS, which has no half-close; None if it cannot."""
        if self.tls:
            return self
        if not self.tls_option or self.udp:
            return None
        return replace(self, command=(*self.command, *self.tls_option), tls=True, tls_option=(), half_close=False)

    def missing(self) -> str | None:
        """Why the server cannot start here, and the command that helps; None when nothing is missing."""
        absent = shutil.which(self.command[0]) is None or (self.module and find_spec(self.module) is None)
        return f"not installed: {self.install}" if absent and self.install else None


def compiled(name: str, label: str, family: str, program: str, *options: str, **more: Any) -> Peer:
    built = next(each for each in PROGRAMS if each.name == program)
    install = f"apt-get install {' '.join(tool.package for tool in built.needs)}; make peers"
    return Peer(name, label, family, (str(built.path), "PORT", *options), install=install, **more)


def asio(name: str, label: str, program: str, **more: Any) -> Peer:
    return compiled(name, f"C++, Asio, {label}", "c++", program, ends_at_nul=True, **more)


def python(name: str, label: str, program: str, *options: str, **more: Any) -> Peer:
    return Peer(name, f"Python, {label}", "python", (sys.executable, str(SOURCES / program), "PORT", *options), **more)


def from_pypi(module: str, name: str, program: str, **more: Any) -> Peer:
    """A server on a Python framework, known by the name of that framework."""
    install = f"pip install {module}"
    return python(module, name, program, chart_name=name, chart_only=True, module=module, install=install, **more)


def fastecho(name: str, label: str, *options: str, python: str = sys.executable, **more: Any) -> Peer:
    # With its defaults, the scan for the terminator among them: what a user starts, and the C++ scans too.
    command = (python, "-m", "fastecho", "--port", "PORT", "--workers", "1", "--ready-fd", "READY_FD")
    tls = ("--tls-cert", "CERT")
    family = more.pop("family", "fastecho")
    return Peer(name, label, family, (*command, *options), ends_at_nul=True, tls_option=tls, **more)


END_AT_NUL = ("--end-at-nul",)
SPIN = ("--busy-poll", str(BUSY_POLL_US))
PEERS = (
    fastecho(FASTECHO, "fastecho", chart_name="fastecho"),
    fastecho(PINNED, "fastecho --pin-buffers", "--pin-buffers"),
    fastecho(SPINNING, f"fastecho --busy-poll {BUSY_POLL_US}", *SPIN, spins=True),
    fastecho(DATAGRAMS, "fastecho --udp", "--udp", udp=True),
    compiled(FLOOR, "C, epoll (the floor)", "c", "epoll_echo", nul_option=END_AT_NUL),
    compiled(FLOOR_SPINNING, "C, epoll, spinning as long", "c", "epoll_echo", *SPIN, spins=True),
    compiled(FLOOR_TLS, "C, epoll and OpenSSL", "c", "openssl_echo", "CERT", tls=True, half_close=False),
    # On the chart: the array of the example in Boost.Asio's documentation.
    asio("asio-1k", "array of 1 KiB", "asio_echo_1k", chart_name="Boost.Asio (C++)"),
    asio("asio-64k", "array of 64 KiB", "asio_echo_64k"),
    asio("asio-threaded", "a thread a session", "asio_threaded"),
    asio("asio-iterative", "one client at a time", "asio_iterative", parallel=False),
    compiled("asio-udp", "C++, Asio, UDP", "c++", "asio_udp", udp=True),
    compiled("libuv", "C, libuv", "c", "libuv_echo", chart_name="libuv (C)"),
    compiled("go", "Go, net", "go", "echo_go", chart_name="Go"),
    python("uvloop-protocol", "Protocol on uvloop", "protocol.py", "--loop", "uvloop", nul_option=END_AT_NUL),
    python("uvloop-buffered", "BufferedProtocol on uvloop", "uvloop_buffered.py", nul_option=END_AT_NUL),
    python("streams-uvloop", "streams on uvloop", "streams.py", "--loop", "uvloop", chart_name="uvloop streams"),
    python("streams-asyncio", "streams on asyncio", "streams.py", "--loop", "asyncio", chart_name="asyncio streams"),
    python(
        "protocol-asyncio",
        "Protocol on asyncio",
        "protocol.py",
        "--loop",
        "asyncio",
        chart_name="asyncio Protocol",
        chart_only=True,
    ),
    # Twisted closes at the client's FIN and drops what it has not sent yet.
    from_pypi("twisted", "Twisted", "twisted_echo.py", half_close=False),
    from_pypi("gevent", "gevent", "gevent_echo.py"),
    from_pypi("trio", "trio", "trio_echo.py"),
    python(
        "threads",
        "a thread per connection",
        "threads.py",
        chart_name="Python threads",
        chart_only=True,
        most_idle=1000,
    ),
    Peer(
        "socat",
        "socat, a process per connection",
        "c",
        # With its default block of 8 KiB, socat deadlocks: it writes two pages to a pipe that has room for one.
        ("socat", "-b", "4096", "TCP4-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,backlog=4096", "PIPE"),
        chart_name="socat",
        chart_only=True,
        install="apt-get install socat",
        silent=True,
        most_idle=500,
    ),
)
OTHER_BUILD = fastecho("other", "fastecho, the build of FASTECHO_OTHER", python=OTHER or "", family="python")
BY_NAME = {peer.name: peer for peer in (*PEERS, OTHER_BUILD)}
if OTHER:
    PEERS = (*PEERS, OTHER_BUILD)
ON_CHART = tuple(peer for peer in PEERS if peer.chart_name)
