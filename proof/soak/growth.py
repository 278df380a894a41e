"""Memory and descriptors over time, and how fast they grow."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


def resident(pid: int) -> int:
    """Bytes resident; 0 of a process that has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = re.search(r"^Rss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return 0


def descriptors(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return 0


def sample(at: float, supervisor: int, workers: Sequence[int]) -> Sample:
    return Sample(
        round(at, 1), resident(supervisor), sum(map(resident, workers)),
        descriptors(supervisor), sum(map(descriptors, workers)),
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
