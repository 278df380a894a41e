"""A cell with a real server and a real load: figures when all is well, an error and no figure otherwise."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastecho.bench")
if sys.platform != "linux":
    pytest.skip("reads /proc and CPU clocks of other processes", allow_module_level=True)

from benchmarks.versus.measuring import measure
from benchmarks.versus.peers import BY_NAME as PEERS
from benchmarks.versus.peers import Peer
from benchmarks.versus.process import ServerError, taking_turns
from benchmarks.versus.record import Method
from benchmarks.versus.rows import BY_NAME as ROWS

CPUS = sorted(os.sched_getaffinity(0))
# On a busy machine a core can be elsewhere for a few tenths of a second.
METHOD = Method(rounds=1, duration=0.6, warmup=0.05, server_cpu=CPUS[-1], load_cpu=CPUS[0], verify=True)
LOAD = replace(ROWS["64x50"], connections=4)

ECHO = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0), backlog=100)
print(listener.getsockname()[1], flush=True)

def serve(client):
    kept = bytearray({kept})
    seen = 0
    while data := client.recv(1 << 16):
        seen += len(data)
        {spoil}
        client.sendall(data)

while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


# A process per client, like socat.
FORKING = """
import os, signal, socket
listener = socket.create_server(("127.0.0.1", 0), backlog=100)
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    if os.fork() == 0:
        # Should the test fail to end it, it ends.
        signal.alarm(30)
        kept = bytearray({kept})
        while data := client.recv(1 << 16):
            client.sendall(data)
        os._exit(0)
    client.close()
"""


def server(tmp_path: Path, spoil: str = "pass", kept: int = 0, text: str = ECHO) -> Peer:
    path = tmp_path / "server.py"
    path.write_text(text.format(spoil=spoil, kept=kept))
    return Peer("epoll", "mine", "c", (sys.executable, str(path), "PORT"))


def test_a_cell_has_its_figures(tmp_path: Path) -> None:
    cell = measure(server(tmp_path), LOAD, METHOD, 0)
    assert cell.error is None
    assert cell.echoes is not None
    assert cell.echoes > 0
    assert cell.cpu_per_echo is not None
    assert 0 < cell.cpu_per_echo < 0.01
    assert cell.p50 is not None
    assert cell.p99 is not None
    assert 0 < cell.p50 <= cell.p99
    # One interpreter cannot use more than one core; the clock and the window are read a moment apart.
    assert cell.server_busy is not None
    assert 0 < cell.server_busy < 1.1


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        ("data = data[:-1] + bytes([data[-1] ^ 1]) if seen > 640 else data", "corrupt"),
        ("client.close() if seen > 640 else None", "reset|short"),
        ("import os; os._exit(3) if seen > 640 else None", "ended with 3"),
    ],
)
def test_a_bad_server_is_an_error_and_no_figure(tmp_path: Path, spoil: str, expected: str) -> None:
    cell = measure(server(tmp_path, spoil), LOAD, METHOD, 0)
    assert cell.error is not None
    assert (cell.echoes, cell.cpu, cell.p50) == (None, None, None)
    assert re.search(expected, cell.error)


def test_a_cell_over_tls_has_its_figures() -> None:
    cell = measure(PEERS["fastecho"], ROWS["tls-4k"], METHOD, 0)
    assert cell.error is None
    assert cell.cpu_per_echo is not None
    assert 0 < cell.cpu_per_echo < 0.01


def test_a_server_without_tls_fails_the_row_of_tls(tmp_path: Path) -> None:
    cell = measure(server(tmp_path), ROWS["tls-4k"], METHOD, 0)
    assert cell.error is not None
    assert cell.cpu is None


@pytest.fixture
def fixed_priority() -> None:
    try:
        with taking_turns():
            pass
    except ServerError as error:
        pytest.skip(str(error))


@pytest.mark.alone  # nothing else of this core runs meanwhile: other tests got nothing done for half a second
@pytest.mark.parametrize("name", ["churn-client", "churn-server"])
@pytest.mark.usefixtures("fixed_priority")
def test_a_server_that_takes_turns_with_the_load_wakes_up_once_for_all_connections(name: str) -> None:
    cell = measure(PEERS["uvloop-protocol"], ROWS[name], METHOD, 0)
    assert cell.error is None
    assert cell.wakeups_per_echo is not None
    assert 0 < cell.wakeups_per_echo < 0.3, "at least one a connection with a core each"
    assert cell.server_busy is not None
    assert cell.client_busy is not None
    assert cell.server_busy + cell.client_busy < 1.1, "they share a core"


def test_a_server_that_does_not_close_fails_the_row_in_which_servers_close(tmp_path: Path) -> None:
    cell = measure(server(tmp_path), replace(ROWS["churn-server"], take_turns=False), METHOD, 0)
    assert cell.error is not None
    assert "no EOF" in cell.error


@pytest.mark.usefixtures("fixed_priority")
def test_the_priority_ends_with_the_turns() -> None:
    before = os.sched_getscheduler(0)
    with taking_turns():
        assert os.sched_getscheduler(0) == os.SCHED_FIFO
    assert os.sched_getscheduler(0) == before
    with taking_turns(wanted=False):
        assert os.sched_getscheduler(0) == before


def test_a_priority_that_is_not_permitted_is_an_error_of_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    cell = measure(server(tmp_path), ROWS["churn-client"], METHOD, 0)
    assert cell.error is not None
    assert "SCHED_FIFO is not permitted" in cell.error


def test_resident_bytes_are_found(tmp_path: Path) -> None:
    row = replace(ROWS["idle"], connections=30)
    bare = measure(server(tmp_path), row, METHOD, 0).resident
    heavy = measure(server(tmp_path, kept=1_000_000), row, METHOD, 0).resident
    assert bare is not None
    assert heavy is not None
    assert 0.95e6 < heavy - bare < 1.05e6


def test_memory_and_cpu_of_a_process_per_client_are_counted(tmp_path: Path) -> None:
    row = replace(ROWS["idle"], connections=10)
    bare = measure(server(tmp_path, text=FORKING), row, METHOD, 0).resident
    heavy = measure(server(tmp_path, kept=1_000_000, text=FORKING), row, METHOD, 0).resident
    assert bare is not None
    assert heavy is not None
    assert 0.9e6 < heavy - bare < 1.1e6
    # The parent waits in accept(): all CPU time is that of its children.
    cell = measure(server(tmp_path, text=FORKING), LOAD, METHOD, 0)
    assert cell.error is None
    assert cell.cpu is not None
    assert cell.cpu > 0


def test_a_server_has_no_more_idle_connections_than_it_is_meant_to(tmp_path: Path) -> None:
    row = replace(ROWS["idle"], connections=10)
    text = ECHO.replace("while True:", "for _ in range(3):") + "\nlistener.close()\nthreading.Event().wait()\n"
    assert measure(server(tmp_path, text=text), row, METHOD, 0).error is not None
    few = measure(replace(server(tmp_path, text=text), most_idle=3), row, METHOD, 0)
    assert few.error is None
    assert few.resident is not None
