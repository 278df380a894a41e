"""The servers of a comparison as processes: CPU time of the whole tree; a check that catches a bad echo."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.peers import conformance
from benchmarks.versus.peers import PEERS, Peer
from benchmarks.versus.process import Server, ServerError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads /proc and CPU clocks of other processes"
)

ECHO = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    with client:
        while data := client.recv(1 << 16):
            client.sendall({reply})
"""
SPINNING_CHILD = """
import os, signal, time
if os.fork() == 0:
    # Should the test fail to end it, it ends.
    signal.alarm(30)
    while True:
        pass
print(1, flush=True)
time.sleep(60)
"""


def program(tmp_path: Path, text: str, **expected: bool) -> Peer:
    path = tmp_path / "server.py"
    path.write_text(text)
    return Peer("mine", "mine", "python", (sys.executable, str(path), "PORT"), parallel=False, **expected)


def running(pid: int) -> bool:
    """Neither ended nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_plain_echo_conforms(tmp_path: Path) -> None:
    conformance.check(program(tmp_path, ECHO.format(reply="data")))


def test_one_wrong_byte_is_caught(tmp_path: Path) -> None:
    reply = "data if len(data) < 60000 else data[:-1] + bytes([data[-1] ^ 1])"
    with pytest.raises(conformance.ConformanceError, match="came back wrong"):
        conformance.check(program(tmp_path, ECHO.format(reply=reply)))


def test_a_missing_byte_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "TIMEOUT", 0.5)
    with pytest.raises(conformance.ConformanceError, match="TimeoutError"):
        conformance.check(program(tmp_path, ECHO.format(reply="data[1:]")))


def test_a_session_that_should_end_at_nul_and_does_not_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "TIMEOUT", 0.5)
    with pytest.raises(conformance.ConformanceError, match="ends_at_nul"):
        conformance.check(program(tmp_path, ECHO.format(reply="data"), ends_at_nul=True))


def test_cpu_of_children_counts(tmp_path: Path) -> None:
    with Server(program(tmp_path, SPINNING_CHILD), None) as server:
        processes = server.processes()
        assert len(processes) == 2
        before = server.cpu_seconds(processes)
        until = time.monotonic() + 20
        while server.cpu_seconds(processes) < before + 0.05 and time.monotonic() < until:
            time.sleep(0.01)
        assert server.cpu_seconds(processes) >= before + 0.05
    while time.monotonic() < until and any(map(running, processes)):
        time.sleep(0.01)
    assert not any(map(running, processes))


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"ended before it was ready .*no such luck"):
        Server(program(tmp_path, "raise SystemExit('no such luck')"), None)


def test_the_port_of_a_server_that_prints_nothing_is_found(tmp_path: Path) -> None:
    text = "\n".join(line for line in ECHO.format(reply="data").splitlines() if not line.startswith("print"))
    conformance.check(replace(program(tmp_path, text), silent=True))


def test_a_silent_server_that_ends_says_why(tmp_path: Path) -> None:
    ending = replace(program(tmp_path, "raise SystemExit('no such luck')"), silent=True)
    with pytest.raises(ServerError, match=r"ended before it was ready .*no such luck"):
        Server(ending, None)


@pytest.mark.parametrize(
    "missing",
    [
        Peer("mine", "mine", "c", ("no-such-command",), install="apt-get install mine"),
        Peer("mine", "mine", "python", (sys.executable,), module="no_such_module", install="apt-get install mine"),
    ],
    ids=["command", "module"],
)
def test_a_server_that_is_not_installed_is_reported_with_the_command_that_installs_it(missing: Peer) -> None:
    with pytest.raises(ServerError, match=r"^not installed: apt-get install mine$"):
        conformance.check(missing)


CONFORMING = [peer for peer in PEERS if peer.chart_only or peer.tls or peer.name == "fastecho"]


@pytest.mark.parametrize("peer", CONFORMING, ids=lambda peer: peer.name)
def test_a_server_of_the_chart_or_of_tls_conforms(peer: Peer) -> None:
    if reason := peer.missing():
        pytest.skip(reason)
    conformance.check(peer)


def test_a_program_that_is_not_built_says_so(tmp_path: Path) -> None:
    missing = Peer("mine", "mine", "c", (str(tmp_path / "absent"), "PORT"))
    with pytest.raises(ServerError, match="cannot start"):
        Server(missing, None)
