"""The server's side of a run, next to processes and sockets with names in no encoding."""

import os
import subprocess
import sys

import pytest

from bench_servers import c_server, echo, serving
from fastecho.bench import LoadSpec
from fastecho.bench.measure import measure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_NAMED_OUTSIDE_UTF8 = "open('/proc/self/comm', 'wb').write(b'\\xff\\xfe'); print(flush=True); input()"


def measured(target):
    return measure(LoadSpec(target=target, duration=0.5, warmup=0, connections=2))


def test_a_process_whose_name_is_not_utf8_is_passed_over(tmp_path):
    with (
        subprocess.Popen(
            [sys.executable, "-c", _NAMED_OUTSIDE_UTF8], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
        c_server(tmp_path) as (target, pid),
    ):
        assert process.stdout is not None
        process.stdout.readline()
        result, server = measured(target)
        process.communicate(b"\n")
    assert result.ok
    assert server is not None
    assert server.pids == (pid,)


def test_a_unix_socket_whose_path_is_not_utf8_is_passed_over_and_can_be_found(tmp_path):
    odd = tmp_path / os.fsdecode(b"\xff")
    with serving(echo, unix=tmp_path / "plain") as plain, serving(echo, unix=odd) as other:
        for target in (plain, other):
            result, server = measured(target)
            assert result.ok
            assert server is not None
            assert server.pids == (os.getpid(),)


def test_a_server_is_found_by_an_address_that_is_not_of_the_loopback_network():
    with serving(echo) as target:
        result, server = measured(target.replace("127.0.0.1", "0.0.0.0"))
    assert result.ok
    assert server is not None
    assert server.pids == (os.getpid(),)


def test_a_process_that_has_ended_is_no_server():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    with serving(echo) as target:
        result, server = measure(LoadSpec(target=target, duration=0.5, warmup=0, connections=2), pids=(ended.pid,))
    assert result.ok
    assert server is None
