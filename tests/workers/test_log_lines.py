"""Every line of the server on standard error belongs to its log: one JSON object, or a line with a time stamp."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clients import connect_blocking
from command import as_process, clean_environment
from patience import DEADLINE, wait_until
from processes import Service, echoes

BEFORE_EVERY_MAIN = "import sys; from fastecho.cli.main import main\n{}\nsys.exit(main(sys.argv[1:]))"


def entries(errors: str) -> list[dict[str, Any]]:
    """The objects of a JSON log; a line that is none fails the test."""
    found = []
    for line in errors.splitlines():
        entry = json.loads(line)
        assert {"time", "level", "logger", "message", "pid"} <= entry.keys(), line
        found.append(entry)
    return found


def fatal(errors: str) -> str:
    entry = entries(errors)[-1]
    assert entry["level"] == "error"
    return str(entry["message"])


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False,
                          env=clean_environment({}), timeout=3 * DEADLINE, stdin=subprocess.DEVNULL)


def test_json_lines_of_a_life_with_totals_and_a_dead_worker() -> None:
    with Service("--workers", "2", "--log-format", "json", "--log-level", "debug", "--stats", "0.1") as service:
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
        os.kill(service.workers()[0], signal.SIGKILL)
        service.wait_for("is ready", 3)
        service.wait_for("echoes/s", 2)
        assert service.stop() == 0
        lines = entries(service.errors)
    [ready] = [entry for entry in lines if "listening on" in entry["message"]]
    assert ready["addresses"] == service.addresses
    assert ready["workers"] == 2
    assert ready["pid"] == service.pid
    assert ready["terminator"] == "\\0"
    totals = [entry for entry in lines if "totals" in entry]
    assert totals[-1]["totals"].keys() >= {"accepted", "active", "bytes_in", "ends"}
    assert totals[-1]["per_second"].keys() == {"accepts", "echoes", "bytes", "datagrams"}


def test_text_lines_of_a_life_have_a_time_stamp_each() -> None:
    with Service("--stats", "0.1") as service:
        service.wait_for("echoes/s", 2)
        assert service.stop() == 0
        lines = service.errors.splitlines()
    assert any("listening on" in line for line in lines)
    for line in lines:
        stamp, level = line.split()[:2]
        assert stamp.endswith("Z"), line
        assert level == "INFO"


def test_the_ready_line_and_the_totals_come_at_every_level() -> None:
    with Service("--log-format", "json", "--log-level", "error", "--stats", "0.1") as service:
        service.wait_for("echoes/s")
        assert "listening on" in entries(service.errors)[0]["message"]


@pytest.mark.parametrize(
    ("argv", "environ", "code", "line"),
    [
        (["--log-format", "json", "--port", "x"], {}, 2, "--port x: must be a whole number"),
        (["--log-format=json", "--portx", "1"], {}, 2, "--portx: no such option"),
        (["serve", "--port", "1", "--log-format", "json", "--backlog"], {}, 2, "--backlog: needs a value"),
        (["--log-format", "json", "surplus"], {}, 2, "surplus: unexpected argument"),
        (["--log-format", "text", "--log-format", "json", "--port", "x"], {}, 2, "--port x"),
        (["--port", "x"], {"FASTECHO_LOG_FORMAT": "json"}, 2, "--port x"),
        ([], {"FASTECHO_LOG_FORMAT": "json", "FASTECHO_PORT": "x"}, 78, "FASTECHO_PORT=x"),
        (["--config", "none.toml"], {"FASTECHO_LOG_FORMAT": "json"}, 78, "--config none.toml: cannot be read"),
        (["--log-format=json", "--port=0", "--tls-cert=none.pem"], {}, 78, "tls_cert none.pem: cannot be read"),
        (["--log-format", "json", "--ready-fd", "99"], {}, 2, "--ready-fd 99"),
        (["--log-format", "json", "--host", "192.0.2.1"], {}, 1, "tcp://192.0.2.1:8007: not an address of this"),
    ],
)
def test_json_lines_of_errors_that_end_the_command(
    argv: Sequence[str], environ: dict[str, str], code: int, line: str
) -> None:
    outcome = as_process(argv, environ)
    assert outcome.code == code
    assert line in fatal(outcome.err)


def test_json_line_of_an_error_in_the_file_that_asks_for_json(tmp_path: Path) -> None:
    file = tmp_path / "fastecho.toml"
    file.write_text('port = 99999\nlog_format = "json"\n')
    outcome = as_process(["--config", str(file)])
    assert outcome.code == 78
    assert "port 99999: must be" in fatal(outcome.err)


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        (["--log-format", "xml", "--port", "x"], {}),
        (["--log-format", "text", "--port", "x"], {"FASTECHO_LOG_FORMAT": "json"}),
        (["ping", "not a target"], {"FASTECHO_LOG_FORMAT": "json"}),
        (["nonsense"], {"FASTECHO_LOG_FORMAT": "json"}),
    ],
)
def test_errors_are_plain_where_the_server_is_not_asked_for_json(argv: list[str], environ: dict[str, str]) -> None:
    assert as_process(argv, environ).complaint(2).startswith("fastecho: ")


def test_json_line_of_an_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        outcome = as_process(["--port", str(other.getsockname()[1]), "--log-format", "json"])
    assert outcome.code == 69
    assert "already in use" in fatal(outcome.err)


def test_json_line_of_a_crash_loop() -> None:
    crash = (
        "import fastecho._workers.worker as w, os; "
        "w.Worker._beat = lambda self: self._loop.call_later(0.05, os._exit, 9)"
    )
    done = python(BEFORE_EVERY_MAIN.format(crash), "--port", "0", "--log-format", "json")
    assert done.returncode == 70
    assert "every worker has died" in fatal(done.stderr)


def test_json_line_of_a_bug_has_its_traceback_in_a_field() -> None:
    bug = "import fastecho._workers.supervisor as s; s.Supervisor.run = lambda self: 1 / 0"
    done = python(BEFORE_EVERY_MAIN.format(bug), "--log-format", "json", "--log-level", "debug")
    assert done.returncode == 1
    [entry] = entries(done.stderr)
    assert "this is a bug in fastecho: ZeroDivisionError" in entry["message"]
    assert "Traceback (most recent call last)" in entry["exception"]


UNUSUAL = """
import asyncio, gc, logging, threading, warnings
import fastecho._workers.worker as worker

class Late:
    def __del__(self):
        raise ValueError("in a finalizer")

class Unusual(worker.Worker):
    def _beat(self):
        super()._beat()
        warnings.simplefilter("always")
        warnings.warn("a warning", DeprecationWarning)
        Late()
        self._loop.call_soon(lambda: 1 / 0)
        logging.getLogger("another.library").warning("two\\nlines")
        thread = threading.Thread(target=lambda: {}["in a thread"])
        thread.start()
        thread.join()

worker.Worker = Unusual
"""


@pytest.mark.parametrize("where", ["supervisor", "worker"])
def test_json_lines_of_what_python_itself_prints(tmp_path: Path, where: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(BEFORE_EVERY_MAIN.format(UNUSUAL if where == "worker" else ONCE_IN_THE_SUPERVISOR))
    said = ["a warning", "in a finalizer", "two\nlines", "in a thread"]
    said += ["ZeroDivisionError"] if where == "worker" else []
    with Service(command=[sys.executable, str(program), "--port", "0", "--log-format", "json",
                          "--ready-fd", "READY_FD"]) as service:
        wait_until(lambda: all(json.dumps(each)[1:-1] in service.errors for each in said), "the lines")
        service.stop()
        entries(service.errors)


ONCE_IN_THE_SUPERVISOR = """
import logging, threading, warnings
import fastecho._workers.supervisor as supervisor

class Late:
    def __del__(self):
        raise ValueError("in a finalizer")

class Unusual(supervisor.Supervisor):
    def _announce(self):
        warnings.simplefilter("always")
        warnings.warn("a warning", DeprecationWarning)
        Late()
        logging.getLogger("another.library").warning("two\\nlines")
        thread = threading.Thread(target=lambda: {}["in a thread"])
        thread.start()
        thread.join()
        super()._announce()

supervisor.Supervisor = Unusual
"""


RUN = """
import logging, os, signal, sys, threading
import fastecho
logger = logging.getLogger("fastecho")
before = list(logger.handlers), logger.level, logger.propagate
reader, writer = os.pipe()
def stop():
    os.read(reader, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=stop).start()
code = fastecho.run(fastecho.ServerConfig(port=0, ready_fd=writer, log_format="json"))
assert (list(logger.handlers), logger.level, logger.propagate) == before
sys.exit(code)
"""


def test_run_logs_as_its_configuration_says_and_leaves_no_handler() -> None:
    done = python(RUN)
    assert done.returncode == 0, done.stderr
    assert any("listening on" in entry["message"] for entry in entries(done.stderr))


def test_run_leaves_the_logging_of_its_program_alone() -> None:
    done = python("import logging; logging.basicConfig(format='OURS %(message)s', level='INFO')\n" + RUN)
    assert done.returncode == 0, done.stderr
    assert "OURS fastecho 0.1.0 listening on" in done.stderr
    assert all(line.startswith("OURS ") for line in done.stderr.splitlines())
