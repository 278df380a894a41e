"""The entry point: runs a command, and turns whatever goes wrong into one line and an exit code."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import EX_FAILURE, EX_OK, EX_USAGE, FastechoError

if TYPE_CHECKING:
    import click

__all__ = ["main"]

_INTERRUPTED = 130
_HINT = "(see fastecho --help)"
# What the machine has run out of is no bug of ours.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EAGAIN})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; default `sys.argv[1:]`); return the exit code.

    Every failure is one line on standard error and no traceback; an error that is a bug of fastecho has one
    too, and its traceback below it when the log level is debug.
    """
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except FastechoError as error:
        _say(str(error))
        return error.exit_code
    except MemoryError:
        _say("out of memory")
        return EX_FAILURE
    except OSError as error:
        if error.errno not in _SHORTAGES:
            return _bug(error)
        _say(str(error.strerror))
        return EX_FAILURE
    except Exception as error:
        return _bug(error)


def _run(args: list[str]) -> int:
    import click

    from ._group import group

    # Not click's own main(): it prints several lines for a usage error, and an empty one for Ctrl-C.
    try:
        with group.make_context("fastecho", args) as context:
            code = group.invoke(context)
            return code if isinstance(code, int) else EX_OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        _say(f"{_usage_line(error)} {_HINT}")
        return EX_USAGE


def _usage_line(error: "click.ClickException") -> str:
    import click

    if isinstance(error, click.NoSuchOption):
        close = error.possibilities or ()
        return f"{error.option_name}: no such option" + (f"; did you mean {close[0]}?" if close else "")
    if isinstance(error, click.BadOptionUsage):
        takes_one = "requires" in error.message
        return f"{error.option_name}: {'needs a value' if takes_one else 'takes no value'}"
    return error.format_message()


def _bug(error: Exception) -> int:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}fastecho{os.sep}" in frame.filename] or frames
    where = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else "nowhere"
    _say(f"this is a bug in fastecho: {type(error).__name__}: {error} (at {where})")
    if _debugging():
        traceback.print_exception(error)
    return EX_FAILURE


def _debugging() -> bool:
    asked = os.environ.get("FASTECHO_LOG_LEVEL", "").lower() == "debug"
    return asked or logging.getLogger("fastecho").level == logging.DEBUG


def _say(text: str) -> None:
    if sys.stderr is None:
        # Closed before the start (`2>&-`): print() would take standard output instead.
        return
    line = "".join(char if char.isprintable() else " " for char in text)
    try:
        print(f"fastecho: {' '.join(line.split())}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # Standard error is closed or full: nobody can be told, and the exit code still says it.
        return
