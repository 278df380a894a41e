"""A request to end a run early, and the error of a run that ended before it had measured anything."""

from ..errors import EX_FAILURE, FastechoError
from ._threads import allocate_lock


class Interrupted(FastechoError):
    """The run was stopped before it had measured anything."""

    def __init__(self, message: str, exit_code: int = EX_FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Stop:
    """Lets a signal handler or another thread stop a run: `run_load(spec, stop=stop)`, then `stop.request()`."""

    def __init__(self) -> None:
        self.requested = False
        # A lock, since to release one is a single step that a signal handler can take wherever it interrupts.
        self._lock = allocate_lock()
        self._lock.acquire()

    def request(self) -> None:
        if not self.requested:
            self.requested = True
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Wait until a stop is requested, at most `seconds`; whether it is."""
        if not self.requested:
            self._lock.acquire(timeout=max(0.0, seconds))
        return self.requested
