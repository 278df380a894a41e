"""The configuration file: a TOML table whose keys are the names of options."""

import difflib
import sys
from typing import Any, Final

from ..config import options
from ..errors import ConfigFileError, show_value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MAX_SIZE: Final = 1 << 20


def read_config_file(path: str, given_by: str) -> dict[str, Any]:
    """Return the table of the file, its values as TOML has them.

    Args:
        path: the file.
        given_by: the prefix of the path in an error: `--config ` or `FASTECHO_CONFIG=`.

    Raises:
        ConfigFileError: the file cannot be read, is not TOML, or has a key that is no option.
    """
    table = _parse(_read(path, f"{given_by}{show_value(path)}"), f"{given_by}{show_value(path)}")
    names = [option.name for option in options()]
    for key in table:
        if key not in names:
            close = difflib.get_close_matches(key.replace("-", "_"), names, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigFileError(f"{path}: {show_value(key)}: no such option{hint}")
    return table


def _read(path: str, shown: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigFileError(f"{shown}: cannot be read: {reason}") from None
    if len(content) > _MAX_SIZE:
        raise ConfigFileError(f"{shown}: must be a TOML file of at most 1 MiB")
    return content


def _parse(content: bytes, shown: str) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{shown}: is not UTF-8 text, at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigFileError(f"{shown}: is not TOML: {error}") from None
    return table
