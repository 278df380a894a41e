"""Two targets measured in turns, so that what the machine does meanwhile falls on both."""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .metrics import Run
from .spec import LoadSpec

Measure = Callable[[LoadSpec], Run]
# Many short rounds rather than few long ones: a disturbance then spoils a small share of them.
ROUNDS = 80
ROUND_SECONDS = 0.04
WARM_UP_SECONDS = 0.015


class Turn(NamedTuple):
    """A run of each target, one directly after the other; `b_first` says which was the earlier one."""

    a: Run
    b: Run
    b_first: bool


def take_turns(a: LoadSpec, b: LoadSpec, rounds: int, measure: Measure, draw: random.Random) -> Iterator[Turn]:
    """Load both targets once without a record, then `rounds` times.

    The order is drawn for each two rounds: one begins with A, the other with B. A target gains nothing from its place,
    and a drift of the machine is as likely to speak for A as for B, which is what `intervals.paired` relies on.
    """
    measure(a)
    measure(b)
    order: list[bool] = []
    for _ in range(rounds):
        order = order or draw.sample([False, True], 2)
        b_first = order.pop()
        if b_first:
            run_b, run_a = measure(b), measure(a)
        else:
            run_a, run_b = measure(a), measure(b)
        yield Turn(run_a, run_b, b_first)
