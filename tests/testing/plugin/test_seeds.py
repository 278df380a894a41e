"""The same seed and node id give the same faults, in any order and at any time."""

import json

import pytest

TESTS = """
import json, os, pathlib

FAULTS = [Fault.corrupt(0, xor=1).chance(0.3), Fault.latency(0.001, 0.001).chance(0.5)]

@pytest.mark.parametrize("number", range(6))
@pytest.mark.fastecho(faults=FAULTS, must_fire=False)
def test_it(fastecho_server, number, request):
    for _ in range(30):
        talk(fastecho_server, b"x")
    log = pathlib.Path(os.environ["LOGS"]) / f"{number}.json"
    log.write_text(json.dumps([fastecho_server.seed, fastecho_server.fault_log]))
"""
SHUFFLED = """
import random

def pytest_collection_modifyitems(items):
    random.Random(3).shuffle(items)
"""


@pytest.fixture
def logs(inner, monkeypatch):
    """Run the tests, and give the log of each."""

    def run(*args, **options):
        folder = inner.pytester.mkdir(f"logs-{len(list(inner.pytester.path.iterdir()))}")
        monkeypatch.setenv("LOGS", str(folder))
        result = inner.run(*args, **options)
        assert result.ret == 0, result.stdout.str()
        return {path.name: json.loads(path.read_text()) for path in folder.iterdir()}

    inner.file(text=TESTS)
    return run


def test_again(logs):
    first = logs()
    assert len(first) == 6
    assert len({seed for seed, _ in first.values()}) == 6
    assert all(log for _, log in first.values())
    assert logs() == first


def test_another_base_seed(logs, inner):
    first = logs()
    given = logs("--fastecho-seed=1")
    assert {name: seed for name, (seed, _) in first.items()}.items().isdisjoint((n, s) for n, (s, _) in given.items())
    assert {tuple(log) for _, log in first.values()}.isdisjoint(tuple(log) for _, log in given.values())
    inner.ini("fastecho_seed = 1")
    assert logs() == given
    assert logs("--fastecho-seed=0") == first


def test_alone(logs):
    first = logs()
    assert logs("-k", "4 or 2") == {name: first[name] for name in ("2.json", "4.json")}


def test_in_another_order(logs, inner):
    first = logs()
    inner.pytester.makeconftest(SHUFFLED)
    assert logs("-v") == first


@pytest.mark.parametrize("args", [["-n", "2"], ["-n", "2", "--dist", "loadgroup"]])
def test_on_workers(logs, args):
    assert logs(*args, plugins=["xdist.plugin"], apart=True) == logs()


def test_in_a_group_of_workers(logs, inner):
    """xdist adds the group to the node id, in the workers only."""
    inner.file(text=TESTS.replace("@pytest.mark.fastecho", "@pytest.mark.xdist_group('one')\n@pytest.mark.fastecho"))
    options = {"plugins": ["xdist.plugin"], "apart": True}
    assert logs("-n", "2", "--dist", "loadgroup", **options) == logs("-n", "0", **options)


def test_from_another_folder(logs, inner, monkeypatch):
    first = logs()
    monkeypatch.chdir(inner.pytester.mkdir("elsewhere"))
    assert logs("..", f"--rootdir={inner.pytester.path}", "-c", "../pytest.ini") == first
