"""When the service gives up: all workers have died again and again, and none was stable."""

from __future__ import annotations

import dataclasses

import pytest

from fastecho._workers.restarts import CrashLoop, RestartPolicy

POLICY = RestartPolicy()


def loop_after(deaths: list[float], workers: int = 1, lived: float = 0.0) -> CrashLoop:
    found = CrashLoop(POLICY, workers)
    for at in deaths:
        found.record_death(at, lived)
    return found


def test_five_deaths_of_the_only_worker_within_ten_seconds_are_a_crash_loop() -> None:
    assert not loop_after([0.0, 1.0, 2.0, 3.0]).detected(3.0, 0.0)
    assert loop_after([0.0, 1.0, 2.0, 3.0, 9.9]).detected(9.9, 0.0)


def test_five_deaths_over_more_than_ten_seconds_are_none() -> None:
    assert not loop_after([0.0, 2.5, 5.0, 7.5, 10.0]).detected(10.0, 0.0)
    assert not loop_after([0.0, 5.0, 10.0, 15.0, 20.0]).detected(20.0, 0.0)


def test_only_the_time_between_the_deaths_counts() -> None:
    assert loop_after([1000.0, 1001.0, 1002.0, 1003.0, 1009.9]).detected(1009.9, 0.0)
    assert not loop_after([1000.0, 1001.0, 1002.0, 1003.0, 1010.0]).detected(1010.0, 0.0)


def test_with_four_workers_it_takes_twenty_deaths() -> None:
    deaths = [count * 0.1 for count in range(20)]
    assert not loop_after(deaths[:19], workers=4).detected(2.0, 0.0)
    assert loop_after(deaths, workers=4).detected(2.0, 0.0)


def test_with_sixty_workers_it_takes_three_hundred_deaths() -> None:
    assert not loop_after([0.0] * 299, workers=60).detected(2.0, 0.0)
    assert loop_after([0.0] * 400, workers=60).detected(2.0, 0.0)


def test_one_worker_that_stays_up_keeps_the_service() -> None:
    for seconds in (10.0, 11.0):
        assert not loop_after([0.0] * 10, workers=2).detected(0.0, longest_life=seconds)


def test_the_death_of_a_stable_worker_begins_the_count_anew() -> None:
    found = loop_after([0.0] * 4)
    found.record_death(1.0, lived=10.0)
    assert not found.detected(1.0, 0.0)


def test_the_figures_of_the_policy_are_those_of_the_manual() -> None:
    assert (POLICY.first_delay, POLICY.longest_delay, POLICY.stable_after, POLICY.deaths) == (0.05, 5.0, 10.0, 5)
    assert all(0 <= POLICY.jitter() < 1 for _ in range(100))
    assert len({POLICY.jitter() for _ in range(10)}) > 1


def test_a_delay_doubles_from_the_first_to_the_longest() -> None:
    assert [POLICY.next_delay(each) for each in (0.0, 0.02, 0.05, 2.4, 2.6, 5.0)] == [0.05, 0.05, 0.1, 4.8, 5.0, 5.0]


def test_a_service_that_is_resized_keeps_its_deaths_and_takes_as_many_as_it_has_workers() -> None:
    found = loop_after([0.0] * 4)
    found.resize(2)
    found.record_death(1.0, lived=0.0)
    assert not found.detected(1.0, 0.0)
    for _ in range(5):
        found.record_death(1.0, lived=0.0)
    assert found.detected(1.0, 0.0)
    found.resize(1)
    assert found.detected(1.0, 0.0)


def test_a_worker_that_served_for_less_than_the_stable_time_counts_with_the_deaths_before() -> None:
    found = loop_after([0.0] * 4)
    found.record_death(1.0, lived=9.9)
    assert found.detected(1.0, longest_life=9.9)
    assert not found.detected(1.0, longest_life=10.0)
    found.record_death(1.0, lived=11.0)
    assert not found.detected(1.0, 0.0)


def test_a_policy_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        POLICY.deaths = 1  # type: ignore[misc]
    assert not hasattr(POLICY, "__dict__")
