"""Under Locust: a real master with two workers, whose merged statistics equal what the server counted.

Locust replaces threads and sockets, so it runs in processes of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from children import ChildServer
from command import clean_environment
from fastecho.bench import LoadSpec, Stop, run_load
from patience import DEADLINE, wait_until
from ports import held_port

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="Locust needs Python 3.11 here")

EXAMPLE = Path(__file__).parents[2] / "examples" / "locustfile.py"
LIMIT = 6 * DEADLINE


@contextlib.contextmanager
def child(**options: Any) -> Iterator[tuple[ChildServer, str]]:
    """A server in its own process, and its target."""
    server = ChildServer("uvloop", options)
    try:
        server.ready()
        yield server, f"tcp://127.0.0.1:{server.address[1]}"
    finally:
        server.kill()


def locust(*arguments: str, file: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "locust", "-f", str(file), *arguments]
    return subprocess.Popen(
        command, env=clean_environment({}), cwd=file.parent, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
    )  # fmt: skip


@contextlib.contextmanager
def cluster(file: Path, *arguments: str) -> Iterator[list[subprocess.Popen[str]]]:
    """A master with `arguments`, and two workers."""
    with held_port() as port, contextlib.ExitStack() as stack:
        master = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(port), *arguments]
        worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", str(port)]
        processes = []
        for each in (master, worker, worker):
            processes.append(locust(*each, file=file))
            stack.callback(processes[-1].communicate)
            stack.callback(processes[-1].kill)
        yield processes


def users(folder: Path, body: str, imports: str = "") -> Path:
    file = folder / "locustfile.py"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    imports = f"{imports}\nfrom fastecho.bench.locust import EchoUser"
    file.write_text(f"{imports}\n\n\nclass Echo(EchoUser):\n{lines}", encoding="utf-8")
    return file


def failures(out: str) -> dict[str, int]:
    """The error report that Locust prints at the end."""
    report = out.rpartition("Error report")[2]
    return {error: int(count) for count, error in re.findall(r"^(\d+) +\w+ [^:]*: (.*?) *$", report, re.M)}


def measure(folder: Path, target: str, body: str, *more: str, seconds: int = 4) -> tuple[int, str]:
    """Run a master and two workers to their end: the master's exit code and output. The workers must end with 0."""
    file = users(folder, body)
    arguments = ["--headless", "--expect-workers", "2", "-u", "4", "-r", "4", "-t", f"{seconds}s", *more]
    with cluster(file, "--host", target, *arguments) as (master, *workers):
        out, _ = master.communicate(timeout=LIMIT)
        for worker in workers:
            said, _ = worker.communicate(timeout=LIMIT)
            assert worker.returncode == 0, said
            assert "Traceback" not in said
    return master.returncode, out


# For the body of a user: the run ends with the first window in which there was an echo, however long that takes.
ENDS_WITH_AN_ECHO = """
def on_result(self, result):
    if result.echoes:
        gevent.spawn(self.environment.runner.quit)
"""

LOADS = {
    "a closed loop": "size = 100",
    "several messages in flight": "size, depth, connections = 100, 8, 10",
    "an open loop": "size, rate = 100, 2000",
    "a connection for each message": "size, churn, connections = 100, True, 4",
    "several threads": "size, threads = 100, 2",
}


def get(page: str, path: str, data: bytes | None = None) -> Any:
    with urllib.request.urlopen(f"http://{page}/{path}", data, timeout=DEADLINE) as answer:
        return json.load(answer)


def shown(page: str) -> Any:
    """What the page of the master reads; None while the master starts."""
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
        return get(page, "stats/requests")


@pytest.mark.slow
@pytest.mark.parametrize("body", LOADS.values(), ids=LOADS)
def test_the_merged_counts_of_two_workers_equal_those_of_the_server(tmp_path, body):
    """Stopped from the page in the middle of windows. (Without a page, the master waits 0.5 s for the last reports.)"""
    with held_port() as port, child() as (server, target):
        page = f"127.0.0.1:{port}"
        arguments = ["--host", target, "--web-host", "127.0.0.1", "--web-port", str(port)]
        with cluster(users(tmp_path, f"{body}\nwindow = 0.7"), *arguments):
            wait_until(lambda: (now := shown(page)) and now["worker_count"] == 2, "two workers", LIMIT)
            get(page, "swarm", b"user_count=4&spawn_rate=4")
            wait_until(lambda: shown(page)["stats"][0]["num_requests"] > 100, "reports", LIMIT)
            get(page, "stop", b"")
            wait_until(lambda: shown(page)["state"] == "stopped", "the end", LIMIT)
            wait_until(lambda: not server.stats()["active"], "no connection", LIMIT)
            counted = server.stats()
            wait_until(lambda: shown(page)["stats"][0]["num_requests"] * 100 >= counted["bytes_in"], "reports", LIMIT)
            row, total = shown(page)["stats"]
    assert row["num_requests"] * 100 == counted["bytes_in"] == counted["bytes_out"]
    assert (row["avg_content_length"], row["num_failures"]) == (100, 0)
    assert total["num_requests"] == row["num_requests"]
    assert 0 < row["avg_response_time"] <= row["max_response_time"] + 1


@pytest.mark.slow
def test_wrong_echoes_are_failures_of_their_kind(tmp_path):
    with child(fault=["corrupt(at=1000).chance(0.2)"]) as (_, target):
        code, out = measure(tmp_path, target, "window = 0.5")
    assert code == 1, out
    assert list(failures(out)) == ["corrupt: echo with wrong bytes"]
    requests, failed = re.findall(r"^TCP +echo 64 B +(\d+) +(\d+)\(", out, re.M)[-1]
    assert 0 < failures(out)["corrupt: echo with wrong bytes"] == int(failed) < int(requests)


@pytest.mark.slow
def test_a_target_that_refuses_connections_is_a_failure(tmp_path):
    with held_port() as port:
        code, out = measure(tmp_path, f"tcp://127.0.0.1:{port}", "window = 0.5")
    assert code == 1
    ((error, count),) = failures(out).items()
    assert re.fullmatch(r"cannot connect to .*: Connection refused", error)
    assert count >= 4


@pytest.mark.slow
def test_a_name_that_cannot_be_resolved_is_a_failure(tmp_path):
    """In each window, as it may be resolved in the next one."""
    code, out = measure(tmp_path, "tcp://[fe80::1%nowhere]:7", "window = 0.1")
    assert code == 1
    ((error, count),) = failures(out).items()
    assert error.startswith("cannot resolve fe80::1%nowhere: ")
    assert count >= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "row"),
    [
        ("size = SizeRange(16, 32)", "echo 16-32 B"),
        ("size = 16, 32", "echo 16,32 B"),
        ("churn = True", "connect and echo 64 B"),
        ("name = 'orders'", "orders"),
    ],
)
def test_the_row_is_named_by_what_is_sent_or_by_the_user(tmp_path, body, row):
    with child() as (_, target):
        imports = "import gevent\nfrom fastecho.bench import SizeRange"
        file = users(tmp_path, f"{body}\nwindow = 0.3{ENDS_WITH_AN_ECHO}", imports)
        with locust("--headless", "-u", "1", "-t", "60s", "--host", target, file=file) as process:
            out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out
    assert re.search(rf"^TCP +{re.escape(row)} +[1-9]", out, re.M)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "body", "message"),
    [
        ("http://127.0.0.1:7", "pass", "must be HOST:PORT"),
        ("tls://127.0.0.1:7", "pass", "must not be a TLS server"),
        ("udp://127.0.0.1:7", "pass", "must not be a UDP server"),
        ("tcp://127.0.0.1:7", "size = 0", "size 0: must be between"),
    ],
)
def test_a_load_that_cannot_be_is_one_line_and_one_failure(tmp_path, target, body, message):
    with locust("--headless", "-t", "3s", "--host", target, file=users(tmp_path, body)) as process:
        out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert "Traceback" not in out
    ((error, count),) = failures(out).items()
    assert message in error
    assert count == 1
    assert len([line for line in out.splitlines() if "ERROR" in line and message in line]) == 1


@pytest.mark.slow
def test_the_page_shows_times_below_a_millisecond_and_stops_without_loss(tmp_path):
    """What the page of Locust's master shows, from where the page reads it."""
    with held_port() as port, child() as (server, target):
        page = f"127.0.0.1:{port}"
        arguments = ["--host", target, "--web-host", "127.0.0.1", "--web-port", str(port)]
        with cluster(users(tmp_path, "size = 100\nconnections = 1"), *arguments):
            wait_until(lambda: (now := shown(page)) and now["worker_count"] == 2, "two workers", LIMIT)
            get(page, "swarm", b"user_count=2&spawn_rate=2")
            wait_until(lambda: (now := shown(page)) and now["current_rps"] > 0, "a rate", LIMIT)
            row = shown(page)["stats"][0]
            assert (row["method"], row["name"]) == ("TCP", "echo 100 B")
            assert 0 < row["median_response_time"] <= row["response_time_percentile_0.99"]
            assert row["median_response_time"] % 1, "milliseconds only"
            get(page, "stop", b"")
            wait_until(lambda: shown(page)["state"] == "stopped", "the end", LIMIT)
            counted = server.stats()["bytes_in"]
            wait_until(lambda: shown(page)["stats"][0]["num_requests"] * 100 >= counted, "the last reports", LIMIT)
            assert shown(page)["stats"][0]["num_requests"] * 100 == counted


def test_without_locust_one_line_names_the_extra():
    code = "import sys; sys.modules['locust'] = None; import fastecho.bench.locust"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert done.stderr.splitlines()[-1].endswith("locust is missing: pip install 'fastecho[locust]'")


@pytest.mark.parametrize(
    "settings", [{"depth": 8}, {"churn": True}, {"rate": 5000.0}, {"warmup": 0.1}], ids=lambda each: next(iter(each))
)
def test_with_count_all_a_run_has_every_echo_of_the_server(settings):
    with child() as (server, target):
        spec = LoadSpec(**{"target": target, "connections": 4, "size": 100, "duration": 0.2, "warmup": 0, **settings})
        result = run_load(spec, count_all=True)
        assert result.echoes * 100 == result.bytes == server.stats()["bytes_in"]
        assert len(result.latencies) == result.echoes


def test_with_count_all_an_interrupted_run_has_every_echo_of_the_server():
    stop = Stop()
    with child() as (server, target):
        spec = LoadSpec(target=target, size=100, depth=8, duration=600, warmup=0)
        result = run_load(spec, on_progress=lambda _: stop.request(), stop=stop, count_all=True)
        assert result.partial
        assert result.bytes == server.stats()["bytes_in"]


def test_the_example_is_a_user_of_ours():
    with locust("--list", file=EXAMPLE) as process:
        out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out
    assert "Echo" in out.split()
