"""Exact: at a random byte of 8 MiB, with three kinds of client. `exact.py` by itself does ten thousand of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import exact
from fastecho.testing import Server, echo_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with echo_server(record_limit=0, timeout=30) as server:
        yield server


@pytest.mark.parametrize("client", exact.CLIENTS)
@pytest.mark.parametrize("fault", exact.FAULTS)
def test_exact_at_the_edges_and_at_random_bytes(server: Server, fault: str, client: str) -> None:
    drawn = random.Random(f"{fault} {client}")
    for offset in (0, 1, exact.SIZE - 1, exact.SIZE, *(drawn.randint(0, exact.SIZE) for _ in range(10))):
        assert exact.once(server, client, fault, offset) == ""


def test_the_harness_sees_what_is_not_exact(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is one byte off, or ends otherwise, is found out."""
    make, how = exact.FAULTS["reset"]
    monkeypatch.setitem(exact.FAULTS, "reset", (lambda after_sent: make(after_sent=after_sent + 1), how))
    assert "101 bytes" in exact.once(server, "sockets", "reset", 100)
    monkeypatch.setitem(exact.FAULTS, "reset", (exact.Fault.close, "reset"))
    assert "ended with fin" in exact.once(server, "sockets", "reset", 100)
