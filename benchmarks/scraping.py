"""What a scrape of the metrics costs: CPU per echo with one every 100 ms, divided by CPU per echo without any.

    python -m benchmarks.scraping [--pairs N] [--seconds S] [--interval S]

One server has the first CPU, the load and the scraper have the last. The same 50 connections send throughout, so that
both sides of a ratio have the same processes and the same memory. A pair is one window with scrapes and one without, in
alternating order; only the scrapes that read the echoes at both ends of a window are in both. The CPU time is that of
all processes of the server: the supervisor, the worker, and the process that serves the metrics. The scraper keeps its
connection, as Prometheus does.

The interval of the median holds it in 95 of 100 cases: order statistics, for any distribution. Its upper end is held to
1.01; the exit code is 1 when it is more.
"""

import argparse
import http.client
import math
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import CLIENT_CPU, SERVER_CPU
from benchmarks.versus.process import cpu_clock

LIMIT = 1.01
SIZE = 64  # bytes of a message
WARMUP = 1.0


@dataclass(frozen=True)
class Window:
    """What the server did in a window, and the CPU seconds that it took: all processes, and the one of the metrics."""

    seconds: float
    echoes: float
    cpu: float
    metrics: float
    scrapes: int


class Service:
    """A fastecho service with metrics, and the connection of its scraper."""

    def __init__(self, pid: int, url: str) -> None:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._clocks = {int(each): cpu_clock(int(each)) for each in (pid, *children)}
        named = {each: Path(f"/proc/{each}/comm").read_text().strip() for each in self._clocks}
        self._metrics = next(each for each, name in named.items() if name == "fastecho-metric")
        parts = urllib.parse.urlsplit(url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=10)

    def scrape(self) -> str:
        self._connection.request("GET", self._path)
        return self._connection.getresponse().read().decode()

    def received_bytes(self) -> float:
        found = re.search(r"^fastecho_received_bytes_total (\S+)", self.scrape(), re.MULTILINE)
        assert found
        return float(found[1])

    def cpu_times(self) -> dict[int, float]:
        return {pid: time.clock_gettime(clock) for pid, clock in self._clocks.items()}

    def window(self, seconds: float, interval: float | None) -> Window:
        """Measure for so many seconds, with a scrape at each interval but the first and the last."""
        received, start, before = self.received_bytes(), time.monotonic(), self.cpu_times()
        end, scrapes = start + seconds, 0
        if interval is not None:
            while start + interval * (scrapes + 1) < end:
                scrapes += 1
                time.sleep(max(0.0, start + interval * scrapes - time.monotonic()))
                self.scrape()
        time.sleep(max(0.0, end - time.monotonic()))
        received, after, now = self.received_bytes() - received, self.cpu_times(), time.monotonic()
        cpu = {pid: after[pid] - before[pid] for pid in after}
        return Window(now - start, received / SIZE, sum(cpu.values()), cpu[self._metrics], scrapes)


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


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """The order statistics that enclose the median with a confidence of 95 %."""
    found, off = sorted(values), 0.98 * math.sqrt(len(values))
    first = max(0, math.floor(len(found) / 2 - off))
    return found[first], found[-1 - first]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scraping", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each window  [1]")
    parser.add_argument("--interval", type=float, default=0.1, help="seconds from scrape to scrape  [0.1]")
    options = parser.parse_args()
    ratios, scrapes, busy = [], [], []
    with loaded_service() as service:
        for number in range(options.pairs):
            pair = {}
            for with_scrapes in (number % 2 == 0, number % 2 == 1):
                pair[with_scrapes] = service.window(options.seconds, options.interval if with_scrapes else None)
            with_, without = pair[True], pair[False]
            ratios.append((with_.cpu / with_.echoes) / (without.cpu / without.echoes))
            scrapes.append((with_.metrics - without.metrics) / with_.scrapes)
            busy += [with_.cpu / with_.seconds, without.cpu / without.seconds]
    low, high = interval_of_median(ratios)
    print(f"CPU per echo, a scrape every {options.interval:g} s / none: {statistics.median(ratios):.4f}")
    print(f"the median is in {low:.4f} to {high:.4f} (95 %)")
    print(f"{len(ratios)} pairs: {min(ratios):.4f} to {max(ratios):.4f}")
    print(f"CPU of a scrape: {statistics.median(scrapes) * 1e3:.2f} ms")
    print(f"the server was busy for {100 * statistics.median(busy):.0f} %: with less than 100, a scrape weighs more")
    return high > LIMIT


if __name__ == "__main__":
    sys.exit(main())
