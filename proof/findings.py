"""findings.toml: what was found and mended, and what was not run, written by hand."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("findings.toml")


@dataclass(frozen=True)
class Mended:
    what: str
    test: str


@dataclass(frozen=True)
class NotRun:
    what: str
    why: str


@dataclass(frozen=True)
class Findings:
    mended: tuple[Mended, ...] = ()
    not_run: tuple[NotRun, ...] = ()

    @classmethod
    def load(cls, path: Path = FILE) -> Findings:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        mended = (Mended(**each) for each in table.pop("mended", ()))
        not_run = (NotRun(**each) for each in table.pop("not_run", ()))
        found = cls(tuple(mended), tuple(not_run))
        if table:
            raise ValueError(f"{path.name}: unknown: {', '.join(table)}")
        return found
