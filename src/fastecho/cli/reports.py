"""`fastecho bench merge` and `fastecho bench compare`: on the files that `fastecho bench --json` wrote."""

import sys
from typing import Any

import click

from ..errors import EX_OK, EX_WRONG_ECHO
from ._params import SETTINGS, Command, FilePath, help_option, usage_error
from ._results import check_outputs, write_outputs
from ._verdict import check_json_path, file_errors_as_usage, json_option, report_verdict, threshold_option

# No path: the substitute for `--`, which click would drop.
_SEPARATOR = "\0"
_COMPARE_NOTES = """\
Give several runs of each server: A1.json A2.json ... -- B1.json B2.json ... Five of each are enough for intervals; make
them in turns, or let fastecho bench ab do it. With one of each, only a difference beyond any noise is called one.

\b
exit code 0   no difference, B is better, or not enough runs to decide
exit code 1   B is worse in some respect, or had errors
exit code 2   usage: a file that cannot be read, runs that cannot be compared
"""


@click.command("merge", cls=Command, **SETTINGS)
@click.argument("files", nargs=-1, type=FilePath(), metavar="A.json B.json [...]")
@click.option("--json", "json_path", type=FilePath(), metavar="FILE", help="Write the merged run as JSON.")
@click.option("--report", "report_path", type=FilePath(), metavar="FILE", help="Write a page with plots: FILE.html.")
@help_option
def merge(files: tuple[str, ...], json_path: str | None, report_path: str | None) -> int:
    """Add up runs that several hosts made at the same time: rates, errors and histograms."""
    from ..bench.comparable import load_each_once
    from ..bench.merge import merge_reports, notes

    if len(files) < 2:
        raise usage_error("merge", " ".join(files), "must name two files at least")
    with file_errors_as_usage():
        check_outputs(json_path, report_path)
        runs = load_each_once(files)
    report = merge_reports(runs, tuple(sys.argv))
    write_outputs(report, json_path=json_path, report_path=report_path, more=[f"note: {note}" for note in notes(runs)])
    return EX_OK if report.result.ok else EX_WRONG_ECHO


class Sides(Command):
    """Keeps the `--` between the files of both sides."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_SEPARATOR if arg == "--" else arg for arg in args])


@click.command("compare", cls=Sides, epilog=_COMPARE_NOTES, **SETTINGS)
@click.argument("files", nargs=-1, type=FilePath(), metavar="A.json [...] [--] B.json [...]")
@threshold_option
@json_option
@help_option
def compare(files: tuple[str, ...], threshold: float, json_path: str | None) -> int:
    """Compare the runs of B with those of A."""
    from ..bench.comparable import check_same_load, differing_circumstances, load_each_once
    from ..bench.compare import compare as judge

    before, after = _sides(files)
    check_json_path(json_path)
    with file_errors_as_usage():
        runs = load_each_once([*before, *after])
    check_same_load(runs)
    a, b = ([(runs[path].result, runs[path].server) for path in side] for side in (before, after))
    more: dict[str, Any] = {"files": {"a": before, "b": after}}
    return report_verdict(judge(a, b, threshold, differing_circumstances(runs)), json_path, more)


def _sides(files: tuple[str, ...]) -> tuple[list[str], list[str]]:
    if _SEPARATOR not in files and len(files) == 2:
        return [files[0]], [files[1]]
    if files.count(_SEPARATOR) == 1:
        at = files.index(_SEPARATOR)
        before, after = list(files[:at]), list(files[at + 1 :])
        if before and after:
            return before, after
    given = " ".join(files).replace(_SEPARATOR, "--")
    raise usage_error("compare", given, "must be two files, or the runs of A, then --, then those of B")
