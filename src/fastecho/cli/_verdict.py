"""What the commands that compare have in common: the threshold, the files, the report of the verdict."""

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from .._options.types import OptionType
from ..errors import EX_USAGE
from ._failure import CommandLineError
from ._output import print_out
from ._params import FilePath, option
from ._results import STANDARD_OUTPUT

if TYPE_CHECKING:
    from ..bench.verdict import Verdict


class Percentage(OptionType):
    """`3%`, with its sign: 3 and 0.03 could each mean the other."""

    metavar = "N%"

    def parse(self, text: str) -> float:
        match = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*%", text.strip())
        if match is None:
            raise ValueError("must be a percentage with its sign, such as 3%")
        return float(match[1]) / 100

    def validate_value(self, value: Any) -> Any:
        if value > 10:
            raise ValueError("must be at most 1000%")
        return value


threshold_option = option("--threshold", Percentage(), default=0.03, help="Differences below it do not count.  [3%]")
json_option = click.option(
    "--json",
    "json_path",
    type=FilePath(),
    metavar="FILE",
    help="Write the verdict as JSON to FILE; - is standard output.",
)


@contextlib.contextmanager
def file_errors_as_usage() -> Iterator[None]:
    """A file that cannot be read or written exits with 2: 1 says that B is worse."""
    from ..bench.measure import ReportError

    try:
        yield
    except ReportError as error:
        path, _, why = str(error).partition(": ")
        raise CommandLineError(path, why, EX_USAGE) from None


def check_json_path(json_path: str | None) -> None:
    """Refuse a file that could not be written after the runs."""
    from ..bench.measure import check_writable

    if json_path is not None and json_path != STANDARD_OUTPUT:
        with file_errors_as_usage():
            check_writable(json_path)


def report_verdict(verdict: "Verdict", json_path: str | None, more: dict[str, Any]) -> int:
    """Print the verdict, write it with `more` as JSON where that is wanted, and return the exit code."""
    from ..bench.measure import write_file

    text = json.dumps({**verdict.to_dict(), **more}, indent=1, allow_nan=False)
    if json_path == STANDARD_OUTPUT:
        print_out(text)
        if sys.stderr is not None:  # or print() would take standard output instead
            with contextlib.suppress(OSError, ValueError):
                print(*verdict.lines(), sep="\n", file=sys.stderr, flush=True)
        return verdict.exit_code
    print_out("\n".join(verdict.lines()))
    if json_path is not None:
        with file_errors_as_usage():
            write_file(json_path, text + "\n")
    return verdict.exit_code
