"""What a test does wrong, or its functions: said where it is seen, and without harm to the next test."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import tempfile
import threading

import pytest

from clients import connect_blocking, read_exactly, read_to_eof
from fastecho import EchoServer
from fastecho.config import ServerConfig
from fastecho.errors import AddressInUseError, ConfigError, TLSError
from fastecho.testing import Fault, TeardownError, async_echo_server, certificates, echo_server
from patience import DEADLINE, wait_until


def echoes(address) -> bool:
    with connect_blocking(address) as sock:
        sock.sendall(b"x")
        return read_exactly(sock, 1) == b"x"


def fails(data):
    pytest.fail("not what was expected")


def leaves(data):
    raise SystemExit(3)


def breaks(data):
    return 1 // 0


@pytest.mark.parametrize("faults", [(), [Fault.latency(0.0)]], ids=["plain", "faulty"])
@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (fails, pytest.fail.Exception, "not what was expected"),
        (leaves, RuntimeError, r"reply or where\(\) raised SystemExit on connection 0: 3"),
        (breaks, RuntimeError, r"reply or where\(\) raised ZeroDivisionError on connection 0"),
    ],
)
def test_a_reply_that_raises_fails_the_test(function, error, text, faults) -> None:
    server = echo_server(reply=function, faults=faults).start()
    with connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    with pytest.raises(error, match=text):
        server.wait_idle()
    server.check_failures()
    assert any("raised" in event.what for event in server.events())
    server.stop()
    with echo_server() as another:
        assert echoes(another.address)


def test_a_predicate_that_leaves_does_not_end_the_thread_of_all_servers() -> None:
    with echo_server() as server:
        with pytest.raises(SystemExit):
            server.wait_received(leaves)
        assert echoes(server.address)


@pytest.mark.parametrize("must_fire", [True, False])
def test_a_where_that_raises_is_what_the_block_raises(must_fire) -> None:
    with echo_server() as server:
        with pytest.raises(RuntimeError, match="ZeroDivisionError on connection 0"):
            with server.fault(Fault.reset().where(breaks), must_fire=must_fire):
                assert echoes(server.address)
        server.check_failures()


def test_a_fault_whose_block_was_forgotten_warns_and_fails() -> None:
    with pytest.raises(AssertionError, match=r"test_failures.py:\d+: reset\(\) was never armed"):  # noqa: PT012
        with echo_server() as server:
            with pytest.warns(RuntimeWarning, match=r"reset\(\) was never armed: write `with server.fault"):  # noqa: PT031
                server.fault(Fault.reset())
                gc.collect()
            assert echoes(server.address)


def test_arm_takes_one_fault() -> None:
    with echo_server() as server:
        with pytest.raises(ConfigError, match="must be one fault"):
            server.arm("refuse(); latency(1)")
        assert echoes(server.address)


def test_a_wait_ends_when_the_server_is_stopped() -> None:
    server = echo_server(timeout=4 * DEADLINE).start()
    said: list[str] = []

    def wait() -> None:
        try:
            server.wait_connections(1)
        except TimeoutError as error:
            said.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: server.connection_count == 0 and thread.is_alive(), "it waits")
    server.stop()
    thread.join(DEADLINE)
    assert said == ["the server was stopped: no connections within " + f"{4 * DEADLINE:g} s, not 1"]
    with pytest.raises(TimeoutError, match="the server was stopped"):
        server.wait_received(1)


def test_a_reply_cannot_stop_its_server() -> None:
    raised: list[str] = []

    def reply(data):
        try:
            server.stop()
        except RuntimeError as error:
            raised.append(str(error))
        return data

    with echo_server(reply=reply) as server:
        assert echoes(server.address)
        assert raised == ["a reply or a where() cannot stop the server: it would wait for itself"]
        assert echoes(server.address)


def test_a_reply_cannot_wait() -> None:
    raised: list[str] = []

    def reply(data):
        try:
            server.wait_received(2)
        except RuntimeError as error:
            raised.append(str(error))
        return data

    with echo_server(reply=reply) as server:
        assert echoes(server.address)
        assert raised == ["a reply or a where() must not wait: nothing can happen meanwhile"]
        assert echoes(server.address)


@pytest.mark.parametrize("make", [echo_server, async_echo_server])
def test_a_start_with_faults_says_that_the_loop_is_held_up(make) -> None:
    entered, free = threading.Event(), threading.Event()

    def block(data):
        entered.set()
        free.wait(4 * DEADLINE)
        return data

    with echo_server(reply=block) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        assert entered.wait(DEADLINE)
        try:
            another = make(faults=["latency(0)"], timeout=0.05, teardown_timeout=0.05)
            with pytest.raises(TimeoutError, match=r"^the loop's thread is held up: a reply, a where\(\)"):
                another.start() if make is echo_server else another.start_blocking()
        finally:
            free.set()
        assert repr(another).endswith("Server not started>")
        assert read_exactly(sock, 1) == b"x"


def test_a_server_that_cannot_begin_says_so_at_the_first_wait(monkeypatch) -> None:
    def broken(*arguments):
        raise OSError("no descriptor is free")

    monkeypatch.setattr(EchoServer, "prepare", broken)
    server = echo_server().start()
    with pytest.raises(OSError, match="no descriptor is free"):
        server.wait_connections(1)
    server.check_failures()
    assert server.stop() == ()
    monkeypatch.undo()
    with pytest.raises(ConnectionRefusedError):
        connect_blocking(server.address)
    with echo_server() as another:
        assert echoes(another.address)


def test_ctrl_c_in_a_stop_that_is_held_up_closes_the_port() -> None:
    entered, free = threading.Event(), threading.Event()

    def block(data):
        entered.set()
        free.wait(4 * DEADLINE)
        return data

    server = echo_server(reply=block, teardown_timeout=4 * DEADLINE).start()
    with connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        assert entered.wait(DEADLINE)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            server.stop()
        free.set()
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(server.address)
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(100):  # it ends when its thread comes to it
                pass


def test_a_start_that_fails_leaves_nothing() -> None:
    folders = set(os.listdir(tempfile.gettempdir()))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = echo_server(port=taken.getsockname()[1])
        with pytest.raises(AddressInUseError):
            server.start()
        assert repr(server) == "<Server not started>"
        with pytest.raises(RuntimeError, match="has not been started"):
            server.connections  # noqa: B018
        assert server.stop() == ()
    with pytest.raises(TLSError):
        echo_server(family="unix", tls_cert="/nowhere").start()
    left = {name for name in set(os.listdir(tempfile.gettempdir())) - folders if name.startswith("fastecho-")}
    assert left <= {os.path.basename(os.path.dirname(certificates().ca_path))} or not left


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"famly": "tcp6"}, TypeError, "has no option famly; did you mean family"),
        ({"idle_timeot": 1}, TypeError, "has no option idle_timeot; did you mean idle_timeout"),
        ({"family": "tcp6", "host": "127.0.0.1"}, ConfigError, "family tcp6: must be left out beside host"),
        ({"family": "unix", "unix": "/tmp/x"}, ConfigError, "family unix: must be left out beside unix"),
        ({"family": "tcp6", "config": ServerConfig(port=0)}, ConfigError, "must be left out beside config"),
        ({"record_limit": 1 << 63}, ConfigError, "record_limit 9223372036854775808: must be"),
        ({"workers": 4}, ConfigError, "workers 4: must be left out here"),
        (
            {"config": ServerConfig(port=0), "port": 1, "terminator": None},
            TypeError,
            "^give either config or options, not both: port, terminator$",
        ),
    ],
)
def test_options_that_will_not_do(options, error, text) -> None:
    with pytest.raises(error, match=text):
        echo_server(**options)


@pytest.mark.parametrize("wrong", ["hello", 5.0, None])
def test_what_is_no_bytes(wrong) -> None:
    with echo_server() as server, pytest.raises(TypeError, match="must be bytes"):
        server.assert_received(wrong)
    with echo_server() as server, pytest.raises(TypeError, match="must be"):
        server.wait_received("hello")


def test_async_echo_server_is_for_asyncio() -> None:
    coroutine = async_echo_server().start()
    with pytest.raises(RuntimeError, match="async_echo_server is for asyncio, and none runs here"):
        coroutine.send(None)


def test_a_failure_in_the_block_goes_before_a_leak() -> None:
    with pytest.raises(ZeroDivisionError), echo_server(leak="error") as server:  # noqa: PT012
        sock = connect_blocking(server.address)
        breaks(b"")
    sock.close()


def test_two_that_stop_at_once_both_find_it_stopped() -> None:
    for _ in range(30):
        server = echo_server().start()
        with connect_blocking(server.address):
            open_still: list[bool] = []

            def stop(server=server, open_still=open_still) -> None:
                server.stop()
                with socket.socket() as probe:
                    open_still.append(probe.connect_ex(server.address) == 0)

            threads = [threading.Thread(target=stop) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(DEADLINE)
            assert open_still == [False, False]


def test_the_leak_of_a_teardown_that_is_told_of_as_an_error_closes_the_port() -> None:
    server = echo_server(leak="error").start()
    with connect_blocking(server.address) as sock:
        with pytest.raises(TeardownError):
            server.stop()
        with pytest.raises(ConnectionResetError):
            read_to_eof(sock)
