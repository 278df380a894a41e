"""What the plugin adds to a run of pytest: to each test that uses it, and to every run by its import.

    python benchmarks/fixture_cost.py [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# As it is installed: compiled files are kept, and no plugin is there but ours.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
ENVIRONMENT |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "fastecho.testing.plugin"}
A_TEST = """
import socket
import pytest

@pytest.fixture
def nothing():
    yield

@pytest.mark.parametrize("number", range({count}))
def test_nothing(nothing, number):
    pass

@pytest.mark.parametrize("number", range({count}))
def test_echo(fastecho_server, number):
    with socket.create_connection(fastecho_server.address) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
"""
# Without the garbage collector: it runs after so many new objects, so a collection would fall into the import of one
# version and not into that of the other (seen: 0.1 ms).
IMPORT = """
import gc, time, pytest
gc.disable()
begin = time.perf_counter()
import fastecho.testing.plugin
print(time.perf_counter() - begin)
"""


def a_test(folder: Path, rounds: int) -> None:
    """Whole pytest runs in turn: a no-op fixture, and ours with connect and echo. <= 1.0 ms a test.

    Each is what 800 more tests take, so that the start of pytest, and the first use of ours, are not in it.
    """
    few, many = 200, 1000

    def seconds(which: str, count: int) -> float:
        (folder / "test_it.py").write_text(A_TEST.format(count=count))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which, "test_it.py"]
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert f"{count} passed" in done.stdout, done.stdout[-2000:]
        return time.perf_counter() - begin

    def milliseconds_a_test(which: str) -> float:
        return (seconds(which, many) - seconds(which, few)) / (many - few) * 1000

    pairs = [(milliseconds_a_test("test_nothing"), milliseconds_a_test("test_echo")) for _ in range(rounds)]
    low, middle, high = statistics.quantiles([ours - nothing for nothing, ours in pairs], n=4)
    print(f"over a no-op fixture: {middle:.2f} ms a test ({low:.2f}..{high:.2f})")


def an_import() -> None:
    """On top of pytest, in every run, used or not. <= 1 ms."""
    command = [sys.executable, "-c", IMPORT]
    took = [float(subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout)
            for _ in range(22)][1:]  # the first may have to compile
    low, middle, high = statistics.quantiles([each * 1000 for each in took], n=4)
    print(f"import of the plugin: {middle:.2f} ms ({low:.2f}..{high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        a_test(Path(folder), options.rounds)
    an_import()


if __name__ == "__main__":
    main()
