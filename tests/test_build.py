"""The kinds of build: each compiles, says what it is, and echoes."""

import os
import shutil
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
    where = ["--build-base", str(target), "--build-lib", str(target / "lib")]
    command = [sys.executable, "setup.py", "-q", "build", *where]
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


@pytest.fixture
def installed_checkout(tmp_path):
    """A copy of the checkout, below a path with a space and a letter outside ASCII, that `make` holds for installed."""
    checkout = tmp_path / "f\u00e4st echo" / "fastecho"
    without = shutil.ignore_patterns("*.so", "*.c", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", checkout / "src", ignore=without)
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, checkout)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").touch()
    (checkout / ".venv" / ".base").touch()
    for path in checkout.rglob("*"):
        os.utime(path, (1e9, 1e9))
    return checkout


def would_install(checkout):
    plan = ["make", "-n", "serve"]
    return "pip install" in subprocess.run(plan, cwd=checkout, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "name",
    ["__pycache__/server.cpython-311.pyc", "bench/__pycache__/run.cpython-311.pyc", "server.py", "bench/run.py",
     "_session.cpython-311-x86_64-linux-gnu.so"],
)  # fmt: skip
def test_make_does_not_install_again_for_a_file_that_is_not_compiled(installed_checkout, name):
    path = installed_checkout / "src" / "fastecho" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (2e9, 2e9))
    assert not would_install(installed_checkout)


@pytest.mark.parametrize("name", ["_session.pyx", "_session.pxd", "_compat.h", "bench/_load.pyx", "bench/_poller.h"])
def test_make_installs_again_for_a_file_that_is_compiled(installed_checkout, name):
    os.utime(installed_checkout / "src" / "fastecho" / name, (2e9, 2e9))
    assert would_install(installed_checkout)
