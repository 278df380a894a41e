"""Blocks inside blocks, side by side, and left in every way: what the outer one says holds until the outer one ends."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading

import pytest

from clients import connect_blocking, make_socket, read_exactly
from fastecho.testing import Fault, async_echo_server, blackhole_address, echo_server, refused_address
from patience import DEADLINE


def is_down(server) -> bool:
    with make_socket(server.address) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(server.address)
    return True


def is_dark(server) -> bool:
    with make_socket(server.address) as sock:
        sock.setblocking(False)
        return sock.connect_ex(server.address) == errno.EINPROGRESS


def is_up(server) -> bool:
    with connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        return read_exactly(sock, 1) == b"x"


IS = {"down": is_down, "blackhole": is_dark}
PAIRS = [(outer, inner) for outer in IS for inner in IS]


@pytest.fixture(params=["tcp", "tcp6", "dual"])
def server(request):
    with echo_server(family=request.param) as server:
        yield server


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_the_end_of_the_inner_block_leaves_the_outer_one_in_force(server, outer, inner):
    with getattr(server, outer)():
        assert IS[outer](server)
        with getattr(server, inner)():
            assert IS[inner](server)
        assert IS[outer](server)
        with pytest.raises(ZeroDivisionError), getattr(server, inner)():
            raise ZeroDivisionError
        assert IS[outer](server)
    assert is_up(server)


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_a_call_without_a_block_outlasts_a_block(server, outer, inner):
    getattr(server, outer)()
    with getattr(server, inner)():
        assert IS[inner](server)
    assert IS[outer](server)
    server.up()
    assert is_up(server)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_blocks_of_two_threads_that_overlap(server, first, second):
    begun, ended = threading.Event(), threading.Event()

    def other() -> None:
        with getattr(server, second)():
            begun.set()
            ended.wait(DEADLINE)

    thread = threading.Thread(target=other)
    with getattr(server, first)():
        thread.start()
        assert begun.wait(DEADLINE)
    assert IS[second](server)
    ended.set()
    thread.join(DEADLINE)
    assert is_up(server)


def test_up_ends_all_blocks_and_their_ends_do_nothing(server):
    with server.down(), server.blackhole():
        server.up()
        assert is_up(server)
    assert is_up(server)


def test_a_block_may_be_used_again(server):
    block = server.down()
    for _ in range(2):
        with block as given:
            assert given is None
            assert is_down(server)
        assert is_up(server)


def test_a_reset_of_the_server_ends_all_blocks(server):
    with server.down(), server.down():
        server.reset()
        assert is_up(server)
    assert is_up(server)


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_a_stop_inside_the_blocks(outer, inner):
    server = echo_server().start()
    with getattr(server, outer)(), getattr(server, inner)():
        server.stop()
        assert is_down(server)
    assert is_down(server)


def test_open_connections_are_frozen_again_after_an_inner_block():
    with echo_server() as server, connect_blocking(server.address) as sock:
        sock.sendall(b"a")
        assert read_exactly(sock, 1) == b"a"
        with server.blackhole():
            with server.blackhole():
                sock.sendall(b"b")
            sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.settimeout(DEADLINE)
        assert read_exactly(sock, 1) == b"b"


def test_no_client_is_served_between_a_blackhole_and_what_follows():
    """A client that knocks in the dark is not let in by a change to `down` and back."""
    with echo_server() as server:
        with server.blackhole(), make_socket(server.address) as sock:
            sock.setblocking(False)
            assert sock.connect_ex(server.address) == errno.EINPROGRESS
            for _ in range(50):
                with server.down():
                    pass
            assert server.connection_count == 0
        assert is_up(server)


@pytest.mark.parametrize("outer", ["down", "blackhole"])
def test_outages_of_unix_sockets_nest_too(outer):
    with echo_server(family="unix") as server:
        with getattr(server, outer)():
            with server.down():
                assert is_down(server)
            with server.blackhole(), connect_blocking(server.address) as sock:
                sock.sendall(b"x")
            with server.down():
                assert is_down(server)
        assert is_up(server)
    with pytest.raises(FileNotFoundError):
        connect_blocking(server.address)


def test_fault_blocks_in_fault_blocks(server):
    with server.fault(Fault.close(after_sent=1)) as outer:
        with server.fault(Fault.close(after_sent=0)) as inner:
            with connect_blocking(server.address) as sock:
                sock.sendall(b"xy")
                assert sock.recv(2) == b""
        with connect_blocking(server.address) as sock:
            sock.sendall(b"xy")
            assert (sock.recv(2), sock.recv(2)) == (b"x", b"")
    assert (outer.selected, inner.selected) == (2, 1)
    assert is_up(server)


# With `with` and with `async with`


@pytest.mark.parametrize("make", [echo_server, async_echo_server])
@pytest.mark.parametrize("name", ["down", "blackhole", "fault", "capture"])
def test_a_block_goes_both_ways(run, make, name):
    """On a server for asyncio, and on one that is not."""

    def block(server):
        return server.fault("refuse()", must_fire=False) if name == "fault" else getattr(server, name)()

    async def body():
        server = make()
        await server.start() if make is async_echo_server else server.start()
        try:
            async with block(server) as given:
                if name in IS:
                    assert given is None
                    assert IS[name](server)
                else:
                    assert given is not None
            with block(server):
                pass
            with pytest.raises(ZeroDivisionError):
                async with block(server):
                    raise ZeroDivisionError
            assert is_up(server)
        finally:
            await server.stop() if make is async_echo_server else server.stop()

    run(body())


def test_a_capture_with_async_with(run):
    async def body():
        async with async_echo_server() as server:
            async with server.capture() as captured:
                assert await asyncio.to_thread(is_up, server)
            assert await asyncio.to_thread(is_up, server)
            await captured.assert_connections(1)

    run(body())


@pytest.mark.parametrize("address", [refused_address, blackhole_address])
def test_addresses_go_both_ways(run, address):
    async def body():
        async with address() as where:
            with socket.socket() as sock:
                sock.setblocking(False)
                assert sock.connect_ex(where) in (errno.ECONNREFUSED, errno.EINPROGRESS)
        with address() as where:
            assert len(where) == 2

    run(body())


def test_a_server_in_the_wrong_kind_of_block_says_which_one_it_needs(run):
    async def body():
        with pytest.raises(TypeError, match=r"`with echo_server\(\)`, or `async with async_echo_server\(\)`"):
            async with echo_server():
                pass
        with pytest.raises(TypeError, match=r"`async with async_echo_server\(\)`, or `with echo_server\(\)`"):
            with async_echo_server():
                pass

    run(body())
