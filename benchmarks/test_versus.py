"""fastecho beside its peers, as a pytest-benchmark suite.

    make bench ARGS="-k 64x50"

The "time" of a benchmark is the figure of its row: server CPU an echo, or the p50 round trip. The rounds of
all servers of a row are measured in turn first, as in `python -m benchmarks.versus`, and then replayed into
pytest-benchmark one server after the other; so its relative columns compare like with like. The row of
resident bytes has no time and is left to `python -m benchmarks.versus`, which also is the one to quote.

FASTECHO_VERSUS_ROUNDS (3) and FASTECHO_VERSUS_DURATION (0.3 s) make it longer.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import pytest

pytest.importorskip("fastecho.bench")

from benchmarks.peers import build, conformance
from benchmarks.versus.measuring import measure
from benchmarks.versus.peers import PEERS, Peer
from benchmarks.versus.plan import cells
from benchmarks.versus.process import ServerError, taking_turns
from benchmarks.versus.record import Cell, Method, present
from benchmarks.versus.rows import ROWS, Row

CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="server and load need a core each")

METHOD = Method(
    rounds=int(os.environ.get("FASTECHO_VERSUS_ROUNDS", "3")),
    duration=float(os.environ.get("FASTECHO_VERSUS_DURATION", "0.3")),
    warmup=0.2,
    server_cpu=CPUS[-1] if CPUS else 0,
    load_cpu=CPUS[0] if CPUS else 0,
    verify=True,
)
TIMED = [(row, peer) for row in ROWS if row.figure != "resident" for peer in PEERS if row.takes(peer)]


class FigureClock:
    """A clock that a benchmark advances by its figure, for pytest-benchmark to read as time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


clock = FigureClock()


class Run:
    """The rows measured so far; a row is measured when its first benchmark asks, for the servers chosen."""

    def __init__(self, chosen: dict[str, list[Peer]]) -> None:
        self._chosen = chosen
        self._rows: dict[str, dict[str, list[Cell]]] = {}
        self._unfit: dict[str, str] = {}
        self._checked: set[str] = set()
        build.main(())

    def unfit(self, peer: Peer) -> str | None:
        if peer.name not in self._checked:
            self._checked.add(peer.name)
            try:
                conformance.check(peer)
            except (conformance.ConformanceError, ServerError) as error:
                self._unfit[peer.name] = str(error)
        return self._unfit.get(peer.name)

    def of(self, row: Row, peer: Peer) -> list[Cell]:
        if row.name not in self._rows:
            fit = [other for other in self._chosen[row.name] if self.unfit(other) is None]
            found = defaultdict(list)
            for round_, _, other in cells((row,), fit, METHOD.rounds):
                found[other.name].append(measure(other, row, METHOD, round_))
            self._rows[row.name] = found
        return self._rows[row.name][peer.name]


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest) -> Run:
    chosen: dict[str, list[Peer]] = defaultdict(list)
    for item in request.session.items:
        if item.path == request.path and isinstance(item, pytest.Function):
            row, peer = item.callspec.params["row"], item.callspec.params["peer"]
            assert isinstance(row, Row)
            assert isinstance(peer, Peer)
            chosen[row.name].append(peer)
    return Run(chosen)


@pytest.mark.timeout(600)
@pytest.mark.benchmark(timer=clock)
@pytest.mark.parametrize(("row", "peer"), TIMED, ids=[f"{row.name}-{peer.name}" for row, peer in TIMED])
def test_versus(run: Run, benchmark: Any, row: Row, peer: Peer) -> None:
    if reason := run.unfit(peer):
        pytest.skip(f"not measured: {reason}")
    if row.take_turns:
        try:
            with taking_turns():
                pass
        except ServerError as error:
            pytest.skip(str(error))
    found = run.of(row, peer)
    assert not [cell.error for cell in found if cell.error]
    figures = present(cell.figure(row.figure) for cell in found)
    assert len(figures) == len(found) > 0
    following = iter(figures)

    def replay() -> None:
        clock.now += next(following)

    benchmark.group = row.label
    benchmark.extra_info.update(rate=[cell.rate for cell in found], p99=[cell.p99 for cell in found])
    benchmark.pedantic(replay, rounds=len(found))
