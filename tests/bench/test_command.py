"""`fastecho bench`, `ping` and `doctor` as a user meets them: output, files, exit codes."""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from bench_servers import corrupting, serving, silent_after

QUICK = ["--duration", "300ms", "--warmup", "50ms", "--connections", "4"]


def complaint(outcome):
    """The one line that a refused command line prints."""
    code, out, err = outcome
    assert code == 2, err
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_the_table_shows_rate_latency_and_cpu(fastecho, target):
    code, out, err = fastecho(target, *QUICK)
    assert code == 0
    for word in ("rate", "echoes/s", "MB/s", "p50", "p90", "p99", "p99.9", "max", "client CPU", "server CPU", "█"):
        assert word in out
    assert "errors      none" in out
    assert "\x1b" not in out + err, "no colours where there is no terminal"


def test_without_a_target_it_starts_a_server(fastecho):
    code, out, err = fastecho(*QUICK, "-q")
    assert code == 0, err
    assert out.startswith("tcp://127.0.0.1:")
    assert "server CPU" in out
    assert err == ""


def test_json_csv_and_hdr_files_are_written(fastecho, target, tmp_path):
    path, page = tmp_path / "a.json", tmp_path / "a.html"
    code, *_ = fastecho(target, *QUICK, "--json", str(path), "--report", str(page), "--slo", "p99<10s")
    assert code == 0
    plain = json.loads(path.read_text())
    assert plain["schema"] == "fastecho-bench/1"
    assert plain["result"]["ok"] is True
    assert {"p50", "p99.99", "max"} <= set(plain["result"]["percentiles"])
    assert plain["machine"]["cpus"] >= 1
    assert plain["versions"]["fastecho"]
    assert plain["command"]
    text = page.read_text()
    figures = re.findall(r"<figure>.*?</figure>", text, re.S)
    assert len(figures) == 3
    assert "http" not in text.replace("http-equiv", "")
    for figure in figures:
        ElementTree.fromstring(figure)


def test_a_wrong_byte_is_exit_code_3(fastecho):
    with serving(corrupting(10_000)) as target:
        code, out, _ = fastecho(target, *QUICK, "-q")
    assert code == 3
    assert "corrupt" in out


def test_silence_is_exit_code_3(fastecho):
    with serving(silent_after(10_000)) as target:
        code, out, _ = fastecho(target, *QUICK, "-q", "--timeout", "200ms", "--duration", "20")
    assert code == 3
    assert "no answer for" in out


def test_no_server_there_is_one_line(fastecho):
    code, out, err = fastecho("127.0.0.1:1", *QUICK)
    assert code == 5
    assert out == ""
    assert err == "fastecho: cannot connect to tcp://127.0.0.1:1: Connection refused\n"


@pytest.mark.parametrize(
    ("slo", "code"),
    [("p99<10s", 0), ("p99<1us", 4), ("rate>1e9", 2), ("rate>1000000000", 4), ("rate>99M", 4), ("rate>.1k", 0)],
)
def test_an_objective_decides_the_exit_code(fastecho, target, slo, code):
    found, out, _ = fastecho(target, *QUICK, "-q", "--slo", slo)
    assert found == code
    assert ("MISSED" in out) == (code == 4)


@pytest.mark.alone
def test_find_max_rate(fastecho, target, tmp_path):
    path = tmp_path / "a.json"
    code, out, err = fastecho(target, *QUICK, "--find-max-rate", "@p90=50ms", "--json", str(path))
    assert code == 0, err
    assert "highest rate with p90 <= 50.0 ms:" in out
    assert "the limit lies between" in out
    assert err.count("held") >= 12
    plain = json.loads(path.read_text())
    found = plain["max_rate"]
    assert found["rate"] == plain["result"]["spec"]["rate"]
    assert found["low"] <= found["high"]
    assert found["probes"] + 1 <= err.count("held")
    assert found["objective"] == "p90 <= 50.0 ms"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--size", "0"], "--size"), (["--size", "5-"], "--size"), (["--size", "1KB"], "--size"),
        (["--size", "9-3"], "--size"), (["--connections", "many"], "--connections"), (["--rate", "fast"], "--rate"),
        (["--rate", "0"], "--rate"), (["--slo", "p99"], "--slo"), (["--slo", "p99<5"], "--slo"),
        (["--slo", "p101<5ms"], "--slo"), (["--find-max-rate", "rate=5"], "--find-max-rate"), (["nowhere"], "TARGET"),
        (["sctp://h:1"], "TARGET"), (["--duration", "-1"], "--duration"), (["--cpus", "x"], "--cpus"),
        (["--terminator", r"\q"], "--terminator"), (["--depth", "5", "--churn"], "--depth"),
        (["--threads", "90"], "--threads"),
        (["--rate", "5", "--find-max-rate", "@p99=1ms"], "--rate"), (["--frob"], "--frob"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_bad_input_is_one_line_that_names_it(fastecho, arguments, named):
    assert named in complaint(fastecho(*arguments))


def test_a_missing_extra_is_one_line(fastecho, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    code, _, err = fastecho(*QUICK)
    assert code == 1
    assert err == "fastecho: the hdrhistogram package is missing: pip install 'fastecho[bench]'\n"


def test_a_report_that_cannot_be_written_is_refused_before_the_run(fastecho, target):
    code, _, err = fastecho(target, "--duration", "1h", "--json", "/nowhere/at/all.json")
    assert code == 1
    assert "/nowhere/at/all.json: cannot be written" in err


def test_ping_prints_each_round_trip_and_a_summary(fastecho, target):
    code, out, _ = fastecho("ping", target, "-c", "3", "-i", "10ms", "-s", "100KiB")
    assert code == 0
    assert out.count("102400 bytes: seq=") == 3
    assert "3 sent, 3 received, 0 % lost" in out
    assert "rtt min/avg/max/mdev = " in out


def test_ping_says_what_was_lost(fastecho):
    with serving(silent_after(130)) as target:
        code, out, _ = fastecho("ping", target, "-c", "3", "-i", "10ms", "-W", "100ms")
    assert code == 3
    assert "seq=3: no answer in time" in out
    assert "3 sent, 2 received, 33.33 % lost" in out
    with serving(corrupting(10)) as target:
        code, out, _ = fastecho("ping", target, "-c", "1")
    assert code == 3
    assert "wrong: after 9 bytes of echo came " in out


def test_ping_without_a_server(fastecho):
    code, out, err = fastecho("ping", "127.0.0.1:1", "-c", "1")
    assert code == 5
    assert out == ""
    assert err == "fastecho: cannot connect to tcp://127.0.0.1:1: Connection refused\n"


def test_doctor_prints_the_limits_of_the_machine(fastecho):
    code, out, err = fastecho("doctor")
    assert code == 0
    assert err == ""
    for name in ("descriptors", "backlog", "CPUs", "CPU governor", "ephemeral ports", "uvloop", "build"):
        assert name in out


def test_doctor_names_the_command_that_lifts_a_limit(fastecho, monkeypatch):
    from fastecho.cli import doctor

    low = {"/proc/sys/net/core/somaxconn": "128", "/proc/sys/net/ipv4/ip_local_port_range": "50000 50100",
           "/proc/sys/net/ipv4/tcp_tw_reuse": "0"}  # fmt: skip
    monkeypatch.setattr(doctor, "_setting", lambda path: low.get(path, "powersave"))
    code, out, _ = fastecho("doctor")
    assert code == 0
    for command in ("sysctl -w net.core.somaxconn=4096", "ip_local_port_range=", "tcp_tw_reuse=1", "cpupower"):
        assert command in out
    monkeypatch.setitem(sys.modules, "uvloop", None)
    code, out, _ = fastecho("doctor")
    assert code == 1
    assert "pip install uvloop" in out
