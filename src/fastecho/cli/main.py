"""The entry point: runs a command, and turns each error into one line and an exit code."""

import errno
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._workers.logs import log_fatal
from .._workers.signals import reset_inherited
from ..errors import EX_FAILURE, EX_OK, EX_SIGNAL, EX_USAGE, SHORTAGES, FastechoError, show_value
from ._failure import CommandLineError
from ._log import begin_log

if TYPE_CHECKING:
    import click

__all__ = ["main"]

_COMPLETION = "_FASTECHO_COMPLETE"
_PACKAGE = __name__.partition(".")[0]
_SHORTAGES = SHORTAGES | {errno.ENOSPC, errno.EAGAIN}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; default `sys.argv[1:]`); return the exit code.

    Every failure is one line on standard error and no traceback; an error that is a bug of fastecho has one
    too, and its traceback below it when the log level is debug.
    """
    args = sys.argv[1:] if argv is None else list(argv)
    reset_inherited()
    try:
        from ._output import output_failure, standard_streams

        with standard_streams():
            begin_log(args)
            code = _guarded(args)
            failure = output_failure()
            if failure is not None:
                _say(failure)
            return code if failure is None else code or EX_FAILURE
    except KeyboardInterrupt:
        return EX_SIGNAL + signal.SIGINT


def _guarded(args: list[str]) -> int:
    try:
        return _run(args)
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

    if instruction := os.environ.get(_COMPLETION):
        return _complete(instruction)
    # Not click's own main(): it prints several lines for a usage error, and an empty one for Ctrl-C.
    try:
        with group.make_context("fastecho", args) as context:
            code = group.invoke(context)
            return code if isinstance(code, int) else EX_OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        _say(f"{_usage_line(error)} {_hint(error)}")
        return EX_USAGE


def _complete(instruction: str) -> int:
    """Shell completion: click's, printed by our own stream, which survives a reader that leaves."""
    from click.shell_completion import get_completion_class

    from ._group import group

    shell, _, wanted = instruction.partition("_")
    completion_class = get_completion_class(shell)
    if completion_class is None or wanted not in ("source", "complete"):
        accepted = "bash, zsh or fish, then _source or _complete"
        raise CommandLineError(f"{_COMPLETION}={show_value(instruction)}", f"must be {accepted}", EX_USAGE)
    completion = completion_class(group, {}, "fastecho", _COMPLETION)
    print(completion.source() if wanted == "source" else completion.complete())
    return EX_OK


def _usage_line(error: "click.ClickException") -> str:
    import click

    if isinstance(error, click.NoSuchOption):
        close = (error.possibilities or [])[:1]
        hint = _other_command(error.option_name) or (f"; did you mean {close[0]}?" if close else "")
        return f"{error.option_name}: no such option{hint}"
    if isinstance(error, click.BadOptionUsage):
        takes_one = "requires" in error.message
        return f"{error.option_name}: {'needs a value' if takes_one else 'takes no value'}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{error.param.make_metavar(error.ctx) if error.ctx else error.param.human_readable_name}: must be given"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{error.param.opts[0]}: {error.message}"
    extra = re.match(r"Got unexpected extra arguments? \((.*)\)", error.format_message())
    return f"{show_value(extra[1])}: unexpected argument" if extra else error.format_message()


def _other_command(option: str) -> str:
    """The other command that has the option."""
    from . import COMMANDS
    from ._group import load

    having = [name for name in COMMANDS if any(option in param.opts for param in load(name).params)]
    return f"; fastecho {having[0]} has one" if having and option.startswith("--") else ""


def _hint(error: "click.ClickException") -> str:
    """The --help of the command; without a command, fastecho serves."""
    context = getattr(error, "ctx", None)
    path = context.command_path.removesuffix(" serve") if context is not None else "fastecho"
    return f"(see {path} --help)"


def _bug(error: Exception) -> int:
    frames = list(traceback.walk_tb(error.__traceback__))
    # By the name of its module: a checkout may lie below a folder that is called fastecho too.
    ours = [each for each in frames if each[0].f_globals.get("__name__", "").partition(".")[0] == _PACKAGE] or frames
    frame, line = ours[-1]
    where = f"{os.path.basename(frame.f_code.co_filename)}:{line}"
    _say(f"this is a bug in fastecho: {type(error).__name__}: {error} (at {where})", error if _debugging() else None)
    return EX_FAILURE


def _debugging() -> bool:
    asked = os.environ.get("FASTECHO_LOG_LEVEL", "").lower() == "debug"
    return asked or logging.getLogger("fastecho").level == logging.DEBUG


def _say(text: str, error: Exception | None = None) -> None:
    """Print `text` as one line, and the traceback of `error`, if given; in the log once there is one."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if not log_fatal(line, error):
        print(f"fastecho: {line}", file=sys.stderr, flush=True)
        if error is not None:
            traceback.print_exception(error)
