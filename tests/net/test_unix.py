"""UNIX stream sockets: echo, mode, a path in use, a path left behind (hazard 21)."""

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

import pytest

import fastecho
from clients import Client, echo_once
from fastecho.errors import AddressError, AddressInUseError
from patience import until


def exists(path):
    return os.path.exists(path)


def is_directory(path):
    return os.path.isdir(path)


def write(path, text):
    Path(path).write_text(text)


def read(path):
    return Path(path).read_text()


@pytest.fixture
def path():
    """In a directory of a short name: the path of a UNIX socket has at most 107 bytes."""
    folder = tempfile.mkdtemp(prefix="fe")
    yield os.path.join(folder, "echo.sock")
    shutil.rmtree(folder)


def test_echo_half_close_and_terminator(run, path, pinned):
    async def body():
        async with fastecho.EchoServer(unix=path, pin_buffers=pinned) as server:
            assert server.address == path
            assert server.addresses == (f"unix:{path}",)
            data = bytes(range(256)) * 2000
            assert await echo_once(path, data) == data
            async with Client.to(path) as client:
                await client.send(b"hello\0")
                assert await client.rest() == b"hello\0"
            await until(lambda: server.stats.active == 0, "the sessions are closed")
            assert server.stats.ends["terminator"] == 1

    run(body())


def test_the_path_is_private_and_goes_away(run, path):
    async def body():
        async with fastecho.EchoServer(unix=path):
            mode = os.stat(path).st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
        assert not exists(path)
        assert os.listdir(os.path.dirname(path)) == [], "a temporary name stayed behind"

    run(body())


def test_a_live_path_is_not_stolen(run, path):
    async def body():
        async with fastecho.EchoServer(unix=path):
            with pytest.raises(AddressInUseError):
                await fastecho.EchoServer(unix=path).start()
            assert await echo_once(path, b"x") == b"x"
        assert not exists(path)

    run(body())


def test_a_path_left_behind_is_taken_over(run, path):
    async def body():
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        async with fastecho.EchoServer(unix=path):
            assert await echo_once(path, b"x") == b"x"

    run(body())


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_socket_is_left_alone(run, path, kind):
    async def body():
        if kind == "file":
            write(path, "precious")
        else:
            os.mkdir(path)
        with pytest.raises((AddressError, AddressInUseError)):
            await fastecho.EchoServer(unix=path).start()
        assert is_directory(path) if kind == "directory" else read(path) == "precious"

    run(body())


def test_only_the_own_path_is_removed(run, path):
    async def body():
        async with fastecho.EchoServer(unix=path):
            os.unlink(path)
            write(path, "another program's")
        assert read(path) == "another program's"

    run(body())


def test_no_such_directory(run, path):
    async def body():
        with pytest.raises(AddressError):
            await fastecho.EchoServer(unix=path + "/no/such").start()

    run(body())


def test_a_client_that_never_reads(run, path, pinned):
    """SIOCOUTQ and pausing over AF_UNIX."""

    async def body():
        async with fastecho.EchoServer(unix=path, terminator=None, pin_buffers=pinned) as server:
            async with Client.to(path) as client:
                sent = await client.fill()
                assert server.stats.pauses >= 1
                assert server.stats.bytes_in - server.stats.bytes_out <= 65536
                assert len(await client.receive(sent)) == sent

    run(body())


def test_write_time_out(run, path):
    async def body():
        async with fastecho.EchoServer(unix=path, terminator=None, write_timeout=1) as server:
            async with Client.to(path) as client:
                await client.fill()
                await until(lambda: server.stats.ends["write_timeout"] == 1, "the write time-out")
                await until(lambda: server.stats.active == 0, "the session is gone")

    run(body())
