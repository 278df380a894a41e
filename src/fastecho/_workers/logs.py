"""Logging to standard error, as lines of text or as one JSON object a line.

fastecho logs through the loggers `fastecho` (the server's life, from INFO up), `fastecho.session` (each session's
life, at DEBUG) and `fastecho.service` (what was asked for by name: the ready line and the lines of totals; no
`log_level` hides them). Inside another program they are configured by that program; the functions here are for
the command and its workers.
"""

import contextlib
import json
import logging
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# What every record has; the rest came with `extra=` and goes into the JSON object.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# A record is one line, also where a path or a client's data has control characters.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_PATIENCE = 0.1
"""Seconds to wait for a reader of the log."""
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


class _Output:
    """Standard error, where a reader that has stopped costs lines of the log and does not stop the service.

    A write waits for `_PATIENCE` for a slow reader, and not at all after one that was in vain.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor = stream.fileno()
        self._own: int | None = None
        self._stopped = self._cut = False
        # Several processes write to a pipe, so it may be full again after the poll. O_NONBLOCK of a
        # descriptor that is opened once more is not that of the others.
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
                path = f"/proc/self/fd/{self._descriptor}"
                self._own = self._descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, line: str) -> None:
        """Write all of `line`, or raise OSError."""
        data = memoryview(line.encode(self._stream.encoding, self._stream.errors or "strict"))
        if self._cut:
            data = memoryview(b"\n" + data)
        whole, end = len(data), time.monotonic() + (0.0 if self._stopped else _PATIENCE)
        try:
            while data:
                left = max(0.0, end - time.monotonic())
                if not self._poll.poll(round(left * 1000)):
                    break
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:
                    if not left:
                        break
        finally:
            self._stopped = bool(data)
            self._cut = 0 < len(data) < whole or (self._cut and len(data) == whole)
        if data:
            raise BlockingIOError("standard error takes no more")

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        if self._own is not None:
            os.close(self._own)
            self._own = None


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic at run time before Python 3.11
    """Ours, so that a second `setup_logging` finds and replaces it and no other.

    Lines that cannot be written are counted. The next one that can be says how many.
    """

    def __init__(self) -> None:
        try:
            self._output: _Output | None = _Output(sys.stderr)
        except (AttributeError, OSError, ValueError):  # there is none, or it is no file
            self._output = None
        super().__init__(self._output or sys.stderr)
        self._lost = 0
        self._counted_by = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        """A background job that writes to a terminal with `stty tostop` gets SIGTTOU, and the write fails until it is
        ignored or blocked: with a handler, the two would go on for ever (hazard 42)."""
        if signal.getsignal(signal.SIGTTOU) in (signal.SIG_DFL, signal.SIG_IGN):
            self._emit(record)
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        try:
            self._emit(record)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _emit(self, record: logging.LogRecord) -> None:
        if self._counted_by != os.getpid():  # a child: its parent reports what it has lost
            self._lost, self._counted_by = 0, os.getpid()
        if self._lost:
            lost, self._lost = self._lost, 0
            super().emit(_make_record(lost))
            if self._lost:
                self._lost = lost + 1
                return
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Neither a full or closed standard error nor a lack of memory is a reason to stop serving."""
        if isinstance(sys.exc_info()[1], (OSError, MemoryError)):
            self._lost += 1
        else:
            super().handleError(record)

    def close(self) -> None:
        if self._output is not None:
            self._output.close()
        super().close()


def _make_record(lost: int) -> logging.LogRecord:
    line = "%d lines of the log were lost: standard error took no more"
    return logging.LogRecord("fastecho", logging.WARNING, __file__, 0, line, (lost,), None)


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
        old.close()
    handler = _Handler()
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
            handler.close()
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
