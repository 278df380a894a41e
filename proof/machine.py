"""Where a run takes place, and with what. No names of hosts, of people or of folders."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone

from benchmarks.versus.machine import LOAD, describe, package_versions

from proof.record import ROOT, Run

PACKAGES = ("fastecho", "uvloop", "Cython", "pytest", "hypothesis")

__all__ = ["LOAD", "begin", "commit", "describe", "versions"]


def versions() -> dict[str, str]:
    return package_versions(PACKAGES)


def commit() -> str:
    """The commit of the sources, with "and changes" where some are not committed; "unknown" outside a clone."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # What a run writes itself is no change of what was run.
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!proof/records", ":!docs")
        return git("rev-parse", "--short=10", "HEAD") + (" and changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def begin(command: Sequence[str]) -> Run:
    """What is known of a run before it; seconds and results are still to be set."""
    started = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return Run(started, 0.0, shlex.join(command), commit(), describe(), versions())
