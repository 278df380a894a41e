"""`fastecho bench`, `ping` and `doctor` as a user meets them: output, files, exit codes."""

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree

import pytest

from bench_servers import corrupting, resetting, serving, silent_after, tls_context
from command import clean_environment
from fastecho.bench import Target
from fastecho.bench.ping import Pinger
from patience import DEADLINE
from screen import Screen

QUICK = ["--duration", "500ms", "--warmup", "50ms", "--connections", "4"]


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


def at_a_terminal(*arguments):
    """The exit code of a bench whose standard error is a terminal, and what it shows there."""
    with Screen() as screen, subprocess.Popen(
        [sys.executable, "-m", "fastecho", "bench", *arguments], stdout=subprocess.DEVNULL, stderr=screen.theirs,
        env=clean_environment({"TERM": "xterm-256color"}),
    ) as process:  # fmt: skip
        return screen.wait_for_end(process), screen.shown


def test_a_terminal_shows_the_course_of_the_run_and_its_cursor_again(target):
    code, shown = at_a_terminal(target, "--duration", "1s", "--warmup", "500ms", "--connections", "4")
    assert code == 0
    for text in (target, "connecting", "warming up", " of 1 s", "echoes/s", "p99"):
        assert text in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") >= 0


def test_a_terminal_shows_the_rounds_of_ab_above_the_panel(target):
    code, shown = at_a_terminal("ab", target, target, "--rounds", "2", "--duration", "200ms", "--warmup", "50ms")
    assert code == 0
    for text in ("round 1 of 2: ", "round 2 of 2: ", " of 0.2 s"):
        assert text in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") >= 0


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


def test_ping_names_the_reset_of_an_established_tls_connection(fastecho):
    """It was said to be closed in the handshake."""
    gone = threading.Semaphore(0)

    def session(sock):
        resetting(10)(sock)
        sock.close()
        gone.release()

    with serving(session, tls=tls_context()) as target:
        pinger = Pinger(Target.parse(target), size=64, timeout=DEADLINE, terminator=b"\0", proxy_protocol=None,
                        tls_ca=None, tls_insecure=True)  # fmt: skip
        with contextlib.closing(pinger):
            assert pinger.ping(1).problem is None
            assert gone.acquire(timeout=DEADLINE)
            assert pinger.ping(2).problem == "Connection reset by peer"


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


def checked(fastecho):
    """What doctor prints: the exit code, and the status and the rest of the first line of each check, by its name."""
    code, out, _ = fastecho("doctor")
    names = ("descriptors", "backlog", "CPUs", "CPU governor", "ephemeral ports", "uvloop", "build", "fastecho bench")
    found = {}
    for line in out.splitlines():
        for name in names:
            if line[5:].startswith(f"{name}  "):
                found[name] = (line[:5].strip(), line[5 + len(name) :].strip())
    return code, out, found


@pytest.mark.parametrize(
    ("limits", "state", "shown"),
    [
        ((1024, 524_288), "ok", "1,024 (raised to 524,288 at start)"),
        ((1024, 4096), "low", "1,024 (raised to 4,096 at start)"),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "ok", "no limit"),
    ],
)
def test_doctor_judges_the_limit_of_descriptors(fastecho, monkeypatch, limits, state, shown):
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    code, out, found = checked(fastecho)
    assert (code, found["descriptors"]) == (0, (state, shown))
    assert ("prlimit" in out) == (state == "low")


@pytest.mark.parametrize(
    ("usable", "total", "quota", "state", "shown", "said"),
    [
        ({0, 1}, 2, None, "ok", "2 usable of 2", ""),
        ({0, 1}, 2, 4.0, "ok", "2 usable of 2, with a quota of 4 CPUs (cgroup)", ""),
        ({0}, 4, None, "low", "1 usable of 4", "$ taskset -pc 0-3 $$"),
        ({0}, 1, None, "low", "1 usable of 1", "use a machine with two"),
        ({0, 1}, 2, 1.0, "low", "2 usable of 2, with a quota of 1 CPU (cgroup)", "--workers auto is 1"),
        ({0, 1}, 2, 1.5, "low", "2 usable of 2, with a quota of 1.5 CPUs (cgroup)", "--workers auto is 2"),
    ],
)
def test_doctor_judges_the_cpus(fastecho, monkeypatch, usable, total, quota, state, shown, said):
    from fastecho._options import cpus
    from fastecho.cli import doctor

    monkeypatch.setattr(os, "cpu_count", lambda: total)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: usable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for module in (cpus, doctor):
        monkeypatch.setattr(module, "cpu_quota", lambda root="/": quota)
    code, out, found = checked(fastecho)
    assert (code, found["CPUs"]) == (0, (state, shown))
    assert said in out


def test_doctor_leaves_out_what_this_system_has_not(fastecho, monkeypatch):
    from fastecho.cli import doctor

    monkeypatch.setattr(doctor, "_setting", lambda path: None)
    code, _, found = checked(fastecho)
    assert code == 0
    assert found["CPU governor"] == ("ok", "not visible here (a virtual machine, as a rule)")
    assert {"backlog", "ephemeral ports"}.isdisjoint(found)


def test_doctor_has_nothing_to_say_about_a_machine_that_is_set_up(fastecho, monkeypatch):
    from fastecho.cli import doctor

    good = {"/proc/sys/net/core/somaxconn": "4096", "/proc/sys/net/ipv4/ip_local_port_range": "1024 65535",
            "/proc/sys/net/ipv4/tcp_tw_reuse": "2"}  # fmt: skip
    monkeypatch.setattr(doctor, "_setting", lambda path: good.get(path, "performance"))
    code, out, found = checked(fastecho)
    assert code == 0
    assert found["CPU governor"] == ("ok", "performance")
    assert {found[name][0] for name in ("backlog", "CPU governor", "ephemeral ports")} == {"ok"}
    assert "sysctl" not in out


@pytest.mark.parametrize(("build", "state"), [("release", "ok"), ("debug", "low")])
def test_doctor_tells_a_release_from_another_build(fastecho, monkeypatch, build, state):
    from fastecho import _buffer

    monkeypatch.setattr(_buffer, "BUILD", build)
    code, out, found = checked(fastecho)
    assert (code, found["build"][0]) == (0, state)
    assert found["build"][1].startswith(build)
    assert ("FASTECHO_BUILD=release pip install" in out) == (state == "low")


def test_doctor_says_that_nothing_works_without_the_extension_modules(fastecho, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastecho._buffer", None)
    code, out, found = checked(fastecho)
    assert code == 1
    assert found["build"][0] == "bad"
    assert found["build"][1].startswith("no extension modules: ")
    assert "pip install --force-reinstall" in out


def test_doctor_names_the_packages_that_bench_lacks(fastecho, monkeypatch):
    for name in ("hdrh", "rich"):
        monkeypatch.setitem(sys.modules, name, None)
    code, out, found = checked(fastecho)
    assert (code, found["fastecho bench"]) == (0, ("low", "hdrhistogram, rich missing"))
    assert "pip install 'fastecho[bench]'" in out
