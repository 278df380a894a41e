"""Instructions an echo in user space, by who executes them: repeatable on a busy machine.

    python benchmarks/instructions.py [leased|pinned|plain] [--functions N]

Runs the server under valgrind's callgrind (Debian: valgrind), warms it up, counts 5,000 echoes of 64 B over 50
connections.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

CONNECTIONS, WARM, COUNTED = 50, 20, 100
LINE = re.compile(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+(\S+?):(\S+) \[(.+)\]")


def echo(clients: list[socket.socket], rounds: int) -> None:
    for _ in range(rounds):
        for client in clients:
            client.send(b"x" * 64)
        for client in clients:
            assert len(client.recv(100)) == 64


def count(kind: str, output: Path) -> None:
    ready, theirs = os.pipe()
    server = [sys.executable, str(Path(__file__).with_name("servers.py")), kind, "--ready-fd", str(theirs)]
    valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={output}"]
    with subprocess.Popen([*valgrind, *server], pass_fds=[theirs]) as process:
        os.close(theirs)
        with os.fdopen(ready) as lines:
            host, _, port = lines.readline().strip().removeprefix("tcp://").rpartition(":")
        clients = [socket.create_connection((host, int(port))) for _ in range(CONNECTIONS)]
        echo(clients, WARM)
        for switch, rounds in (("on", COUNTED), ("off", 0)):
            subprocess.run(["callgrind_control", "-i", switch, str(process.pid)], check=True, capture_output=True)
            echo(clients, rounds)
        for client in clients:
            client.close()
        process.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", nargs="?", default="leased", choices=["leased", "pinned", "plain"])
    parser.add_argument("--functions", type=int, default=15)
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("instructions.py needs valgrind: apt-get install valgrind", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "callgrind.out"
        count(arguments.kind, output)
        annotate = ["callgrind_annotate", "--threshold=100", "--auto=no", str(output)]
        annotated = subprocess.run(annotate, check=True, capture_output=True, text=True).stdout
    echoes = CONNECTIONS * COUNTED
    owners: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in annotated.splitlines():
        if found := LINE.match(line):
            number = int(found[1].replace(",", ""))
            owner = Path(found[4]).name.partition(".")[0]
            owners[owner] += number
            functions[f"{owner}: {found[3]}"] += number
    print(f"{arguments.kind}: {sum(owners.values()) / echoes:.0f} instructions an echo in user space")
    for table, most in ((owners, 8), (functions, arguments.functions)):
        print()
        for name, number in table.most_common(most):
            print(f"{number / echoes:8.0f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
