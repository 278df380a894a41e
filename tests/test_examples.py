"""Each example is complete, ends by itself, complains about nothing, and prints what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

from patience import DEADLINE

EXAMPLES = Path(__file__).parent.parent / "examples"
PROMISES = {
    "beside_a_main_loop.py": ["echoed: message 0", "echoed: message 2", "served 3 connections"],
    "in_an_asyncio_application.py": ["client 0", "client 4", "ended by the terminator: 5"],
    "line_client.py": ["answer: one", "answer for asyncio: two"],
    "your_own_terminator.py": ["Host: example.org", "discarded: 18 bytes"],
}


def test_every_example_has_its_promises():
    """That for Locust runs in Locust: bench/test_locust.py."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*PROMISES, "locustfile.py"}


@pytest.mark.parametrize("name", PROMISES)
def test_each_example_runs(name, tmp_path):
    """Run from another directory and with warnings as errors, as a user with strict habits would."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for promise in PROMISES[name]:
        assert promise in done.stdout
    if name == "your_own_terminator.py":
        assert "this is not echoed" not in done.stdout
