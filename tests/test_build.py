"""The kinds of build: each compiles, says what it is, and echoes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ECHO = """
import socket, fastecho
from fastecho._buffer import BUILD, __file__
with fastecho.serve(port=0) as server, socket.create_connection(server.address) as client:
    client.sendall(b"hello\\0")
    assert client.makefile("rb").read() == b"hello\\0"
print(BUILD, __file__)
"""


def build(kind: str, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(target), "--build-lib", str(target / "lib")]
    environment = {**os.environ, "FASTECHO_BUILD": kind}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["debug", "coverage"])
def test_a_build_of_each_kind_echoes(kind, tmp_path):
    built = build(kind, tmp_path)
    assert built.returncode == 0, built.stderr
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
    run = subprocess.run([sys.executable, "-c", ECHO], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0] == kind
    assert run.stdout.split()[1].startswith(str(tmp_path)), "another build was imported"


def test_an_unknown_kind_is_one_line(tmp_path):
    refused = build("fast", tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.strip() == "FASTECHO_BUILD=fast: must be one of release, debug, coverage"
