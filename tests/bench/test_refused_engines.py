"""A load engine whose arguments are refused closes no descriptor: it has opened none."""

import subprocess
import sys

import pytest

CONSTRUCT = """
import os, socket
from fastecho.bench._datagram_load import DatagramEngine
from fastecho.bench._load import Engine

both = dict(sources=[], connections=2, depth=1, sizes=[64], table=bytes(1 << 18), verify=True, rate=0.0, poisson=False,
            offset=0.0, timeout=1.0, seed=1, index=0)
tcp = dict(family=socket.AF_UNIX, host="/x", port=0, chunk=1 << 16, churn=False, terminator=b"", proxy_protocol=0,
           count_all=False, **both)
udp = dict(address=("127.0.0.1", 9), family=socket.AF_INET, **both)
engine, arguments = {"tcp": (Engine, tcp), "udp": (DatagramEngine, udp)}[KIND]
engine(**arguments)
before = os.fstat(0).st_ino
try:
    engine(**{**arguments, **CHANGED})
except (OSError, TypeError, ValueError, OverflowError) as error:
    print(type(error).__name__, os.fstat(0).st_ino == before)
"""


@pytest.mark.parametrize(
    ("kind", "changed", "error"),
    [
        ("tcp", {"host": "/" + 200 * "x"}, "ValueError"),
        ("tcp", {"table": b""}, "ValueError"),
        ("tcp", {"sizes": [-1]}, "OverflowError"),
        ("tcp", {"unknown": 1}, "TypeError"),
        ("udp", {"table": b""}, "ValueError"),
        ("udp", {"sizes": [-1]}, "OverflowError"),
        ("udp", {"sources": ["192.0.2.1"]}, "OSError"),
        ("udp", {"unknown": 1}, "TypeError"),
    ],
)
def test_an_engine_whose_arguments_are_refused_closes_no_other_descriptor(kind, changed, error):
    code = f"KIND, CHANGED = {kind!r}, {changed!r}\n{CONSTRUCT}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [error, "True"]
