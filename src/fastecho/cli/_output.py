"""What a command prints on standard output, which may be a pipe that nobody reads any more."""

import contextlib
import os
import sys
from typing import NoReturn

import click

from ..errors import EX_FAILURE, EX_OK
from ._failure import CommandLineError


def print_and_exit(text: str) -> NoReturn:
    """Print `text` and end the command; well, also when the reader has seen enough of it (`| head -1`)."""
    try:
        print(text, flush=True)
    except OSError as error:
        # Or the interpreter would try again at its end, and print a traceback of its own.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            reason = error.strerror or str(error)
            raise CommandLineError("standard output", f"cannot be written: {reason}", EX_FAILURE) from None
    raise click.exceptions.Exit(EX_OK)
