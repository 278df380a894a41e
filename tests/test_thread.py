"""serve(): a server in a separate thread, beside any code."""

import asyncio
import contextlib
import errno
import gc
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import fastecho
from clients import connect_blocking, read_exactly, read_to_eof
from fastecho.errors import AddressInUseError, ConfigError, TLSError
from patience import wait_until


def ask(address, data):
    with connect_blocking(address) as sock:
        sock.sendall(data)
        return read_exactly(sock, len(data))


def test_beside_synchronous_code():
    with fastecho.serve(port=0) as server:
        assert ask(server.address, b"hello") == b"hello"
        with connect_blocking(server.address) as sock:
            sock.sendall(b"bye\0")
            assert read_to_eof(sock) == b"bye\0"
        wait_until(lambda: server.stats.active == 0, "the sessions are closed")
        assert server.stats.accepted == 2
        assert server.addresses == (f"tcp://127.0.0.1:{server.address[1]}",)


def test_nothing_is_left_behind():
    before = set(threading.enumerate())
    with fastecho.serve(port=0) as server:
        address = server.address
        assert set(threading.enumerate()) - before
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        connect_blocking(address)
    assert server.stats.accepted == 0


def test_started_and_stopped_fifty_times():
    before = threading.active_count()
    for _ in range(50):
        with fastecho.serve(port=0) as server:
            assert ask(server.address, b"x") == b"x"
    assert threading.active_count() == before


def test_a_config_object():
    with fastecho.serve(fastecho.ServerConfig(port=0, terminator=b"END")) as server:
        with connect_blocking(server.address) as sock:
            sock.sendall(b"the END")
            assert read_to_eof(sock) == b"the END"


def test_a_port_in_use_is_raised_in_the_caller():
    before = set(threading.enumerate())
    with fastecho.serve(port=0) as server:
        with pytest.raises(AddressInUseError):
            with fastecho.serve(port=server.address[1]):
                pass
        assert ask(server.address, b"x") == b"x"
    assert set(threading.enumerate()) <= before


def test_a_bad_option_is_raised_in_the_caller():
    with pytest.raises(ConfigError), fastecho.serve(port=0, buffer_size=7):
        pass


def test_a_certificate_that_cannot_be_loaded_is_raised_in_the_caller(tmp_path):
    before = set(threading.enumerate())
    path = tmp_path / "socket"
    with pytest.raises(TLSError, match="nowhere"):
        fastecho.serve(unix=path, tls_cert=tmp_path / "nowhere.pem")
    assert set(threading.enumerate()) <= before
    assert not path.exists()
    with fastecho.serve(unix=path) as server:
        assert ask(server.address, b"x") == b"x"


def test_a_thread_that_cannot_be_started_leaves_nothing(tmp_path, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    path = tmp_path / "socket"
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            fastecho.serve(unix=path)
    gc.collect()  # a socket that was not closed warns
    assert not path.exists()
    with fastecho.serve(unix=path) as server:
        assert ask(server.address, b"x") == b"x"


def test_a_config_and_options_are_refused_together():
    with pytest.raises(TypeError, match=r"^give either config or options, not both: port$"):
        fastecho.serve(fastecho.ServerConfig(port=0), port=1)


def test_an_exception_inside_the_block_comes_through():
    with pytest.raises(ZeroDivisionError):
        with fastecho.serve(port=0) as server:
            raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        connect_blocking(server.address)


def test_close_by_hand_is_harmless():
    with fastecho.serve(port=0) as server:
        assert ask(server.address, b"x") == b"x"
        server.close()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(server.address)


def test_close_from_another_thread():
    with fastecho.serve(port=0) as server:
        closer = threading.Thread(target=server.close)
        closer.start()
        closer.join(10)
        assert not closer.is_alive()


def test_two_at_once():
    with fastecho.serve(port=0) as one, fastecho.serve(port=0, terminator=None) as two:
        assert ask(one.address, b"1") == b"1"
        assert ask(two.address, b"2\0") == b"2\0"
        assert (one.stats.bytes_in, two.stats.bytes_in) == (1, 2)


def test_the_end_of_the_block_does_not_wait_for_clients():
    """The thread that leaves the block may hold the client itself: waiting for it would take its time-out."""
    with fastecho.serve(port=0, drain_timeout=1000, drain_grace=1000) as server:
        sock = connect_blocking(server.address)
        sock.sendall(b"x")
        assert read_exactly(sock, 1) == b"x"
    assert server.stats.active == 0
    with sock, pytest.raises(ConnectionResetError):
        sock.recv(1)


def test_close_with_drain_echoes_what_was_sent():
    with fastecho.serve(port=0, drain_grace=0.1) as server:
        with connect_blocking(server.address) as sock, ThreadPoolExecutor() as pool:
            sock.sendall(b"last words")
            closing = pool.submit(server.close, drain=True)
            assert read_to_eof(sock) == b"last words"
            sock.close()
            closing.result(10)
        assert server.stats.ends["drain"] == 1


def test_beside_a_running_asyncio_loop():
    async def body():
        with fastecho.serve(port=0) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(b"hello\0")
            assert await reader.read() == b"hello\0"
            writer.close()
            await writer.wait_closed()

    asyncio.run(body())


def test_a_thread_server_works_beside_trio():
    trio = pytest.importorskip("trio")

    async def body():
        with fastecho.serve(port=0) as server:
            stream = await trio.open_tcp_stream(*server.address)
            async with stream:
                await stream.send_all(b"hello\0")
                got = b""
                async for part in stream:
                    got += part
                assert got == b"hello\0"

    trio.run(body)


def test_from_a_thread_that_is_not_the_main_one():
    """No signal handler is set, which only the main thread may do."""
    failures = []

    def work():
        try:
            with fastecho.serve(port=0) as server:
                assert ask(server.address, b"x") == b"x"
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(15)
    assert not thread.is_alive()
    assert not failures


def test_stats_while_it_serves():
    """Read from another thread, again and again, while the loop counts."""
    with fastecho.serve(port=0, terminator=None) as server:
        last = 0
        with connect_blocking(server.address) as sock:
            for _ in range(300):
                sock.sendall(b"x" * 1000)
                read_exactly(sock, 1000)
                now = server.stats.bytes_in
                assert now >= last
                last = now
        assert last >= 299_000


def refuses(address):
    try:
        connect_blocking(address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # the last copy of the listener was closed meanwhile
        return False
    return False


@contextlib.contextmanager
def forked_child():
    """A child that does nothing."""
    hold, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        os.read(hold, 1)
        os._exit(0)
    try:
        yield
    finally:
        os.close(release)
        os.close(hold)
        os.waitpid(child, 0)


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
multi_threaded = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@forks
@multi_threaded
def test_a_forked_child_does_not_keep_the_port_open():
    """Hazard 35: the child has a copy of the listener, on which no process would accept."""
    server = fastecho.serve(port=0)
    with forked_child():
        server.close()
        wait_until(lambda: refuses(server.address), "the child to close its copy")


def can_be_bound(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(address)
        except OSError as error:
            assert error.errno == errno.EADDRINUSE  # noqa: PT017
            return False
        return True


@forks
@multi_threaded
def test_a_forked_child_does_not_keep_the_port_of_udp():
    server = fastecho.serve(port=0, udp=True)
    with forked_child():
        assert not can_be_bound(server.address)
        server.close()
        wait_until(lambda: can_be_bound(server.address), "the child to close its copy")


@forks
@multi_threaded
def test_the_end_of_the_block_in_a_forked_child_leaves_the_server_to_the_parent(tmp_path):
    with fastecho.serve(unix=str(tmp_path / "s")) as server:
        child = os.fork()
        if child == 0:
            try:
                server.close(drain=True)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert ask(server.address, b"hello") == b"hello"
