"""What a scrape of the metrics costs: CPU per echo with one every 100 ms, divided by CPU per echo without any.

    python benchmarks/scraping.py [--rounds N] [--seconds S] [--interval S]

One server has the first CPU, the load and the scraper have the last. The scraper keeps its connection, as Prometheus
does. Each round measures one window with scrapes and one without, in alternating order. The CPU time is that of all
processes of the server: the supervisor, the worker, and the process that serves the metrics. The ratio is held to 1.01:
the exit code is 1 when the median is more.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from fastecho.bench import LoadSpec, run_load
from processes import CLIENT_CPU, SERVER_CPU

LIMIT = 1.01


class CpuWindow:
    """CPU seconds of processes between both ends of the measured window: of all, and of each."""

    def __init__(self, pids):
        self.pids = pids
        self.seconds = {}

    def __call__(self, event):
        now = {pid: cpu_seconds(pid) for pid in self.pids}
        if event == "start":
            self.before = now
        elif event == "end":
            self.seconds = {pid: now[pid] - self.before[pid] for pid in self.pids}


def cpu_seconds(pid):
    """Exact, and with the threads that have ended."""
    return time.clock_gettime((~pid << 3) | 2)


SCRAPER = """
import http.client, sys, time, urllib.parse
parts, interval = urllib.parse.urlsplit(sys.argv[1]), float(sys.argv[2])
connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
due = time.monotonic()
while True:
    connection.request("GET", parts.path)
    connection.getresponse().read()
    due = max(due + interval, time.monotonic())
    time.sleep(max(0, due - time.monotonic()))
"""


@contextmanager
def scraped(url, interval):
    """Scrape until the end of the block, from a separate process: the load engine keeps the interpreter of this one."""
    command = ["taskset", "-c", str(CLIENT_CPU), sys.executable, "-c", SCRAPER, url, str(interval)]
    with subprocess.Popen(command) as scraper:
        try:
            yield
        finally:
            assert scraper.poll() is None, "a scrape failed"
            scraper.terminate()


@contextmanager
def unscraped():
    yield


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each window  [4]")
    parser.add_argument("--interval", type=float, default=0.1, help="seconds from scrape to scrape  [0.1]")
    options = parser.parse_args()
    ready, theirs = os.pipe()
    command = ["taskset", "-c", str(SERVER_CPU), sys.executable, "-m", "fastecho"]
    command += ["--port", "0", "--terminator", "none", "--metrics", "127.0.0.1:0", "--ready-fd", str(theirs)]
    with subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.DEVNULL) as server:
        os.close(theirs)
        with open(ready) as lines:
            target, url = lines.read().split()
        try:
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            pids = [server.pid, *map(int, children)]
            names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}

            def measured(block):
                window = CpuWindow(pids)
                spec = LoadSpec(
                    target=target, connections=50, size=64, duration=options.seconds, warmup=0.5, cpus=(CLIENT_CPU,)
                )
                with block:
                    result = run_load(spec, on_window=window)
                assert result.ok, result.errors
                metrics = sum(window.seconds[pid] for pid in pids if names[pid] == "fastecho-metric")
                total = sum(window.seconds.values())
                busy.append(total / result.seconds)
                scrape = metrics * options.interval / result.seconds
                return total / result.echoes, scrape, (total - metrics) / result.echoes

            ratios, scrapes, others, busy = [], [], [], []
            for round_ in range(options.rounds):
                both = {}
                for with_scrapes in (round_ % 2 == 0, round_ % 2 == 1):
                    block = scraped(url, options.interval) if with_scrapes else unscraped()
                    both[with_scrapes] = measured(block)
                ratios.append(both[True][0] / both[False][0])
                scrapes.append(both[True][1])
                others.append(both[True][2] / both[False][2])
                print(f"{ratios[-1]:.4f}  {both[False][0] * 1e9:.0f} ns per echo without", flush=True)
        finally:
            server.terminate()
    median = statistics.median(ratios)
    spread = f"{min(ratios):.4f} to {max(ratios):.4f} in {len(ratios)} rounds"
    print(f"CPU per echo, a scrape every {options.interval:g} s / none: {median:.4f} ({spread})")
    print(f"supervisor and worker alone: {statistics.median(others):.4f} ({min(others):.4f} to {max(others):.4f})")
    print(f"the server was busy for {100 * statistics.median(busy):.0f} %: with less than 100, a scrape weighs more")
    print(f"CPU of a scrape: {statistics.median(scrapes) * 1e3:.2f} ms")
    return median > LIMIT


if __name__ == "__main__":
    sys.exit(main())
