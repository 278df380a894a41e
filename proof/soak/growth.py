"""Memory and descriptors over time, and how fast they grow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.procfs import descriptors, resident

# Of the samples: what they show before is the service taking its pools into use.
WARM_UP = 0.2
# Seconds of samples after the warm-up below which a growth per hour says nothing.
SHORTEST = 1800.0


@dataclass(frozen=True)
class Sample:
    """A service at the end of a round, with no connection open. Bytes, and numbers of open descriptors.

    at: seconds since the start of the soak.
    """

    at: float
    supervisor: int
    workers: int
    supervisor_descriptors: int
    worker_descriptors: int


def of_all(figure: Callable[[int], int], pids: Iterable[int]) -> int:
    """The sum over the processes that have not ended."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += figure(pid)
    return total


def sample(at: float, supervisor: int, workers: Sequence[int]) -> Sample:
    return Sample(
        round(at, 1), of_all(resident, [supervisor]), of_all(resident, workers),
        of_all(descriptors, [supervisor]), of_all(descriptors, workers),
    )  # fmt: skip


def warm(samples: Sequence[Sample]) -> list[Sample]:
    """Those after the warm-up."""
    end = samples[-1].at if samples else 0.0
    return [each for each in samples if each.at >= WARM_UP * end]


def is_long_enough(samples: Sequence[Sample]) -> bool:
    found = warm(samples)
    return len(found) >= 3 and found[-1].at - found[0].at >= SHORTEST


def per_hour(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the least-squares line through (seconds, value), an hour; 0 for fewer than two points."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    square = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / square * 3600 if square else 0.0


def thinned(samples: Sequence[Sample], most: int = 60) -> list[Sample]:
    """At most `most` of them, evenly spread, the first and the last among them."""
    if len(samples) <= most:
        return list(samples)
    return [samples[round(k * (len(samples) - 1) / (most - 1))] for k in range(most)]
