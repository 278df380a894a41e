"""Under pyfakefs, which replaces `os`, `io`, `pathlib`, `shutil` and `fcntl`, servers find their files and descriptors.

Each test is the first of its process that uses a server: what was loaded or made before would hide what is missing.
"""

from __future__ import annotations

import socket
import textwrap

import pytest

from fastecho.testing import Session, echo_server
from patience import DEADLINE

HEAD = """
import socket
import pytest
import fastecho
from fastecho.testing import certificates, echo_server

def ask(address, data=b"hello", context=None):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(10)
        sock.connect(address)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(data)
        got = b""
        while len(got) < len(data) and (part := sock.recv(65536)):
            got += part
        sock.close()
        assert got == data
"""
TESTS = {
    "the fixture": """
        def test(fs, fastecho_server):
            ask(fastecho_server.address)
            fastecho_server.assert_all_closed()
            fastecho_server.assert_received(b"hello")
    """,
    "a server in a block": """
        def test(fs):
            with echo_server() as server:
                ask(server.address, bytes(1 << 20))
                server.wait_idle()
                server.assert_all_closed()
    """,
    "the fixture over TLS": """
        def test(fs, fastecho_server_factory, fastecho_tls):
            server = fastecho_server_factory(tls=True)
            ask(server.address, context=fastecho_tls.client_context())
            server.assert_all_closed()
    """,
    "every certificate": """
        @pytest.mark.parametrize("kind", ["valid", "expired", "wrong_host", "self_signed", "client"])
        def test(fs, kind):
            with echo_server(tls=kind, faults=["latency(0)"]) as server:
                if kind in ("valid", "client"):
                    ask(server.address, context=certificates().client_context(with_certificate=kind == "client"))
    """,
    "every kind of fault": """
        @pytest.mark.parametrize("fault", ["latency(0.01)", "reset(after_sent=9)", "close(after_sent=9)",
                                           "bandwidth(1e6)",
                                           "stall(after_received=9)",
                                           "stop_reading(after_received=9)", "slow_accept(0.01)",
                                           "slice(1)"])
        def test(fs, fault):
            with echo_server(faults=[fault]) as server:
                ask(server.address)
                server.wait_closed()
    """,
    "a UNIX socket": """
        def test(fs):
            with echo_server(family="unix") as server:
                ask(server.address)
                with server.down():
                    with pytest.raises(ConnectionRefusedError):
                        ask(server.address)
                ask(server.address)
    """,
    "down and up": """
        def test(fs):
            with echo_server() as server:
                with server.down(), pytest.raises(ConnectionRefusedError):
                    ask(server.address)
                ask(server.address)
    """,
    "serve()": """
        def test(fs):
            with fastecho.serve(port=0, terminator=None) as server:
                ask(server.address)
    """,
    "a test after it": """
        def test_first(fs, fastecho_server_factory, fastecho_tls):
            ask(fastecho_server_factory(tls=True).address, context=fastecho_tls.client_context())

        def test_second(fastecho_server_factory, fastecho_tls):
            ask(fastecho_server_factory(tls=True).address, context=fastecho_tls.client_context())
            with open(fastecho_tls.self_signed.cert_path) as file:
                assert "CERTIFICATE" in file.read()
    """,
}


@pytest.mark.parametrize("text", TESTS.values(), ids=TESTS)
def test_a_server_works_where_the_file_system_is_replaced(pytester, loop_name, text):
    pytester.makeini("[pytest]\nfilterwarnings = error")
    block = "import sys; sys.modules['uvloop'] = None\n" if loop_name == "asyncio" else ""
    pytester.makeconftest(block)
    pytester.makepyfile(HEAD + textwrap.dedent(text))
    plugins = [each for name in ("asyncio", "anyio", "trio", "socket", "randomly") for each in ("-p", f"no:{name}")]
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *plugins)
    assert result.ret == 0, result.stdout.str()


def test_an_error_of_the_server_at_the_accept_fails_the_test(monkeypatch):
    def fail(self, *arguments):
        raise ZeroDivisionError("inside")

    server = echo_server().start()
    with monkeypatch.context() as patched:
        patched.setattr(Session, "__init__", fail)
        with socket.create_connection(server.address) as sock:
            sock.settimeout(DEADLINE)
            assert sock.recv(1) == b"", "its connection ends"
    with pytest.raises(ZeroDivisionError, match="inside"):
        server.wait_closed()
    server.check_failures()  # the test has seen it
    server.stop()
