"""What the exit code of `bench` and `ping` says, and that it is documented where a user looks for it."""

import json
import resource
from pathlib import Path

import pytest

from bench_servers import closing, corrupting, echo, resetting, serving, silent_after, trickling
from fastecho import errors

DOCS = Path(__file__).parents[2] / "docs" / "bench.md"
QUICK = ["--duration", "500ms", "--warmup", "0", "--connections", "2", "--timeout", "300ms", "-q"]
CODES = {
    "EX_OK": 0, "EX_FAILURE": 1, "EX_USAGE": 2, "EX_WRONG_ECHO": 3, "EX_OBJECTIVE_MISSED": 4, "EX_CANNOT_CONNECT": 5,
}  # fmt: skip


def test_each_code_exists_once():
    assert {name: getattr(errors, name) for name in CODES} == CODES
    assert set(CODES) <= set(errors.__all__)
    values = [getattr(errors, name) for name in errors.__all__ if name.startswith("EX_")]
    assert len(values) == len(set(values))


@pytest.mark.parametrize("code", ["0", "1", "2", "3", "4", "5", "130, 143"])
def test_each_code_is_in_the_help_and_in_the_documentation(fastecho, code):
    _, out, _ = fastecho("--help")
    assert any(line.strip().startswith(f"{code} ") for line in out.partition("Exit codes")[2].splitlines())
    assert f"| {code} |" in DOCS.read_text()


@pytest.mark.parametrize(
    ("session", "kind"),
    [(corrupting(1000), "corrupt"), (silent_after(1000), "timeout"), (resetting(1000), "reset"),
     (closing(1010), "short"), (silent_after(0), "timeout")],
    ids=["corrupt", "silent", "reset", "short", "never an answer"],
)  # fmt: skip
def test_wrong_or_missing_bytes_are_3(fastecho, session, kind):
    with serving(session) as target:
        code, out, _ = fastecho(target, *QUICK, "--duration", "1s")
    assert code == 3
    assert f"{kind} " in out


def test_wrong_bytes_come_before_a_missed_objective(fastecho):
    with serving(corrupting(1000)) as target:
        code, out, _ = fastecho(target, *QUICK, "--slo", "p50<1us")
    assert "MISSED" in out
    assert code == 3


def test_a_missed_objective_is_4(fastecho):
    with serving(echo) as target:
        code, out, _ = fastecho(target, *QUICK, "--slo", "p50<1us", "--slo", "p50<100s")
    assert code == 4
    assert "MISSED: p50 < 1.00 us (it is " in out


@pytest.mark.slow
def test_a_rate_that_is_not_found_is_4(fastecho):
    with serving(echo) as target:
        code, out, err = fastecho(target, *QUICK, "--find-max-rate", "@p50=1us")
    assert code == 4
    assert out == ""
    assert "is not held" in err


def test_a_search_at_a_server_that_is_wrong_is_3(fastecho):
    with serving(corrupting(1000)) as target:
        code, _, err = fastecho(target, *QUICK, "--find-max-rate", "@p50=1s")
    assert code == 3
    assert "corrupt" in err


@pytest.mark.parametrize(
    "command", [[], ["--churn"], ["--rate", "100"], ["--find-max-rate", "@p50=1s"], ["ping"]], ids=str
)
@pytest.mark.parametrize("target", ["127.0.0.1:1", "unix:/nowhere/at/all", "tls://127.0.0.1:1"])
def test_no_connection_is_5(fastecho, command, target):
    arguments = ["ping", target, "-c", "1"] if command == ["ping"] else [target, *QUICK, *command]
    code, out, err = fastecho(*arguments)
    assert (code, out) == (5, "")
    assert "cannot connect to " in err
    assert err.count("\n") == 1


def test_out_of_descriptors_is_1(fastecho, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 64))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    code, out, err = fastecho("127.0.0.1:1", *QUICK, "--connections", "1000")
    assert (code, out) == (1, "")
    assert err == "fastecho: 1000 connections need 1064 descriptors, and ulimit -n allows 64\n"


def test_a_run_without_an_echo_prints_and_saves_that_there_is_no_latency(fastecho, tmp_path):
    path = tmp_path / "run.json"
    with serving(silent_after(0)) as target:
        code, out, _ = fastecho(target, *QUICK, "--slo", "p99<1ms", "--json", str(path))
    assert code == 3
    assert "0 ns" not in out
    assert "p99         -\n" in out
    assert "MISSED: p99 < 1.00 ms (nothing was echoed)" in out
    result = json.loads(path.read_text())["result"]
    assert set(result["percentiles"].values()) == {None}
    assert {sample["p99"] for sample in result["samples"]} == {None}


@pytest.mark.parametrize(
    ("session", "code", "said"),
    [(echo, 0, ", 0 % lost"), (corrupting(100), 3, "wrong: after "), (silent_after(64), 3, "no answer in time"),
     (closing(70), 3, "closed by the server after 6 of 64 bytes")],
    ids=["right", "wrong", "silent", "short"],
)  # fmt: skip
def test_ping_has_an_exit_code_for_each_failure(fastecho, session, code, said):
    with serving(session) as target:
        found, out, _ = fastecho("ping", target, "-c", "3", "-i", "0", "-W", "200ms")
    assert found == code
    assert said in out


@pytest.mark.parametrize(
    ("session", "code", "said"),
    [(echo, 0, ""), (corrupting(10), 1, "wrong: after "), (silent_after(64), 0, ""),
     (silent_after(0), 1, "no answer in time"), (closing(30), 1, "closed by the server after ")],
    ids=["right", "wrong", "right at first", "silent", "short"],
)  # fmt: skip
def test_a_health_check_is_one_echo_and_ends_with_0_or_1(fastecho, session, code, said):
    with serving(session) as target:
        found, out, err = fastecho("ping", "--once", target, "-W", "200ms")
    assert (found, err) == (code, "")
    assert said in out
    assert out.count("\n") == code


def test_ping_gives_up_a_reply_that_still_trickles_in_at_the_time_out(fastecho):
    with serving(trickling) as target:
        code, out, _ = fastecho("ping", target, "-c", "1", "-W", "50ms", "-s", "16MiB")
    assert code == 3
    assert "seq=1: no answer in time" in out


def test_a_health_check_without_a_server_is_1(fastecho):
    code, out, err = fastecho("ping", "--once", "127.0.0.1:1")
    assert (code, out, err) == (1, "cannot connect to tcp://127.0.0.1:1: Connection refused\n", "")


def test_a_health_check_sends_one_message_only(fastecho):
    code, _, err = fastecho("ping", "--once", "--count", "3", "127.0.0.1:1")
    assert (code, err) == (2, "fastecho: --count 3: must not be given with --once, which sends one message\n")


def test_a_ping_without_a_reply_has_no_round_trip_times(fastecho):
    with serving(silent_after(0)) as target:
        code, out, _ = fastecho("ping", target, "-c", "1", "-W", "100ms")
    assert code == 3
    assert "1 sent, 0 received, 100 % lost" in out
    assert "rtt min/avg/max/mdev = - ms" in out


def test_the_codes_of_ping_are_in_its_help(fastecho):
    _, out, _ = fastecho("ping", "--help")
    said = out.partition("Exit codes")[2]
    for code in ("0", "1", "2", "3", "5", "130, 143"):
        assert any(line.strip().startswith(f"{code} ") for line in said.splitlines())
