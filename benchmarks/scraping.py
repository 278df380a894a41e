"""What a scrape of the metrics costs: CPU per echo with one every 100 ms, divided by CPU per echo without any.

    python -m benchmarks.scraping [--blocks N] [--interval S]

One server has the first CPU, the load and the scraper have the last. The same 50 connections send throughout, so that
both sides of a ratio have the same processes and the same memory. Every window of --interval seconds begins with a
scrape or has none. A pair is one window with a scrape and one without, in random order. A block is 15 pairs, and its
ratio is that of the sums of its windows. The CPU time is that of all processes of the server: the supervisor, the
worker, and the process that serves the metrics. Echoes are counted by the bytes that the worker has read
(/proc/PID/io). The scraper keeps its connection, as Prometheus does.

The median of the ratios is held to 1.01; the exit code is 1 when it is more. Linux only.
"""

import argparse
import http.client
import math
import os
import random
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import CLIENT_CPU, SERVER_CPU
from benchmarks.versus.process import cpu_clock

from fastecho._workers.metrics import PROCESS_NAME
from fastecho.bench.intervals import paired

LIMIT = 1.01
SIZE = 64  # bytes of a message
WARMUP = 1.0  # seconds
PAIRS = 15  # in a block


@dataclass
class Work:
    """What the server did in one or several windows, in seconds and bytes; `cpu` of all its processes."""

    seconds: float = 0.0
    cpu: float = 0.0
    metrics_cpu: float = 0.0
    read: int = 0

    def add(self, other: "Work") -> None:
        self.seconds += other.seconds
        self.cpu += other.cpu
        self.metrics_cpu += other.metrics_cpu
        self.read += other.read

    @property
    def cpu_per_echo(self) -> float:
        return self.cpu / self.read * SIZE


class Service:
    """A fastecho service with metrics, and the connection of its scraper."""

    def __init__(self, pid: int, url: str) -> None:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._clocks = {int(each): cpu_clock(int(each)) for each in (pid, *children)}
        named = {each: Path(f"/proc/{each}/comm").read_text().strip() for each in self._clocks}
        self._metrics = next(each for each, name in named.items() if name == PROCESS_NAME)
        self._workers = [each for each in self._clocks if each not in (pid, self._metrics)]
        parts = urllib.parse.urlsplit(url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=10)

    def scrape(self) -> None:
        self._connection.request("GET", self._path)
        self._connection.getresponse().read()

    def work(self) -> Work:
        """All so far."""
        read = sum(int(Path(f"/proc/{pid}/io").read_text().split()[1]) for pid in self._workers)
        times = {pid: time.clock_gettime(clock) for pid, clock in self._clocks.items()}
        return Work(time.monotonic(), sum(times.values()), times[self._metrics], read)

    def window(self, seconds: float, *, scraped: bool) -> Work:
        before = self.work()
        if scraped:
            self.scrape()
        time.sleep(max(0.0, before.seconds + seconds - time.monotonic()))
        after = self.work()
        return Work(
            after.seconds - before.seconds,
            after.cpu - before.cpu,
            after.metrics_cpu - before.metrics_cpu,
            after.read - before.read,
        )


@contextmanager
def loaded_service() -> Iterator[Service]:
    ready, theirs = os.pipe()
    serve = ["taskset", "-c", str(SERVER_CPU), sys.executable, "-m", "fastecho", "--port", "0"]
    serve += ["--metrics", "127.0.0.1:0", "--ready-fd", str(theirs)]
    with subprocess.Popen(serve, pass_fds=[theirs], stderr=subprocess.DEVNULL) as server:
        os.close(theirs)
        try:
            with open(ready) as lines:
                target, url = lines.read().split()
            bench = ["taskset", "-c", str(CLIENT_CPU), sys.executable, "-m", "fastecho", "bench", target]
            bench += ["--connections", "50", "--size", str(SIZE), "--duration", "3600"]
            with subprocess.Popen(bench, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as load:
                try:
                    service = Service(server.pid, url)
                    time.sleep(WARMUP)
                    yield service
                    assert load.poll() is None, "the load ended"
                finally:
                    load.kill()
        finally:
            server.terminate()


def block(service: Service, seconds: float) -> dict[bool, Work]:
    """The sums of the windows of PAIRS pairs, with scrapes (True) and without (False)."""
    done = {True: Work(), False: Work()}
    for _ in range(PAIRS):
        for scraped in random.sample((True, False), 2):
            done[scraped].add(service.window(seconds, scraped=scraped))
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scraping", description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("--interval", type=float, default=0.1, help="seconds from scrape to scrape  [0.1]")
    options = parser.parse_args()
    with loaded_service() as service:
        blocks = [block(service, options.interval) for _ in range(options.blocks)]
    with_, without = ([each[scraped] for each in blocks] for scraped in (True, False))
    ratios = [a.cpu_per_echo / b.cpu_per_echo for a, b in zip(with_, without, strict=True)]
    logs = ([math.log(each.cpu_per_echo) for each in side] for side in (without, with_))
    bounds = [math.exp(value) if value is not None else math.nan for value in paired(*logs, 0.95)]
    scrapes = [(a.metrics_cpu - b.metrics_cpu) / PAIRS for a, b in zip(with_, without, strict=True)]
    busy = [each.cpu / each.seconds for each in (*with_, *without)]
    print(f"CPU per echo, a scrape every {options.interval:g} s / none: {statistics.median(ratios):.4f}")
    print(f"{len(ratios)} blocks: {min(ratios):.4f} to {max(ratios):.4f}")
    print("Hodges-Lehmann estimate {:.4f}, 95 %: {:.4f} to {:.4f}".format(*bounds))
    print(f"CPU of a scrape: {statistics.median(scrapes) * 1e3:.2f} ms")
    print(f"the server was busy for {100 * statistics.median(busy):.0f} %: with less than 100, a scrape weighs more")
    return statistics.median(ratios) > LIMIT


if __name__ == "__main__":
    sys.exit(main())
