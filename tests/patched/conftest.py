"""`alone(code)`: run `code` in a separate Python, because it replaces modules that pytest uses, too."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from patience import DEADLINE

WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None\n"
"""The threads of fastecho then run asyncio's own loop."""


@pytest.fixture
def alone(loop_name):
    def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        text = (WITHOUT_UVLOOP if loop_name == "asyncio" else "") + textwrap.dedent(code)
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", text, *arguments],
            capture_output=True, text=True, timeout=4 * DEADLINE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    return run
