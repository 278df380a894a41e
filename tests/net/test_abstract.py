"""Abstract UNIX sockets: a name without a file."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fastecho
from clients import connect_blocking
from fastecho.config import ServerConfig
from fastecho.errors import ConfigError
from fastecho.testing import echo_server
from patience import DEADLINE, wait_until
from processes import Service, echoes, one_echo

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux only")


@pytest.fixture
def name() -> str:
    return f"@fastecho-{secrets.token_hex(8)}"


def test_workers_share_an_abstract_socket_that_leaves_nothing(name: str, tmp_path: Path) -> None:
    with Service("--workers", "2", unix=name, cwd=tmp_path) as service:
        assert service.addresses == [f"unix:{name}"]
        clients = [connect_blocking(f"\0{name[1:]}") for _ in range(8)]
        assert all(echoes(each) for each in clients)
        for each in clients:
            each.close()
        service.send(signal.SIGHUP)
        wait_until(lambda: len(service.started()) == 4, "the new workers")
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(service.address)


def test_a_second_instance_on_the_name_is_refused(name: str) -> None:
    with Service(unix=name) as service:
        with Service(unix=name) as second:
            assert second.wait() == 69
            assert f"unix:{name}: already in use" in second.errors
        assert one_echo(service.address) == b"hello\0"
        assert service.stop() == 0


def test_the_address_of_a_server_is_what_connect_takes(name: str) -> None:
    with fastecho.serve(unix=name) as server:
        assert server.addresses == (f"unix:{name}",)
        assert one_echo(server.address) == b"hello\0"

    async def inside() -> None:
        async with fastecho.EchoServer(unix=name) as server:
            reader, writer = await asyncio.open_unix_connection(server.address)
            writer.write(b"hello\0")
            assert await reader.read() == b"hello\0"
            writer.close()
            await writer.wait_closed()

    asyncio.run(inside())


@pytest.mark.parametrize("arguments", [["ping", "--once"], ["bench", "--duration", "500ms", "--warmup", "0", "-q"]])
def test_the_client_commands_reach_it(arguments: list[str], name: str) -> None:
    with Service("--terminator", "none", unix=name) as service:
        done = subprocess.run(
            [sys.executable, "-m", "fastecho", *arguments, f"unix:{name}"],
            capture_output=True, text=True, timeout=2 * DEADLINE,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert service.stop() == 0


def test_a_name_is_needed_and_a_file_of_that_name_has_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="must be a path, or @ and a name"):
        ServerConfig(unix="@")
    monkeypatch.chdir(tmp_path)
    with fastecho.serve(unix="./@name"):
        assert os.listdir(tmp_path) == ["@name"]


def test_the_fixture_needs_a_path(name: str) -> None:
    with pytest.raises(ConfigError, match="must be a path here"):
        echo_server(unix=name).start()
