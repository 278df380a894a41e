"""What reads input from outside, as functions of bytes: for property tests, the corpus and the fuzzer.

A target gets any bytes and raises AssertionError, or anything that it does not expect, where a promise is broken: each
text is a value or an error of one line, and a value that is written can be read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import reference
from command import logging_restored
from cuts import cut
from fastecho._buffer import Terminator
from fastecho._net.proxy_protocol import ProxyHeaderError, parse_header, read_header
from fastecho.bench.target import Target
from fastecho.cli._config_file import read_config_file
from fastecho.cli.main import main
from fastecho.config import ServerConfig, options
from fastecho.errors import EX_CONFIG, EX_FAILURE, EX_PERMISSION, EX_USAGE, ConfigError, ConfigFileError
from fastecho.faults import format_faults, parse_faults
from worlds import run_program

OPTIONS = options()
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def text_of(data: bytes) -> str:
    """As the operating system hands text over: what is not UTF-8 becomes lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def one_line(error: Exception) -> None:
    message = str(error)
    assert message, "an error without a message"
    assert len(message.splitlines()) == 1, f"an error of several lines: {message!r}"
    assert len(message) < 2000, f"an error of {len(message)} characters"


@contextlib.contextmanager
def no_warnings() -> Any:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    assert not seen, f"a warning: {seen[0].message}"


def fault_text(data: bytes) -> None:
    text = text_of(data)
    try:
        with no_warnings():
            faults = parse_faults(text)
    except ValueError as error:
        one_line(error)
        return
    assert parse_faults(format_faults(faults)) == faults
    with contextlib.suppress(ConfigError):  # a fault that needs TLS
        ServerConfig(fault=text)


def option_text(data: bytes) -> None:
    """The first byte chooses the option, the rest is its text, as on the command line and in the environment."""
    option = OPTIONS[data[0] % len(OPTIONS)] if data else OPTIONS[0]
    try:
        value = option.validate(option.parse(text_of(data[1:])))
    except ConfigError as error:
        one_line(error)
        return
    _is_stable(option, value)


def _is_stable(option: Any, value: Any) -> None:
    """A valid value stays what it is, and can be written and read again."""
    assert option.validate(value) == value, f"{option.name}: {option.validate(value)!r} instead of {value!r}"
    if shown := option.format(value):
        again = option.validate(option.parse(shown))
        assert again == value, f"{option.name}: {again!r} of {shown!r} instead of {value!r}"


def toml(data: bytes) -> None:
    """A configuration file: a configuration or an error of one line."""
    descriptor, path = tempfile.mkstemp(suffix=".toml")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        try:
            table = read_config_file(path, "--config ")
            known = {option.name: option for option in OPTIONS}
            config = ServerConfig(**{name: known[name].from_toml(value) for name, value in table.items()})
        except (ConfigError, ConfigFileError) as error:
            one_line(error)
            return
    finally:
        os.unlink(path)
    for option in OPTIONS:
        _is_stable(option, getattr(config, option.name))


def command_line(data: bytes) -> None:
    """Lines: an argument, or, if the first byte is odd, the text of a variable for the option that the byte chooses."""
    arguments, variables = ["serve"], {}
    for line in data.split(b"\n"):
        text = text_of(line[1:]).replace("\0", "")
        if line and line[0] & 1:
            variables[OPTIONS[(line[0] >> 1) % len(OPTIONS)].variable] = text
        elif line:
            arguments.append(text)
    stand_in = SimpleNamespace(run=lambda config: 0)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FASTECHO_")}
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, kept | variables, clear=True), logging_restored(), \
            mock.patch.dict(sys.modules, {"fastecho._workers.supervisor": stand_in}), \
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    said = err.getvalue()
    assert "Traceback" not in said, said
    if code:
        assert code in (EX_FAILURE, EX_USAGE, EX_CONFIG, EX_PERMISSION), f"exit code {code}: {said}"
        assert len(said.splitlines()) == 1, f"exit code {code}: {said!r}"


def proxy_header(data: bytes) -> None:
    """Cut by its first byte; read from a socket, then nothing after the header is missing."""
    _loop().run_until_complete(_read_header(data[1:701], (data[0] if data else 0) + 1))


async def _read_header(stream: bytes, size: int) -> None:
    proxy, server = socket.socketpair()
    with proxy, server:
        server.setblocking(False)
        sent = b""
        reading = asyncio.ensure_future(read_header(asyncio.get_running_loop(), server))
        for piece in cut(stream, [size if size < 256 else 1024]):
            if reading.done():  # the socket takes only so many pieces that nothing reads
                break
            proxy.sendall(piece)
            sent += piece
            await asyncio.sleep(0)
        proxy.shutdown(socket.SHUT_WR)
        try:
            client = await reading
        except ProxyHeaderError as error:
            one_line(error)
            return
        rest = b""
        while part := server.recv(8192):
            rest += part
        header = sent[: len(sent) - len(rest)]
        assert sent == header + rest
        assert parse_header(header) == client, "another client than that of the whole header"
        assert header.endswith(b"\r\n") or header.startswith(_SIGNATURE)


def bench_target(data: bytes) -> None:
    try:
        target = Target.parse(text_of(data))
    except ConfigError as error:
        one_line(error)
        return
    assert Target.parse(str(target)) == target, f"{Target.parse(str(target))} instead of {target}"


def scanner(data: bytes) -> None:
    """Bytes: length of the terminator and match, size of the reads, the terminator, the stream."""
    if len(data) < 3:
        return
    length, size = data[0] % 64 + 1, data[1] % 70 + 1
    value, stream = data[2 : 2 + length], data[2 + length :]
    if not value:
        return
    match = "anywhere" if data[0] & 64 else "tail"
    real, expected = Terminator(value, match=match), reference.Terminator(value, match)
    for read in cut(stream, [size, data[1] // 70 * 5 + 1]):
        due = expected.feed(read)
        assert real.feed(read) == due
        if due >= 0:
            break
    assert real.ended == expected.ended


def session(data: bytes) -> None:
    """A program of steps of sessions and their clients, with chosen cuts."""
    run_program(_loop(), data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "fault_text": fault_text,
    "option_text": option_text,
    "toml": toml,
    "command_line": command_line,
    "proxy_header": proxy_header,
    "bench_target": bench_target,
    "scanner": scanner,
    "session": session,
}

_loops: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """One loop of stock asyncio, made when it is needed first; close_loop() closes it."""
    if not _loops:
        _loops.append(asyncio.SelectorEventLoop())
    return _loops[0]


def close_loop() -> None:
    while _loops:
        _loops.pop().close()
