"""The inputs that every run replays: tests/corpus/TARGET/NAME, a file each.

Some were made by hand, because they are nasty; `failed-...` are those that once broke a promise. A property test adds
what it finds, and so does `proof/fuzz.py`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "corpus"


def files_of(target: str) -> list[Path]:
    return sorted(path for path in (CORPUS / target).glob("*") if path.is_file())


def inputs_of(target: str) -> list[bytes]:
    return [path.read_bytes() for path in files_of(target)]


def keep_failure(target: str, data: bytes) -> Path:
    """Add an input that has failed."""
    path = CORPUS / target / f"failed-{hashlib.sha256(data).hexdigest()[:12]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
