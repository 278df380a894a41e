"""The outputs of a command that measures: the files that were asked for, then the report as text."""

import contextlib
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import EX_FAILURE, FastechoError
from ._output import print_out

if TYPE_CHECKING:
    from ..bench.measure import Report
    from ..bench.slo import Slo

STANDARD_OUTPUT = "-"


def check_outputs(json_path: str | None, report_path: str | None) -> None:
    """Refuse before a run what could not be written after it. Raises CommandLineError, ReportError."""
    from ..bench.measure import check_writable
    from ._params import usage_error

    if report_path == STANDARD_OUTPUT:
        raise usage_error("--report", report_path, "must be a file; only --json can be -, standard output")
    if report_path is not None and report_path == json_path:
        raise usage_error("--report", report_path, "must be another file than that of --json")
    for path in (json_path, report_path):
        if path is not None and path != STANDARD_OUTPUT:
            check_writable(path)


def write_outputs(
    report: "Report",
    objectives: "Sequence[Slo]" = (),
    *,
    json_path: str | None = None,
    report_path: str | None = None,
    more: Sequence[str] = (),
) -> None:
    """Write the files, then print the report, and `more` lines below it. One that fails does not keep the others back.

    Raises FastechoError that names each one that failed.
    """
    from ..bench.html import save_page

    problems: list[str] = []
    for path, save in ((json_path, _save_json), (report_path, lambda r, p: save_page(r, p, objectives))):
        if path is not None:
            try:
                save(report, path)
            except FastechoError as error:
                problems.append(str(error))
    _show(report, objectives, more, to_stderr=json_path == STANDARD_OUTPUT)
    if problems:
        raise OutputError("; ".join(problems))


class OutputError(FastechoError):
    """Something that was asked for could not be written."""

    exit_code = EX_FAILURE


def _save_json(report: "Report", path: str) -> None:
    if path == STANDARD_OUTPUT:
        print_out(report.to_json().rstrip("\n"))
    else:
        report.save(path)


def _show(report: "Report", objectives: "Sequence[Slo]", more: Sequence[str], *, to_stderr: bool) -> None:
    from ..bench.text import render

    stream = sys.stderr if to_stderr else sys.stdout
    terminal = stream is not None and stream.isatty()
    width = min(120, shutil.get_terminal_size((100, 24)).columns) if terminal else 100
    text = "\n".join([render(report, objectives, color=terminal, width=width), *more])
    if not to_stderr:
        print_out(text)
    elif stream is not None:  # or print() would take standard output instead
        with contextlib.suppress(OSError, ValueError):
            print(text, file=stream, flush=True)
