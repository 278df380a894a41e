"""The standard streams of a command, which may be closed, full, without a reader, or unable to encode a character.

A command prints with `print_out` on standard output, and with `print(..., file=sys.stderr)` or through `logging` on
standard error. Inside `standard_streams` neither raises, so no command loses its files or its exit code to a stream:

- A closed descriptor is opened on the null device, before a socket can take its number.
- A reader that has left (`| head -1`) ends the output, and is no error.
- Standard output that cannot be written otherwise (a full disk) is one line and exit code 1, after the command.
- An error of writing to standard error is ignored: the exit code remains.
- A character that the encoding lacks is printed as its ASCII substitute, or escaped.
"""

import codecs
import contextlib
import errno
import io
import os
import select
import sys
import time
from collections.abc import Iterator
from typing import Final, NoReturn, TextIO, cast

import click

from ..errors import EX_OK

_PLAIN_ERRORS: Final = "fastecho-plain"
# The characters beyond ASCII that the commands print, and their substitutes, one for one so that columns stay.
_PLAIN: Final = dict(zip("▏▎▍▌▋▊▉█▁▂▃▄▅▆▇µμ±×·…", "---===##_.:-=+*uu~x-.", strict=True))
_NO_READER: Final = frozenset({errno.EPIPE, errno.ECONNRESET})


class _Stream(io.TextIOBase):
    """A standard stream to print on. A write that fails loses its text, and its error stays in `failure`.

    It keeps no more than an unfinished line, and nothing that it has begun to write: an interrupt or a failure never
    makes it write a line twice.
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self.failure: OSError | None = None
        self._descriptor = descriptor
        self._encoding = encoding
        self._terminal = os.isatty(descriptor)
        self._line = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        return _PLAIN_ERRORS

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return self._terminal

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._line += text
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        text, self._line = self._line, ""
        data = memoryview(text.encode(self._encoding, _PLAIN_ERRORS))
        try:
            while data:
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(self._descriptor, data) :]
                    continue
                # Another program has made it non-blocking.
                self._poll(select.POLLOUT, None)
        except OSError as error:
            self.failure = error

    @property
    def lost_its_reader(self) -> bool:
        number = self.failure.errno if self.failure is not None else None
        # EIO of a terminal: it was closed. That of a file is an error of the disk.
        return number in _NO_READER or (number == errno.EIO and self._terminal)

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        if self.failure is not None or self._poll(0, int(seconds * 1000)) & (select.POLLERR | select.POLLHUP):
            return False
        time.sleep(max(0.0, end - time.monotonic()))
        return True

    def _poll(self, events: int, milliseconds: int | None) -> int:
        poll = select.poll()
        poll.register(self._descriptor, events)
        return sum(found for _, found in poll.poll(milliseconds))


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Make the standard streams safe to print on, as the text above has it. Streams that a caller replaced stay."""
    _open_missing_descriptors()
    before = sys.stdout, sys.stderr
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, sys.stdout)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, sys.stderr)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _open_missing_descriptors() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, and so this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _stream(descriptor: int, old: TextIO | None) -> TextIO:
    if old is not None:
        with contextlib.suppress(OSError, ValueError):
            old.flush()
    return cast("TextIO", _Stream(descriptor, "utf-8" if old is None else old.encoding))


def _to_plain(error: UnicodeError) -> tuple[str, int]:
    """The error handler of both streams."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or _escaped(each) for each in characters), error.end


def _escaped(character: str) -> str:
    # A byte of an argument or path that is not text comes as a surrogate.
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("ascii", "backslashreplace").decode("ascii")


codecs.register_error(_PLAIN_ERRORS, _to_plain)


def output_failure() -> str | None:
    """Why standard output could not be written; None when all was, or when its reader has left."""
    stream = sys.stdout
    if not isinstance(stream, _Stream) or stream.failure is None or stream.lost_its_reader:
        return None
    return f"standard output: cannot be written: {stream.failure.strerror}"


def wait_while_read(seconds: float) -> bool:
    """Wait for `seconds`, or until nothing can be printed any more; return whether something can."""
    if isinstance(sys.stdout, _Stream):
        return sys.stdout.wait(seconds)
    time.sleep(seconds)
    return True


def print_out(text: str) -> None:
    """Print `text` on standard output."""
    print(text, flush=True)


def print_and_exit(text: str) -> NoReturn:
    """Print `text` and end the command well."""
    print_out(text)
    raise click.exceptions.Exit(EX_OK)
