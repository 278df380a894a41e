"""The command line under test: in this process with the supervisor replaced, or as a separate process."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from fastecho.cli.main import main
from fastecho.config import ServerConfig
from patience import DEADLINE

LOGGED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ERROR ")


@dataclass
class Outcome:
    code: int
    out: str
    err: str
    configs: list[ServerConfig] = field(default_factory=list)

    @property
    def config(self) -> ServerConfig:
        """What the server was started with."""
        assert self.configs, f"no server was started: exit code {self.code}, {self.err}"
        return self.configs[0]

    def complaint(self, code: int) -> str:
        """The one line of a run that failed with `code`, as the command says it, or as its log does."""
        assert self.code == code, f"exit code {self.code}, not {code}: {self.err}"
        assert self.err.endswith("\n"), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("fastecho: ") or LOGGED.match(self.err), self.err
        assert "Traceback" not in self.err
        assert not self.configs, "the server was started all the same"
        return self.err

    def logged(self, code: int) -> str:
        """The message of the one line of a run that failed with `code` when its log had begun."""
        line = self.complaint(code)
        stamp = LOGGED.match(line)
        assert stamp is not None, line
        return line[stamp.end() :].rstrip("\n")


# For `python -S`: without it, Python does not start in this locale where a .pth file names a folder outside ASCII, as
# that of an editable install below such a folder does.
ASCII_LOCALE = {
    "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
}  # fmt: skip


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FASTECHO_")}
    return kept | dict(more)


@contextmanager
def logging_restored() -> Iterator[None]:
    logger = logging.getLogger("fastecho")
    before = list(logger.handlers), logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


def in_process(
    argv: Sequence[str],
    environ: Mapping[str, str],
    capsys: pytest.CaptureFixture[str],
    run: Callable[[ServerConfig], int] | None = None,
) -> Outcome:
    """Call the CLI's main function; `run` stands for the supervisor's, and by default notes the configuration."""
    configs: list[ServerConfig] = []

    def note(config: ServerConfig) -> int:
        configs.append(config)
        return 0

    stand_in: Any = SimpleNamespace(run=run or note)
    with pytest.MonkeyPatch.context() as patch, logging_restored():
        for name in [name for name in os.environ if name.startswith("FASTECHO_")]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        patch.setitem(sys.modules, "fastecho._workers.supervisor", stand_in)
        capsys.readouterr()
        code = main(list(argv))
    printed = capsys.readouterr()
    return Outcome(code, printed.out, printed.err, configs)


# Root without capabilities is limited by permissions like other users, and can still read the interpreter.
# PR_CAPBSET_DROP = 24; exec then takes the dropped ones away.
_DROP_PRIVILEGES = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for capability in range(64):
    libc.prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
WITHOUT_PRIVILEGES = ("-c", _DROP_PRIVILEGES)


def as_process(
    argv: Sequence[str],
    environ: Mapping[str, str] | None = None,
    *,
    through: Sequence[str] = (),
    stdout: Any = subprocess.PIPE,
) -> Outcome:
    """Run `python -m fastecho` to its end, or `through` arguments that make Python run it.

    With `stdout` given, what it prints there is not seen.
    """
    done = subprocess.run(
        [sys.executable, *through, "-W", "error", "-m", "fastecho", *argv],
        env=clean_environment(environ or {}),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=3 * DEADLINE,
        check=False,
        stdout=stdout,
    )
    return Outcome(done.returncode, done.stdout or "", done.stderr)
