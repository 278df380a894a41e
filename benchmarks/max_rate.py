"""How far apart the results of `fastecho bench --find-max-rate` are, for one idle server.

    python benchmarks/max_rate.py [--runs N] [--objective TEXT] [--seconds S]

The server runs on the first CPU, the load comes from the last. The greatest rate found is held to 1.1 times the least:
the exit code is 1 when it is more.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from fastecho.cli.main import main as fastecho
from processes import CLIENT_CPU, pinned

SERVER = Path(__file__).with_name("spinning.py")
LIMIT = 1.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="searches  [5]")
    parser.add_argument("--objective", default="@p99=5ms", help="what the rate must hold  [@p99=5ms]")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the run in full  [5]")
    options = parser.parse_args()
    rates = []
    with tempfile.TemporaryDirectory() as folder, pinned([sys.executable, str(SERVER), "0"]) as target:
        for _ in range(options.runs):
            path = str(Path(folder) / "run.json")
            command = ["bench", target, "--find-max-rate", options.objective, "--duration", f"{options.seconds}s"]
            if code := fastecho([*command, "--cpus", str(CLIENT_CPU), "--json", path]):
                sys.exit(f"fastecho bench ended with {code}")
            rates.append(json.loads(Path(path).read_text())["max_rate"]["rate"])
    print(f"found: {', '.join(f'{rate:,.0f}' for rate in rates)} echoes/s")
    print(f"the greatest is {max(rates) / min(rates):.3f} times the least, {LIMIT} is allowed")
    return int(max(rates) > LIMIT * min(rates))


if __name__ == "__main__":
    sys.exit(main())
