"""What is concluded from the runs of two servers: error rates on made-up noise, stalls, mixed results, refusals."""

import dataclasses
import random

import pytest

from fastecho.bench.ab import ROUNDS, take_turns
from fastecho.bench.comparable import ComparabilityError, check_same_load, differing_circumstances
from fastecho.bench.compare import compare, compare_turns
from fastecho.bench.spec import LoadSpec, SizeRange
from made_runs import SPEC, Machine, report_of, run_of

A, B = LoadSpec(target="h:1"), LoadSpec(target="h:2")


def compared_in_turns(seed, slower=1.0, *, stall=0.0, rounds=ROUNDS):
    machine = Machine(seed)

    def measure(spec):
        is_b = spec is B
        return machine.run(slower if is_b else 1.0, stall=is_b and machine.draw.random() < stall)

    return compare_turns(list(take_turns(A, B, rounds, measure, random.Random(seed))), 0.03)


def verdicts(verdict):
    return {each.metric: each.verdict for each in verdict.differences}


@pytest.mark.slow
def test_turns_of_one_server_are_called_different_in_one_of_sixty_comparisons_at_most():
    outcomes = [compared_in_turns(seed).outcome for seed in range(120)]
    assert sum(outcome not in ("same", "unclear") for outcome in outcomes) <= 2


@pytest.mark.slow
def test_turns_find_a_tenth_in_nineteen_of_twenty_comparisons():
    assert sum(compared_in_turns(seed, 1.1).outcome == "worse" for seed in range(60)) >= 57
    assert sum(compared_in_turns(seed, 1 / 1.1).outcome == "better" for seed in range(100, 160)) >= 57


@pytest.mark.slow
def test_turns_see_a_stall_that_falls_into_four_rounds_of_ten():
    assert sum(compared_in_turns(seed, stall=0.4).outcome == "worse" for seed in range(40)) >= 38


def test_runs_of_one_server_are_called_different_in_one_of_twenty_comparisons_at_most():
    claims = 0
    for seed in range(200):
        machine = Machine(seed)
        sides = ([], [])
        for k in range(16):
            sides[k % 2].append(machine.run())
        claims += compare(*sides, 0.03).outcome not in ("same", "unclear")
    assert claims <= 10


@pytest.mark.parametrize("runs", [5, 8])
def test_several_runs_find_a_tenth_on_a_quiet_machine(runs):
    found = 0
    for seed in range(40):
        draw = random.Random(seed)
        sides = [[run_of({t: 1000}, rate=50 / t, cpu=t) for t in (time * draw.gauss(1, 0.015) for _ in range(runs))]
                 for time in (1e-3, 1.1e-3)]  # fmt: skip
        found += compare(*sides, 0.03).outcome == "worse"
    assert found >= 38


def test_one_run_each_is_not_enough_to_tell_a_tenth_from_noise():
    for seed in range(50):
        machine = Machine(seed)
        verdict = compare([machine.run()], [machine.run(1.1)], 0.03)
        assert verdict.outcome == "not enough runs"
        assert verdict.exit_code == 0
        assert verdict.summary == "not enough runs to decide (1 of A, 1 of B; 5 of each are needed)"
        assert all(each.low is None and each.high is None for each in verdict.differences)


@pytest.mark.parametrize("runs", [1, 2, 4])
def test_few_runs_tell_what_no_noise_explains(runs):
    machine = Machine(1)
    verdict = compare(list(machine.runs(runs)), list(machine.runs(runs, 3.0)), 0.03)
    assert verdict.outcome == "worse"
    assert {"rate", "p50", "CPU"} <= {name for name, each in verdicts(verdict).items() if each == "worse"}
    assert compare(list(machine.runs(runs, 3.0)), list(machine.runs(runs)), 0.03).outcome == "better"


def test_one_run_that_swings_as_much_as_the_difference_tells_nothing():
    a, (b, server) = run_of({1e-3: 1000}, rate=1000), run_of({1e-3: 1000}, rate=450)
    samples = tuple(dataclasses.replace(s, echoes=90 if k < 2 else 33) for k, s in enumerate(b.samples))
    swinging = dataclasses.replace(b, samples=samples)
    assert verdicts(compare([a], [(b, server)], 0.03))["rate"] == "worse"
    assert verdicts(compare([a], [(swinging, server)], 0.03))["rate"] == "unclear"


def test_a_stall_shows_in_the_percentiles_of_the_whole_run_though_most_samples_miss_it():
    usual, stalled = {3e-4: 90_000, 4e-4: 10_000}, {3e-4: 78_000, 4e-4: 1000, 0.1: 21_000}
    verdict = compare([run_of(usual)], [run_of(stalled)], 0.03)
    assert verdict.outcome == "worse"
    assert verdicts(verdict)["p99"] == "worse"
    assert "p99 x250" in verdict.summary
    assert verdict.exit_code == 1


@pytest.mark.parametrize("share", [200, 8, 1])
def test_a_rare_stall_shows_in_p99_9_or_in_the_maximum(share):
    verdict = compare([run_of({3e-4: 99_000, 9e-4: 1000})], [run_of({3e-4: 99_000, 9e-4: 1000, 0.2: share})], 0.03)
    assert verdict.outcome == "worse"
    assert "max x222" in verdict.summary
    assert ("p99.9" in verdict.summary) == (share == 200)


def test_a_mixed_result_names_both():
    fast_middle = [run_of({1e-3 * k: 970, 9e-3 * k: 30}) for k in (1, 1.01, 1.02, 1.03, 1.04)]
    fast_tail = [run_of({2e-3 * k: 970, 3e-3 * k: 30}) for k in (1, 1.01, 1.02, 1.03, 1.04)]
    verdict = compare(fast_middle, fast_tail, 0.03)
    assert verdict.outcome == "mixed"
    assert verdict.exit_code == 1
    worse, better = verdict.summary.removeprefix("mixed: B is worse ").split(" and better ")
    assert worse == "(p50 +100.0%)"
    assert "p99 -66.7%" in better


def test_the_verdict_turned_round_is_the_opposite():
    for seed in range(20):
        machine = Machine(seed)
        a, b = list(machine.runs(6)), list(machine.runs(6, 1.2))
        opposite = {"better": "worse", "worse": "better"}
        turned = {name: opposite.get(each, each) for name, each in verdicts(compare(b, a, 0.03)).items()}
        assert verdicts(compare(a, b, 0.03)) == turned


def test_the_threshold_sets_what_counts():
    a, b = ([run_of({t * k: 1000}, rate=1 / t / k) for k in (1, 1.002, 1.004, 1.006, 1.008)] for t in (1e-3, 1.05e-3))
    assert compare(a, b, 0.03).outcome == "worse"
    assert compare(a, b, 0.0).outcome == "worse"
    assert compare(a, b, 0.2).outcome == "same"
    assert compare(a, b, 0.2).summary == "no difference"
    assert compare(a, a, 0.005).outcome == "unclear", "the intervals are wider than half a percent"
    assert compare(a, a, 0.005).summary == "no difference found, but the noise would hide one of 0.5%"


def test_errors_make_b_worse_and_those_of_a_are_named():
    good, bad = run_of({1e-3: 1000}), run_of({1e-3: 1000}, errors={"connect": 0, "corrupt": 2})
    verdict = compare([good], [bad], 0.03)
    assert (verdict.outcome, verdict.exit_code) == ("worse", 1)
    assert verdict.summary == "B is worse (errors: corrupt 2)"
    verdict = compare([bad], [good], 0.03)
    assert verdict.outcome == "not enough runs"
    assert "A had errors: corrupt 2" in list(verdict.lines())


def test_a_run_without_an_echo_is_a_failure_and_no_figure():
    silent = run_of({}, rate=0)
    verdict = compare([run_of({1e-3: 1000})], [silent], 0.03)
    assert verdict.summary == "B is worse (no echoes in 1 of 1 runs)"
    assert verdict.differences == ()
    assert verdict.to_dict()["metrics"] == []
    assert compare([silent], [silent], 0.03).outcome == "worse"


def test_cpu_is_compared_only_where_every_run_has_it():
    with_cpu, without = run_of({1e-3: 1000}, cpu=1e-5), run_of({1e-3: 1000})
    assert "CPU" in verdicts(compare([with_cpu], [with_cpu], 0.03))
    assert "CPU" not in verdicts(compare([with_cpu], [without], 0.03))


def test_it_says_that_the_client_was_the_limit():
    limited = run_of({1e-3: 1000}, thread_cpu=(0.99,))
    verdict = compare([limited, run_of({1e-3: 1000})], [limited], 0.03)
    assert [note[:50] for note in verdict.notes] == [
        "the client was the limit in 1 of 2 runs of A: it m", "the client was the limit in 1 of 1 runs of B: it m",
    ]  # fmt: skip


def test_it_says_that_messages_of_an_open_loop_were_never_sent():
    verdict = compare([run_of({1e-3: 1000})], [run_of({1e-3: 1000}, overdue=7)], 0.03)
    assert verdict.notes == ("7 messages that were due to B were never sent: the latencies are of the others",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rate": 1000.0}, "a.json has a closed loop, b.json has an open loop"),
        ({"size": 4096}, "messages of 4096 B"), ({"size": (64, 4096)}, "64,4096 B"),
        ({"size": SizeRange(64, 4096)}, "64-4096 B"), ({"connections": 51}, "51 connections"),
        ({"depth": 2}, "depth 2"), ({"churn": True}, "a connection a message"), ({"target": "tls://h:1"}, "TLS"),
        ({"churn": True, "server_closes": True}, "a connection a message, closed by the server"),
        ({"proxy_protocol": 1}, "PROXY header 1"),
        ({"threads": 2}, "2 client threads"), ({"verify": False}, "bytes not compared"),
    ],
    ids=str,
)  # fmt: skip
def test_runs_of_different_loads_are_refused(changes, said):
    def reports(one, other):
        runs = (run_of({1e-3: 1000}, spec=spec) for spec in (one, other))
        return dict(zip(("b.json", "a.json"), map(report_of, runs), strict=True))

    other = dataclasses.replace(SPEC, **changes)
    with pytest.raises(ComparabilityError) as refused:
        check_same_load(reports(other, SPEC))
    assert said in str(refused.value)
    assert refused.value.exit_code == 2
    check_same_load(reports(other, dataclasses.replace(other, target=other.target.replace("h:1", "i:2"))))


def test_open_loops_of_different_rates_or_arrivals_are_refused():
    for changes, said in (({"rate": 2000.0}, "2,000/s"), ({"arrivals": "poisson"}, "poisson arrivals")):
        one = dataclasses.replace(SPEC, rate=1000.0)
        runs = {name: report_of(run_of({1e-3: 1}, spec=spec)) for name, spec in
                (("a", one), ("b", dataclasses.replace(one, **changes)))}  # fmt: skip
        with pytest.raises(ComparabilityError, match=said):
            check_same_load(runs)


def test_circumstances_that_differ_are_said_before_the_verdict():
    run = run_of({1e-3: 1000})
    unix = run_of({1e-3: 1000}, spec=dataclasses.replace(SPEC, target="unix:/s", duration=1.0, cpus=(1,)))
    other = report_of(unix, machine={"host": "there"}, versions={"fastecho": "2"})
    lines = differing_circumstances({"a.json": report_of(run), "b.json": other})
    assert [line.removeprefix("the runs differ in ") for line in lines] == [
        "the client's machine: here and there", "the version of the client: 1 and 2", "transport: TCP and UNIX sockets",
        "the client's CPUs: any and [1]", "duration: 10 s and 1 s",
    ]  # fmt: skip
    verdict = compare([run], [unix], 0.03, lines)
    shown = list(verdict.lines())
    assert shown.index(f"note: {lines[0]}") < shown.index(f"verdict: {verdict.summary}")
    assert differing_circumstances({"a.json": report_of(run), "b.json": report_of(run)}) == []


def test_a_partial_run_is_named_and_is_no_failure():
    result, _ = run_of({1e-3: 1000}, stopped="interrupted", partial=True)
    assert differing_circumstances({"a.json": report_of((result, None))}) == [
        "a.json is partial: the run was interrupted"
    ]
    assert compare([(result, None)], [(result, None)], 0.03).failures_b == ()


def test_each_two_rounds_begin_once_with_each_target():
    for seed in range(20):
        order = [turn.b_first for turn in take_turns(A, B, 10, lambda spec: (spec, None), random.Random(seed))]
        assert all(order[k] is not order[k + 1] for k in range(0, 10, 2))
    drawn = {
        tuple(turn.b_first for turn in take_turns(A, B, 3, lambda spec: (spec, None), random.Random(seed)))
        for seed in range(50)
    }
    assert len(drawn) == 4, "which of them begins is drawn for each two rounds"


def test_both_targets_are_warmed_up_before_the_rounds():
    seen = []
    turns = list(take_turns(A, B, 2, lambda spec: (seen.append(spec), None), random.Random(1)))
    assert len(turns) == 2
    assert seen[:2] == [A, B]
    assert len(seen) == 6
