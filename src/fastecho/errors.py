"""The errors that fastecho raises, and the exit code of the command for each.

The text of each error is one line that says what is wrong and what is accepted; the command prints that line only. Each
error is also the built-in exception that a caller expects (`ValueError`, `OSError` and so on), so that code without
knowledge of fastecho can catch it.
"""

import errno
from typing import Final

__all__ = [
    "EX_ADDRESS_IN_USE",
    "EX_CANNOT_CONNECT",
    "EX_CONFIG",
    "EX_CRASH_LOOP",
    "EX_FAILURE",
    "EX_OBJECTIVE_MISSED",
    "EX_OK",
    "EX_PERMISSION",
    "EX_SIGNAL",
    "EX_USAGE",
    "EX_WRONG_ECHO",
    "AddressError",
    "AddressInUseError",
    "ConfigError",
    "ConfigFileError",
    "CrashLoopError",
    "FastechoError",
    "MissingExtraError",
    "PermissionDeniedError",
    "TLSError",
    "WorkerStartError",
]

# Those of sysexits.h where it has one for the case.
EX_OK: Final = 0
EX_FAILURE: Final = 1
EX_USAGE: Final = 2
# Of the client commands. A run with wrong echoes that also misses an objective ends with EX_WRONG_ECHO.
EX_WRONG_ECHO: Final = 3
EX_OBJECTIVE_MISSED: Final = 4
EX_CANNOT_CONNECT: Final = 5
EX_ADDRESS_IN_USE: Final = 69
EX_CRASH_LOOP: Final = 70
EX_PERMISSION: Final = 77
EX_CONFIG: Final = 78
# And the number of the signal that ended the process: 130 for SIGINT, 143 for SIGTERM.
EX_SIGNAL: Final = 128

# errno when this process or machine has run out of something, which is no bug and no fault of the other side.
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

_LONGEST_VALUE = 80


def show_value(value: object) -> str:
    """`value` as a message shows it: on one line, quoted only where that helps, cut when it is long."""
    if isinstance(value, str):
        plain = value.isascii() and value.isprintable() and " " not in value and value != ""
        text = value if plain else repr(value)
    else:
        text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


class FastechoError(Exception):
    """The base class. `exit_code` is the exit code of the command when the error is not caught."""

    exit_code: int = EX_FAILURE


class ConfigError(FastechoError, ValueError):
    """An option has an invalid value, or one that conflicts with another option.

    The exit code is 78; for an option on the command line it is 2.

    Attributes:
        option: the Python name of the option, such as `buffer_size`.
        value: the value as it was given.
        must: what is accepted, such as `must be between 512 B and 16 MiB`.
    """

    exit_code = EX_CONFIG

    def __init__(self, option: str, value: object, must: str) -> None:
        super().__init__(option, value, must)
        self.option = option
        self.value = value
        self.must = must

    def __str__(self) -> str:
        return f"{self.option} {show_value(self.value)}: {self.must}"


class ConfigFileError(FastechoError, ValueError):
    """The configuration file cannot be read, is not TOML, or has a key that is not an option."""

    exit_code = EX_CONFIG


class AddressInUseError(FastechoError, OSError):
    """Another process listens on the address, or a file that is not a stale socket is at the path."""

    exit_code = EX_ADDRESS_IN_USE


class AddressError(FastechoError, OSError):
    """The address cannot be resolved, or does not belong to this machine."""


class PermissionDeniedError(FastechoError, PermissionError):
    """The user may not listen on the address: a port below 1024, or a folder that is not writable."""

    exit_code = EX_PERMISSION


class TLSError(FastechoError, OSError):
    """A certificate or key cannot be read, is not PEM, or does not match its counterpart."""

    exit_code = EX_CONFIG


class WorkerStartError(FastechoError):
    """A worker could not start; the text says why. It is not started again."""


class CrashLoopError(FastechoError):
    """All workers kept dying, and the supervisor has stopped the service."""

    exit_code = EX_CRASH_LOOP


class MissingExtraError(FastechoError, ImportError):
    """A feature needs a package that is not installed; the text names the extra that installs it."""
