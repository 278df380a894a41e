"""`fastecho bench merge`, `compare` and `ab` as a user meets them: files, refusals, verdicts, exit codes.

At the end, the page of `--report`: its structure, since no browser runs here.
"""

import base64
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from xml.etree import ElementTree

import pytest

from bench_servers import c_server, corrupting, echo, serving, stalling
from fastecho.bench import LoadSpec, Sample, hdr
from fastecho.bench.html import page
from fastecho.bench.measure import Report, measure
from fastecho.bench.svg import BOTTOM, HEIGHT, LEFT, RIGHT
from fastecho.cli.main import main
from made_runs import SPEC, report_of, run_of


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    with c_server(tmp_path_factory.mktemp("server")) as (target, _):
        yield target


@pytest.fixture
def bench(capfd):
    def run(*arguments):
        code = main(["bench", *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def saved(tmp_path):
    """Save a run that was never run, as a file; every one differs from the others."""
    made = []

    def save(name, *, slower=1.0, started=None, **changes):
        path = tmp_path / name
        made.append(path)
        time = 1e-3 * slower * (1 + len(made) / 1000)
        changes["started"] = len(made) * 100.0 if started is None else started
        report_of(run_of({time: 990, 3 * time: 10}, rate=50 / time, **changes)).save(str(path))
        return str(path)

    return save


def complaint(outcome, code=2):
    """The one line that a refused command prints."""
    found, out, err = outcome
    assert found == code, err
    assert out == ""
    (line,) = err.splitlines()
    return line


# -- compare ----------------------------------------------------------------------------------------------------------


def test_several_files_of_each_side_are_told_apart(bench, saved):
    a, b = ([saved(f"{side}{k}.json", slower=slower) for k in range(5)] for side, slower in (("a", 1), ("b", 1.1)))
    code, out, err = bench("compare", *a, "--", *b)
    assert code == 1
    assert err == ""
    assert out.splitlines()[-1].startswith("verdict: B is worse (rate -9")
    code, out, _ = bench("compare", *b, "--", *a)
    assert code == 0
    assert "verdict: B is better (rate +1" in out
    code, out, _ = bench("compare", *a, "--", *b, "--threshold", "20%")
    assert code == 0
    assert out.splitlines()[-1] == "verdict: no difference"


def test_one_file_of_each_side_is_not_enough_runs(bench, saved):
    code, out, _ = bench("compare", saved("a.json"), saved("b.json", slower=1.2))
    assert code == 0
    assert "verdict: not enough runs to decide (1 of A, 1 of B; 5 of each are needed)" in out
    assert "Too few runs for intervals" in out


def test_the_verdict_is_there_as_json(bench, saved, tmp_path):
    a, b = saved("a.json"), saved("b.json", slower=3)
    code, out, _ = bench("compare", "--json", "-", a, b)
    assert code == 1
    plain = json.loads(out)
    assert plain["schema"] == "fastecho-verdict/1"
    assert plain["verdict"] == "worse"
    assert plain["files"] == {"a": [a], "b": [b]}
    assert plain["runs"] == {"a": 1, "b": 1, "needed": 5}
    rate = next(each for each in plain["metrics"] if each["metric"] == "rate")
    assert rate["verdict"] == "worse"
    assert (rate["low"], rate["high"]) == (None, None)
    path = tmp_path / "verdict.json"
    code, out, _ = bench("compare", a, b, "--json", path)
    assert code == 1
    assert json.loads(path.read_text()) == plain
    assert f"verdict: {plain['summary']}" in out


@pytest.mark.parametrize("how", ["path", "link", "copy", "other format", "both sides"])
def test_a_run_given_twice_is_refused(bench, saved, tmp_path, how):
    a, b, again = saved("a.json"), saved("b.json"), str(tmp_path / "again.json")
    if how == "link":
        os.link(a, again)
    elif how == "copy":
        shutil.copy(a, again)
    elif how == "other format":
        (tmp_path / "again.json").write_text(json.dumps(json.loads((tmp_path / "a.json").read_text()), sort_keys=True))
    else:
        again = a
    line = complaint(bench("compare", a, again) if how == "both sides" else bench("compare", a, again, "--", b))
    assert a in line
    assert line.endswith(": each run counts once")


def test_runs_of_different_loads_are_refused(bench, saved):
    closed, opened = saved("a.json"), saved("b.json", spec=dataclasses.replace(SPEC, rate=500.0))
    line = complaint(bench("compare", closed, opened))
    assert line == f"fastecho: {opened} has an open loop, {closed} has a closed loop: the loads must be alike"


@pytest.mark.parametrize(
    "files", [[], ["a"], ["a", "b", "b"], ["a", "--"], ["--", "a"], ["a", "--", "b", "--", "b"]], ids=str
)
def test_files_that_make_no_two_sides_are_refused(bench, saved, files):
    paths = {"a": saved("a.json"), "b": saved("b.json"), "--": "--"}
    line = complaint(bench("compare", *(paths[each] for each in files)))
    assert "must be two files, or the runs of A, then --, then those of B" in line


@pytest.mark.parametrize("threshold", ["3", "0.03", "-3%", "x%", "%", "2000%"])
def test_a_threshold_is_a_percentage_with_its_sign(bench, saved, threshold):
    for command in (("compare", saved("a.json"), saved("b.json")), ("ab", "h:1", "h:2")):
        line = complaint(bench(*command, "--threshold", threshold))
        assert f"--threshold {threshold}" in line


def test_a_single_file_cannot_be_merged(bench, saved):
    path = saved("a.json")
    assert f"merge {path}: must name two files at least" in complaint(bench("merge", path))


@pytest.mark.parametrize("command", ["merge", "compare"])
def test_what_is_no_report_is_a_usage_error(bench, saved, tmp_path, command):
    path = tmp_path / "x.json"
    path.write_text("{}")
    good = saved("a.json")
    assert "not written by fastecho bench --json" in complaint(bench(command, good, path))
    assert "/nowhere/a.json: cannot be read" in complaint(bench(command, "/nowhere/a.json", good))


def test_a_verdict_that_cannot_be_written_is_refused_before_the_runs(bench, saved):
    assert "/nowhere/v.json: cannot be written" in complaint(
        bench("compare", saved("a.json"), saved("b.json"), "--json", "/nowhere/v.json")
    )
    assert "/nowhere/v.json: cannot be written" in complaint(bench("ab", "h:1", "h:2", "--json", "/nowhere/v.json"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_verdict_for_a_full_disk_is_printed_all_the_same(bench, saved):
    code, out, err = bench("compare", saved("a.json"), saved("b.json", slower=3), "--json", "/dev/full")
    assert code == 2
    assert "verdict: B is worse" in out
    assert err == "fastecho: /dev/full: cannot be written: No space left on device\n"


@pytest.mark.alone
@pytest.mark.slow
def test_a_run_of_a_server_that_freezes_is_told_from_one_that_does_not(bench, tmp_path):
    """200 ms in each second: every fifth message of an open loop is late, and most samples see none of them."""
    load = ["--rate", "500", "-c", "8", "-d", "3s", "--warmup", "100ms", "-q"]
    with serving(echo) as steady, serving(stalling(0.2, 1.0)) as freezing:
        for name, server in (("a", steady), ("b", freezing)):
            assert bench(server, *load, "--json", tmp_path / f"{name}.json")[0] == 0
    code, out, _ = bench("compare", tmp_path / "a.json", tmp_path / "b.json")
    assert code == 1, out
    assert "p99 x" in out.splitlines()[-1].split(" and better ")[0]


# -- merge ------------------------------------------------------------------------------------------------------------


def test_runs_made_at_once_add_up(bench, target, tmp_path):
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    begin = threading.Barrier(2)

    def load(path, connections):
        begin.wait()
        run = measure(LoadSpec(target=target, connections=connections, duration=1.0, warmup=0.05))
        report_of(run).save(path)

    threads = [threading.Thread(target=load, args=each) for each in zip(paths, (3, 5), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    both = str(tmp_path / "both.json")
    code, out, _ = bench("merge", *paths, "--json", both, "--report", tmp_path / "both.html")
    assert code == 0
    assert "8 connections" in out
    one, two, merged = (Report.load(path).result for path in (*paths, both))
    assert merged.echoes == one.echoes + two.echoes
    assert merged.rate == pytest.approx(one.rate + two.rate)
    assert merged.latencies.items() == hdr.merge([one.latencies, two.latencies]).items()
    assert merged.percentiles["max"] == max(one.percentiles["max"], two.percentiles["max"])


def test_runs_that_did_not_overlap_do_not_add_up(bench, saved):
    a, b = saved("a.json", started=10.0), saved("b.json", started=12.5)
    assert complaint(bench("merge", b, a)) == (
        f"fastecho: {b} began 1.5 s after {a} had ended: only runs made at the same time add up"
    )


def test_merge_says_that_runs_overlap_in_part(bench, saved):
    runs = [saved(f"{k}.json", started=10 + k / 4) for k in range(3)]
    code, out, _ = bench("merge", *runs)
    assert code == 0
    assert "note: the runs overlap for 0.5 s of 1.0 s: the sum of their rates was not reached\n" in out
    code, out, _ = bench("merge", saved("a.json", started=10.0), saved("b.json", started=10.05))
    assert code == 0
    assert "overlap" not in out


def test_hosts_may_divide_a_load_and_must_not_mix_two(bench, saved):
    def ran(name, **changes):
        return saved(name, started=10.0, spec=dataclasses.replace(SPEC, **changes))

    first = ran("a.json", rate=1000.0)
    assert bench("merge", first, ran("b.json", rate=2000.0, connections=9, threads=2, target="i:8"))[0] == 0
    for changes, said in (({}, "a closed loop"), ({"rate": 9.0, "size": 4096}, "4096 B"),
                          ({"rate": 9.0, "depth": 3}, "depth 3"), ({"rate": 9.0, "churn": True}, "a connection a"),
                          ({"rate": 9.0, "target": "tls://h:1"}, "TLS")):  # fmt: skip
        assert said in complaint(bench("merge", first, ran("c.json", **changes)))


def test_a_run_that_a_merged_one_holds_is_not_added_again(bench, saved, tmp_path):
    a, b, c, both = *(saved(f"{name}.json", started=10.0) for name in "abc"), str(tmp_path / "both.json")
    assert bench("merge", a, b, "--json", both)[0] == 0
    assert f"{both} and {b} hold the same run: each run counts once" in complaint(bench("merge", both, b))
    assert f"{a} is there twice" in complaint(bench("merge", a, a))
    code, out, _ = bench("merge", both, c)
    assert code == 0
    assert "150 connections" in out


# -- ab ---------------------------------------------------------------------------------------------------------------

SHORT = ["--rounds", "3", "-d", "50ms", "--warmup", "0", "-c", "4"]


def test_ab_gives_its_verdict_and_every_round_as_json(bench, target):
    code, out, err = bench("ab", target, target, *SHORT, "--json", "-", "--size", "1KiB")
    assert err.splitlines()[0].startswith("round 1 of 3: ")
    plain = json.loads(out)
    assert plain["targets"] == {"a": target, "b": target}
    assert plain["load"]["size"] == 1024
    assert len(plain["rounds"]) == 3
    assert all(plain["rounds"][k][side]["rate"] > 0 for k in range(3) for side in "ab")
    assert plain["runs"]["a"] == plain["runs"]["b"] == 3
    assert code == (plain["verdict"] in ("worse", "mixed"))


@pytest.mark.alone
@pytest.mark.slow
def test_ab_sees_a_server_that_freezes(bench):
    load = ["--rounds", "12", "-d", "250ms", "-c", "8", "--rate", "500", "-q"]
    with serving(echo) as steady, serving(stalling(0.2, 0.4)) as freezing:
        code, out, _ = bench("ab", steady, freezing, *load)
    assert code == 1, out
    assert "p99 x" in out.splitlines()[-1].split(" and better ")[0]


def test_ab_counts_errors_against_b(bench, target):
    with serving(corrupting(5000)) as wrong:
        code, out, _ = bench("ab", target, wrong, *SHORT, "-q")
        assert code == 1
        assert "B had errors: corrupt" in out
        code, out, _ = bench("ab", wrong, target, *SHORT, "-q")
        assert "A had errors: corrupt" in out
        assert "errors" not in out.splitlines()[-1]


def test_ab_takes_no_target_that_is_none_and_no_option_of_a_single_run(bench, target):
    assert "TARGET" in complaint(bench("ab", target))
    assert "TARGET" in complaint(bench("ab", target, "nowhere"))
    assert "--rounds" in complaint(bench("ab", target, target, "--rounds", "0"))
    for option in ("--slo", "--find-max-rate", "--report", "--workers"):
        assert f"{option}: no such option" in complaint(bench("ab", target, target, option, "x"))


def test_ab_refuses_options_without_effect_and_tls_on_one_side(bench, target):
    for arguments, said in ((["--arrivals", "poisson"], "needs --rate"), (["--tls-insecure"], "needs a tls:// target"),
                            (["--cpus", "0,0"], "--cpus")):  # fmt: skip
        assert said in complaint(bench("ab", target, target, *arguments))
    assert "must have TLS when TARGET_A has it" in complaint(bench("ab", target, "tls://h:1"))


def test_ab_that_is_interrupted_judges_the_rounds_so_far(target):
    command = [sys.executable, "-m", "fastecho", "bench", "ab", target, target, *SHORT, "--rounds", "1000"]
    with subprocess.Popen(
        [*command, "--json", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("round 2 of"):
            pass
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    plain = json.loads(out)
    assert len(plain["rounds"]) >= 2
    assert plain["notes"][0] == f"interrupted after {len(plain['rounds'])} of 1000 rounds"


def test_ab_says_which_target_cannot_be_reached(bench):
    with serving(echo) as there:
        code, out, err = bench("ab", there, "127.0.0.1:1", *SHORT, "-q")
    assert code != 0
    assert out == ""
    assert err == "fastecho: cannot connect to tcp://127.0.0.1:1: Connection refused\n"


# -- the page of --report ---------------------------------------------------------------------------------------------

CHARACTER = 7.2  # pixels, in a wide font at the size of the labels


@pytest.fixture(scope="module")
def page_text():
    """Of a run with latencies of four orders, and a rate with many digits."""
    samples = tuple(
        Sample(k / 5, 0.2, 60_000 + 1000 * k, 64, 1e-4 * (1 + k), 3e-3, 0.1 * (1 + k)) for k in range(1, 11)
    )
    return page(report_of(run_of({1e-4: 90_000, 3e-3: 9_990, 1.0: 10}, rate=300_000.0, samples=samples)))


def figures_of(text):
    return [ElementTree.fromstring(figure) for figure in re.findall(r"<figure>.*?</figure>", text, re.S)]


@pytest.fixture(scope="module")
def figures(page_text):
    return figures_of(page_text)


def tips_of(figure):
    return figure.findall(".//g[@class='tip']")


def share(element, attribute):
    """A percentage of the width, as a number."""
    return float(element.get(attribute).removesuffix("%"))


@pytest.mark.parametrize("echoes", [3, 300_000, 12_345_678])
@pytest.mark.parametrize("latencies", [(1e-6, 1e-6, 1.1e-6), (12.4e-3, 12.4e-3, 12.4e-3), (1e-5, 3e-3, 90.0)], ids=str)
def test_each_tick_label_lies_within_the_margins_of_its_chart(latencies, echoes):
    samples = tuple(Sample(k * 2.5, 1.0, echoes, 64, *latencies) for k in range(1, 6))
    histogram = dict.fromkeys(latencies, 400_000)
    for figure in figures_of(page(report_of(run_of(histogram, samples=samples)))):
        labels = figure.findall(".//g[@class='ticks']/text")
        assert len(labels) >= 6
        for label in labels:
            width = CHARACTER * len(label.text)
            if label.get("text-anchor") == "end":
                assert width <= LEFT + float(label.get("x")), label.text
                assert 0 <= float(label.get("y")) <= HEIGHT
            else:
                assert width / 2 <= RIGHT, label.text
                assert 0 <= share(label, "x") <= 100
                assert HEIGHT < float(label.get("y")) <= HEIGHT + BOTTOM


def test_each_point_has_a_title_with_its_value_and_shows_it_under_the_pointer(figures, page_text):
    for figure in figures:
        for tip in tips_of(figure):
            assert tip.findtext("title") == tip.findtext("g/text")
            assert tip.find("g").get("visibility") == "hidden"
    assert ".tip:hover g{visibility:visible}" in page_text
    percentiles, latency, throughput = (tips_of(figure) for figure in figures)
    assert len(latency) == len(throughput) == 10
    assert latency[0].findtext("title") == "0.20 s: p50 200 us, p99 3.00 ms, max 200 ms"
    assert len(latency[0].findall("g/circle")) == 3, "a dot on each line"
    assert throughput[0].findtext("title") == "0.20 s: 305,000 echoes/s, 0.0 MB/s"
    assert percentiles[10].findtext("title") == "90 % within 100 us"
    assert percentiles[20].findtext("title") == "99 % within 3.00 ms"


def test_the_pointer_finds_a_value_everywhere_in_a_chart(figures):
    for figure in figures:
        columns = [tip.find("rect") for tip in tips_of(figure)]
        edge = 0.0
        for column in columns:
            assert share(column, "x") == pytest.approx(edge, abs=0.05)
            edge = share(column, "x") + share(column, "width")
        assert edge == pytest.approx(100, abs=0.05)


def test_the_values_of_each_chart_are_a_table_for_the_keyboard(figures):
    for figure in figures:
        rows = figure.findall("details/div/table/tr")
        assert len(rows) == 1 + len(tips_of(figure))
        assert all(len(row) == len(rows[0]) for row in rows)
    first = figures[1].findall("details/div/table/tr")[1]
    assert [cell.text for cell in first] == ["0.20 s", "200 us", "3.00 ms", "200 ms"]


def test_the_page_has_a_light_and_a_dark_scheme_with_the_same_colours(page_text):
    light = re.search(r"<style>\s*:root\{color-scheme:light dark;(.*?)\}", page_text, re.S)[1]
    dark = re.search(r"@media\(prefers-color-scheme:dark\)\{:root\{(.*?)\}\}", page_text, re.S)[1]
    colours = [dict(re.findall(r"--([\w-]+):(#\w+)", scheme)) for scheme in (light, dark)]
    assert colours[0].keys() == colours[1].keys() == set(re.findall(r"var\(--([\w-]+)\)", page_text)) - {"c"}
    assert not colours[0].items() & colours[1].items(), "a colour that both schemes share"


def test_the_page_says_what_its_percentile_axis_is(figures):
    caption = figures[0].findtext("figcaption/p")
    assert "Percentile p, logarithmic scale of 1/(1-p): 90, 99 and 99.9 are equally far apart." in caption
    labels = figures[0].findall(".//g[@class='ticks']/text[@text-anchor='middle']")
    at = {label.text: share(label, "x") for label in labels}
    assert at["99"] - at["90"] == pytest.approx(at["99.9"] - at["99"], abs=0.1)


def test_the_page_loads_nothing_and_runs_no_script(page_text):
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page_text)
    (style,) = re.findall(r"<style>(.*?)</style>", page_text, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"
    assert not re.search(r"<(script|link|img|iframe|object)\b|\s(on\w+|style|src|href)=|url\(|@import", page_text)


def test_a_long_run_has_no_more_points_than_a_chart_can_show():
    samples = tuple(Sample(k + 1.0, 1.0, 1000, 64_000, 1e-3, 2e-3, 3e-3 if k != 777 else 0.5) for k in range(3600))
    text = page(report_of(run_of({1e-3: 99, 2e-3: 1}, samples=samples)))
    assert text.count('class="tip"') <= 2 * 150 + 60
    assert "max 500 ms" in text, "the slowest second is among them"
    assert len(text) < 200_000
