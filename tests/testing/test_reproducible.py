"""The same seed and node id give the same faults, in any order, on a machine of any load."""

from __future__ import annotations

import json

import pytest
from proof.flakiness import competing

TESTS = 100
SUITE = f"""
import json, os, pathlib, socket
import pytest
from fastecho.testing import Fault

FAULTS = [
    Fault.reset(after_sent=3).chance(0.3),
    Fault.corrupt(1).chance(0.5),
    Fault.latency(0.0005, jitter=0.0005).chance(0.5),
    Fault.slice([1, 2]).every(2).chance(0.7),
]

@pytest.mark.parametrize("number", range({TESTS}))
@pytest.mark.fastecho(faults=FAULTS, must_fire=False)
def test_it(fastecho_server, request, number):
    for _ in range(8):
        with socket.create_connection(fastecho_server.address) as client:
            client.sendall(b"hello")
            try:
                client.shutdown(socket.SHUT_WR)
                while client.recv(5):
                    pass
            except OSError:     # reset, by then or before
                pass
    fastecho_server.wait_closed()
    logs = pathlib.Path(os.environ["LOGS"])
    (logs / f"{{number}}.json").write_text(json.dumps([fastecho_server.seed, *fastecho_server.fault_log]))
"""
SHUFFLE = """
import os, random

def pytest_collection_modifyitems(items):
    if "ORDER" in os.environ:
        random.Random(os.environ["ORDER"]).shuffle(items)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_same_fault_log_100_of_100(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(test_it=SUITE)
    pytester.makeconftest(SHUFFLE)

    def logs(name: str, *options: str) -> dict[int, list[str]]:
        folder = pytester.mkdir(name)
        monkeypatch.setenv("LOGS", str(folder))
        given = ["-p", "fastecho.testing.plugin", "-p", "no:cacheprovider", *options]
        pytester.runpytest_subprocess(*given).assert_outcomes(passed=TESTS)
        return {int(path.stem): json.loads(path.read_text()) for path in folder.iterdir()}

    alone = logs("alone")
    monkeypatch.setenv("ORDER", "5")
    with competing(3):
        crowd = logs("crowd", "-p", "xdist", "-n", "4")
    assert sum(alone[number] == crowd[number] for number in range(TESTS)) == TESTS
    assert len({tuple(log) for log in alone.values()}) == TESTS, "each test draws its own"
    other = logs("other", "--fastecho-seed", "1")
    assert sum(alone[number][1:] == other[number][1:] for number in range(TESTS)) < TESTS / 10
