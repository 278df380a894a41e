"""The well-behaved clients beside a hostile one: `Neighbours`, and the program that they are.

Each connection sends a message of 64 bytes, compares the echo byte for byte, and measures how long it took. They run in
a separate process, so that a hostile client takes no time from them.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import ssl
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, NamedTuple

CLIENTS = 8
SIZE = 64


class Report(NamedTuple):
    """What has happened since the report before: echoes, their latencies in seconds, and what was wrong."""

    echoes: int
    p99: float
    longest: float
    wrong: str


class Neighbours:
    """Clients of `address` (see `processes.to_address`), one message each `pause` seconds.

    Args:
        tls: files of a CA, a certificate and its key, for TLS.
        header: what each connection begins with, and which is not echoed.
    """

    def __init__(
        self, address: Any, pause: float = 0.004, tls: tuple[str, str, str] | None = None, header: bytes = b""
    ) -> None:
        spec = {"address": address, "pause": pause, "tls": tls, "header": header.hex()}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, json.dumps(spec)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self._read() == "ready"

    def report(self, echoes: int = 1) -> Report:
        """The report, once each client has had `echoes` echoes since the last one."""
        assert self._process.stdin is not None
        print(echoes, file=self._process.stdin, flush=True)
        return Report(**json.loads(self._read()))

    def take_precedence(self) -> None:
        """Run before other processes, by a fixed priority: otherwise a latency includes how long these clients wait for
        a core themselves. Where this user may not set one, nothing changes."""
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(self._process.pid, os.SCHED_FIFO, os.sched_param(1))

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, f"the neighbours have ended: {self._process.wait()}"
        return line

    def __enter__(self) -> Neighbours:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class _Client:
    def __init__(self, spec: dict[str, Any], number: int) -> None:
        address = spec["address"]
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.sock.settimeout(10)
        self.sock.connect(address if isinstance(address, str) else tuple(address))
        self.sock.sendall(bytes.fromhex(spec["header"]))
        if spec["tls"] is not None:
            ca, certificate, key = spec["tls"]
            context = ssl.create_default_context(cafile=ca)
            context.load_cert_chain(certificate, key)
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self.sock.setblocking(False)
        self.number, self.count = number, 0
        self.expected = b""
        self.sent_at = 0.0
        self.due = 0.0
        self.got = 0

    def send(self, now: float) -> None:
        text = b"%d.%d " % (self.number, self.count)
        self.expected = self.message = text + b"." * (SIZE - len(text))
        self.sent_at = now
        self.sock.send(self.message)

    def receive(self, now: float, pause: float) -> float | None:
        """The latency, once the whole echo is there. ValueError: it is not the echo."""
        with contextlib.suppress(ssl.SSLWantReadError, BlockingIOError):
            if not self.expected:  # a record of TLS without data, such as a ticket
                raise ValueError(f"nothing is due, got {self.sock.recv(SIZE)!r}")
            while self.expected:
                data = self.sock.recv(len(self.expected))
                if not data or not self.expected.startswith(data):
                    raise ValueError(f"sent {self.message!r}, {len(self.expected)} bytes are due, got {data!r}")
                self.expected = self.expected[len(data) :]
        if self.expected or not self.sent_at:
            return None
        self.count += 1
        self.got += 1
        self.due = max(self.due + pause, now)
        latency, self.sent_at = now - self.sent_at, 0.0
        return latency


def _main(spec: dict[str, Any]) -> None:
    pause = spec["pause"]
    clients = [_Client(spec, number) for number in range(CLIENTS)]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.sock, selectors.EVENT_READ, client)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("ready", flush=True)
    latencies: list[float] = []
    wrong, wanted = "", None
    for client in clients:
        client.due = time.perf_counter() + client.number * pause / CLIENTS
    while True:
        now = time.perf_counter()
        for client in clients:
            if not client.expected and client.due <= now and not wrong:
                client.send(time.perf_counter())
        due = min((client.due for client in clients if not client.expected), default=now + 1)
        for key, _ in selector.select(1 if wrong else max(0.0, due - time.perf_counter())):
            if key.data is None:
                line = sys.stdin.readline()
                if not line:
                    return
                wanted = int(line)
                continue
            try:
                latency = key.data.receive(time.perf_counter(), pause)
            except (ValueError, OSError) as error:
                wrong = f"{error!r}"
                selector.unregister(key.fileobj)
            else:
                if latency is not None:
                    latencies.append(latency)
        if wanted is not None and (wrong or min(client.got for client in clients) >= wanted):
            ordered = sorted(latencies) or [0.0]
            p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
            report = {"echoes": len(latencies), "p99": p99, "longest": ordered[-1], "wrong": wrong}
            print(json.dumps(report), flush=True)
            latencies, wanted = [], None
            for client in clients:
                client.got = 0


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
