"""Hosts on one machine: network namespaces, joined by a pair of virtual Ethernet devices or by a link of link.py.

A socket belongs to the host on which it was made, and a process to the host of the thread that started it. So a test
makes both inside `with host.entered()`, and uses them anywhere. All of it needs root; `require_hosts` skips without.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients import connect_blocking
from patience import DEADLINE

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
NAMESPACE = "/proc/thread-self/ns/net"

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"

_libc = ctypes.CDLL(None, use_errno=True)


@functools.cache
def _refusal() -> str | None:
    """Why this process cannot make a host; None if it can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces need Linux"
    if shutil.which("ip") is None:
        return "network namespaces are joined with ip (Debian package iproute2)"
    try:
        Host().close()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"this machine allows no network namespace: {error}"
    return None


def require_hosts() -> None:
    """Skip the test where this machine allows no hosts."""
    if reason := _refusal():
        pytest.skip(reason)


def require_tun() -> None:
    """Skip the test where this machine allows no link in user space."""
    require_hosts()
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"this machine allows no TUN device: {error.strerror}")


class Host:
    """A network namespace with a loopback interface."""

    def __init__(self) -> None:
        before = os.open(NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(CLONE_NEWNET))
            self.namespace = os.open(NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
            with contextlib.suppress(OSError):  # its own packets would only stand between those of the test
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        finally:
            _check(_libc.setns(before, CLONE_NEWNET))
            os.close(before)
        self.ip("link set lo up")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Inside the block this thread is on the host: sockets and processes that it makes there stay there."""
        before = os.open(NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.namespace, CLONE_NEWNET))
            try:
                yield
            finally:
                _check(_libc.setns(before, CLONE_NEWNET))
        finally:
            os.close(before)

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a command on the host, with `text` as its input; CalledProcessError if it fails."""
        with self.entered():
            done = subprocess.run(command, check=True, input=text, capture_output=True, text=True, timeout=DEADLINE)
        return done.stdout

    def ip(self, *lines: str) -> None:
        """Run these commands of ip(8)."""
        self.run("ip", "-batch", "-", text="".join(f"{line}\n" for line in lines))

    def setting(self, name: str, value: str) -> None:
        """Write a setting below /proc/sys/net, which is that of this host only."""
        with self.entered():
            (Path("/proc/sys/net") / name).write_text(value)

    def connect(self, address: Any, timeout: float = DEADLINE) -> socket.socket:
        """A blocking connection from this host."""
        with self.entered():
            return connect_blocking(address, timeout)

    def close(self) -> None:
        os.close(self.namespace)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def join(server: Host, client: Host, mtu: int = 1500) -> None:
    """Join two hosts by a pair of virtual Ethernet devices, `eth0` on each."""
    server.ip(
        "link add eth0 type veth peer name other",
        f"link set other netns /proc/{os.getpid()}/fd/{client.namespace}",
        f"addr add {SERVER}/24 dev eth0",
        f"link set eth0 mtu {mtu} up",
    )
    client.ip(
        "link set other name eth0",
        f"addr add {CLIENT}/24 dev eth0",
        f"link set eth0 mtu {mtu} up",
    )


class Link:
    """Two hosts joined by link.py, with the faults of its `Faults`. `counts` has what it did, at the end."""

    def __init__(self, server: Host, client: Host, mtu: int = 1500, **faults: Any) -> None:
        self.counts: dict[str, int] = {}
        ends = [_tun(host, address, mtu) for host, address in ((server, SERVER), (client, CLIENT))]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-S", str(Path(__file__).with_name("link.py")), *map(str, ends), json.dumps(faults)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=ends,
            )  # fmt: skip
        finally:
            for end in ends:
                os.close(end)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        out, _ = self._process.communicate(timeout=DEADLINE)
        self.counts = json.loads(out)


def _tun(host: Host, address: str, mtu: int) -> int:
    """A device `tun0` of the host with `address`; it goes when all copies of the descriptor are closed."""
    with host.entered():
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    host.ip(f"addr add {address}/24 dev tun0", f"link set tun0 mtu {mtu} txqueuelen 5000 up")
    return descriptor


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
