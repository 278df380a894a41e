"""Programs that serve on one CPU while the load runs on another."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, CLIENT_CPU = CPUS[0], CPUS[-1]


@contextmanager
def pinned(program: Sequence[str]) -> Iterator[str]:
    """Start `program`, which prints its port and ends with its standard input; gives its target."""
    with subprocess.Popen(
        ["taskset", "-c", str(SERVER_CPU), *program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                sys.exit(f"{' '.join(program)} did not start")
            yield f"tcp://127.0.0.1:{port}"
        finally:
            process.stdin.close()
