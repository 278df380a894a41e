"""Beside other plugins, one row each: fixtures, marker and report do as they do alone."""

import pytest

# In each file: one test passes, one breaks the marker's promise, one fails and shows its events.
ASYNCIO = """
import asyncio

async def talk_async(server):
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"async hello")
    assert await reader.readexactly(11) == b"async hello"
    writer.close()
    await writer.wait_closed()

{mark}
@pytest.mark.fastecho(expect_connections=1)
async def test_passes(fastecho_server, fastecho_session_server):
    await talk_async(fastecho_server)
    with fastecho_session_server.capture() as captured:
        await talk_async(fastecho_session_server)
        await asyncio.to_thread(captured.wait_closed)

{mark}
@pytest.mark.fastecho(faults=[Fault.reset(after_sent=12)])
async def test_promise(fastecho_server):
    await talk_async(fastecho_server)

{mark}
async def test_fails(fastecho_server):
    await talk_async(fastecho_server)
    assert False

{mark}
async def test_awaited():
    from fastecho.testing import async_echo_server

    async with async_echo_server() as server:
        await talk_async(server)
        await server.wait_connections(1)
        await server.assert_all_closed()
"""


def three_outcomes(result, passed=2):
    result.assert_outcomes(passed=passed, failed=2)
    result.stdout.fnmatch_lines(["*reset(after_sent=12)*"])
    result.stdout.fnmatch_lines(["*b'async hello'*", "replay: pytest *test_fails* --fastecho-seed=0"])


def test_pytest_asyncio_strict(inner):
    inner.ini("asyncio_mode = strict", warnings="default")  # some versions warn of a scope that is not set
    inner.file(text=ASYNCIO.format(mark="@pytest.mark.asyncio"))
    three_outcomes(inner.run(plugins=["pytest_asyncio.plugin"], apart=True))


def test_pytest_asyncio_auto(inner):
    inner.ini("asyncio_mode = auto", warnings="default")  # some versions warn of a scope that is not set
    inner.file(text=ASYNCIO.format(mark=""))
    three_outcomes(inner.run(plugins=["pytest_asyncio.plugin"], apart=True))


def test_the_fixtures_work_with_anyio(inner):
    text = """
import anyio

pytestmark = pytest.mark.anyio

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param

async def talk_async(server):
    async with await anyio.connect_tcp(*server.address) as stream:
        await stream.send(b"async hello")
        assert await stream.receive() == b"async hello"

@pytest.mark.fastecho(expect_connections=1)
async def test_passes(fastecho_server):
    await talk_async(fastecho_server)

@pytest.mark.fastecho(faults=[Fault.reset(after_sent=12)])
async def test_promise(fastecho_server):
    await talk_async(fastecho_server)

async def test_fails(fastecho_server):
    await talk_async(fastecho_server)
    assert False
"""
    inner.file(text=text)
    result = inner.run(plugins=["anyio.pytest_plugin"], apart=True)
    result.assert_outcomes(passed=2, failed=4)
    result.stdout.fnmatch_lines(["*reset(after_sent=12)*"])
    result.stdout.fnmatch_lines(["*b'async hello'*", "replay: pytest 'test_it.py::test_fails?asyncio*"])
    result.stdout.fnmatch_lines(["*b'async hello'*", "replay: pytest 'test_it.py::test_fails?trio*"])


TRIO = """
import trio

async def talk_async(server):
    async with await trio.open_tcp_stream(*server.address) as stream:
        await stream.send_all(b"async hello")
        assert await stream.receive_some() == b"async hello"

{mark}
@pytest.mark.fastecho(expect_connections=1)
async def test_passes(fastecho_server, fastecho_session_server):
    await talk_async(fastecho_server)
    with fastecho_session_server.capture() as captured:
        await talk_async(fastecho_session_server)
        await trio.to_thread.run_sync(captured.wait_closed)

{mark}
@pytest.mark.fastecho(faults=[Fault.reset(after_sent=12)])
async def test_promise(fastecho_server):
    await talk_async(fastecho_server)

{mark}
async def test_fails(fastecho_server):
    await talk_async(fastecho_server)
    assert False
"""


@pytest.mark.parametrize("mode", ["marked", "trio_mode"])
def test_the_fixtures_work_with_pytest_trio(inner, mode):
    if mode == "trio_mode":
        inner.ini("trio_mode = true")
    inner.file(text=TRIO.format(mark="@pytest.mark.trio" if mode == "marked" else ""))
    three_outcomes(inner.run(plugins=["pytest_trio.plugin"], apart=True), passed=1)


XDIST = """
@pytest.mark.parametrize("number", range(8))
@pytest.mark.fastecho(expect_connections=1)
def test_passes(fastecho_server, fastecho_session_server, number):
    assert talk(fastecho_server) == b"hello"
    with fastecho_session_server.capture() as captured:
        assert talk(fastecho_session_server) == b"hello"
        captured.assert_connections(1)

@pytest.mark.fastecho(faults=[Fault.reset(after_sent=12)])
def test_promise(fastecho_server):
    talk(fastecho_server)

def test_fails(fastecho_server):
    talk(fastecho_server, b"async hello")
    assert False
"""


@pytest.mark.parametrize("dist", ["load", "loadgroup", "worksteal"])
def test_the_fixtures_work_with_xdist(inner, dist):
    inner.file(text=XDIST)
    three_outcomes(inner.run("-n", "2", "--dist", dist, plugins=["xdist.plugin"], apart=True), passed=8)


def test_a_leak_on_a_worker_is_a_warning_of_the_run(inner):
    inner.ini(warnings="default")
    inner.file(
        text="""
kept = []
def test_it(fastecho_server):
    kept.append(socket.create_connection(fastecho_server.address))
"""
    )
    result = inner.run("-n", "1", plugins=["xdist.plugin"], apart=True)
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(["*LeakWarning*"])


UNITTEST = """
import unittest

class Base:
    @pytest.fixture(autouse=True)
    def _server(self, fastecho_server):
        self.server = fastecho_server

class TestIt(Base, unittest.TestCase):
    @pytest.mark.fastecho(expect_connections=1)
    def test_passes(self):
        self.assertEqual(talk(self.server), b"hello")

    @pytest.mark.fastecho(faults=[Fault.reset(after_sent=12)])
    def test_promise(self):
        talk(self.server)

    def test_fails(self):
        talk(self.server, b"async hello")
        self.fail("own")

class TestAsync(Base, unittest.IsolatedAsyncioTestCase):
    @pytest.mark.fastecho(expect_connections=1)
    async def test_passes(self):
        import asyncio

        reader, writer = await asyncio.open_connection(*self.server.address)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
        await writer.wait_closed()

@pytest.mark.usefixtures("fastecho_server")
@pytest.mark.fastecho(expect_connections=0)
class TestUsed(unittest.TestCase):
    def test_passes(self):
        pass

    def test_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                pass
"""


def test_the_fixtures_work_in_a_unittest_test_case(inner):
    inner.file(text=UNITTEST)
    result = inner.run()
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (4, 2)
    result.stdout.fnmatch_lines(["*reset(after_sent=12)*"])
    result.stdout.fnmatch_lines(["*b'async hello'*", "replay: pytest *test_fails* --fastecho-seed=0"])


@pytest.mark.parametrize(
    "args",
    [["--disable-socket", "--allow-hosts=127.0.0.1,::1"], ["--allow-hosts=127.0.0.1,::1"], ["--allow-hosts=localhost"]],
)
def test_pytest_socket_that_allows_localhost(inner, args):
    inner.ini(warnings="default")  # it warns of what it blocks
    inner.file(
        text=XDIST
        + """
def test_others_are_blocked():
    import pytest_socket

    with pytest.raises(pytest_socket.SocketConnectBlockedError):
        socket.create_connection(("192.0.2.1", 80), 1)
"""
    )
    three_outcomes(inner.run(*args, plugins=["pytest_socket"], apart=True), passed=9)


def test_as_it_is_installed(inner, monkeypatch):
    """Loaded by the entry point, beside the other installed plugins."""
    inner.ini(warnings="default")  # some warn of options that are not set
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    inner.file(text=XDIST)
    three_outcomes(inner.pytester.runpytest_subprocess("-p", "no:cacheprovider"), passed=8)


NOT_TRIO = """
{mark}
async def test_trio(fastecho_async_server):
    raise AssertionError("it was run")
"""
SAID = "fastecho_async_server is for asyncio, not trio: use fastecho_server"


@pytest.mark.parametrize("mode", ["strict", "trio_mode"])
def test_the_fixture_for_asyncio_refuses_pytest_trio_in_one_line(inner, mode):
    inner.ini("trio_mode = true" if mode == "trio_mode" else "", warnings="default")
    inner.file(text=NOT_TRIO.format(mark="" if mode == "trio_mode" else "@pytest.mark.trio"))
    result = inner.run(plugins=["pytest_trio.plugin"], apart=True)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([SAID])


@pytest.mark.parametrize("backend", ["'trio'", "('trio', {})"])
def test_the_fixture_for_asyncio_refuses_anyio_on_trio_in_one_line(inner, backend):
    inner.file(
        text=NOT_TRIO.format(mark="@pytest.mark.anyio")
        + f"""
@pytest.fixture(params=[{backend}, "asyncio"])
def anyio_backend(request):
    return request.param

@pytest.mark.anyio
async def test_both(fastecho_async_server):
    await fastecho_async_server.assert_connections(0)
"""
    )
    result = inner.run("-k", "test_both", plugins=["anyio.pytest_plugin"], apart=True)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([SAID])


@pytest.mark.parametrize("how", ["start", "with"])
def test_a_server_for_asyncio_in_a_trio_test_names_the_other(how):
    import trio

    from fastecho.testing import async_echo_server

    async def body():
        server = async_echo_server()
        said = "async_echo_server is for asyncio, and none runs here: use echo_server"
        with pytest.raises(RuntimeError, match=said):  # noqa: PT012
            if how == "start":
                await server.start()
            else:
                async with server:
                    pass

    trio.run(body)


def test_without_the_plugin_the_servers_go_on(inner, monkeypatch):
    """`-p no:fastecho`: no fixture and no marker of ours, and echo_server works as ever."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    inner.ini(warnings="default")
    inner.file(
        text="""
from fastecho.testing import echo_server

def test_it():
    with echo_server() as server:
        assert talk(server) == b"hello"

def test_fixture(fastecho_server):
    pass
"""
    )
    result = inner.pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:fastecho")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*fixture 'fastecho_server' not found*"])
