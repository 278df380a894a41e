"""Logging to standard error, as lines of text or as one JSON object a line.

fastecho logs through the loggers `fastecho` (the server's life, from INFO up), `fastecho.session` (each session's
life, at DEBUG) and `fastecho.service` (what was asked for by name: the ready line and the lines of totals; no
`log_level` hides them). Inside another program they are configured by that program; the functions here are for
the command and its workers.
"""

import contextlib
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# What every record has; the rest came with `extra=` and goes into the JSON object.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# A record is one line, also where a path or a client's data has control characters.
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

    def emit(self, record: logging.LogRecord) -> None:
        """A background job that writes to a terminal with `stty tostop` gets SIGTTOU, and the write fails until it is
        ignored or blocked: with a handler, the two would go on for ever (hazard 42)."""
        if signal.getsignal(signal.SIGTTOU) in (signal.SIG_DFL, signal.SIG_IGN):
            super().emit(record)
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        try:
            super().emit(record)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def handleError(self, record: logging.LogRecord) -> None:
        """A full or closed standard error is no reason to stop serving, and leaves no place to report it."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def setup_logging(level: str, format: str) -> None:
    """Send the `fastecho` loggers to standard error.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        format: `text` or `json`.

    Calling it again replaces what it set up before.
    """
    logger = logging.getLogger("fastecho")
    for old in _installed():
        logger.removeHandler(old)
    handler = _Handler(sys.stderr)
    handler.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[level])
    logging.getLogger("fastecho.service").setLevel(logging.INFO)
    # The handlers of the root logger would print each line a second time.
    logger.propagate = False


def log_fatal(line: str, error: BaseException | None = None) -> bool:
    """Log the `line` that ends the command, with the traceback of `error`; False before `setup_logging`."""
    if not _installed():
        return False
    logging.getLogger("fastecho").error(line, exc_info=error)
    return True


@contextlib.contextmanager
def own_logging(level: str, format: str) -> Iterator[None]:
    """`setup_logging` for the block, unless the program that calls has configured logging."""
    logger = logging.getLogger("fastecho")
    if logger.hasHandlers():
        yield
        return
    service = logging.getLogger("fastecho.service")
    before = logger.level, logger.propagate, service.level
    setup_logging(level, format)
    try:
        yield
    finally:
        for handler in _installed():
            logger.removeHandler(handler)
        logger.level, logger.propagate, service.level = before


@contextlib.contextmanager
def captured_stderr() -> Iterator[None]:
    """Inside the block, Python's own lines on standard error become log records.

    They are warnings, the records of other loggers (asyncio reports failed callbacks that way), and exceptions that
    nothing catches. For a process that is the command, after `setup_logging`.
    """
    root = logging.getLogger()
    handlers = _installed()
    before = sys.excepthook, sys.unraisablehook, threading.excepthook
    for handler in handlers:
        root.addHandler(handler)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = threading.excepthook = _log_unraisable
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook = before
        logging.captureWarnings(False)
        for handler in handlers:
            root.removeHandler(handler)


def _installed() -> list[_Handler]:
    return [handler for handler in logging.getLogger("fastecho").handlers if isinstance(handler, _Handler)]


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    logging.getLogger("fastecho").error("uncaught exception", exc_info=(kind, error, traceback))


def _log_unraisable(failure: Any) -> None:
    """For the arguments of both `sys.unraisablehook` and `threading.excepthook`."""
    where = getattr(failure, "err_msg", None) or "uncaught exception"
    culprit = getattr(failure, "object", None) or getattr(failure, "thread", None)
    error = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    logging.getLogger("fastecho").error("%s: %r", where, culprit, exc_info=error)
