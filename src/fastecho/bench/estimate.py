"""An estimate of the highest rate that a server holds, from probes that may err.

A single probe proves nothing: the machine makes one of several fail far below the limit. So each rate on a grid keeps
the probability that it is the limit, every probe changes all of them by Bayes' rule, and the next probe is made where
as much lies below as above: Horstein's probabilistic bisection, with the outcome of a probe modelled as in QUEST
(A. B. Watson, D. G. Pelli, "QUEST: A Bayesian adaptive psychometric method", Perception & Psychophysics 33, 1983).
"""

import math
from bisect import bisect_left
from itertools import accumulate
from typing import Final

# The probability that a probe far below the limit fails, and that one far above it holds.
_FAILS_BELOW: Final = 0.15
_HOLDS_ABOVE: Final = 0.02
# Around the limit the outcome is chance, within about so much of it.
_WIDTH: Final = 0.02
_STEP: Final = 0.005


class LimitEstimate:
    """What is known of a limit between `low` and `high`; before any probe every rate is as likely as the next one."""

    def __init__(self, low: float, high: float) -> None:
        count = max(2, math.ceil(math.log(high / low) / _STEP))
        self.rates = [low * math.exp(math.log(high / low) * k / (count - 1)) for k in range(count)]
        # Rates are dense at the low end of the grid.
        self._weights = list(self.rates)

    def learn(self, rate: float, *, held: bool) -> None:
        """Take in the outcome of a probe at `rate`."""
        for k, limit in enumerate(self.rates):
            below = 1 / (1 + math.exp(min(math.log(rate / limit) / _WIDTH, 700.0)))
            holds = _HOLDS_ABOVE + (1 - _HOLDS_ABOVE - _FAILS_BELOW) * below
            self._weights[k] *= holds if held else 1 - holds
        total = sum(self._weights)
        self._weights = [weight / total for weight in self._weights]

    def quantile(self, share: float) -> float:
        """The rate that the limit exceeds with the probability 1 - `share`."""
        sums = list(accumulate(self._weights))
        return self.rates[min(bisect_left(sums, share * sums[-1]), len(self.rates) - 1)]
