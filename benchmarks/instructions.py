"""Instructions in user space, of an echo and of a whole connection, by who executes them. Repeatable on a busy machine.

    python benchmarks/instructions.py [leased|pinned|polling|plain] [--work WORK] [--functions N]

Runs the server under valgrind's callgrind (Debian: valgrind), warms it up, and counts: 5,000 echoes of 64 B over 50
connections; or 1,600 connections, 32 at a time, that each echo 64 B and end. `plain` is Python on the same
uvloop, `polling` is `--busy-poll auto`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LINE = re.compile(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+(\S+?):(\S+) \[(.+)\]")
RESET = struct.pack("ii", 1, 0)
CONNECTIONS, ECHOES_WARM, ECHOES_COUNTED = 50, 20, 100
AT_ONCE, WARM, COUNTED = 32, 10, 50
Switch = Callable[[str], None]


@contextmanager
def server(kind: str, output: Path, terminator: bool) -> Iterator[tuple[tuple[str, int], Switch]]:
    """The server under callgrind: its address, and a function that switches counting "on" and "off"."""
    ready, theirs = os.pipe()
    command = [sys.executable, str(Path(__file__).with_name("servers.py")), kind, "--ready-fd", str(theirs)]
    valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={output}"]
    with subprocess.Popen([*valgrind, *command, *["--terminator"] * terminator], pass_fds=[theirs]) as process:
        os.close(theirs)
        with os.fdopen(ready) as lines:
            host, _, port = lines.readline().strip().removeprefix("tcp://").rpartition(":")

        def switch(state: str) -> None:
            subprocess.run(["callgrind_control", "-i", state, str(process.pid)], check=True, capture_output=True)

        yield (host, int(port)), switch
        process.terminate()


def echoes(address: tuple[str, int], switch: Switch) -> int:
    clients = [socket.create_connection(address) for _ in range(CONNECTIONS)]

    def echo(rounds: int) -> None:
        for _ in range(rounds):
            for client in clients:
                client.send(b"x" * 64)
            for client in clients:
                assert len(client.recv(100)) == 64

    echo(ECHOES_WARM)
    switch("on")
    echo(ECHOES_COUNTED)
    switch("off")
    echo(1)
    for client in clients:
        client.close()
    return CONNECTIONS * ECHOES_COUNTED


def connections(message: bytes, reset: bool) -> Callable[[tuple[str, int], Switch], int]:
    """Connections that end when the server closes (`message` ends in NUL), or when the client closes first.

    Args:
        reset: the client ends its side with RST instead of FIN.
    """

    def run(address: tuple[str, int], switch: Switch) -> int:
        with socket.create_connection(address) as last:

            def connect(rounds: int) -> None:
                for _ in range(rounds):
                    clients = [socket.create_connection(address) for _ in range(AT_ONCE)]
                    for client in clients:
                        client.send(message)
                    for client in clients:
                        assert client.recv(100) == message
                        if message.endswith(b"\0"):
                            assert client.recv(1) == b""
                        if reset:
                            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                        client.close()
                last.send(b"x")  # answered after the events of the clients before
                assert last.recv(1) == b"x"

            connect(WARM)
            switch("on")
            connect(COUNTED)
            switch("off")
            connect(1)
        return AT_ONCE * COUNTED

    return run


OPEN, ENDING = b"x" * 64, b"x" * 63 + b"\0"
WORK: dict[str, tuple[str, Callable[[tuple[str, int], Switch], int]]] = {
    "echo": ("an echo", echoes),
    "client-fin": ("a connection that its client closes first, with FIN", connections(OPEN, reset=False)),
    "client-rst": ("a connection that its client closes first, with RST", connections(OPEN, reset=True)),
    "server-fin": ("a connection that the server closes first, its client with FIN", connections(ENDING, reset=False)),
    "server-rst": ("a connection that the server closes first, its client with RST", connections(ENDING, reset=True)),
}


def count(kind: str, work: str, functions: int) -> None:
    what, run = WORK[work]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "callgrind.out"
        with server(kind, output, terminator=work != "echo") as (address, switch):
            number = run(address, switch)
        annotate = ["callgrind_annotate", "--threshold=100", "--auto=no", str(output)]
        annotated = subprocess.run(annotate, check=True, capture_output=True, text=True).stdout
    owners: Counter[str] = Counter()
    by_function: Counter[str] = Counter()
    for line in annotated.splitlines():
        if found := LINE.match(line):
            instructions = int(found[1].replace(",", ""))
            owner = Path(found[4]).name.partition(".")[0]
            owners[owner] += instructions
            by_function[f"{owner}: {found[3]}"] += instructions
    print(f"{kind}: {sum(owners.values()) / number:.0f} instructions {what}", flush=True)
    if functions:
        for table, most in ((owners, 8), (by_function, functions)):
            print()
            for name, instructions in table.most_common(most):
                print(f"{instructions / number:8.0f}  {name}")
        print()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", default="leased", choices=["leased", "pinned", "polling", "plain"])
    parser.add_argument("--work", choices=WORK, help="default: each")
    parser.add_argument("--functions", type=int, default=0, help="show the most expensive functions; default 0")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        print("instructions.py needs valgrind: apt-get install valgrind", file=sys.stderr)
        return 1
    for work in [arguments.work] if arguments.work else WORK:
        count(arguments.kind, work, arguments.functions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
