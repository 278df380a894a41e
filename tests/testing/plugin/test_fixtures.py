"""The fixtures, the marker and the settings, in a pytest inside the test."""

import pytest

PAIR = """
def test_one(fastecho_server):
    assert talk(fastecho_server) == b"hello"
    assert fastecho_server.connection_count == 1

def test_two(fastecho_server):
    assert fastecho_server.connections == ()
    assert talk(fastecho_server, b"binary \\0 and a NUL\\0") == b"binary \\0 and a NUL\\0"
"""


def test_each_test_has_a_server_of_its_own(inner):
    inner.passes(PAIR, passed=2)


def test_the_server_is_gone_after_the_test(inner):
    inner.passes(
        """
addresses = []

def test_one(fastecho_server, fastecho_server_factory):
    addresses.extend(each.address for each in (fastecho_server, fastecho_server_factory()))

def test_two():
    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 10)
""",
        passed=2,
    )


def test_the_factory_makes_as_many_as_one_asks_for(inner):
    inner.passes(
        """
def test_it(fastecho_server_factory):
    servers = [fastecho_server_factory(reply=bytes([index]) * 3) for index in range(3)]
    assert len({server.port for server in servers}) == 3
    for index, server in enumerate(servers):
        assert talk(server) == bytes([index]) * 3 + b"hello"
    assert len({server.seed for server in servers}) == 3
    with fastecho_server_factory(terminator=b"\\n") as early:
        assert talk(early, b"x\\n") == b"x\\n"
"""
    )


def test_the_session_server_is_one(inner):
    text = """
def test_{0}_one(fastecho_session_server):
    with fastecho_session_server.capture() as captured:
        captured.assert_no_connections()
        assert talk(fastecho_session_server, b"{0}") == b"{0}"
        captured.assert_connections(1)
        captured.assert_received(b"{0}")

def test_{0}_two(fastecho_session_server, request):
    seen = request.session.__dict__.setdefault("seen", [])
    seen.append(fastecho_session_server.address)
    assert len(set(seen)) == 1
"""
    inner.file("test_a.py", text.format("a"))
    inner.file("test_b.py", text.format("b"))
    inner.run().assert_outcomes(passed=4)


def test_the_fixture_of_certificates_is_for_the_whole_session(inner):
    inner.passes(
        """
import ssl

@pytest.mark.fastecho(tls="valid")
def test_it(fastecho_server, fastecho_tls):
    context = fastecho_tls.client_context()
    assert fastecho_tls.client_context() is context
    with socket.create_connection(fastecho_server.address, 10) as sock:
        with context.wrap_socket(sock, server_hostname=fastecho_server.host) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"

@pytest.mark.fastecho(tls="expired")
def test_expired(fastecho_server, fastecho_tls):
    with socket.create_connection(fastecho_server.address, 10) as sock:
        with pytest.raises(ssl.SSLCertVerificationError):
            fastecho_tls.client_context().wrap_socket(sock, server_hostname="localhost")
""",
        passed=2,
    )


MARKED = {
    "tcp": ("family='tcp'", "fastecho_server.host == '127.0.0.1'"),
    "tcp6": ("family='tcp6'", "fastecho_server.host == '::1'"),
    "dual": ("family='dual'", "fastecho_server.port"),
    "unix": ("family='unix'", "fastecho_server.url.startswith('unix:')"),
    "seed": ("seed=7", "fastecho_server.seed == 7"),
    "fault": ("faults=[Fault.corrupt(0, xor=1)]", "talk(fastecho_server, b'a') == b'`'"),
    "one fault": ("faults=Fault.corrupt(0, xor=1)", "talk(fastecho_server, b'a') == b'`'"),
    "fault as text": ("faults=['corrupt(0, xor=1)']", "talk(fastecho_server, b'a') == b'`'"),
    "reply": ("reply=b'welcome '", "talk(fastecho_server) == b'welcome hello'"),
    "option": ("terminator=b'.', match='anywhere'", "talk(fastecho_server, b'x.y') == b'x.'"),
    "time-out": ("timeout=3.5", "fastecho_server.timeout == 3.5"),
    "connections": ("expect_connections=1", "talk(fastecho_server)"),
}


@pytest.mark.parametrize(("arguments", "holds"), MARKED.values(), ids=MARKED)
def test_what_the_marker_says(inner, arguments, holds):
    inner.passes(
        f"""
@pytest.mark.fastecho({arguments})
def test_it(fastecho_server):
    assert {holds}
    assert "talk" in {holds!r} or talk(fastecho_server) == b"hello"
"""
    )


def test_the_marker_that_stands_closer_wins_and_the_others_add(inner):
    inner.passes(
        """
pytestmark = pytest.mark.fastecho(seed=1, timeout=1.5)

@pytest.mark.fastecho(seed=2, teardown_timeout=2.5)
class TestIt:
    @pytest.mark.fastecho(seed=3)
    def test_it(self, fastecho_server):
        server = fastecho_server
        assert (server.seed, server.timeout, server.teardown_timeout) == (3, 1.5, 2.5)

    def test_other(self, fastecho_server):
        assert fastecho_server.seed == 2
""",
        passed=2,
    )


def test_a_complete_configuration(inner):
    """It has its own seed, so there is none to give beside it."""
    inner.passes(
        """
from fastecho import ServerConfig

CONFIG = ServerConfig(port=0, terminator=b".", seed=9, fault="corrupt(0, xor=1)")

@pytest.mark.fastecho(config=CONFIG, timeout=2)
def test_it(fastecho_server, fastecho_server_factory):
    for server in (fastecho_server, fastecho_server_factory(CONFIG, timeout=2), fastecho_server_factory(config=CONFIG)):
        assert server.seed == 9
        assert talk(server, b"a.") == b"`."
    assert fastecho_server.timeout == 2
"""
    )


def test_a_marker_on_a_parameter(inner):
    inner.passes(
        """
@pytest.mark.parametrize("greeting", [pytest.param(b"hi", marks=pytest.mark.fastecho(reply=b"hi")), b""])
def test_it(fastecho_server, greeting):
    assert talk(fastecho_server, b".") == greeting + b"."
""",
        passed=2,
    )


def test_settings_of_the_ini_file(inner):
    inner.ini("fastecho_timeout = 1500ms", "fastecho_teardown_timeout = 0.5", "fastecho_record_limit = 4")
    inner.passes(
        """
def test_it(fastecho_server, fastecho_server_factory, fastecho_session_server):
    for server in (fastecho_server, fastecho_server_factory(), fastecho_session_server):
        assert (server.timeout, server.teardown_timeout) == (1.5, 0.5)
        talk(server)
        (session,) = server.connections
        assert (session.received, session.truncated, session.bytes_in) == (b"hell", True, 5)
"""
    )


def test_without_an_ini_file(inner):
    inner.passes(
        """
def test_it(fastecho_server):
    assert (fastecho_server.timeout, fastecho_server.teardown_timeout) == (5, 1)
    assert talk(fastecho_server, b"x" * 2_000_000) == b"x" * 2_000_000
    (session,) = fastecho_server.connections
    assert len(session.received) == 1 << 20
"""
    )


def test_what_pytest_lists(inner):
    inner.file()
    listed = inner.run("--fixtures").stdout.str()
    for name in ("fastecho_server", "fastecho_server_factory", "fastecho_session_server", "fastecho_tls"):
        assert f"\n{name} " in listed
        assert f"{name} [" in listed or f"{name} --" in listed
    assert "no docstring available" not in "".join(line for line in listed.splitlines() if "fastecho" in line)
    assert "@pytest.mark.fastecho(family, tls, faults," in inner.run("--markers").stdout.str()
    helped = inner.run("--help").stdout.str()
    for name in ("--fastecho-seed", "--fastecho-trace", "fastecho_timeout", "fastecho_leak"):
        assert name in helped
