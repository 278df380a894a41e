"""The soak: what it counts, how it judges, and a short one for real."""

from __future__ import annotations

import random
import socket
from dataclasses import replace

import pytest
from proof import page
from proof.findings import Findings
from proof.record import FAILED, NOT_RUN, PASSED, Record, Run
from proof.soak import rounds, summary
from proof.soak.growth import Sample, is_long_enough, per_hour, thinned, warm
from proof.soak.loads import COMMON, Load, Outcome
from proof.soak.rounds import DISTURBED, STEADY, Soak, Tally, certificate_in
from proof.soak.slow import slow_readers

import fastecho
from fastecho.bench.stop import Stop

UDP = next(load for load in COMMON if load.scheme == "udp")
BULK = COMMON[0]
HOUR = 3600


def samples(hours: float, growth: float = 0.0, opened: int = 0) -> list[Sample]:
    """A sample a minute of workers that grow by `growth` bytes an hour, and open `opened` descriptors an hour."""
    return [
        Sample(60.0 * k, 30_000_000, int(100e6 + growth * k / 60), 20, int(40 + opened * k / 60))
        for k in range(int(hours * 60) + 1)
    ]


def tally(**more) -> Tally:
    found = Tally(rounds=120, seconds=2.0 * HOUR, kills=9, reloads=3, samples={STEADY: samples(2)})
    found.add(STEADY, BULK, Outcome(1000, 5_000_000_000), stood_still=False)
    return replace(found, **more)


def outcomes(found: Tally) -> dict[str, str]:
    return {each.promise: each.outcome for each in summary.evidence(found)}


def test_growth_is_the_slope_of_the_least_squares_line() -> None:
    draw = random.Random(1)
    points = [(60.0 * k, 1000.0 + 250.0 * k / 60 + draw.uniform(-5, 5)) for k in range(600)]
    assert per_hour(points) == pytest.approx(250, abs=1)
    assert per_hour(points[:1]) == 0


def test_the_warm_up_does_not_count() -> None:
    found = samples(2)
    assert warm(found)[0].at == 0.2 * 2 * HOUR
    assert is_long_enough(found)
    assert not is_long_enough(samples(0.5))
    assert not is_long_enough([])


def test_a_long_series_is_thinned_to_points_that_are_evenly_spread() -> None:
    found = samples(10)
    kept = thinned(found, 50)
    assert (len(kept), kept[0], kept[-1]) == (50, found[0], found[-1])


def test_a_quiet_soak_holds_all_its_promises() -> None:
    assert set(outcomes(tally()).values()) == {PASSED}
    assert summary.evidence(tally())[0].amounts == {"MB_verified": 5000, "echoes": 1000, "datagrams_lost": 0}


def test_memory_that_grows_by_more_than_its_bound_breaks_the_promise() -> None:
    assert outcomes(tally(samples={STEADY: samples(2, 0.9e6)}))[summary.MEMORY] == PASSED
    assert outcomes(tally(samples={STEADY: samples(2, 1.1e6)}))[summary.MEMORY] == FAILED


def test_the_memory_of_workers_that_are_replaced_is_not_judged_and_their_descriptors_are() -> None:
    grown = tally(samples={STEADY: samples(2), DISTURBED: samples(2, 5e6)})
    assert outcomes(grown)[summary.MEMORY] == PASSED
    leaking = tally(samples={STEADY: samples(2), DISTURBED: samples(2, 0, 5)})
    assert outcomes(leaking)[summary.DESCRIPTORS] == FAILED


def test_a_short_soak_says_nothing_about_growth() -> None:
    found = outcomes(tally(samples={STEADY: samples(0.2, 50e6)}))
    assert (found[summary.MEMORY], found[summary.DESCRIPTORS], found[summary.BYTES]) == (NOT_RUN, NOT_RUN, PASSED)


def test_a_reset_is_expected_where_workers_are_killed_and_an_error_elsewhere() -> None:
    found = tally()
    found.add(DISTURBED, BULK, Outcome(errors={"reset": 3, "short": 2}), stood_still=False)
    assert (found.ended, outcomes(found)[summary.ENDS]) == (5, PASSED)
    found.add(STEADY, BULK, Outcome(errors={"reset": 1}, details=("reset: connection 4",)), stood_still=False)
    assert outcomes(found)[summary.ENDS] == FAILED
    assert "reset: connection 4" in summary.evidence(found)[1].reason


def test_more_connections_that_end_than_the_killed_workers_had_are_an_error() -> None:
    found = tally()
    found.add(DISTURBED, BULK, Outcome(errors={"reset": 70}), stood_still=False)
    found.add_disturbance(0, could_end=71)
    assert (found.ended, found.could_end, outcomes(found)[summary.ENDS]) == (70, 71, PASSED)
    found.add(DISTURBED, BULK, Outcome(errors={"reset": 72}), stood_still=False)
    found.add_disturbance(70, could_end=71)
    assert (found.could_end, outcomes(found)[summary.ENDS]) == (142, FAILED)
    assert "72 connections ended, and the workers that were killed or replaced had 71" in found.details[-1]


@pytest.mark.parametrize("service", [STEADY, DISTURBED])
@pytest.mark.parametrize("kind", ["corrupt", "excess", "altered", "duplicated"])
def test_a_wrong_byte_breaks_the_promise_in_every_service(service: str, kind: str) -> None:
    found = tally()
    found.add(service, UDP, Outcome(errors={kind: 1}), stood_still=False)
    assert outcomes(found)[summary.BYTES] == FAILED


def test_a_lost_datagram_is_counted_and_is_no_error() -> None:
    found = tally()
    found.add(STEADY, UDP, Outcome(errors={"lost": 7, "reordered": 1}), stood_still=False)
    assert (found.lost, found.reordered, dict(found.errors)) == (7, 1, {})


def test_what_timed_out_while_the_machine_stood_still_is_counted_apart() -> None:
    found = tally()
    found.add(STEADY, BULK, Outcome(errors={"timeout": 2}), stood_still=True)
    assert (found.paused_timeouts, dict(found.errors)) == (2, {})
    found.add(STEADY, BULK, Outcome(errors={"timeout": 1}), stood_still=False)
    assert dict(found.errors) == {"timeout": 1}


def test_the_page_sums_up_several_soaks() -> None:
    found = tally()
    run = Run("2026-01-02 03:04 UTC", found.seconds, "python -m proof.soak --hours 2", "0123", {}, {},
              summary.evidence(found), summary.figures(found))  # fmt: skip
    text = page.page([Record("soak", (run, replace(run, started="2026-01-03 03:04 UTC")))], Findings())
    shown = [line for line in text.splitlines() if line.startswith(("| 2026", "| all"))]
    assert shown == [
        "| 2026-01-02 03:04 UTC | 2.00 | 5.0 | 9 | 3 | 0 | 0 | 0 | +0.00 MB |",
        "| 2026-01-03 03:04 UTC | 2.00 | 5.0 | 9 | 3 | 0 | 0 | 0 | +0.00 MB |",
        "| all | 4.00 | 10.0 | 18 | 6 | 0 | 0 | 0 |  |",
    ]
    assert "10,000 MB verified" in text


def test_slow_readers_get_each_byte_of_their_echo() -> None:
    with fastecho.serve(port=0, terminator=None) as server:
        counts = slow_readers(server.address[1], 4, 0.5, 30, seed=1, stop=Stop())
        assert counts.errors == {}
        assert counts.bytes > 0
        assert counts.connections >= 4


def test_slow_readers_see_a_byte_that_is_wrong() -> None:
    with fastecho.serve(port=0, terminator=None, fault="corrupt(5)") as server:
        counts = slow_readers(server.address[1], 2, 0.2, 30, seed=1, stop=Stop())
        assert counts.errors["corrupt"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_connection_that_stays_open_after_a_round_is_an_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(rounds, "SETTLE", 0.5)
    with Soak(certificate_in(str(tmp_path)), 1, (), ()) as soak:
        with socket.create_connection(("127.0.0.1", soak.services[STEADY].port)) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            soak.round(0.1)
        soak.stop_services()
    assert dict(soak.tally.errors) == {"open": 1}
    assert soak.tally.details == ["steady: 1 connections stayed open after their clients"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_rounds_of_all_services_verify_bytes_kill_reload_and_stop(tmp_path) -> None:
    small = (
        Load("bulk", {"size": 65536, "depth": 2, "connections": 4, "rate": 200.0}),
        Load("slow", None, connections=2),
        Load("udp", {"size": 64, "connections": 4, "rate": 200.0}, scheme="udp"),
    )
    with Soak(certificate_in(str(tmp_path)), 1, small, (replace(small[0], scheme="tls"),)) as soak:
        soak.round(2.0)
        soak.round(2.0)
        soak.stop_services()
    found = soak.tally
    assert dict(found.errors) == {}, found.details
    assert (found.kills, found.reloads, found.rounds) == (1, 1, 2)
    assert found.could_end >= found.ended
    assert all(outcome.bytes for outcome in found.loads.values())
    assert {len(each) for each in found.samples.values()} == {2}
