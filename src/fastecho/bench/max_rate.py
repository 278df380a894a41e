"""What the search for the highest rate found."""

import dataclasses

from .units import number


@dataclasses.dataclass(frozen=True)
class MaxRate:
    """The highest rate that an objective was held at, by a run in full.

    Attributes:
        low, high: the limit lies between them with a probability of 90 %: the spread of what the probes said.
        probes: how many short runs there were.
        limit: what was used up where the rate was not held: `client`, `connections`, or None for the server.
    """

    objective: str
    rate: float
    low: float
    high: float
    probes: int
    limit: str | None = None

    def lines(self) -> list[str]:
        found = [
            f"highest rate with {self.objective}: {number(self.rate)} echoes/s",
            f"the limit lies between {number(self.low)} and {number(self.high)} echoes/s ({self.probes} probes)",
        ]
        if self.limit == "client":
            found.append("the client is the limit, it used up its core: the server may hold more (try --threads)")
        if self.limit == "connections":
            found.append(
                "the connections are the limit: all waited for replies while client and server had CPU to spare "
                "(try more --connections, or --depth)"
            )
        return found
