"""When the service gives up: all workers have died again and again, and none was stable."""

from __future__ import annotations

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


def test_with_four_workers_it_takes_twenty_deaths() -> None:
    deaths = [count * 0.1 for count in range(20)]
    assert not loop_after(deaths[:19], workers=4).detected(2.0, 0.0)
    assert loop_after(deaths, workers=4).detected(2.0, 0.0)


def test_one_worker_that_stays_up_keeps_the_service() -> None:
    assert not loop_after([0.0] * 10, workers=2).detected(0.0, longest_life=10.0)


def test_the_death_of_a_stable_worker_begins_the_count_anew() -> None:
    found = loop_after([0.0] * 4)
    found.record_death(1.0, lived=10.0)
    assert not found.detected(1.0, 0.0)
