"""What the supervisor publishes of the service, in shared memory: its phase, its workers, how often they were replaced.

The supervisor alone writes, and the process that serves the metrics reads. Each value is one aligned 64-bit word, so a
reader never sees half of it, and neither side waits for the other.
"""

import enum
import mmap
from collections.abc import Iterable
from typing import Final, NamedTuple

RESTART_CAUSES: Final = ("crash", "hang", "rolling")
"""Why a worker was replaced: it ended by itself, it was killed for its silence, or a replacement was asked for."""

_MOST_WORKERS: Final = 1024
_WORD: Final = 8
_FIRST_WORKER: Final = 1 + len(RESTART_CAUSES)
_PER_WORKER: Final = 2


class Phase(enum.IntEnum):
    """Of a service, from its start to its end."""

    STARTING = 0
    READY = 1
    STOPPING = 2


class WorkerState(NamedTuple):
    """Whether a process serves a worker slot, and the index of that process in the shared counters."""

    up: bool
    counters_index: int


class ServiceState:
    """Phase, workers and restarts of a service."""

    def __init__(self) -> None:
        words = _FIRST_WORKER + _PER_WORKER * _MOST_WORKERS
        memory = mmap.mmap(-1, words * _WORD)  # MAP_SHARED, kept over fork
        self._words = memoryview(memory).cast("Q")

    def publish(self, phase: Phase, workers: Iterable[WorkerState]) -> None:
        """Publish the phase and all workers, by their index."""
        # 0: no such worker, 1: down, 2: up.
        at = _FIRST_WORKER
        for worker in workers:
            if at == len(self._words):
                break
            self._words[at + 1] = worker.counters_index
            self._words[at] = 1 + worker.up
            at += _PER_WORKER
        while at < len(self._words) and self._words[at]:
            self._words[at] = 0
            at += _PER_WORKER
        # Last: when the service counts as ready, its workers are up.
        self._words[0] = phase

    def count_restart(self, cause: str) -> None:
        """Count a worker that was replaced, by one of `RESTART_CAUSES`."""
        self._words[1 + RESTART_CAUSES.index(cause)] += 1

    @property
    def phase(self) -> Phase:
        return Phase(self._words[0])

    @property
    def restarts(self) -> dict[str, int]:
        """How many workers were replaced, by cause."""
        return {cause: self._words[1 + index] for index, cause in enumerate(RESTART_CAUSES)}

    def workers(self) -> list[WorkerState]:
        """All workers, by their index."""
        found = []
        for at in range(_FIRST_WORKER, len(self._words), _PER_WORKER):
            state = self._words[at]
            if not state:
                break
            found.append(WorkerState(state == 2, self._words[at + 1]))
        return found

    def unready(self) -> str | None:
        """Why clients should not be sent here; None if the service is ready."""
        if self.phase is not Phase.READY:
            return self.phase.name.lower()
        return None if any(worker.up for worker in self.workers()) else "no worker is up"
