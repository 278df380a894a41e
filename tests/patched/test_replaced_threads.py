"""Under gevent and eventlet, which replace threads by greenlets: a server that needs a real thread says so, at once."""

from __future__ import annotations

import pytest

PATCH = {
    "gevent": "from gevent import monkey; monkey.patch_all({})\n",
    "eventlet": "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch({})\n",
}
BODY = """
import asyncio, socket, sys
import fastecho
from fastecho.testing import async_echo_server, echo_server

def ask(address):
    with socket.create_connection(address, timeout=10) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"

async def start():
    async with async_echo_server() as server:
        pass

def started():
    with fastecho.serve(port=0) as server:
        ask(server.address)
    with echo_server(faults=["latency(0.01)"]) as server:
        ask(server.address)
        server.assert_all_closed()
"""
REFUSED = """
started = (lambda: fastecho.serve(port=0), echo_server().start, async_echo_server().start_blocking)
for start in started:
    try:
        start()
    except fastecho.FastechoError as error:
        assert len(str(error).splitlines()) == 1
        print(error)
"""


@pytest.mark.parametrize("library", PATCH)
def test_a_server_in_a_thread_is_refused_in_one_line_where_threads_are_greenlets(alone, library):
    lines = alone(PATCH[library].format("") + BODY + REFUSED).stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{library} has replaced threading, ") for line in lines)
    assert all("thread=False" in line for line in lines)


@pytest.mark.parametrize("library", PATCH)
def test_a_server_in_a_thread_serves_where_only_the_rest_is_replaced(alone, library, loop_name):
    """asyncio's own loop needs the real select, too."""
    kept = "thread=False" if loop_name == "uvloop" else "thread=False, select=False"
    alone(PATCH[library].format(kept) + BODY + "started()")


@pytest.mark.parametrize("library", PATCH)
def test_asyncio_without_select_is_refused_in_one_line(alone, library, loop_name):
    if loop_name == "uvloop":
        pytest.skip("uvloop needs no select")
    lines = alone(PATCH[library].format("thread=False") + BODY + REFUSED).stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{library} has replaced select, ") for line in lines)


def test_the_fixture_says_it_in_the_report(pytester):
    pytester.makeconftest("from gevent import monkey; monkey.patch_all()")
    pytester.makepyfile("def test(fastecho_server): pass")
    names = ("asyncio", "anyio", "trio", "socket", "randomly", "timeout")
    plugins = [each for name in names for each in ("-p", f"no:{name}")]
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *plugins)
    result.stdout.fnmatch_lines(["*gevent has replaced threading, and the server needs the real one*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert result.ret == 1
