"""The order of a run.

Rounds outermost; inside a round each row runs all its servers one after the other, so that the two figures
of a ratio are seconds apart. Each round starts at another server and every second one runs backwards, so that
no server owes its figure to its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.versus.peers import Peer
from benchmarks.versus.rows import Row


def turn(peers: Sequence[Peer], round_: int, rounds: int) -> list[Peer]:
    """The servers in the order of this round (0 is the first)."""
    if not peers:
        return []
    start = round_ * len(peers) // max(rounds, 1)
    order = [*peers[start:], *peers[:start]]
    return order[::-1] if round_ % 2 else order


def cells(rows: Sequence[Row], peers: Sequence[Peer], rounds: int) -> Iterator[tuple[int, Row, Peer]]:
    """Every cell of a run: round, row, server."""
    for round_ in range(rounds):
        for row in rows:
            if row.most_rounds is not None and round_ >= row.most_rounds:
                continue
            for peer in turn([peer for peer in peers if row.takes(peer)], round_, rounds):
                yield round_, row, peer
