"""Where a result goes: the report for people, `--json`, `--report`; and when one of them cannot be written."""

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from command import WITHOUT_PRIVILEGES, as_process
from patience import DEADLINE

QUICK = ["--duration", "500ms", "--warmup", "0", "--connections", "2", "-q"]
full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")


@full
def test_a_full_disk_still_prints_the_result(fastecho, target):
    code, out, err = fastecho(target, *QUICK, "--json", "/dev/full")
    assert code == 1
    assert "echoes/s" in out
    assert err == "fastecho: /dev/full: cannot be written: No space left on device\n"


@full
def test_a_report_on_a_full_disk_still_prints_the_result_and_writes_the_json(fastecho, target, tmp_path):
    path = tmp_path / "run.json"
    code, out, err = fastecho(target, *QUICK, "--report", "/dev/full", "--json", str(path))
    assert code == 1
    assert "echoes/s" in out
    assert err == "fastecho: /dev/full: cannot be written: No space left on device\n"
    assert json.loads(path.read_text())["result"]["ok"] is True


@full
def test_both_that_fail_are_named(fastecho, target):
    code, out, err = fastecho(target, *QUICK, "--report", "/dev/full", "--json", "/dev/../dev/full")
    assert code == 1
    assert "echoes/s" in out
    (line,) = err.splitlines()
    assert "/dev/full: cannot be written" in line
    assert "/dev/../dev/full: cannot be written" in line


@full
def test_standard_output_on_a_full_disk_still_writes_the_files(target, tmp_path):
    path, page = tmp_path / "run.json", tmp_path / "run.html"
    with open("/dev/full", "w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "fastecho", "bench", target, *QUICK, "--json", path, "--report", page],
            stdout=out, stderr=subprocess.PIPE, text=True, timeout=3 * DEADLINE, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("fastecho: standard output: cannot be written")
    assert json.loads(path.read_text())["result"]["ok"] is True
    assert "<svg" in page.read_text()


def test_json_on_standard_output(fastecho, target):
    code, out, err = fastecho(target, *QUICK, "--json", "-")
    assert code == 0
    assert json.loads(out)["result"]["ok"] is True
    assert "echoes/s" in err, "the report for people goes to standard error"


def test_json_on_standard_output_stands_alone_there_when_standard_error_is_closed(target):
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "fastecho", "bench", target, *QUICK, "--json", "-"],
        stdout=subprocess.PIPE, text=True, timeout=3 * DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout)["result"]["ok"] is True


def test_merge_writes_its_json_on_standard_output(fastecho, target, tmp_path):
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    for path in (a, b):
        fastecho(target, *QUICK, "--json", path)
        at_once = json.loads(Path(path).read_text())
        at_once["result"]["started"] = 1000.0  # as if both had been made at the same time
        Path(path).write_text(json.dumps(at_once))
    code, out, err = fastecho("merge", a, b, "--json", "-")
    assert code == 0, err
    assert json.loads(out)["runs"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--report", "-"], "--report -: must be a file"),
        (["--report", "x.html", "--json", "x.html"], "--report x.html: must be another file than that of --json"),
    ],
)
def test_outputs_that_cannot_be(fastecho, target, arguments, said):
    code, out, err = fastecho(target, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith(f"fastecho: {said}")


@pytest.mark.parametrize("path", ["", "/", "/nowhere/a.json", "a\0b"])
@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_path_that_cannot_be_written_is_refused_before_the_run(fastecho, target, option, path):
    code, out, err = fastecho(target, "--duration", "1h", option, path)
    assert code == 1
    assert out == ""
    (line,) = err.splitlines()
    assert "cannot be written" in line


def test_a_folder_that_may_not_be_written_is_refused_before_the_run(target, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    path = closed / "run.json"
    outcome = as_process(["bench", target, "--duration", "1h", "--json", str(path)], through=WITHOUT_PRIVILEGES)
    assert outcome.complaint(1) == f"fastecho: {path}: cannot be written: Permission denied\n"


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(fastecho, target, tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_text("precious")

    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    code, out, err = fastecho(target, *QUICK, "--json", str(path))
    assert code == 1
    assert "echoes/s" in out
    assert err == f"fastecho: {path}: cannot be written: No space left on device\n"
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_file_keeps_its_mode_and_a_link_stays_one(fastecho, target, tmp_path):
    path, link = tmp_path / "run.json", tmp_path / "link.json"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    code, *_ = fastecho(target, *QUICK, "--json", str(link))
    assert code == 0
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert json.loads(path.read_text())["result"]["ok"] is True


def test_a_result_is_written_into_a_fifo(fastecho, target, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    code, *_ = fastecho(target, *QUICK, "--json", str(path))
    reader.join(DEADLINE)
    assert code == 0
    assert json.loads(read[0])["result"]["ok"] is True
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="this system has no /dev/stdout")
def test_a_result_is_written_to_dev_stdout(target):
    done = subprocess.run(
        [sys.executable, "-m", "fastecho", "bench", target, *QUICK, "--json", "/dev/stdout"],
        capture_output=True, text=True, timeout=3 * DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.JSONDecoder().raw_decode(done.stdout)[0]["result"]["ok"] is True


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="this system has no /dev/stdout")
def test_dev_stdout_that_is_a_file(target, tmp_path):
    path = tmp_path / "out"
    with path.open("w") as out:
        subprocess.run(
            [sys.executable, "-m", "fastecho", "bench", target, *QUICK, "--report", "/dev/stdout"],
            stdout=out, timeout=3 * DEADLINE, check=True,
        )  # fmt: skip
    assert os.listdir(tmp_path) == ["out"]
    assert "echoes/s" in path.read_text(), "the file that the shell opened is still the one that is written"
