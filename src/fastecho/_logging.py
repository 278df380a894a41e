"""Logging to standard error, as lines of text or as one JSON object a line.

fastecho logs through the loggers `fastecho` (the server's life, from INFO up) and `fastecho.session` (each
session's life, at DEBUG). Inside another program they are configured by that program; `setup_logging` is for
the command line and its workers only.
"""

import json
import logging
import sys
import time

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# What every record has; the rest came with `extra=` and goes into the JSON object.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# A record is one line, whatever a path or a peer's data puts into its message.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_ONE_LINE = str.maketrans(_CONTROLS | {ord("\n"): "\\n", ord("\r"): "\\r"})


def _timestamp(record: logging.LogRecord) -> str:
    # Milliseconds are cut, not rounded: rounding 59.9996 s would need a carry.
    whole = int(record.created)
    milliseconds = int((record.created - whole) * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"


class TextFormatter(logging.Formatter):
    """`2026-01-01T12:00:00.123Z INFO  message`, and below it the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_timestamp(record)} {record.levelname:<5} {record.getMessage().translate(_ONE_LINE)}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class JSONFormatter(logging.Formatter):
    """`{"time": ..., "level": ..., "logger": ..., "message": ..., "pid": ...}` and the fields of `extra=`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in entry:
                entry[name] = value
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic at run time before Python 3.11
    """Ours, so that a second `setup_logging` finds and replaces it and no other."""


def setup_logging(level: str, format: str) -> None:
    """Send the `fastecho` loggers to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        format: `text` or `json`.

    Calling it again replaces what it set up before.
    """
    logger = logging.getLogger("fastecho")
    for old in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(old)
    handler = _Handler(sys.stderr)
    handler.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[level])
    # The root logger may be somebody else's, and would print each line a second time.
    logger.propagate = False
