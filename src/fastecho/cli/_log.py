"""The log format of the server, known before its options are: errors in them belong into the log as well."""

import os
from collections.abc import Mapping, Sequence

from .._workers.logs import setup_logging

_OPTION = "--log-format"


def begin_log(args: Sequence[str]) -> None:
    """Begin the log of the command line `args` if it is to be JSON; a text log begins when the options are read."""
    if _asked_format(args, os.environ) == "json":
        setup_logging("info", "json")


def _asked_format(args: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """What is given as `--log-format`, valid or not; None where the command is not the server."""
    if args and args[0] != "serve" and not args[0].startswith("-"):
        return None
    asked = environ.get("FASTECHO_LOG_FORMAT")
    for at, this in enumerate(args):
        if this == _OPTION:
            asked = "".join(args[at + 1 : at + 2])
        elif this.startswith(f"{_OPTION}="):
            asked = this.partition("=")[2]
    return asked
