"""What SIGINT and SIGTERM do to `fastecho bench` and `fastecho ping`."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from ..bench.stop import Interrupted, Stop
from ..errors import EX_OK, EX_SIGNAL

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = b"\x1b[?25h"


class Interrupts:
    """The first signal asks `stop` once something runs that heeds it, and is a KeyboardInterrupt before; a second one
    ends the process."""

    def __init__(self) -> None:
        self.stop = Stop()
        self.signum = 0
        self._heeded = False

    def leave_to_stop(self) -> None:
        """From now on the first signal raises nothing: the command checks `stop` and finishes its work."""
        self._heeded = True

    @property
    def exit_code(self) -> int:
        """That of a command which a signal ended; 0 without one."""
        return EX_SIGNAL + self.signum if self.signum else EX_OK

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            if sys.stderr is not None and sys.stderr.isatty():
                os.write(sys.stderr.fileno(), _SHOW_CURSOR)  # the live display hides it
            os._exit(EX_SIGNAL + signum)
        self.signum = signum
        self.stop.request()
        if not self._heeded:
            raise KeyboardInterrupt


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handle the signals in this block, even if the parent ignores or blocks them.

    Raises Interrupted, with the exit code of the signal, for one that came before anything was measured.
    """
    handler = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    before = {each: signal.signal(each, handler) for each in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield handler
    except (KeyboardInterrupt, Interrupted) as error:
        said = str(error) or "interrupted before the run began: nothing was measured"
        raise Interrupted(said, handler.exit_code or EX_SIGNAL + signal.SIGINT) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for each, previous in before.items():
            signal.signal(each, previous)
