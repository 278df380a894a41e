"""What a recording costs: the fixture with recordings, without, and the plain server, side by side.

    python benchmarks/recording.py [--rounds N] [--seconds S]

The servers take turns on the first CPU, `fastecho bench`'s engine loads them from the last; throughput is relative to
the fixture without recordings, round by round, median and quartiles. A connection is recorded up to 1 MiB; so that the
recording does not just end, there is an arm with a limit that is never reached, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fastecho.bench import LoadSpec, run_load

SERVER = """
import sys, fastecho
from fastecho.testing import echo_server
limit = sys.argv[1]
server = fastecho.serve(port=0, terminator=None) if limit == "plain" else echo_server(record_limit=int(limit)).start()
print(server.address[1], flush=True)
sys.stdin.read()
"""
ARMS = {"off": "0", "on, 1 MiB": str(1 << 20), "on, no limit": str(1 << 40), "plain server": "plain"}
WORK = ((64, 50), (4096, 16), (65536, 16))
CPUS = sorted(os.sched_getaffinity(0))


@contextmanager
def running(limit: str) -> Iterator[str]:
    command = [sys.executable, "-c", SERVER, limit]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(process.pid, CPUS[:1])
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def throughput(limit: str, size: int, connections: int, seconds: float) -> float:
    with running(limit) as port:
        spec = LoadSpec(target=f"127.0.0.1:{port}", connections=connections, size=size, duration=seconds, warmup=0.1,
                        cpus=(CPUS[-1],))
        result = run_load(spec)
        if not result.ok:
            sys.exit(f"the run failed: {result.errors}")
        return result.echoes / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    for size, connections in WORK:
        ratios: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for _ in range(options.rounds):
            measured = {arm: throughput(limit, size, connections, options.seconds) for arm, limit in ARMS.items()}
            for arm, value in measured.items():
                ratios[arm].append(value / measured["off"])
        for arm, values in ratios.items():
            if arm != "off":
                low, middle, high = statistics.quantiles(values, n=4)
                print(f"{size:>6} B x {connections:<3} {arm:<13} {middle:.3f} ({low:.3f}..{high:.3f}) of off")


if __name__ == "__main__":
    main()
