"""TLS over TCP and UNIX sockets. Clients are blocking `ssl` sockets in threads, and `openssl s_client`."""

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

import pytest
import trustme

import fastecho
from clients import connect_blocking, read_exactly, read_to_eof, reset_socket
from fastecho.errors import ConfigError, TLSError
from patience import DEADLINE, UNIT, until
from records import RecordClient

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


class Authority:
    """A CA, a server certificate and a client certificate, as files and as contexts."""

    def __init__(self, folder):
        self.ca = trustme.CA()
        self.server = self.ca.issue_cert("localhost", "127.0.0.1")
        self.client = self.ca.issue_cert("client@example.org")
        self.ca_file = str(folder / "ca.pem")
        self.cert_file = str(folder / "cert.pem")
        self.key_file = str(folder / "key.pem")
        self.both_file = str(folder / "both.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.server.cert_chain_pems[0].write_to_path(self.cert_file)
        self.server.private_key_pem.write_to_path(self.key_file)
        self.server.private_key_and_cert_chain_pem.write_to_path(self.both_file)
        self.options = {"tls_cert": self.cert_file, "tls_key": self.key_file}

    def context(self, certificate=None, version=None):
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if certificate is not None:
            certificate.configure_cert(context)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


def wrap(authority, address, **options):
    """A connected TLS socket; an EOF without close_notify is an error."""
    return authority.context(**options).wrap_socket(
        connect_blocking(address, DEADLINE), server_hostname="localhost", suppress_ragged_eofs=False
    )


def in_thread(function, *arguments):
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bytes_are_echoed_over_tls(run, pinned, authority, version):
    data = random.Random(6).randbytes(200_000)

    def talk(address):
        with wrap(authority, address, version=version) as sock:
            sock.sendall(b"hello")
            assert read_exactly(sock, 5) == b"hello"
            for at in range(0, len(data), 10_000):
                sock.sendall(data[at : at + 10_000])
                assert read_exactly(sock, len(data[at : at + 10_000])) == data[at : at + 10_000]
            return sock.version()

    async def body():
        options = {"terminator": None, "pin_buffers": pinned, **authority.options}
        async with fastecho.EchoServer(port=0, **options) as server:
            assert await in_thread(talk, server.address) == version.name.replace("_", ".")
            await until(lambda: server.stats.active == 0, "the session is closed")
            assert server.stats.bytes_out == len(data) + 5

    run(body())


def test_version_1_3_is_preferred(run, authority):
    def talk(address):
        with wrap(authority, address) as sock:
            return sock.version()

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            assert await in_thread(talk, server.address) == "TLSv1.3"

    run(body())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_version_1_1_is_refused(run, authority):
    def talk(address):
        context = authority.context(version=ssl.TLSVersion.TLSv1_1)
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        with connect_blocking(address) as sock, pytest.raises((ssl.SSLError, ConnectionResetError)):
            context.wrap_socket(sock, server_hostname="localhost")

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            await in_thread(talk, server.address)
            await in_thread(lambda: wrap(authority, server.address).close())

    run(body())


def test_a_key_in_the_certificate_file(run, authority):
    async def body():
        async with fastecho.EchoServer(port=0, tls_cert=authority.both_file) as server:
            await in_thread(lambda: wrap(authority, server.address).close())

    run(body())


@pytest.mark.parametrize("match", ["tail", "anywhere"])
def test_the_terminator_closes_with_close_notify(run, pinned, authority, match):
    """A truncated stream would raise in the client: ragged EOFs are not suppressed."""

    def talk(address):
        with wrap(authority, address) as sock:
            sock.sendall(b"hello\0")
            return read_to_eof(sock)

    async def body():
        options = {"match": match, "pin_buffers": pinned, **authority.options}
        async with fastecho.EchoServer(port=0, **options) as server:
            assert await in_thread(talk, server.address) == b"hello\0"
            await until(lambda: server.stats.active == 0, "the session is closed")
            assert server.stats.ends["terminator"] == 1

    run(body())


def test_a_megabyte_up_to_its_terminator_to_a_slow_reader(run, pinned, authority):
    """Hazard 27: limits become 128 KiB; the close must wait for the flush."""
    data = random.Random(7).randbytes(1 << 20).replace(b"\0", b"\1") + b"\0"

    def talk(address):
        with wrap(authority, address) as sock:
            got = bytearray()
            for at in range(0, len(data), 50_000):
                sock.sendall(data[at : at + 50_000])
                got += sock.recv(20_000)
            return got + read_to_eof(sock)

    async def body():
        options = {"match": "anywhere", "pin_buffers": pinned, **authority.options}
        async with fastecho.EchoServer(port=0, **options) as server:
            assert await in_thread(talk, server.address) == data
            await until(lambda: server.stats.active == 0, "the session is closed")
            assert server.stats.buffers_in_use == 0

    run(body(), limit=30 * UNIT)


def test_a_peer_that_never_reads(run, authority):
    """The transport of TLS copies, so what matters is that reading pauses and that it ends."""

    def fill(address):
        sock = wrap(authority, address)
        sock.settimeout(0.5)
        sent = 0
        try:
            while sent < 1 << 26:
                sent += sock.send(b"x" * 16384)
        except (TimeoutError, ssl.SSLWantWriteError):
            pass
        return sock, sent

    async def body():
        options = {"terminator": None, "write_timeout": 2 * UNIT, **authority.options}
        async with fastecho.EchoServer(port=0, **options) as server:
            sock, sent = await in_thread(fill, server.address)
            assert sent < 1 << 26
            assert server.stats.pauses >= 1
            await until(lambda: server.stats.ends["write_timeout"] == 1, "the write time-out")
            await until(lambda: server.stats.active == 0, "the session is gone")
            reset_socket(sock)

    run(body(), limit=30 * UNIT)


def test_reset_in_the_middle(run, authority):
    def talk(address):
        sock = wrap(authority, address)
        sock.sendall(b"x" * 100_000)
        reset_socket(sock)

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            for _ in range(5):
                await in_thread(talk, server.address)
            await until(lambda: server.stats.active == 0, "the sessions are gone")

    run(body())


def test_plain_text_is_no_handshake(run, authority, caplog):
    """Rubbish instead of a ClientHello: closed, no traceback, no warning."""

    def talk(address):
        with connect_blocking(address) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            try:
                return read_to_eof(sock)
            except ConnectionResetError:
                return b""

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            assert b"GET" not in await in_thread(talk, server.address)
            await in_thread(lambda: wrap(authority, server.address).close())
            await until(lambda: server.stats.active == 0, "the sessions are gone")

    run(body())
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.slow
def test_a_silent_client_is_dropped_after_the_handshake_limit(run, authority):
    """5 s, not the 60 s of the loops."""

    def talk(address):
        with connect_blocking(address, 9 * UNIT) as sock:
            try:
                return sock.recv(1)
            except ConnectionResetError:
                return b""

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            assert await in_thread(talk, server.address) == b""

    run(body(), limit=12 * UNIT)


@pytest.mark.slow
def test_a_client_that_ignores_close_notify_is_dropped(run, authority):
    """Shutdown limit 2 s, not the 30 s of the loops."""

    def talk(address):
        sock = wrap(authority, address)
        sock.sendall(b"bye\0")
        return sock

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            sock = await in_thread(talk, server.address)
            await until(lambda: server.stats.active == 0, "closed without the peer's answer", 6)
            sock.close()

    run(body())


def test_records_of_a_byte_do_not_hold_up_the_loop(run, loop_name, pinned, authority):
    """Each takes as long as a long one. uvloop took 2 MiB of them in one turn of the loop."""
    if loop_name == "asyncio" and sys.version_info < (3, 11):
        pytest.skip("asyncio of Python 3.10 decrypts all that has arrived before it asks the session for a buffer")
    count = 80_000

    def talk(address):
        with connect_blocking(address, DEADLINE) as sock:
            client = RecordClient(sock, authority.context())
            assert client.exchange([b"x"]) == b"x"
            assert client.exchange([b"y"] * count) == b"y" * count

    async def body():
        options = {"terminator": None, "pin_buffers": pinned, **authority.options}
        async with fastecho.EchoServer(port=0, **options) as server:
            talking = in_thread(talk, server.address)
            seen = [0]
            while not talking.done():
                await asyncio.sleep(0)
                seen.append(server.stats.bytes_in)
            await talking
            steps = [after - before for before, after in itertools.pairwise(seen)]
            assert server.stats.bytes_in == count + 1
            assert max(steps) <= 16384
            assert server.stats.yields > 0

    run(body(), limit=30 * UNIT)


def test_a_record_is_read_whole_after_thousands_that_took_long(run, pinned, authority):
    """Reads end between records: a cut within one could end the session at a NUL in the middle of a message."""
    blocks = [random.Random(8).randbytes(16384)] * 64

    def connect(address):
        return RecordClient(connect_blocking(address, DEADLINE), authority.context())

    def talk(client):
        assert all(client.exchange([block]) == block for block in blocks)

    async def body():
        options = {"terminator": None, "pin_buffers": pinned, **authority.options}
        async with fastecho.EchoServer(port=0, **options) as server:
            client = await in_thread(connect, server.address)
            with client.sock:
                await in_thread(client.exchange, [b"x"] * 4000)
                before = server.stats.reads
                await in_thread(talk, client)
                assert server.stats.reads - before == len(blocks)

    run(body(), limit=30 * UNIT)


def test_little_is_taken_from_a_client_after_close_notify(run, authority):
    """The loop decrypts what it discards, and uvloop took 2 MiB of it in one turn."""

    def talk(address, loop):
        held_up, go_on = threading.Event(), threading.Event()
        with connect_blocking(address, DEADLINE) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
            client = RecordClient(sock, authority.context())
            for _ in range(200):  # the server's receive buffer grows
                client.exchange([b"x" * 16384] * 8)
            assert client.exchange([b"\0"]) == b"\0"
            client.read_close_notify()
            loop.call_soon_threadsafe(lambda: held_up.set() or go_on.wait(DEADLINE))
            assert held_up.wait(DEADLINE)
            try:
                sock.settimeout(0.5)
                sent, more = 0, client.records([b"y" * 16384] * 128)
                with contextlib.suppress(TimeoutError):
                    while sent < len(more):
                        sent += sock.send(more[sent : sent + 16384])
                return sent
            finally:
                go_on.set()

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            sent = await in_thread(talk, server.address, asyncio.get_running_loop())
            assert sent <= 256 << 10

    run(body(), limit=30 * UNIT)


def test_a_drain_echoes_what_was_received_over_tls(run, authority):
    """FIN is close_notify here."""

    def talk(sock):
        sock.sendall(b"x")
        assert read_exactly(sock, 1) == b"x"

    async def body():
        server = fastecho.EchoServer(port=0, drain_grace=0.1, **authority.options)
        await server.start()
        sock = await in_thread(wrap, authority, server.address)
        await in_thread(talk, sock)
        closing = asyncio.ensure_future(server.close())
        assert await in_thread(read_to_eof, sock) == b""
        sock.close()
        await closing
        assert server.stats.ends["drain"] == 1

    run(body())


def test_clients_without_an_accepted_certificate_are_refused(run, authority):
    def talk(address, certificate):
        with wrap(authority, address, certificate=certificate) as sock:
            sock.sendall(b"x")
            return sock.recv(1)

    async def body():
        stranger = trustme.CA().issue_cert("stranger@example.org")
        options = {**authority.options, "tls_client_ca": authority.ca_file}
        async with fastecho.EchoServer(port=0, **options) as server:
            assert await in_thread(talk, server.address, authority.client) == b"x"
            for bad in (None, stranger):
                with pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
                    await in_thread(talk, server.address, bad)
            assert await in_thread(talk, server.address, authority.client) == b"x"

    run(body())


def test_over_a_unix_socket(run, authority):
    folder = tempfile.mkdtemp(prefix="fe")
    path = os.path.join(folder, "echo.sock")

    def talk():
        with wrap(authority, path) as sock:
            sock.sendall(b"hello\0")
            return read_to_eof(sock)

    async def body():
        async with fastecho.EchoServer(unix=path, **authority.options):
            assert await in_thread(talk) == b"hello\0"

    try:
        run(body())
    finally:
        shutil.rmtree(folder)


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client(run, authority, version):
    def talk(address):
        command = ["openssl", "s_client", "-quiet", "-verify_return_error", version]
        command += ["-connect", f"{address[0]}:{address[1]}", "-CAfile", authority.ca_file]
        return subprocess.run(command, input=b"hello\0", capture_output=True, timeout=DEADLINE)

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            done = await in_thread(talk, server.address)
            assert done.stdout == b"hello\0"

    run(body())


def test_bad_files_are_one_clear_error(run, authority, tmp_path):
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    other = tmp_path / "other.pem"
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(other))

    async def start(**options):
        await fastecho.EchoServer(port=0, **options).start()

    for options in (
        {"tls_cert": str(tmp_path / "missing.pem")},
        {"tls_cert": str(rubbish)},
        {"tls_cert": authority.cert_file},
        {"tls_cert": authority.cert_file, "tls_key": str(other)},
        {**authority.options, "tls_client_ca": str(rubbish)},
    ):
        with pytest.raises(TLSError) as caught:
            run(start(**options))
        assert "\n" not in str(caught.value)
        assert any(str(value) in str(caught.value) for value in options.values())


def test_options_that_need_each_other(authority):
    for options in ({"tls_key": authority.key_file}, {"tls_client_ca": authority.ca_file}):
        with pytest.raises(ConfigError):
            fastecho.ServerConfig(**options)


def test_a_failing_handshake_does_not_stop_the_listener(run, authority):
    def knock(address):
        for number in range(20):
            sock = connect_blocking(address)
            if number % 2:
                sock.sendall(b"\x16\x03\x01\x00\x05hello")
            reset_socket(sock) if number % 3 else sock.close()

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            await in_thread(knock, server.address)
            await in_thread(lambda: wrap(authority, server.address).close())
            await until(lambda: server.stats.active == 0, "the sessions are gone")

    run(body())


def test_an_address_needs_no_tls_to_be_reported(run, authority):
    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            assert isinstance(server.address[1], int)
            with socket.create_connection(server.address):
                pass

    run(body())


def test_connections_in_their_handshake_count_for_the_limit(run, authority):
    """They hold descriptors: further clients wait in the backlog, not in a handshake."""

    async def body():
        async with fastecho.EchoServer(port=0, max_connections=2, tls_cert=authority.both_file) as server:
            silent = [connect_blocking(server.address) for _ in range(10)]
            await until(lambda: server.stats.pending, "a handshake")
            await until(lambda: not server.is_accepting, "the pause")
            assert server.stats.pending + server.stats.active == 2
            for sock in silent:
                sock.close()
            await until(lambda: not server.stats.pending, "the end of all handshakes")

    run(body())


def test_a_handshake_under_way_outlives_the_stop(run, authority):
    async def body():
        server = fastecho.EchoServer(port=0, tls_cert=authority.both_file)
        await server.start()
        sock = connect_blocking(server.address)
        await until(lambda: server.stats.pending, "the accept")
        closing = asyncio.ensure_future(server.close())
        await until(lambda: not server.is_accepting, "the end of accepting")

        def talk():
            with authority.context().wrap_socket(sock, server_hostname="localhost") as client:
                client.sendall(b"hi\0")
                return read_exactly(client, 3)

        assert await asyncio.get_running_loop().run_in_executor(None, talk) == b"hi\0"
        await closing

    run(body())



def s_client(authority, address, *options):
    """Exit code and output of `openssl s_client` with one echo; it reports the handshake and each ticket."""
    command = ["openssl", "s_client", "-ign_eof", "-connect", f"{address[0]}:{address[1]}"]
    command += ["-CAfile", authority.ca_file, *options]
    done = subprocess.run(command, input=b"hello\0", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE)
    return done.returncode, done.stdout.decode(errors="replace")


@pytest.mark.parametrize(
    ("offered", "selected"),
    [(["echo"], "echo"), (["h2", "echo"], "echo"), (["h2", "http/1.1"], None), ([], None)],
    ids=str,
)
def test_alpn_selects_echo_and_refuses_no_client(run, authority, offered, selected):
    def talk(address):
        context = authority.context()
        if offered:
            context.set_alpn_protocols(offered)
        with context.wrap_socket(connect_blocking(address, DEADLINE), server_hostname="localhost") as sock:
            sock.sendall(b"hello")
            assert read_exactly(sock, 5) == b"hello"
            return sock.selected_alpn_protocol()

    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            assert await in_thread(talk, server.address) == selected

    run(body())


@needs_openssl
@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["-alpn", "h2,echo"], "ALPN protocol: echo"),
        (["-alpn", "h2"], "No ALPN negotiated"),
        ([], "No ALPN negotiated"),
    ],
    ids=str,
)
def test_openssl_s_client_sees_the_alpn_protocol(run, authority, options, line):
    async def body():
        async with fastecho.EchoServer(port=0, **authority.options) as server:
            code, output = await in_thread(s_client, authority, server.address, *options)
            assert code == 0
            assert line in output.splitlines()
            assert "hello" in output

    run(body())


@pytest.mark.parametrize("oldest", ["1.2", "1.3"])
def test_the_oldest_version_that_is_served(run, authority, oldest):
    def talk(address, version):
        with wrap(authority, address, version=version) as sock:
            sock.sendall(b"x")
            return sock.recv(1)

    async def body():
        async with fastecho.EchoServer(port=0, tls_min_version=oldest, **authority.options) as server:
            assert await in_thread(talk, server.address, ssl.TLSVersion.TLSv1_3) == b"x"
            if oldest == "1.2":
                assert await in_thread(talk, server.address, ssl.TLSVersion.TLSv1_2) == b"x"
            else:
                with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
                    await in_thread(talk, server.address, ssl.TLSVersion.TLSv1_2)

    run(body())


@needs_openssl
def test_openssl_s_client_is_refused_by_its_version(run, authority):
    async def body():
        async with fastecho.EchoServer(port=0, tls_min_version="1.3", **authority.options) as server:
            code, output = await in_thread(s_client, authority, server.address, "-tls1_2")
            assert code != 0
            assert "alert protocol version" in output
            code, output = await in_thread(s_client, authority, server.address, "-tls1_3")
            assert code == 0
            assert "hello" in output

    run(body())


@pytest.mark.parametrize("tickets", [2, 1, 0])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_with_a_ticket(run, authority, version, tickets):
    def talk(address):
        context, session = authority.context(version=version), None
        resumed = []
        for _ in range(4):
            raw = connect_blocking(address, DEADLINE)
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
                sock.sendall(b"hello")
                assert read_exactly(sock, 5) == b"hello"
                assert sock.session.has_ticket == (tickets > 0)
                resumed.append(sock.session_reused)
                session = sock.session
        return resumed

    async def body():
        async with fastecho.EchoServer(port=0, tls_tickets=tickets, **authority.options) as server:
            resumed = await in_thread(talk, server.address)
            # Without tickets OpenSSL may resume TLS 1.2 by the id of the session, in the process that has it.
            if tickets or version is ssl.TLSVersion.TLSv1_3:
                assert resumed == [False, *[tickets > 0] * 3]

    run(body())


@needs_openssl
@pytest.mark.parametrize("tickets", [0, 1, 2, 5])
def test_openssl_s_client_gets_as_many_tickets_as_asked(run, authority, tickets):
    async def body():
        async with fastecho.EchoServer(port=0, tls_tickets=tickets, **authority.options) as server:
            code, output = await in_thread(s_client, authority, server.address, "-tls1_3")
            assert code == 0
            assert output.count("New Session Ticket arrived") == tickets
            code, output = await in_thread(s_client, authority, server.address, "-tls1_2")
            assert code == 0
            assert ("TLS session ticket:" in output) == (tickets > 0)

    run(body())


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_s_client_resumes_its_session(run, authority, version, tmp_path):
    file = str(tmp_path / "session.pem")

    async def body():
        # With a client certificate that the first handshake showed.
        authority.client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        options = [version, "-cert", str(tmp_path / "client.pem")]
        async with fastecho.EchoServer(port=0, tls_client_ca=authority.ca_file, **authority.options) as server:
            code, output = await in_thread(s_client, authority, server.address, *options, "-sess_out", file)
            assert (code, "New, TLSv" in output) == (0, True)
            code, output = await in_thread(s_client, authority, server.address, *options, "-sess_in", file)
            assert (code, "Reused, TLSv" in output) == (0, True)
            assert "hello" in output

    run(body())
