"""`ServerConfig`: defaults, bounds, wrong types, combinations, and the text form of every value."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastecho._options.cpus import usable_cpus
from fastecho._options.text import (
    LONGEST_UNIX_PATH,
    format_terminator,
    parse_terminator,
    path_validator,
    split_host_port,
)
from fastecho._options.types import (
    Choice,
    Flag,
    Integer,
    IntegerOrAuto,
    OptionType,
    Seconds,
    Size,
    Text,
    Workers,
    format_seconds,
    format_size,
)
from fastecho.config import GROUPS, Option, ServerConfig, options
from fastecho.errors import ConfigError, FastechoError
from fastecho.faults import Fault

BY_NAME = {option.name: option for option in options()}

LONG_NAME = ".".join(["x" * 62] * 4)[:249] + ".xyz"  # 253 characters, the most that DNS has

# name: (lowest, highest) allowed, and the nearest values beyond
BOUNDS: dict[str, tuple[Any, Any, Any, Any]] = {
    "port": (0, 65535, -1, 65536),
    "backlog": (1, 65535, 0, 65536),
    "ready_fd": (1, 1_048_575, 0, 1_048_576),
    "exit_fd": (0, 1_048_575, -1, 1_048_576),
    "workers": (1, 512, 0, 513),
    "busy_poll": (1, 1_000_000, 0, 1_000_001),
    "max_connections": (1, 1_000_000, 0, 1_000_001),
    "max_per_source": (1, 1_000_000, 0, 1_000_001),
    "tls_tickets": (0, 16, -1, 17),
    "idle_timeout": (0.001, 86400.0, 0.0, 86400.5),
    "write_timeout": (0.001, 86400.0, 0.0, 86400.5),
    "linger_timeout": (0.001, 86400.0, -1.0, 86400.5),
    "drain_timeout": (0.001, 86400.0, 0.0, float("inf")),
    "drain_grace": (0.0, 86400.0, -0.001, 86400.5),
    "shutdown_delay": (0.0, 86400.0, -0.001, 86400.5),
    "udp_rate": (1, 1_000_000_000, 0, 1_000_000_001),
    "buffer_size": (512, 16 << 20, 511, (16 << 20) + 1),
    "buffers": (2, 65536, 1, 65537),
    "seed": (0, (1 << 64) - 1, -1, 1 << 64),
    "stats": (0.1, 86400.0, 0.05, float("nan")),
}

# Every default: users rely on them, so none changes by a slip.
DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1", "port": 8007, "udp": False, "unix": None, "backlog": 4096, "proxy_protocol": False,
    "ready_fd": None, "exit_fd": None, "terminator": b"\0", "match": "tail", "workers": 1, "busy_poll": None,
    "user": None, "group": None, "pid_file": None, "max_connections": None, "max_per_source": None,
    "idle_timeout": None, "udp_rate": 10_000, "write_timeout": 30.0, "linger_timeout": 2.0, "drain_timeout": 10.0,
    "drain_grace": 0.5, "shutdown_delay": 0.0, "buffer_size": 65536, "buffers": 64, "pin_buffers": False,
    "tls_cert": None, "tls_key": None, "tls_client_ca": None, "tls_min_version": "1.2", "tls_tickets": 2,
    "fault": (), "seed": 0, "log_level": "info", "log_format": "text", "stats": None, "metrics": None,
}  # fmt: skip

WRONG_TYPES: list[tuple[str, Any]] = [
    ("host", 7),
    ("host", None),
    ("host", ["127.0.0.1"]),
    ("port", "x"),
    ("port", "8007"),
    ("port", 8007.0),
    ("port", True),
    ("port", None),
    ("unix", 7),
    ("workers", True),
    ("workers", "many"),
    ("workers", None),
    ("terminator", "\0"),
    ("terminator", 0),
    ("match", None),
    ("match", b"tail"),
    ("buffer_size", "64KiB"),
    ("buffer_size", 65536.0),
    ("pin_buffers", 1),
    ("pin_buffers", "yes"),
    ("max_connections", "auto"),
    ("idle_timeout", "off"),
    ("write_timeout", None),
    ("write_timeout", True),
    ("tls_cert", 7),
    ("fault", None),
    ("fault", 7),
    ("fault", b"reset()"),
    ("fault", [7]),
    ("fault", ""),
    ("seed", "7"),
    ("seed", 7.0),
    ("seed", True),
    ("seed", None),
    ("log_level", 10),
    ("log_format", "xml"),
    ("stats", "1s"),
]


def message_of(**given: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        ServerConfig(**given)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{caught.value.option} ")
    return text


def test_defaults_are_valid_and_are_those_of_the_options() -> None:
    config = ServerConfig()
    for option in options():
        assert getattr(config, option.name) == option.default


def test_no_default_has_changed() -> None:
    assert {option.name: option.default for option in options()} == DEFAULTS


def test_options_are_all_the_fields_once() -> None:
    assert sorted(option.name for option in options()) == sorted(each.name for each in fields(ServerConfig))
    assert all(option.help and option.group in GROUPS for option in options())


def test_docstring_tells_every_option_and_its_default() -> None:
    assert (ServerConfig.__doc__ or "").startswith("The configuration of a server: immutable")
    for option in options():
        assert f"{option.name}: {option.help} Default: {option.default!r}." in (ServerConfig.__doc__ or "")


def test_names_of_an_option() -> None:
    assert BY_NAME["buffer_size"].flag == "--buffer-size"
    assert BY_NAME["buffer_size"].variable == "FASTECHO_BUFFER_SIZE"


def test_config_is_frozen_hashable_and_picklable() -> None:
    config = ServerConfig(port=0, terminator=b"\r\n", idle_timeout=3)
    assert pickle.loads(pickle.dumps(config)) == config
    assert len({config, replace(config), ServerConfig()}) == 2
    with pytest.raises(FrozenInstanceError):
        config.port = 1  # type: ignore[misc]


def test_an_option_is_frozen_and_the_list_of_them_is_made_once() -> None:
    assert options() is options()
    with pytest.raises(FrozenInstanceError):
        options()[0].help = ""  # type: ignore[misc]


@pytest.mark.parametrize("made", [ServerConfig(), options()[0]], ids=["a config", "an option"])
def test_has_no_attributes_but_its_fields(made: object) -> None:
    assert not hasattr(made, "__dict__")


def test_options_are_given_by_name_only() -> None:
    with pytest.raises(TypeError, match="positional"):
        ServerConfig("127.0.0.1")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"udp": True, "unix": "/run/echo"}, "unix /run/echo: must not be given beside udp, which needs an address"),
        ({"group": "echo"}, "group echo: needs a user beside it: user"),
        (
            {"exit_fd": 3, "ready_fd": 3},
            "exit_fd 3: must not be ready_fd, which is closed when the server is ready",
        ),
    ],
    ids=["udp on a UNIX socket", "a group alone", "one descriptor for two ends"],
)
def test_options_that_do_not_go_together_are_refused(given: dict[str, Any], message: str) -> None:
    assert message_of(**given) == message


@pytest.mark.parametrize(
    "given",
    [
        {"udp": True},
        {"unix": "/run/echo"},
        {"user": "echo"},
        {"user": "echo", "group": "echo"},
        {"exit_fd": 3, "ready_fd": 4},
        {"exit_fd": 3},
        {"ready_fd": 3},
    ],
    ids=str,
)
def test_options_that_go_together_are_kept(given: dict[str, Any]) -> None:
    config = ServerConfig(**given)
    assert {name: getattr(config, name) for name in given} == given


def test_a_bad_value_of_a_toml_key_is_a_config_error() -> None:
    for value in (70_000, 80.5, "x"):
        with pytest.raises(ConfigError, match=r"port .*: must be"):
            BY_NAME["port"].validate(BY_NAME["port"].from_toml(value))


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="prot"):
        ServerConfig(prot=0)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_are_inclusive_and_told(name: str) -> None:
    low, high, below, above = BOUNDS[name]
    size: dict[str, Any] = {"buffer_size": 4096} if name == "buffers" else {}
    size |= {"tls_cert": "c.pem"} if name.startswith("tls_") else {}
    for value in (low, high):
        assert getattr(ServerConfig(**{name: value}, **size), name) == value
    for value in (below, above):
        assert "must be between" in message_of(**{name: value}, **size)


def test_every_number_has_its_bounds_tested() -> None:
    assert {name for name, option in BY_NAME.items() if hasattr(option.type, "low")} == set(BOUNDS)


def test_bound_of_a_size_is_told_in_human_units() -> None:
    assert message_of(buffer_size=7) == "buffer_size 7: must be between 512 B and 16 MiB"


def test_bound_of_a_time_tells_the_word_for_none() -> None:
    assert message_of(idle_timeout=0) == "idle_timeout 0: must be between 1 ms and 24 h, or off"


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES)
def test_wrong_type_is_one_clear_line(name: str, value: Any) -> None:
    assert "must be" in message_of(**{name: value})


def test_text_terminator_from_python_is_told_to_be_bytes() -> None:
    assert message_of(terminator="\0") == r"terminator '\x00': must be bytes, 1 to 64 of them, not str"


def test_config_error_is_a_value_error_that_survives_pickling() -> None:
    error = ConfigError("port", "x", "must be a number")
    copy = pickle.loads(pickle.dumps(error))
    assert issubclass(ConfigError, FastechoError)
    assert issubclass(ConfigError, ValueError)
    assert (str(copy), copy.option, copy.value, copy.must) == ("port x: must be a number", "port", "x", error.must)


def test_long_and_multi_line_values_stay_one_short_line() -> None:
    text = message_of(host="a\nb" * 1000)
    assert len(text) < 250
    assert r"a\nb" in text


def test_workers_auto_is_the_number_of_usable_cpus() -> None:
    assert ServerConfig(workers="auto").workers == usable_cpus()  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_usable_cpus_respects_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert ServerConfig(workers="auto").workers == 1  # type: ignore[arg-type]
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tls_key", "x.pem"), ("tls_client_ca", "x.pem"), ("tls_min_version", "1.3"), ("tls_tickets", 0)],
)
def test_tls_option_without_certificate_is_refused(name: str, value: Any) -> None:
    assert message_of(**{name: value}) == f"{name} {value}: needs a certificate beside it: tls_cert"
    with_cert: dict[str, Any] = {"tls_cert": "c.pem", name: value}
    assert getattr(ServerConfig(**with_cert), name) == value


@pytest.mark.parametrize(
    "value",
    [
        "reset(after_sent=17).first(2); latency(0.1)",
        [Fault.reset(after_sent=17).first(2), Fault.latency(0.1)],
        ("reset(after_sent=17).first(2)", Fault.latency(0.1)),
    ],
    ids=["text", "list", "tuple"],
)
def test_faults_become_a_tuple_of_faults(value: Any) -> None:
    assert ServerConfig(fault=value).fault == (Fault.reset(after_sent=17).first(2), Fault.latency(0.1))


def test_one_fault_and_no_fault_become_a_tuple_too() -> None:
    assert ServerConfig(fault=Fault.refuse()).fault == (Fault.refuse(),)  # type: ignore[arg-type]
    for nothing in ((), [], "none"):
        assert ServerConfig(fault=nothing) == ServerConfig()  # type: ignore[arg-type]


def test_config_with_faults_is_hashable_and_picklable() -> None:
    config = ServerConfig(fault=(Fault.slice([3, 5, 8]).chance(0.5), Fault.half_close(on=b"QUIT")), seed=7)
    copy = pickle.loads(pickle.dumps(config))
    assert (copy, hash(copy)) == (config, hash(config))


def test_line_of_a_bad_fault_says_which_one_and_why() -> None:
    assert message_of(fault="refuse(); reset(after_sent=-1)") == (
        "fault 'refuse(); reset(after_sent=-1)': "
        "reset(after_sent=-1): after_sent must be a whole number of bytes, 0 or more"
    )
    assert message_of(fault=["rset()"]) == "fault ['rset()']: rset: no such fault; did you mean reset?"


@pytest.mark.parametrize("fault", [Fault.tls_abort(), Fault.tls_stall(), Fault.no_close_notify().first(2)], ids=str)
def test_fault_of_tls_without_tls_is_refused(fault: Fault) -> None:
    assert message_of(fault=(Fault.reset(), fault)) == f"fault {fault}: {fault.kind} needs TLS: tls_cert"
    assert ServerConfig(fault=(fault,), tls_cert="c.pem").fault == (fault,)


def test_every_seed_of_64_bits_reads_as_itself() -> None:
    most = (1 << 64) - 1
    for text in (str(most), f"+{most}"):
        assert BY_NAME["seed"].parse(text) == most


def test_importing_the_configuration_needs_nothing_of_the_fault_language() -> None:
    """Its modules are in every start; what only some text or some draw needs is not."""
    code = (
        "import sys, dataclasses; before = set(sys.modules); import fastecho.faults\n"
        "print(sorted({'ast', 'asyncio', 'difflib', 'hashlib', 'random', 'socket'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_preallocation_of_more_than_any_machine_needs_is_refused() -> None:
    assert "at most 1024 with a buffer_size of 16 MiB" in message_of(buffers=1025, buffer_size=16 << 20)
    ServerConfig(buffers=1024, buffer_size=16 << 20)


def test_unix_path_is_as_long_as_the_kernel_allows() -> None:
    longest = "/" + "x" * (LONGEST_UNIX_PATH - 1)
    assert ServerConfig(unix=longest).unix == longest
    # Bytes count, not characters.
    assert f"at most {LONGEST_UNIX_PATH} bytes" in message_of(unix=longest[:-1] + "é")


def test_unix_path_leaves_space_for_the_name_it_is_bound_to_first() -> None:
    assert (100 if sys.platform.startswith("linux") else 96) == LONGEST_UNIX_PATH


@pytest.mark.parametrize(("path", "what"), [("", "not empty"), ("a\0b", "not one with a NUL in it")])
@pytest.mark.parametrize("name", ["unix", "tls_cert"])
def test_path_that_no_system_takes_is_refused(name: str, path: str, what: str) -> None:
    assert message_of(**{name: path}).endswith(f": must be a path, {what}")


def test_abstract_unix_socket_has_a_name_and_is_of_linux_only(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "linux")
        assert [ServerConfig(unix=path).unix for path in ("@a", "@@", "./@", "/a@")] == ["@a", "@@", "./@", "/a@"]
        assert message_of(unix="@") == "unix @: must be a path, or @ and a name"
        patched.setattr(sys, "platform", "darwin")
        assert ServerConfig(unix="./@a").unix == "./@a"
        assert "only Linux has abstract sockets" in message_of(unix="@a")


@pytest.mark.parametrize("account", ["nobody", "65534", "a-b_c", "_x$"])
def test_account_is_a_name_or_a_number(account: str) -> None:
    assert ServerConfig(user=account).user == account


@pytest.mark.parametrize("account", ["", " ", "a b", "a:b", "a\n", "\0", 7])
def test_account_that_no_system_has_is_refused(account: Any) -> None:
    assert message_of(user=account).endswith(": must be a name or a number")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:9100", "localhost:0", "*:65535", "[::1]:9100", "[fe80::1%eth0]:00080", "[::]:1", "x" * 63 + ":1"],
)
def test_address_of_the_metrics_has_one_host_and_a_port(address: str) -> None:
    assert ServerConfig(metrics=address).metrics == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "9100",
        ":9100",
        "a:",
        "a:x",
        "a:-1",
        "a:65536",
        "a:000080",
        "a:１",
        "a,b:80",
        "::1:9100",
        "[::1]",
        "[::1:80",
        "::1]:80",
        "[a]:80",
        "[:]:80",
        "[::g]:80",
        "a b:80",
        9100,
    ],
)
def test_address_of_the_metrics_that_is_none_is_refused(address: Any) -> None:
    must = "must be HOST:PORT, such as 127.0.0.1:9100, [::1]:9100 or *:9100"
    assert message_of(metrics=address).endswith(f": {must}")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("localhost:80", ("localhost", "80")),
        ("[::1]:80", ("::1", "80")),
        ("[::1:80", ("[::1", "80")),
        ("::1]:80", ("::1]", "80")),
    ],
)
def test_brackets_of_an_address_are_no_part_of_its_host(address: str, parts: tuple[str, str]) -> None:
    assert split_host_port(address) == parts


def test_path_objects_become_text() -> None:
    assert ServerConfig(unix=Path("/run/echo")).unix == "/run/echo"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1, ::1", "127.0.0.1,::1"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost.,localhost.", "localhost."),
        ("*", "*"),
        ("bücher.example", "bücher.example"),
        ("x" * 63, "x" * 63),
        (LONG_NAME, LONG_NAME),
    ],
)
def test_hosts_are_kept_tidy(host: str, kept: str) -> None:
    assert ServerConfig(host=host).host == kept


@pytest.mark.parametrize(
    "host",
    [
        "",
        ",",
        "a,,b",
        "*,::1",
        "127.0.0.1:80",
        "[::1]:80",
        "[[a]]",
        "[[*]],127.0.0.1",
        "a b",
        "a\0b",
        "a..b",
        ".",
        "x" * 64,
        "ü" * 60,
        "ü" * 70,
        LONG_NAME + "x",
        "[a",
        "a]",
        "[::1",
        "label." * 50,
    ],
)
def test_hosts_that_the_resolver_would_choke_on_are_refused(host: str) -> None:
    message_of(host=host)


@pytest.mark.parametrize("terminator", [b"x", b"\0" * 64, bytearray(b"\r\n"), memoryview(b"END")])
def test_terminator_becomes_bytes(terminator: Any) -> None:
    kept = ServerConfig(terminator=terminator).terminator
    assert type(kept) is bytes
    assert kept == bytes(terminator)


@pytest.mark.parametrize("terminator", [b"", b"x" * 65])
def test_terminator_of_no_or_too_many_bytes_is_refused(terminator: bytes) -> None:
    assert "1 to 64 bytes" in message_of(terminator=terminator)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\0", b"\0"),
        (r"\r\n", b"\r\n"),
        (r"\t\\\x41", b"\t\\A"),
        (r"\0x", b"\0x"),
        ("hex:0d0a", b"\r\n"),
        ("hex:0D 0A", b"\r\n"),
        ("END", b"END"),
        (" ", b" "),
        ("é", b"\xc3\xa9"),
        ("\udcff", b"\xff"),
        ("\n", b"\n"),
        ("None", b"None"),
        ("none", None),
        ("", b""),
        ("x" * 300, b"x" * 300),
    ],
)
def test_each_form_of_a_terminator_is_parsed(text: str, value: bytes | None) -> None:
    assert BY_NAME["terminator"].parse(text) == value


@pytest.mark.parametrize("text", [r"\q", "\\", r"\x4", r"\xg0", r"\012", "hex:0", "hex:zz", "\ud800"])
def test_terminator_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        BY_NAME["terminator"].parse(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\0", r"\0"),
        (b"\r\n", r"\r\n"),
        (b"END", "END"),
        (b"quit", "quit"),
        (b"none", "hex:6e6f6e65"),
        (b"hex:0d", "hex:6865783a3064"),
        (b"a\\b", "hex:615c62"),
        (b"\t", "hex:09"),
        ("é".encode(), "hex:c3a9"),
    ],
)
def test_terminator_is_shown_as_text_where_that_reads_as_itself(value: bytes, text: str) -> None:
    assert format_terminator(value) == text


@given(st.binary(min_size=1, max_size=64))
def test_every_terminator_can_be_written_and_read_again(terminator: bytes) -> None:
    assert parse_terminator(format_terminator(terminator)) == terminator
    assert BY_NAME["terminator"].parse(format_terminator(terminator)) == terminator


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("65536", 65536),
        ("64KiB", 65536),
        ("64 kib", 65536),
        ("64k", 65536),
        ("1M", 1 << 20),
        ("1MiB", 1 << 20),
        ("512B", 512),
        ("007", 7),
        ("-1", -1),
    ],
)
def test_each_form_of_a_size_is_parsed(text: str, value: int) -> None:
    assert BY_NAME["buffer_size"].parse(text) == value


@pytest.mark.parametrize("text", ["", "x", "64KB", "64MB", "1.5MiB", "0x200", "64 Ki B", "६४", "1_000"])
def test_size_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be a size, such as 65536, 64KiB or 1MiB"):
        BY_NAME["buffer_size"].parse(text)


@pytest.mark.parametrize("name", ["port", "buffer_size"])
def test_number_of_thousands_of_digits_is_out_of_range_and_nothing_worse(name: str) -> None:
    with pytest.raises(ConfigError, match="must be between"):
        BY_NAME[name].validate(BY_NAME[name].parse("9" * 5000))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2.0),
        ("0.25", 0.25),
        (".5", 0.5),
        ("200ms", 0.2),
        ("2s", 2.0),
        ("5m", 300.0),
        ("5 min", 300.0),
        ("1h", 3600.0),
        ("off", None),
        ("-1", -1.0),
    ],
)
def test_each_form_of_a_time_is_parsed(text: str, value: float | None) -> None:
    assert BY_NAME["idle_timeout"].parse(text) == value


@pytest.mark.parametrize("text", ["", "x", "2d", "1e3", "nan", "inf", "1:30", "2 s s"])
def test_time_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be a time"):
        BY_NAME["idle_timeout"].parse(text)


@pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
def test_default_as_help_shows_it_reads_as_the_default(option: Option) -> None:
    if shown := option.format(option.default):
        assert option.validate(option.parse(shown)) == option.default


@given(st.integers(512, 16 << 20))
def test_every_size_can_be_shown_and_read_again(size: int) -> None:
    assert BY_NAME["buffer_size"].parse(format_size(size)) == size


@given(st.floats(0.001, 86400).map(lambda seconds: round(seconds, 4)))
def test_every_time_can_be_shown_and_read_again(seconds: float) -> None:
    assert BY_NAME["write_timeout"].parse(format_seconds(seconds)) == seconds


@given(st.floats(0, 86400))
def test_the_smallest_time_can_be_shown_and_read_again(seconds: float) -> None:
    assert BY_NAME["drain_grace"].parse(format_seconds(seconds)) == seconds


@given(st.sampled_from(options()), st.text())
def test_no_text_raises_anything_but_a_config_error(option: Option, text: str) -> None:
    with contextlib.suppress(ConfigError):
        option.validate(option.parse(text))


@pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
def test_a_default_is_valid_and_stays_as_it_is(option: Option) -> None:
    assert option.validate(option.default) == option.default
    assert type(option.validate(option.default)) is type(option.default)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1025, "1025 B"),
        (3 << 19, "1536 KiB"),
        (1 << 20, "1 MiB"),
        (5 << 30, "5 GiB"),
        (1 << 40, "1024 GiB"),
    ],
)
def test_size_is_shown_in_its_largest_whole_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.00005, "0.00005 s"),
        (0.0005, "0.0005 s"),
        (0.001, "1 ms"),
        (0.25, "250 ms"),
        (0.999, "999 ms"),
        (0.9995, "0.9995 s"),
        (1.0, "1 s"),
        (1.5, "1.5 s"),
        (10.05, "10.05 s"),
        (3599.0, "3599 s"),
        (3600.0, "1 h"),
        (5400.0, "5400 s"),
        (7200.0, "2 h"),
        (86400.0, "24 h"),
        (36_000_000.0, "10000 h"),
    ],
)
def test_time_is_shown_in_hours_seconds_or_milliseconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("7b", 7),
        ("3k", 3 << 10),
        ("3m", 3 << 20),
        ("2g", 2 << 30),
        ("2GiB", 2 << 30),
        ("1T", 1 << 40),
        ("1tib", 1 << 40),
    ],
)
def test_each_unit_of_a_size_is_a_power_of_1024(text: str, size: int) -> None:
    assert Size(0, 1 << 50).parse(text) == size


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("7s", 7.0), ("7ms", 0.007), ("7m", 420.0), ("7min", 420.0)])
def test_each_unit_of_a_time_is_so_many_seconds(text: str, seconds: float) -> None:
    assert Seconds(0.0, 1e6).parse(text) == seconds


@pytest.mark.parametrize(
    ("type", "none", "must"),
    [
        (Integer(1, 9), None, "must be a whole number between 1 and 9"),
        (Integer(1, 9, none="off"), "off", "must be a whole number between 1 and 9, or off"),
        (Workers(1, 9), None, "must be a whole number between 1 and 9, or auto"),
        (IntegerOrAuto(1, 9), None, "must be a whole number between 1 and 9, or auto"),
        (IntegerOrAuto(1, 9, none="off"), "off", "must be a whole number between 1 and 9, auto or off"),
        (Size(1, 9), None, "must be a size, such as 65536, 64KiB or 1MiB"),
        (Seconds(1, 9), None, "must be a time, such as 30, 2s, 500ms or 5m"),
        (Seconds(1, 9, none="off"), "off", "must be a time, such as 30, 2s, 500ms or 5m, or off"),
        (Flag(), None, "must be true or false"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_type_says_what_it_takes_and_the_word_for_none(type: OptionType, none: str | None, must: str) -> None:
    with pytest.raises(ValueError) as caught:
        type.parse("many")
    assert str(caught.value) == must
    assert type.format(None) == (none or "")
    if none is None:
        with pytest.raises(ValueError):
            type.validate(None)
    else:
        assert type.parse(none) is None
        assert type.validate(None) is None


@pytest.mark.parametrize(
    ("type", "value", "must"),
    [
        (Integer(1, 9), 10, "must be between 1 and 9"),
        (Integer(1, 9, none="off"), 0, "must be between 1 and 9, or off"),
        (Workers(1, 9), 10, "must be between 1 and 9"),
        (IntegerOrAuto(1, 9, none="off"), 0, "must be between 1 and 9, auto or off"),
        (Size(512, 1 << 20), 1, "must be between 512 B and 1 MiB"),
        (Size(512, 1 << 20), 600.0, "must be a whole number of bytes between 512 and 1048576"),
        (Seconds(0, 9), 10, "must be between 0 and 9 s"),
        (Seconds(0.5, 9, none="off"), 0, "must be between 500 ms and 9 s, or off"),
        (Seconds(0, 9), "1", "must be a number of seconds"),
        (Seconds(0, 9, none="off"), True, "must be a number of seconds, or off"),
        (Choice("a", "b", "c"), "d", "must be a, b or c"),
        (Choice("a", "b"), None, "must be a or b"),
        (OptionType(), 7, "must be text"),
        (Flag(), 1, "must be true or false"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, OptionType) else str(value),
)
def test_a_value_that_a_type_does_not_take(type: OptionType, value: Any, must: str) -> None:
    with pytest.raises(ValueError) as caught:
        type.validate(value)
    assert str(caught.value) == must


def test_types_name_what_they_take_in_help() -> None:
    found = [Integer(1, 9), Integer(1, 9, metavar="US"), Workers(1, 9), IntegerOrAuto(1, 9), Size(1, 9), Seconds(1, 9)]
    assert [each.metavar for each in found] == ["N", "US", "N|auto", "N|auto", "SIZE", "TIME"]
    assert [Flag().metavar, Choice("a", "b").metavar, Text("FILE", str).metavar, OptionType().metavar] == [
        "", "a|b", "FILE", "TEXT",
    ]  # fmt: skip


def test_a_value_is_kept_as_its_plain_type() -> None:
    class Number(int):
        pass

    kept = Integer(1, 9).validate(Number(3))
    assert (kept, type(kept)) == (3, int)
    assert type(Seconds(1, 9).validate(3)) is float
    assert [Choice("a", "b").validate(each) for each in ("A", "b")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "value"),
    [(word, True) for word in ("1", "TRUE", "Yes", "on")] + [(word, False) for word in ("0", "false", "NO", "off")],
)
def test_each_word_of_a_flag_is_parsed(text: str, value: bool) -> None:
    assert Flag().parse(text) is value
    assert Flag().parse(Flag().format(value)) is value


def test_text_without_a_word_for_none_takes_none_from_python_only_where_it_is_optional() -> None:
    required, optional = Text("FILE", path_validator()), Text("FILE", path_validator(), optional=True)
    assert optional.validate(None) is None
    assert optional.format(None) == ""
    assert optional.parse("none") == "none"
    with pytest.raises(ValueError, match="must be a path"):
        required.validate(None)
    assert Text("TEXT", str, none="none").validate(None) is None


def test_workers_are_at_most_as_many_as_the_option_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastecho._options.types.usable_cpus", lambda: 700)
    made = Workers(1, 512)
    assert [made.parse("auto"), made.validate("auto"), made.parse(" 7 ")] == [512, 512, 7]


def test_auto_is_kept_where_it_is_a_value_of_its_own() -> None:
    made = IntegerOrAuto(1, 9)
    assert [made.parse("auto"), made.validate("auto"), made.parse("7"), made.validate(7)] == ["auto", "auto", 7, 7]


def test_text_of_a_number_is_read_up_to_the_digits_that_a_bound_can_have() -> None:
    assert Integer(0, 9).parse("1" * 20) == int("1" * 20)
    assert Integer(0, 9).parse("-" + "1" * 20) == -int("1" * 20)
    assert Size(0, 9).parse("1" * 21) == int("1" * 21)
