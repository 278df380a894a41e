"""How often `fastecho bench ab` is right: one server with itself, and with a server that is 10 % slower.

    python benchmarks/verdicts.py [--same N] [--different N] [--rounds N] [--seconds S]

Both servers run on the first CPU, in processes that are started afresh for each comparison, and the load comes from
the last. The slower server spins at every echo for a tenth of the CPU time that the other takes for one, as measured at
the start by three comparisons. At most one claim in twenty is allowed where there is no difference, and one miss in
twenty where there is one. The defaults take about 15 minutes. The exit code is 1 when a figure is missed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastecho.bench import LoadSpec
from fastecho.bench.ab import ROUND_SECONDS, ROUNDS
from fastecho.bench.measure import measure
from processes import CLIENT_CPU, pinned

SERVER = Path(__file__).with_name("spinning.py")
SLOWER = 0.10
# What the spinning changes; the tail follows the noise.
CHANGED = ("rate", "p50", "CPU")


@contextmanager
def two_servers(spin: int) -> Iterator[tuple[str, str]]:
    with pinned([sys.executable, str(SERVER), "0"]) as a, pinned([sys.executable, str(SERVER), str(spin)]) as b:
        yield a, b


def cpu_an_echo(target: str) -> float:
    result, server = measure(LoadSpec(target=target, duration=0.5, warmup=0.1, cpus=(CLIENT_CPU,)))
    if not result.ok or server is None:
        sys.exit(f"a run failed: {result.errors}")
    return server.cpu / result.echoes


def compared(spin: int, rounds: int, seconds: float) -> dict[str, Any]:
    with two_servers(spin) as (a, b):
        command = [sys.executable, "-m", "fastecho", "bench", "ab", a, b, "--quiet", "--json", "-"]
        command += ["--rounds", str(rounds), "--duration", f"{seconds}s", "--cpus", str(CLIENT_CPU)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(f"fastecho bench ab ended with {done.returncode}: {done.stderr}")
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict


def calibrated(rounds: int, seconds: float) -> int:
    """The nanoseconds to spin; on standard output what they change, by the same comparison."""
    with two_servers(0) as (a, _):
        spin = SLOWER * statistics.median(cpu_an_echo(a) for _ in range(5)) * 1e9
    for _ in range(2):
        change = cpu_change(compared(round(spin), rounds, seconds))
        if not 0.2 * SLOWER < change < 5 * SLOWER:
            sys.exit(f"the machine is too noisy to calibrate: spinning for {spin:.0f} ns changes {change:+.1%}")
        spin *= SLOWER / change
    change = cpu_change(compared(round(spin), rounds, seconds))
    print(f"spinning for {spin:.0f} ns makes an echo take {change:+.1%} more CPU", flush=True)
    return round(spin)


def cpu_change(verdict: dict[str, Any]) -> float:
    changes = (float(each["change"]) for each in verdict["metrics"] if each["metric"] == "CPU")
    return next(changes, 0.0)


def claims(verdict: dict[str, Any]) -> bool:
    return verdict["verdict"] in ("worse", "better", "mixed")


def finds(verdict: dict[str, Any]) -> bool:
    return any(each["verdict"] == "worse" for each in verdict["metrics"] if each["metric"] in CHANGED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--same", type=int, default=40, help="comparisons of one server with itself  [40]")
    parser.add_argument("--different", type=int, default=20, help="comparisons with the slower server  [20]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each comparison  [{ROUNDS}]")
    parser.add_argument("--seconds", type=float, default=ROUND_SECONDS, help=f"of each run  [{ROUND_SECONDS}]")
    options = parser.parse_args()
    began = time.monotonic()
    counts = {}
    for name, spin, times, right in (
        ("no difference", 0, options.same, claims),
        (
            f"{SLOWER:.0%} slower",
            calibrated(options.rounds, options.seconds) if options.different else 0,
            options.different,
            finds,
        ),
    ):
        counts[name] = 0
        for k in range(times):
            verdict = compared(spin, options.rounds, options.seconds)
            counts[name] += right(verdict)
            print(f"{name}, {k + 1} of {times}: {verdict['summary']}", flush=True)
    claimed, found = counts.values()
    print(f"{claimed} of {options.same} comparisons of one server with itself claim a difference")
    print(f"{found} of {options.different} comparisons find the server that is {SLOWER:.0%} slower")
    total = max(1, options.same + options.different)
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes, {60 * minutes / total:.1f} s a comparison")
    return int(20 * claimed > options.same or 20 * (options.different - found) > options.different)


if __name__ == "__main__":
    sys.exit(main())
