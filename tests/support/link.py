"""A bad network: python link.py FD FD FAULTS passes packets between two TUN devices, and harms them.

FAULTS is JSON with the fields of `Faults`. It ends with its standard input, and prints then how many packets it passed
and harmed. All choices come from the seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import json
import os
import random
import select
import sys
import time

LARGEST = 65536


@dataclasses.dataclass
class Faults:
    """What happens to packets. Probabilities are those of each packet; both directions have the same faults.

    Attributes:
        delay: seconds that a packet is under way.
        jitter: seconds by which the delay is shorter or longer. The order stays.
        loss: probability that a packet is lost.
        duplicate: probability that it arrives twice.
        reorder: probability that those behind it arrive before it.
        corrupt: probability that one of its bits is changed. TCP finds one wrong bit always.
        bandwidth: bytes a second. Packets that would wait longer than `queue` seconds are lost.
        seed: of all choices.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    bandwidth: float = 0.0
    queue: float = 0.2
    seed: int = 0


LATE = 0.005
"""Seconds by which a packet comes late that others overtake."""


class Direction:
    """The way from one device to the other."""

    def __init__(self, faults: Faults, target: int, counts: dict[str, int]) -> None:
        self._faults = faults
        self._target = target
        self._counts = counts
        self._random = random.Random(f"{faults.seed} {target}")
        self._sent_at = self._last_due = 0.0
        self._under_way: list[tuple[float, int, bytes]] = []

    def send(self, packet: bytes, now: float) -> None:
        faults = self._faults
        self._counts["packets"] += 1
        if self._happens("lost", faults.loss):
            return
        if self._happens("corrupted", faults.corrupt):
            place, changed = self._random.randrange(8 * len(packet)), bytearray(packet)
            changed[place // 8] ^= 1 << place % 8
            packet = bytes(changed)
        begin = max(now, self._sent_at)
        if faults.bandwidth:
            if begin - now > faults.queue:
                self._counts["overflowed"] += 1
                return
            self._sent_at = begin + len(packet) / faults.bandwidth
            begin = self._sent_at
        due = begin + faults.delay + self._random.uniform(-faults.jitter, faults.jitter)
        if self._happens("reordered", faults.reorder):
            due = max(due, self._last_due) + LATE
        else:
            self._last_due = due = max(due, self._last_due)
        for _ in range(1 + self._happens("duplicated", faults.duplicate)):
            heapq.heappush(self._under_way, (due, self._counts["packets"], packet))

    def deliver(self, now: float) -> float | None:
        """Deliver what is due; return when the next packet is."""
        while self._under_way and self._under_way[0][0] <= now:
            with contextlib.suppress(OSError):  # of the device: no packet (any more), or it is down
                os.write(self._target, heapq.heappop(self._under_way)[2])
        return self._under_way[0][0] if self._under_way else None

    def _happens(self, name: str, probability: float) -> bool:
        happens = probability > 0 and self._random.random() < probability
        self._counts[name] += happens
        return happens


def main(first: int, second: int, faults: Faults) -> None:
    names = ("packets", "lost", "corrupted", "overflowed", "reordered", "duplicated")
    counts = dict.fromkeys(names, 0)
    directions = {first: Direction(faults, second, counts), second: Direction(faults, first, counts)}
    poll = select.epoll()
    for descriptor in (*directions, 0):
        poll.register(descriptor, select.EPOLLIN)
    while True:
        now = time.monotonic()
        due = [at for at in [each.deliver(now) for each in directions.values()] if at is not None]
        for descriptor, _ in poll.poll(max(min(due) - now, 0.0) if due else None):
            if descriptor == 0:
                print(json.dumps(counts))
                return
            with contextlib.suppress(OSError):
                for _ in range(64):
                    directions[descriptor].send(os.read(descriptor, LARGEST), time.monotonic())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Faults(**json.loads(sys.argv[3])))
