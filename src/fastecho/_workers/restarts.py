"""When a worker that died is replaced, and when the service gives up."""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from collections.abc import Callable

_random = random.Random()
"""A private generator: the state of the module's one belongs to the program that calls `run`."""


@dataclasses.dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a worker that died is replaced, and when the service gives up. Times are seconds.

    A worker is replaced at once, then after `first_delay`, doubling to `longest_delay`. A worker that served for
    `stable_after` starts again from the beginning. The service is in a crash loop when `deaths` deaths per worker fell
    within `stable_after`, and no worker has served for that long.

    Attributes:
        jitter: returns a number in [0, 1), which shortens a delay by up to a quarter, so that slots do not restart
            together.
    """

    first_delay: float = 0.05
    longest_delay: float = 5.0
    stable_after: float = 10.0
    deaths: int = 5
    jitter: Callable[[], float] = _random.random

    def next_delay(self, delay: float) -> float:
        """The delay that follows `delay`."""
        return min(max(self.first_delay, 2 * delay), self.longest_delay)


class CrashLoop:
    """Detects that all workers of a service die again and again."""

    def __init__(self, policy: RestartPolicy, workers: int) -> None:
        self._policy = policy
        self._deaths: deque[float] = deque(maxlen=policy.deaths * workers)

    def resize(self, workers: int) -> None:
        """The service has so many workers from now on."""
        self._deaths = deque(self._deaths, maxlen=self._policy.deaths * workers)

    def record_death(self, now: float, lived: float) -> None:
        """A worker died at `now`, after it had served for `lived` seconds."""
        if lived >= self._policy.stable_after:
            self._deaths.clear()
        self._deaths.append(now)

    def detected(self, now: float, longest_life: float) -> bool:
        """Whether to give up, when the oldest worker has served for `longest_life` seconds."""
        if len(self._deaths) < (self._deaths.maxlen or 0) or longest_life >= self._policy.stable_after:
            return False
        return now - self._deaths[0] < self._policy.stable_after
