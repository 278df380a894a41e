"""Bad input of every kind: one line that names what is wrong, the right exit code, and never a traceback.

2 is for the command line, 78 for the environment, the configuration file and certificates, 69 for an address
in use, 77 for a lack of permission, 1 for what else keeps the server from listening.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from command import WITHOUT_PRIVILEGES, as_process, in_process
from fastecho.config import options

LONG_PATH = "/" + "x" * 120


@dataclass(frozen=True)
class Case:
    """`names` must all be in the line; `{file}` in `argv` and `environ` is the path of `content`."""

    code: int
    names: Sequence[str]
    argv: Sequence[str] = ()
    environ: Mapping[str, str] | None = None
    content: str | bytes | None = None

    def __str__(self) -> str:
        environ = " ".join(f"{name}={value}" for name, value in (self.environ or {}).items())
        content = "" if self.content is None else repr(self.content)
        return " ".join([environ, *self.argv, content]).strip()[:60] or "empty"


# The value of an option, and what the line says of it: the same from every source.
VALUES: list[tuple[str, str, str]] = [
    ("host", "127.0.0.1:80", "must be addresses or host names"),
    ("host", "a,,b", "must be addresses or host names"),
    ("host", "*,::1", "must not have other addresses beside *"),
    ("host", "a b", "must be addresses or host names"),
    ("host", "x" * 64, "must be addresses or host names"),
    ("port", "x", "must be a whole number between 0 and 65535"),
    ("port", "-1", "must be between 0 and 65535"),
    ("port", "65536", "must be between 0 and 65535"),
    ("port", "80.5", "must be a whole number between 0 and 65535"),
    ("port", "http", "must be a whole number between 0 and 65535"),
    ("unix", LONG_PATH, "must be a path of at most"),
    ("backlog", "0", "must be between 1 and 65535"),
    ("ready_fd", "0", "must be between 1 and 1048575, or off"),
    ("exit_fd", "-1", "must be between 0 and 1048575, or off"),
    ("terminator", "hex:0", "must have pairs of hexadecimal digits"),
    ("terminator", r"\q", "must have no escapes but"),
    ("terminator", "x" * 65, "must be 1 to 64 bytes"),
    ("match", "head", "must be tail or anywhere"),
    ("workers", "0", "must be between 1 and 512"),
    ("workers", "many", "must be a whole number between 1 and 512, or auto"),
    ("user", "a b", "must be a name or a number"),
    ("group", "www-data", "needs a user beside it"),
    ("busy_poll", "0", "must be between 1 and 1000000, auto or off"),
    ("busy_poll", "always", "must be a whole number between 1 and 1000000, auto or off"),
    ("max_connections", "0", "must be between 1 and 1000000, or auto"),
    ("max_per_source", "0", "must be between 1 and 1000000, or off"),
    ("udp_rate", "0", "must be between 1 and 1000000000, or off"),
    ("idle_timeout", "0", "must be between 1 ms and 24 h, or off"),
    ("idle_timeout", "never", "must be a time, such as 30, 2s, 500ms or 5m, or off"),
    ("write_timeout", "off", "must be a time, such as 30, 2s, 500ms or 5m"),
    ("write_timeout", "nan", "must be a time"),
    ("linger_timeout", "-1", "must be between 1 ms and 24 h"),
    ("drain_timeout", "25h", "must be between 1 ms and 24 h"),
    ("drain_grace", "-1ms", "must be between 0 and 24 h"),
    ("shutdown_delay", "-1", "must be between 0 and 24 h"),
    ("buffer_size", "7", "must be between 512 B and 16 MiB"),
    ("buffer_size", "17MiB", "must be between 512 B and 16 MiB"),
    ("buffer_size", "64KB", "must be a size, such as 65536, 64KiB or 1MiB"),
    ("buffer_size", "9" * 5000, "must be between 512 B and 16 MiB"),
    ("buffers", "1", "must be between 2 and 65536"),
    ("buffers", "65536.0", "must be a whole number"),
    ("tls_key", "key.pem", "needs a certificate beside it"),
    ("tls_client_ca", "ca.pem", "needs a certificate beside it"),
    ("tls_min_version", "1.1", "must be 1.2 or 1.3"),
    ("tls_min_version", "1.3", "needs a certificate beside it"),
    ("tls_tickets", "17", "must be between 0 and 16"),
    ("tls_tickets", "0", "needs a certificate beside it"),
    ("fault", "rset()", "rset: no such fault; did you mean reset?"),
    ("fault", "reset(after_sent=-1)", "after_sent must be a whole number of bytes, 0 or more"),
    ("fault", "reset(17)", "takes after_sent, after_received, on by name"),
    ("fault", "reset().where(f)", "takes a function, so it can be given in Python only"),
    ("fault", "latency(nan)", "that is no value"),
    ("fault", "refuse(); latency(", "must be faults, such as reset(after_sent=17).first(2)"),
    ("fault", "(" * 5000, "must be faults, such as reset(after_sent=17).first(2)"),
    ("fault", "tls_abort()", "tls_abort needs TLS"),
    ("seed", "-1", "must be between 0 and 18446744073709551615"),
    ("seed", "18446744073709551616", "must be between 0 and 18446744073709551615"),
    ("seed", "9" * 5000, "must be between 0 and 18446744073709551615"),
    ("seed", "x", "must be a whole number between 0 and 18446744073709551615"),
    ("log_level", "loud", "must be debug, info, warning or error"),
    ("log_format", "xml", "must be text or json"),
    ("stats", "1ms", "must be between 100 ms and 24 h, or off"),
    ("metrics", "9100", "must be HOST:PORT"),
    ("metrics", ":9100", "must be HOST:PORT"),
    ("metrics", "localhost:http", "must be HOST:PORT"),
    ("metrics", "127.0.0.1:65536", "must be HOST:PORT"),
    ("metrics", "::1:9100", "must be HOST:PORT"),
    ("metrics", "[127.0.0.1]:9100", "must be HOST:PORT"),
    ("metrics", "a,b:9100", "must be HOST:PORT"),
]
FLAG_OF = {option.name: option.flag for option in options()}
VARIABLE_OF = {option.name: option.variable for option in options()}


def shown(value: str) -> str:
    return repr(value)[:40] if " " in value else value[:40]


ON_THE_COMMAND_LINE = [
    *(Case(2, (f"{FLAG_OF[name]} {shown(value)}", why), (FLAG_OF[name], value)) for name, value, why in VALUES),
    Case(2, ("--port ''", "must be a whole number"), ("--port", "")),
    Case(2, ("--tls-cert ''", "must be a path, not empty"), ("--tls-cert", "")),
    Case(2, ("--terminator ''", "1 to 64 bytes"), ("--terminator", "")),
    Case(2, ("--host ''",), ("--host", "")),
    Case(2, (r"--match 'ta\nil'",), ("--match", "ta\nil")),
    Case(2, ("--tls-key k", "--tls-cert"), ("--tls-key", "k")),
    Case(2, ("--fault tls_stall()", "tls_stall needs TLS: --tls-cert"), ("--fault", "tls_stall()")),
    Case(2, ("--fault 'refuse(); rset()'", "rset: no such"), ("--fault", "refuse()", "--fault", "rset()")),
    Case(2, ("--fault ''", "must be faults, such as"), ("--fault", "")),
    Case(2, ("--fault 'none; reset()'", "none: must stand alone"), ("--fault", "none", "--fault", "reset()")),
    Case(2, ("--fault", "needs a value"), ("--fault",)),
    Case(2, ("--unix /x", "--port must not be given"), ("--unix", "/x", "--port", "1")),
    Case(2, ("--unix /x", "--host must not be given"), ("--host", "::1", "--unix", "/x")),
    Case(2, ("--buffers 65536", "16384 with a --buffer-size of 1 MiB"), ("--buffers=65536", "--buffer-size=1MiB")),
    Case(2, ("--bufer-size", "did you mean --buffer-size?"), ("--bufer-size", "7")),
    Case(2, ("--work", "no such option", "--workers"), ("--work", "4")),
    Case(2, ("--sctp", "no such option"), ("--sctp",)),
    Case(2, ("-x", "no such option"), ("-x",)),
    Case(2, ("--port", "needs a value"), ("--port",)),
    Case(2, ("--pin-buffers", "takes no value"), ("--pin-buffers=yes",)),
    Case(2, ("extra", "unexpected argument"), ("serve", "extra")),
    Case(2, ("extra", "unexpected argument"), ("--port", "1", "extra", "--workers", "2")),
    Case(2, ("srve", "no such command", "serve"), ("srve",)),
    Case(2, ("bnch", "no such command"), ("bnch",)),
    Case(2, ("''", "no such command"), ("",)),
    Case(78, ("--config /nowhere/echo.toml", "No such file"), ("--config", "/nowhere/echo.toml")),
    Case(78, ("--config /", "Is a directory"), ("--config", "/")),
    Case(78, ("--config ''", "cannot be read"), ("--config", "")),
    Case(78, ("--config", "cannot be read"), ("--config", "a\0b")),
]
IN_THE_ENVIRONMENT = [
    *(
        Case(78, (f"{VARIABLE_OF[name]}={shown(value)}", why), environ={VARIABLE_OF[name]: value})
        for name, value, why in VALUES
    ),
    Case(78, ("FASTECHO_PIN_BUFFERS=maybe", "must be true or false"), environ={"FASTECHO_PIN_BUFFERS": "maybe"}),
    Case(78, ("FASTECHO_UNIX=/x", "FASTECHO_PORT"), environ={"FASTECHO_UNIX": "/x", "FASTECHO_PORT": "1"}),
    Case(78, ("FASTECHO_TLS_KEY=k", "FASTECHO_TLS_CERT"), environ={"FASTECHO_TLS_KEY": "k"}),
    Case(78, ("FASTECHO_FAULT=tls_abort()", "FASTECHO_TLS_CERT"), environ={"FASTECHO_FAULT": "tls_abort()"}),
    Case(78, ("FASTECHO_PORT=tcp://10.0.0.1:8007", "Kubernetes"), environ={"FASTECHO_PORT": "tcp://10.0.0.1:8007"}),
    Case(78, ("FASTECHO_CONFIG=/nowhere: cannot be read: No such file",), environ={"FASTECHO_CONFIG": "/nowhere"}),
    Case(78, ("FASTECHO_PORT=x",), ("--workers", "2"), {"FASTECHO_PORT": "x"}),
    # A value of the command line beside one of the environment: blame falls where the bad one stands.
    Case(2, ("--workers 0",), ("--workers", "0"), {"FASTECHO_PORT": "1"}),
]
IN_THE_FILE = [
    *(
        Case(78, (f"{{file}}: {name} {shown(value)}", why), content=f"{name} = '{value}'")
        for name, value, why in VALUES
    ),
    Case(78, ("{file}: port 65536",), content="port = 65536"),
    Case(78, ("{file}: port true",), content="port = true"),
    Case(78, ("{file}: port 1.5",), content="port = 1.5"),
    Case(78, ("{file}: port 1979-05-27",), content="port = 1979-05-27"),
    Case(78, ("{file}: host ['::1']",), content="host = ['::1']"),
    Case(78, ("{file}: terminator 0", r"such as \0"), content="terminator = 0"),
    Case(78, ("{file}: pin_buffers 1", "true or false"), content="pin_buffers = 1"),
    Case(78, ("{file}: fault ['refuse()', 'rset()']", "rset: no such"), content="fault = ['refuse()', 'rset()']"),
    Case(78, ("{file}: fault [7]", "must be faults or their text"), content="fault = [7]"),
    Case(78, ("{file}: fault true", "must be faults or their text"), content="fault = true"),
    Case(78, ("{file}: seed -1",), content="seed = -1"),
    Case(78, ("{file}: seed 1.5",), content="seed = 1.5"),
    Case(78, ("{file}: write_timeout nan",), content="write_timeout = nan"),
    Case(78, ("{file}: buffer_size -1",), content="buffer_size = -1"),
    Case(78, ("{file}: worker", "did you mean workers?"), content="worker = 4"),
    Case(78, ("{file}: buffer-size", "did you mean buffer_size?"), content="buffer-size = 4"),
    Case(78, ("{file}: sctp", "no such option"), content="sctp = true"),
    Case(78, ("{file}: udp 1", "true or false"), content="udp = 1"),
    Case(78, ("{file}: unix", "must not be given beside udp"), content="udp = true\nunix = 'echo.sock'"),
    Case(78, ("{file}: serve", "no such option"), content="[serve]\nport = 1"),
    Case(78, (r"{file}: 'a\nb'", "no such option"), content='"a\\nb" = 1'),
    Case(78, ("{file}: unix /x", "port must not be given"), content="unix = '/x'\nport = 1"),
    Case(78, ("{file}", "is not TOML", "line 1"), content="port 1"),
    Case(78, ("{file}", "is not TOML"), content="port = 1\nport = 2"),
    Case(78, ("{file}", "is not TOML"), content="port = " + "9" * 5000),
    Case(78, ("{file}", "is not TOML"), content="port = " + "[" * 20000),
    Case(78, ("{file}", "is not UTF-8"), content=b"host = '\xff'"),
    Case(78, ("{file}", "is not TOML"), content=b"\0" * 10),
    Case(78, ("{file}", "at most 1 MiB"), content="#" * ((1 << 20) + 1)),
]


def check(case: Case, err: str, file: str) -> None:
    for name in case.names:
        assert name.replace("{file}", file) in err
    assert len(err) < 400


@pytest.mark.parametrize("case", ON_THE_COMMAND_LINE + IN_THE_ENVIRONMENT, ids=str)
def test_bad_argument_or_variable(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = in_process(case.argv, case.environ or {}, capsys)
    check(case, outcome.complaint(case.code), "")


@pytest.mark.parametrize("given_by", ["option", "variable"])
@pytest.mark.parametrize("case", IN_THE_FILE, ids=str)
def test_a_bad_file_is_one_line_that_names_it(
    case: Case,
    given_by: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert case.content is not None
    monkeypatch.chdir(tmp_path)  # a long path would be shown in part
    path = Path("e.toml")
    path.write_bytes(case.content.encode() if isinstance(case.content, str) else case.content)
    argv = ["--config", str(path)] if given_by == "option" else []
    environ = {} if argv else {"FASTECHO_CONFIG": str(path)}
    outcome = in_process(argv, environ, capsys)
    check(case, outcome.complaint(case.code), str(path))


def test_every_option_has_a_bad_value_from_every_source() -> None:
    always_good = {"pin_buffers", "pid_file", "proxy_protocol", "udp", "tls_cert"}
    assert {name for name, _, _ in VALUES} | always_good == {option.name for option in options()}


@pytest.mark.parametrize(
    ("argv", "environ", "code", "line"),
    [
        (["--buffer-size", "7"], {}, 2, "--buffer-size 7: must be between 512 B and 16 MiB"),
        ([], {"FASTECHO_PORT": "x"}, 78, "FASTECHO_PORT=x: must be a whole number between 0 and 65535"),
    ],
)
def test_as_a_process(argv: list[str], environ: dict[str, str], code: int, line: str) -> None:
    assert as_process(argv, environ).complaint(code) == f"fastecho: {line}\n"


def test_descriptor_that_is_not_open() -> None:
    assert as_process(["--ready-fd", "99"]).logged(2) == "--ready-fd 99: must be an open descriptor"


# What keeps the server from listening


@pytest.fixture
def taken_port() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a path short enough for a socket, for any name of the test."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture(scope="module")
def unprivileged(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """What `as_process` runs `through` to be without privileges: nothing, unless the tests run as root."""
    if os.geteuid() != 0:
        return ()
    hidden = tmp_path_factory.mktemp("hidden") / "file"
    hidden.touch(0)
    probe = [sys.executable, *WITHOUT_PRIVILEGES, "-c", f"open({str(hidden)!r})"]
    if b"PermissionError" not in subprocess.run(probe, capture_output=True, check=False).stderr:
        pytest.skip("root that cannot give up its privileges")
    return WITHOUT_PRIVILEGES


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use(taken_port: int, workers: str) -> None:
    line = as_process(["--port", str(taken_port), "--workers", workers]).complaint(69)
    assert str(taken_port) in line


def test_port_in_use_on_the_second_address_only(taken_port: int) -> None:
    line = as_process(["--host", "127.0.0.2,127.0.0.1", "--port", str(taken_port)]).complaint(69)
    assert f"127.0.0.1:{taken_port}" in line


def test_unix_path_with_a_live_server(short_path: Path) -> None:
    path = short_path / "live"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert str(path) in as_process(["--unix", str(path)]).complaint(69)
    assert path.is_socket()


def test_unix_path_that_is_a_regular_file_stays_as_it_was(short_path: Path) -> None:
    path = short_path / "file"
    path.write_text("precious")
    assert str(path) in as_process(["--unix", str(path)]).complaint(69)
    assert path.read_text() == "precious"


def test_unix_path_that_is_a_directory(short_path: Path) -> None:
    assert str(short_path) in as_process(["--unix", str(short_path)]).complaint(69)


def test_unix_path_in_a_directory_that_is_not_there(short_path: Path) -> None:
    path = short_path / "none" / "s"
    assert str(path) in as_process(["--unix", str(path)]).complaint(1)


def test_unix_path_in_a_directory_that_is_not_writable(short_path: Path, unprivileged: Sequence[str]) -> None:
    short_path.chmod(0o500)
    path = short_path / "s"
    try:
        assert str(path) in as_process(["--unix", str(path)], through=unprivileged).complaint(77)
    finally:
        short_path.chmod(0o700)


def test_privileged_port_without_permission(unprivileged: Sequence[str]) -> None:
    start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if start.exists() and int(start.read_text()) == 0:
        pytest.skip("this system has no privileged ports")
    assert "127.0.0.1:7" in as_process(["--port", "7"], through=unprivileged).complaint(77)


def test_host_that_does_not_resolve() -> None:
    assert "no-such-host.invalid" in as_process(["--host", "no-such-host.invalid", "--port", "0"]).complaint(1)


def test_address_that_is_none_of_this_machine() -> None:
    # RFC 5737: 192.0.2.0/24 is for documentation, and no machine has it.
    assert "192.0.2.1" in as_process(["--host", "192.0.2.1", "--port", "0"]).complaint(1)


def test_configuration_file_without_permission(
    tmp_path_factory: pytest.TempPathFactory, unprivileged: Sequence[str]
) -> None:
    file = tmp_path_factory.mktemp("c") / "e.toml"
    file.write_text("port = 1")
    file.chmod(0)
    assert "ermission denied" in as_process(["--config", str(file)], through=unprivileged).complaint(78)


# Certificates


@dataclass(frozen=True)
class Certificates:
    directory: Path

    def path(self, name: str) -> str:
        return str(self.directory / name)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    ours, other = authority.issue_cert("localhost"), authority.issue_cert("example.com")
    (directory / "cert.pem").write_bytes(ours.cert_chain_pems[0].bytes())
    (directory / "key.pem").write_bytes(ours.private_key_pem.bytes())
    (directory / "other.pem").write_bytes(other.private_key_pem.bytes())
    (directory / "both.pem").write_bytes(ours.private_key_and_cert_chain_pem.bytes())
    (directory / "text.pem").write_text("not a certificate\n")
    (directory / "empty.pem").write_text("")
    return Certificates(directory)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"cert": "none.pem"}, "none.pem"),
        ({"cert": "text.pem"}, "text.pem"),
        ({"cert": "empty.pem"}, "empty.pem"),
        ({"cert": "."}, ""),
        ({"cert": "cert.pem"}, "cert.pem"),
        ({"cert": "cert.pem", "key": "none.pem"}, "none.pem"),
        ({"cert": "cert.pem", "key": "text.pem"}, "text.pem"),
        ({"cert": "cert.pem", "key": "other.pem"}, "other.pem"),
        ({"cert": "both.pem", "client-ca": "none.pem"}, "none.pem"),
        ({"cert": "both.pem", "client-ca": "text.pem"}, "text.pem"),
    ],
    ids=str,
)
def test_a_bad_certificate_is_one_line_that_names_it(
    certificates: Certificates, given: dict[str, str], named: str
) -> None:
    argv = ["--port", "0", "--workers", "2"]
    for option, name in given.items():
        argv += [f"--tls-{option}", certificates.path(name)]
    assert certificates.path(named).rstrip("/") in as_process(argv).complaint(78)


def test_certificate_without_permission(certificates: Certificates, unprivileged: Sequence[str]) -> None:
    path = certificates.directory / "hidden.pem"
    path.write_bytes((certificates.directory / "both.pem").read_bytes())
    path.chmod(stat.S_IWUSR)
    assert "ermission denied" in as_process(["--port", "0", "--tls-cert", str(path)], through=unprivileged).complaint(
        78
    )
