"""Every server has its turn in every round, and none has a fixed place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.versus.peers import PEERS
from benchmarks.versus.plan import cells, turn
from benchmarks.versus.rows import ROWS

ROOT = Path(__file__).parents[3]


def test_every_round_holds_every_server_once() -> None:
    for round_ in range(5):
        assert Counter(peer.name for peer in turn(PEERS, round_, 5)) == Counter(peer.name for peer in PEERS)


def test_the_order_changes_from_round_to_round() -> None:
    assert len({turn(PEERS, round_, 5)[0].name for round_ in range(5)}) == 5
    assert turn(PEERS, 0, 2) == list(PEERS)


def test_one_server_and_none() -> None:
    assert turn(PEERS[:1], 3, 5) == [PEERS[0]]
    assert turn((), 0, 5) == []


def test_rows_run_what_they_can() -> None:
    found = {(row.name, peer.name) for _, row, peer in cells(ROWS, PEERS, 1)}
    assert {row for row, peer in found if peer == "asio-iterative"} == {"one"}
    assert {row for row, peer in found if peer == "epoll-spin"} == {"one"}
    stream, datagrams = ({row.name for row in ROWS if row.udp is udp} for udp in (False, True))
    assert {row for row, peer in found if peer == "go"} == stream - {"churn-server", "tls-4k"}
    assert {row for row, peer in found if peer == "openssl"} == {"tls-4k"}
    assert {peer for row, peer in found if row == "tls-4k"} == {"fastecho", "fastecho-pinned", "openssl"}
    measured = {peer for row, peer in found if row == "churn-server"}
    assert {"fastecho", "asio-1k", "asio-threaded", "epoll", "uvloop-protocol", "uvloop-buffered"} <= measured
    assert {row for row, peer in found if peer == "fastecho"} == stream
    assert {row for row, peer in found if peer in ("fastecho-udp", "asio-udp")} == datagrams


def test_a_server_ends_at_nul_where_it_must_and_only_there() -> None:
    for peer in PEERS:
        ending = peer.ending_at_nul()
        if peer.ends_at_nul:
            assert ending == peer
        elif peer.nul_option:
            assert ending is not None
            assert ending.ends_at_nul
            assert ending.command == (*peer.command, *peer.nul_option)
        else:
            assert ending is None


def test_figures_of_a_ratio_are_neighbours() -> None:
    order = [(round_, row.name) for round_, row, _ in cells(ROWS, PEERS, 2)]
    blocks = [key for place, key in enumerate(order) if place == 0 or order[place - 1] != key]
    assert len(blocks) == len(set(blocks)) == 2 * len(ROWS)


def test_names_are_unique_and_ceilings_known() -> None:
    names = [peer.name for peer in PEERS]
    assert len(names) == len(set(names))
    assert all(name in names for row in ROWS for name in (*row.ceilings, row.subject))


@pytest.mark.parametrize("other", ["", "/elsewhere/bin/python"])
def test_another_build_of_fastecho_is_measured_when_its_interpreter_is_given(other: str) -> None:
    program = (
        "from benchmarks.versus import peers\n"
        "print(*[peer.command[0] for peer in peers.PEERS if peer.name == 'other'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env={**os.environ, "FASTECHO_OTHER": other}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == other
