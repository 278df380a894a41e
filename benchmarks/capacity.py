"""What a core, a gigabyte and a descriptor carry: the figures of docs/scaling.md.

    python -m benchmarks.capacity [--idle N] [--rounds N] [--seconds S] [--write]

CPU: the server has the first CPU, the load the last one. The CPU time of the supervisor and its worker is divided by
what they did meanwhile, so that other work of the machine counts little. Memory: --idle connections that have each
echoed 64 B. In user space it is the growth of the proportional set size; in the kernel the objects of a socket and of
epoll (root only: /proc/slabinfo). --write puts the tables into docs/scaling.md, and the figures
into docs/capacity.json. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import platform
import resource
import socket
import statistics
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import CLIENT_CPU, SERVER_CPU
from benchmarks.procfs import descriptors
from benchmarks.versus.machine import describe
from benchmarks.versus.measuring import CpuWindow
from benchmarks.versus.peers import fastecho
from benchmarks.versus.process import Server

from fastecho.bench import LoadSpec, run_load

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURES = DOCS / "scaling.md", DOCS / "capacity.json"
PORTS = 28_232  # of net.ipv4.ip_local_port_range as Linux has it: 32768 to 60999
PORTS_A_SOURCE = 20_000
BUSY = 0.7
SPARE = 64  # descriptors that a worker keeps for itself
BOTH_ENDS = ("TCP", "sock_inode_cache", "filp")
COUNTED = (*BOTH_ENDS, "eventpoll_epi")


@dataclass(frozen=True)
class Work:
    """A kind of load. `unit` is what is counted."""

    name: str
    unit: str
    load: dict[str, Any]


WORK = (
    Work("64 B over 50 connections", "echoes", {"connections": 50, "size": 64}),
    Work("64 B over 1,000 connections", "echoes", {"connections": 1000, "size": 64}),
    Work("4 KiB over 16 connections", "echoes", {"connections": 16, "size": 4096}),
    Work("connect, 64 B, the client closes", "connections", {"connections": 32, "churn": True}),
    Work("connect, 64 B, the server closes", "connections", {"connections": 32, "churn": True, "server_closes": True}),
    Work("64 B datagrams, 8 in flight on each of 16", "datagrams", {"connections": 16, "depth": 8, "udp": True}),
)


SERVED = fastecho("capacity", "fastecho --udp", "--udp")


def worker_descriptors(server: Server) -> int:
    """Those that the workers have open."""
    return sum(map(descriptors, server.processes()[1:]))


def cpu_per(work: Work, server: Server, seconds: float) -> float:
    """CPU seconds of the server for one of the units of `work`."""
    load = dict(work.load)
    scheme = "udp" if load.pop("udp", False) else "tcp"
    window = CpuWindow(server)
    target = f"{scheme}://127.0.0.1:{server.port}"
    spec = LoadSpec(target=target, duration=seconds, warmup=0.3, cpus=(CLIENT_CPU,), **load)
    result = run_load(spec, on_window=window)
    if not result.ok:
        sys.exit(f"{work.name}: {result.errors} {result.error_details}")
    return window.seconds / result.echoes


def measured_work(rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    with Server(SERVED, SERVER_CPU) as server:
        for work in WORK:
            before = os.getloadavg()[0]
            found = [cpu_per(work, server, seconds) for _ in range(rounds)]
            figure = {
                "name": work.name, "unit": work.unit, "load": round(before, 2), "cpu": statistics.median(found),
                "least": min(found), "most": max(found),
            }  # fmt: skip
            print(f"{work.name}: {figure['cpu'] * 1e6:.2f} us, load average {before:.2f}", flush=True)
            yield figure


@dataclass(frozen=True)
class Slab:
    """A cache of the kernel: its objects, and the bytes of one with its share of the page."""

    objects: int
    bytes: float


def slabs() -> dict[str, Slab]:
    """Of /proc/slabinfo; empty without the permission to read it."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()[2:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, active, _, _, per_slab, pages = line.split()[:6]
        found[name] = Slab(int(active), int(pages) * resource.getpagesize() / int(per_slab))
    return found


def kernel_memory(before: dict[str, Slab], after: dict[str, Slab], count: int) -> dict[str, Any]:
    """Bytes a connection in the kernel: of the objects that both ends have, and of those of epoll at the server's end.

    A socket has one dentry, which is not counted, as other programs make many. The objects of epoll come in pairs, and
    the second one may share its cache with others.
    """
    objects = {name: (after[name].objects - before[name].objects) / count for name in COUNTED}
    end = sum(objects[name] * after[name].bytes / 2 for name in BOTH_ENDS) + after["dentry"].bytes
    epoll = objects["eventpoll_epi"] * (after["eventpoll_epi"].bytes + object_bytes("eventpoll_pwq"))
    rounded = {name: round(number, 2) for name, number in objects.items()}
    return {"kernel": round(end + epoll), "both": round(2 * end + epoll), "objects": rounded}


def object_bytes(cache: str) -> int:
    """Of one object; 0 where that is not known."""
    try:
        return int(Path(f"/sys/kernel/slab/{cache}/slab_size").read_text())
    except OSError:
        return 0


@contextlib.contextmanager
def idle_clients(port: int, count: int) -> Iterator[Callable[[int], None]]:
    """Gives a function that adds connections, each after one echo."""
    clients: list[socket.socket] = []

    def add(more: int) -> None:
        for _ in range(more):
            client = socket.socket()
            clients.append(client)
            # Reset at the end: no thousands of ports in TIME_WAIT.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            client.bind((f"127.0.0.{2 + len(clients) // PORTS_A_SOURCE}", 0))
            client.connect(("127.0.0.1", port))
            client.sendall(b"x" * 64)
            if client.recv(64, socket.MSG_WAITALL) != b"x" * 64:
                sys.exit(f"connection {len(clients)} got no echo")

    try:
        yield add
    finally:
        for client in clients:
            client.close()


def measured_idle(count: int) -> dict[str, Any]:
    needed = count + 1000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))
        except (OSError, ValueError):
            count = hard - 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    load = os.getloadavg()[0]
    with Server(SERVED, SERVER_CPU) as server, idle_clients(server.port, count) as add:
        add(500)
        start = server.resident_bytes(), slabs(), worker_descriptors(server)
        add(count)
        user = (server.resident_bytes() - start[0]) / count
        found = {
            "connections": count, "load": round(load, 2), "user": round(user),
            "descriptors": round((worker_descriptors(server) - start[2]) / count, 3), "base": start[0],
        }  # fmt: skip
        if start[1]:
            found |= kernel_memory(start[1], slabs(), count)
            tracked = slabs().get("nf_conntrack")
            found["conntrack"] = round(tracked.bytes) if tracked else None
    print(f"{count:,} idle connections: {found}", flush=True)
    return found


def setting(name: str) -> int | None:
    try:
        return int(Path("/proc/sys", *name.split(".")).read_text().split()[0])
    except OSError:
        return None


def bytes_text(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def tables(figures: dict[str, Any]) -> str:
    """The part of the page that is made of figures."""
    idle, work = figures["idle"], figures["work"]
    cpu = {each["name"]: each["cpu"] for each in work}
    machine = figures["machine"]
    place = f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, Python {machine['python']}"
    lines = [
        f"{figures['date']}, {place}. Medians of {figures['rounds']} rounds; the load average says what else ran.",
        "",
        "| one core | CPU each | a second | load average |",
        "|---|---:|---:|---:|",
    ]
    for each in work:
        spread = f"{each['least'] * 1e6:.2f}–{each['most'] * 1e6:.2f}"
        lines.append(
            f"| {each['name']} | {each['cpu'] * 1e6:.2f} us ({spread}) | {1 / each['cpu']:,.0f} {each['unit']}"
            f" | {each['load']} |"
        )  # fmt: skip
    lines += [
        "",
        f"| {idle['connections']:,} idle connections, load average {idle['load']} | each |",
        "|---|---:|",
        f"| memory in user space | {idle['user']:,} B |",
    ]
    if "kernel" in idle:
        lines.append(f"| memory in the kernel, the server's end | {idle['kernel']:,} B |")
        lines.append(f"| memory in the kernel, both ends | {idle['both']:,} B |")
    lines.append(f"| descriptors | {idle['descriptors']:g} |")
    lines += [
        "",
        f"Cores for a rate: rate x CPU each / {BUSY}, rounded up: a core is busy for at most {BUSY:.0%}.",
        "",
        "| a second | " + " | ".join(each["name"] for each in work) + " |",
        "|---|" + "---:|" * len(work),
    ]
    for rate in (10_000, 100_000, 1_000_000):
        needed = " | ".join(str(math.ceil(rate * cpu[each["name"]] / BUSY)) for each in work)
        lines.append(f"| {rate:,} | {needed} |")
    counts = (10**4, 10**5, 10**6)
    rows = [("descriptors: N x 1, and 64 for each worker", lambda n: f"{n + SPARE:,}")]
    user, kernel, entry = idle["user"], idle.get("kernel", 0), idle.get("conntrack") or 0
    rows += [
        (f"user space: N x {user:,} B", lambda n: bytes_text(n * user)),
        (f"kernel: N x {kernel:,} B", lambda n: bytes_text(n * kernel)),
        ("both", lambda n: bytes_text(n * (user + kernel))),
        (f"conntrack, where it is used: N x {entry} B", lambda n: bytes_text(n * entry)),
        (f"addresses of clients, for one port of the server: N / {PORTS:,}", lambda n: f"{math.ceil(n / PORTS):,}"),
    ]  # fmt: skip
    lines += ["", "| N connections | " + " | ".join(f"{n:,}" for n in counts) + " |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | " + " | ".join(value(n) for n in counts) + " |" for name, value in rows]
    return "\n".join(lines)


BEGIN, END = "<!-- The tables of benchmarks/capacity.py begin. -->\n", "\n<!-- They end. -->"


def with_tables(page: str, text: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idle", type=int, default=100_000, help="connections  [100000]")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind of load; the median counts  [5]")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round  [1]")
    parser.add_argument("--write", action="store_true", help="write docs/capacity.json and docs/scaling.md")
    options = parser.parse_args()
    names = ("fs.nr_open", "fs.file-max", "net.netfilter.nf_conntrack_max", "net.core.somaxconn")
    figures = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": {
            "cpu": describe().get("processor", platform.machine()), "cpus": os.cpu_count(),
            "kernel": platform.release().partition("-")[0],
            "python": platform.python_version(), **{name: setting(name) for name in names},
        },
        "rounds": options.rounds,
        "work": list(measured_work(options.rounds, options.seconds)),
        "idle": measured_idle(options.idle),
    }  # fmt: skip
    print(tables(figures))
    if options.write:
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        PAGE.write_text(with_tables(PAGE.read_text(), tables(figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
