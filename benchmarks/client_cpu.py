"""The CPU that the load engine takes for an echo, against a minimal C client doing the same work.

    python benchmarks/client_cpu.py [--rounds N] [--seconds S]

Server on one core, client on another; the clients take turns, the ratio is taken round by round and its median
quoted with the quartiles. "same work": both compare every byte and time every echo; the engine is held to 1.15 of
that. "bare": the C client only moves bytes, the engine runs as with --no-verify, which goes on timing every echo.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from fastecho.bench import LoadSpec, run_load

ROOT = Path(__file__).resolve().parent.parent
WORK = ((64, 50), (64, 1), (64, 1000), (4096, 16), (65536, 16), (262144, 16))
LIMIT = 1.15


def compiled(source: Path, folder: str) -> str:
    program = str(Path(folder) / source.stem)
    subprocess.run([shutil.which("cc") or "gcc", "-O2", "-o", program, str(source)], check=True)
    return program


def minimal(program: str, port: str, size: int, connections: int, seconds: float, check: bool) -> float:
    """CPU seconds an echo."""
    command = ["taskset", "-c", "1", program, "127.0.0.1", port, str(connections), str(size), str(seconds)]
    out = subprocess.run([*command, "check" if check else "bare"], check=True, capture_output=True, text=True).stdout
    echoes, _, cpu = map(float, out.split())
    return cpu / echoes


def engine(port: str, size: int, connections: int, seconds: float, verify: bool) -> float:
    spec = LoadSpec(
        target=f"127.0.0.1:{port}",
        connections=connections,
        size=size,
        duration=seconds,
        warmup=0.1,
        cpus=(1,),
        verify=verify,
    )
    result = run_load(spec)
    if not result.ok:
        sys.exit(f"the run failed: {result.errors}")
    return result.client_cpu / result.echoes


def spread(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f}..{high:.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.7)
    options = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        client = compiled(ROOT / "benchmarks/peers/epoll_client.c", folder)
        server = compiled(ROOT / "tests/support/echo.c", folder)
        with subprocess.Popen(
            ["taskset", "-c", "0", server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as peer:
            assert peer.stdout is not None
            port = peer.stdout.readline().strip()
            print(f"{'work':<22}{'engine us':>10}{'C us':>8}  {'same work':<24}bare")
            for size, connections in WORK:
                rows = []
                for _ in range(options.rounds):
                    run = (port, size, connections, options.seconds)
                    rows.append((engine(*run, True), minimal(client, *run, True),
                                 engine(*run, False), minimal(client, *run, False)))  # fmt: skip
                same = [row[0] / row[1] for row in rows]
                bare = [row[2] / row[3] for row in rows]
                microseconds = [statistics.median(column) * 1e6 for column in zip(*rows, strict=True)]
                name = f"{size} B x {connections}"
                print(f"{name:<22}{microseconds[0]:>10.2f}{microseconds[1]:>8.2f}  {spread(same):<24}{spread(bare)}")
                missed |= statistics.median(same) > LIMIT
    print(f"the engine is {'NOT ' if missed else ''}within {LIMIT} x of the minimal client in every row")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
