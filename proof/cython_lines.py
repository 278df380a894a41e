"""A plugin of coverage for the Cython sources: `make coverage` puts it beside the package that it builds and measures.

Cython's own plugin looks for sources from the working directory on, and takes the .pxd of one module for that of
another. Here a frame's file is found by its path below the package, and its executable lines are those for which the C
has a trace call.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from coverage.plugin import CoveragePlugin, FileReporter, FileTracer

PACKAGE = Path(__file__).parent / "fastecho"
SOURCE = re.compile(r'^ */\* "(.+)":\d+$')
TRACED = re.compile(r"\b__Pyx_TraceLine\((\d+),")


class CythonLines(CoveragePlugin):
    def file_tracer(self, filename: str) -> FileTracer | None:
        source = source_of(filename)
        return CythonTracer(str(source)) if source is not None else None

    def file_reporter(self, filename: str) -> FileReporter:
        return CythonReporter(filename)


class CythonTracer(FileTracer):
    def __init__(self, source: str) -> None:
        self._source = source

    def source_filename(self) -> str:
        return self._source


class CythonReporter(FileReporter):
    def lines(self) -> set[int]:
        return set(traced_lines().get(Path(self.filename).relative_to(PACKAGE).as_posix(), ()))


def source_of(filename: str) -> Path | None:
    """The file of a code object that Cython has made: its path from some folder on, below the package."""
    if not filename.endswith((".pyx", ".pxd")):
        return None
    source = PACKAGE / ("/" + filename).rpartition("/fastecho/")[2]
    return source if source.exists() else None


@functools.cache
def traced_lines() -> dict[str, set[int]]:
    """The executable lines of each Cython source, from the C of all modules."""
    sources = {path.name: path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.p[yx][xd]")}
    found: dict[str, set[int]] = {}
    for generated in PACKAGE.rglob("*.c"):
        source = None
        for line in generated.read_text(encoding="utf-8").splitlines():
            if match := SOURCE.match(line):
                source = sources.get(match[1].rpartition("/")[2])  # names are unique; others are parts of Cython
            elif source is not None and (match := TRACED.search(line)):
                found.setdefault(source, set()).add(int(match[1]))
    return found


def coverage_init(registry: Any, options: dict[str, Any]) -> None:
    registry.add_file_tracer(CythonLines())
