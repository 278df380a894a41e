"""The command line: help, sources and their precedence, exit codes, and what it does when things go wrong."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command import Outcome, as_process, clean_environment, in_process
from fastecho._options.types import Flag
from fastecho._version import __version__
from fastecho.cli.main import main
from fastecho.config import GROUPS, Option, ServerConfig, options
from fastecho.errors import AddressInUseError, ConfigError, CrashLoopError
from fastecho.faults import Fault
from patience import DEADLINE

Command = Callable[..., Outcome]

# name: text for the command line, environment and file; the same in TOML where it has such values; in Python
SAMPLES: dict[str, tuple[str, str | None, Any]] = {
    "host": ("::1,127.0.0.1", None, "::1,127.0.0.1"),
    "port": ("9000", "9_000", 9000),
    "udp": ("true", "true", True),
    "unix": ("/tmp/echo.sock", None, "/tmp/echo.sock"),
    "backlog": ("128", "128", 128),
    "ready_fd": ("9", "9", 9),
    "exit_fd": ("9", "9", 9),
    "terminator": (r"\r\n", None, b"\r\n"),
    "match": ("anywhere", None, "anywhere"),
    "workers": ("4", "4", 4),
    "user": ("nobody", None, "nobody"),
    "group": ("www-data", None, "www-data"),
    "pid_file": ("fastecho.pid", None, "fastecho.pid"),
    "busy_poll": ("50", "50", 50),
    "max_connections": ("1000", "1000", 1000),
    "idle_timeout": ("500ms", "0.5", 0.5),
    "udp_rate": ("off", None, None),
    "write_timeout": ("5m", "300", 300),
    "linger_timeout": ("3", "3", 3.0),
    "drain_timeout": ("3s", "3.0", 3.0),
    "drain_grace": ("0", "0", 0.0),
    "shutdown_delay": ("5s", "5", 5.0),
    "buffer_size": ("4KiB", "4096", 4096),
    "buffers": ("8", "8", 8),
    "pin_buffers": ("true", "true", True),
    "proxy_protocol": ("true", "true", True),
    "max_per_source": ("20", "20", 20),
    "tls_cert": ("cert.pem", None, "cert.pem"),
    "tls_key": ("key.pem", None, "key.pem"),
    "tls_client_ca": ("ca.pem", None, "ca.pem"),
    "tls_min_version": ("1.3", None, "1.3"),
    "tls_tickets": ("4", "4", 4),
    "fault": (
        "reset(after_sent=17).first(2); refuse()",
        "['reset(after_sent=17).first(2)', 'refuse()']",
        (Fault.reset(after_sent=17).first(2), Fault.refuse()),
    ),
    "seed": ("18446744073709551615", "18446744073709551615", (1 << 64) - 1),
    "log_level": ("debug", None, "debug"),
    "log_format": ("json", None, "json"),
    "stats": ("10s", "10", 10),
    "metrics": ("[::1]:9100", None, "[::1]:9100"),
}
# name: the option that it needs beside it
NEEDS = {
    "tls_key": "tls_cert", "tls_client_ca": "tls_cert", "tls_min_version": "tls_cert", "tls_tickets": "tls_cert",
    "group": "user",
}  # fmt: skip


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`command(*argv, environ={}, run=None)`: the CLI's main function, with the supervisor replaced."""

    def call(
        *argv: str, environ: dict[str, str] | None = None, run: Callable[[ServerConfig], int] | None = None
    ) -> Outcome:
        return in_process(argv, environ or {}, capsys, run)

    return call


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], str]:
    def write(content: str) -> str:
        path = tmp_path / "echo.toml"
        path.write_text(content)
        return str(path)

    return write


def arguments(option: Option, text: str) -> list[str]:
    return [option.flag] if isinstance(option.type, Flag) else [option.flag, text]


# Help and version


@pytest.fixture
def help_text(command: Command) -> str:
    outcome = command("--help", environ={"COLUMNS": "200"})
    assert (outcome.code, outcome.err, outcome.configs) == (0, "", [])
    return outcome.out


@pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
def test_help_has_the_option_and_its_default(help_text: str, option: Option) -> None:
    words = " ".join(help_text.split())
    name = f"--[no-]{option.flag[2:]}" if isinstance(option.type, Flag) else f"{option.flag} {option.type.metavar}"
    assert f" {name} {option.help}" in words
    default = option.format(option.default)
    if default and not isinstance(option.type, Flag):
        assert f"{option.help} [default: {default}]" in words


def test_help_fits_80_columns_and_has_its_groups_in_order(help_text: str) -> None:
    lines = help_text.splitlines()
    assert max(map(len, lines)) < 80
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == [f"{group}:" for group in ("Commands", *GROUPS, "Other")]


def test_help_stays_readable_on_a_narrow_terminal(command: Command) -> None:
    out = command("--help", environ={"COLUMNS": "60"}).out
    assert max(map(len, out.splitlines())) <= 60


@pytest.mark.parametrize("argv", [["serve", "--help"], ["-h"], ["--port", "x", "--help"]])
def test_help_is_the_same_wherever_it_is_asked_for(command: Command, help_text: str, argv: list[str]) -> None:
    assert command(*argv).out == help_text


@pytest.mark.parametrize("argv", [["--version"], ["serve", "--version"]])
def test_version_is_printed_and_the_exit_code_is_0(command: Command, argv: list[str]) -> None:
    outcome = command(*argv)
    assert (outcome.code, outcome.out, outcome.err) == (0, f"fastecho {__version__}\n", "")


# Commands


@pytest.mark.parametrize("argv", [[], ["serve"]])
def test_serve_is_the_default_command(command: Command, argv: list[str]) -> None:
    assert command(*argv).config == ServerConfig()


def test_options_stand_with_and_without_the_command(command: Command) -> None:
    assert command("--workers", "4").config == command("serve", "--workers=4").config == ServerConfig(workers=4)


def test_a_command_is_imported_when_it_is_called_and_not_before() -> None:
    code = (
        "import sys, fastecho.cli.main, fastecho.cli._group as group\n"
        "print(sorted({module for module, _ in group.COMMANDS.values()} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_exit_code_is_the_supervisors(command: Command) -> None:
    assert command(run=lambda config: 143).code == 143


# Sources


def test_every_option_has_a_sample() -> None:
    assert set(SAMPLES) == {option.name for option in options()}


@pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
def test_every_source_makes_the_same_configuration(
    command: Command, toml: Callable[[str], str], option: Option
) -> None:
    text, native, value = SAMPLES[option.name]
    needed = NEEDS.get(option.name)
    options: dict[str, Any] = {option.name: value, **({needed: "c"} if needed else {})}
    expected = ServerConfig(**options)
    assert expected != ServerConfig()
    beside = [f"--{needed.replace('_', '-')}", "c"] if needed else []
    assert command(*arguments(option, text), *beside).config == expected
    assert command(*beside, environ={option.variable: text}).config == expected
    assert command(*beside, "--config", toml(f"{option.name} = '{text}'")).config == expected
    if native is not None:
        assert command(*beside, "--config", toml(f"{option.name} = {native}")).config == expected


def test_precedence_is_command_line_environment_file_default(command: Command, toml: Callable[[str], str]) -> None:
    file = toml("workers = 2\nbuffers = 2\nbacklog = 2")
    environ = {"FASTECHO_WORKERS": "3", "FASTECHO_BUFFERS": "3", "FASTECHO_CONFIG": file}
    config = command("--workers", "4", environ=environ).config
    assert (config.workers, config.buffers, config.backlog, config.port) == (4, 3, 2, 8007)


def test_config_option_comes_before_its_variable(command: Command, toml: Callable[[str], str]) -> None:
    file = toml("workers = 2")
    assert command("--config", file, environ={"FASTECHO_CONFIG": "/nowhere"}).config.workers == 2


def test_the_last_of_two_equal_options_counts(command: Command) -> None:
    assert command("--port", "1", "--port", "2").config.port == 2


def test_every_fault_counts_of_those_given_one_by_one(command: Command) -> None:
    argv = ["--fault", "reset(after_sent=17).first(2)", "--seed", "7", "--fault=refuse(); latency(0.1)"]
    assert command(*argv).config == ServerConfig(
        fault=(Fault.reset(after_sent=17).first(2), Fault.refuse(), Fault.latency(0.1)), seed=7
    )


def test_a_fault_can_be_taken_back(command: Command) -> None:
    environ = {"FASTECHO_FAULT": "reset()"}
    assert command(environ=environ).config.fault == (Fault.reset(),)
    assert command("--fault", "none", environ=environ).config.fault == ()


def test_faults_of_the_file_may_be_a_text_of_several_lines(command: Command, toml: Callable[[str], str]) -> None:
    file = toml("fault = '''\nreset(after_sent=17).first(2)\nhalf_close(on='QUIT\\r\\n')\n'''")
    expected = (Fault.reset(after_sent=17).first(2), Fault.half_close(on=b"QUIT\r\n"))
    assert command("--config", file).config.fault == expected


def test_a_value_that_does_not_count_does_no_harm(command: Command) -> None:
    environ = {"FASTECHO_PORT": "tcp://10.0.0.1:8007"}
    assert command("--port", "1", environ=environ).config.port == 1


def test_an_empty_variable_is_not_set(command: Command) -> None:
    assert command(environ={"FASTECHO_PORT": "", "FASTECHO_CONFIG": ""}).config == ServerConfig()


def test_a_flag_can_be_taken_back(command: Command) -> None:
    assert command("--no-pin-buffers", environ={"FASTECHO_PIN_BUFFERS": "1"}).config.pin_buffers is False


@pytest.mark.parametrize(("name", "word"), [("idle_timeout", "off"), ("max_connections", "auto"), ("stats", "off")])
def test_a_limit_can_be_taken_back(command: Command, name: str, word: str) -> None:
    (option,) = (each for each in options() if each.name == name)
    config = command(option.flag, word, environ={option.variable: "100"}).config
    assert getattr(config, name) is None


def test_choices_are_taken_in_any_case(command: Command) -> None:
    assert command("--log-level", "WARNING").config.log_level == "warning"


def test_the_first_source_that_names_a_transport_decides(command: Command, toml: Callable[[str], str]) -> None:
    unix_file = toml("unix = '/tmp/file.sock'")
    assert command("--config", unix_file).config.unix == "/tmp/file.sock"
    assert command("--config", unix_file, "--port", "1").config == ServerConfig(port=1)
    assert command("--unix", "/x", environ={"FASTECHO_PORT": "1"}).config == ServerConfig(unix="/x")
    assert command("--port", "1", environ={"FASTECHO_HOST": "::1"}).config == ServerConfig(port=1, host="::1")


def test_a_slip_in_a_variables_name_is_warned_of_and_no_other_name_is(command: Command) -> None:
    environ = {
        "FASTECHO_WORKER": "4",
        "FASTECHO_BUFFERSIZE": "4",
        "FASTECHO_SERVICE_HOST": "10.0.0.1",
        "FASTECHO_PORT_8007_TCP": "tcp://10.0.0.1:8007",
        "FASTECHO_BUILD": "debug",
        "FASTECHO_TEST_UNIT": "1",
    }
    outcome = command(environ=environ)
    assert outcome.config == ServerConfig()
    first, second = outcome.err.splitlines()
    assert "FASTECHO_BUFFERSIZE is no option and is not used; did you mean FASTECHO_BUFFER_SIZE?" in first
    assert "FASTECHO_WORKER is no option and is not used; did you mean FASTECHO_WORKERS?" in second


@pytest.mark.parametrize("name", ["FASTECHO_HELP", "FASTECHO_VERSION"])
def test_the_options_that_end_the_command_are_not_read_from_the_environment(command: Command, name: str) -> None:
    assert command(environ={name: "1"}).config == ServerConfig()


def test_log_level_and_format_are_those_of_the_options(command: Command) -> None:
    def run(config: ServerConfig) -> int:
        logging.getLogger("fastecho").warning("hello")
        logging.getLogger("fastecho").info("hidden")
        return 0

    err = command("--log-level", "warning", "--log-format", "json", run=run).err
    assert err.count("\n") == 1
    assert '"message": "hello"' in err


# What goes wrong


def raising(error: BaseException) -> Callable[[ServerConfig], int]:
    def run(config: ServerConfig) -> int:
        raise error

    return run


def test_error_of_the_server_is_its_line_and_its_code(command: Command) -> None:
    outcome = command(run=raising(AddressInUseError("tcp://127.0.0.1:8007 is in use")))
    assert outcome.logged(69) == "tcp://127.0.0.1:8007 is in use"
    assert command(run=raising(CrashLoopError("gave\n up"))).logged(70) == "gave up"


def test_option_that_the_server_refuses_is_named_as_it_was_given(command: Command) -> None:
    refusal = raising(ConfigError("ready_fd", 9, "must be an open descriptor"))
    on_the_line = command("--ready-fd", "9", run=refusal)
    assert on_the_line.logged(2) == "--ready-fd 9: must be an open descriptor"
    in_the_environment = command(environ={"FASTECHO_READY_FD": "9"}, run=refusal)
    assert in_the_environment.logged(78) == "FASTECHO_READY_FD=9: must be an open descriptor"
    assert command(run=refusal).logged(78) == "ready_fd 9: must be an open descriptor"


def test_ctrl_c_at_start_up_is_130_and_silent(command: Command) -> None:
    outcome = command(run=raising(KeyboardInterrupt()))
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "")


def test_help_shows_what_the_values_of_an_option_look_like(command: Command) -> None:
    shown = command("--help").out
    for option in ("--workers N|auto", "--buffer-size SIZE", "--idle-timeout TIME", "--busy-poll US", "--port N"):
        assert option in shown
    assert "--size -s SIZE" in command("ping", "--help").out or "-s, --size SIZE" in command("ping", "--help").out


def test_bug_is_one_line_that_says_where(command: Command) -> None:
    line = command(run=raising(RuntimeError("two\nlines"))).logged(1)
    assert line.startswith("this is a bug in fastecho: RuntimeError: two lines (at ")
    assert line.endswith(f"serve.py:{line.rsplit(':', 1)[1]}")


@pytest.mark.parametrize("folder", ["/home/me/fastecho/tests", "/home/me/fästecho dir/src/fastecho/elsewhere"])
def test_a_bug_is_located_in_the_package_and_not_in_a_folder_of_its_name(command: Command, folder: str) -> None:
    caller: dict[str, Any] = {}
    exec(compile("def run(config):\n    raise RuntimeError('boom')", f"{folder}/caller.py", "exec"), caller)
    line = command(run=caller["run"]).complaint(1)
    assert "(at serve.py:" in line


def test_an_error_of_the_system_that_is_no_shortage_is_a_bug(command: Command) -> None:
    line = command(run=raising(OSError(9, "Bad file descriptor"))).complaint(1)
    assert "this is a bug in fastecho: OSError: [Errno 9] Bad file descriptor (at " in line


def test_a_bug_of_a_command_without_a_log_has_its_traceback_at_level_debug(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, sequence: int) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("fastecho.bench.ping.Pinger.ping", fail)
    argv = ["ping", "--once", "127.0.0.1:1"]
    assert "this is a bug in fastecho: RuntimeError: boom (at " in command(*argv).complaint(1)
    outcome = command(*argv, environ={"FASTECHO_LOG_LEVEL": "debug"})
    assert outcome.code == 1
    first, *rest = outcome.err.splitlines()
    assert first.startswith("fastecho: this is a bug in fastecho: RuntimeError: boom (at ")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "RuntimeError: boom"


def test_a_bug_in_a_compiled_module_is_located_there(command: Command) -> None:
    from fastecho._buffer import BufferPool

    line = command(run=lambda config: BufferPool(-1, -1)).complaint(1)
    assert "(at _buffer.pyx:" in line


@pytest.mark.parametrize(
    ("argv", "environ"),
    [(["--log-level", "debug"], {}), ([], {"FASTECHO_LOG_LEVEL": "debug"})],
    ids=["option", "variable"],
)
def test_bug_at_level_debug_has_its_traceback(command: Command, argv: list[str], environ: dict[str, str]) -> None:
    outcome = command(*argv, environ=environ, run=raising(RuntimeError("boom")))
    assert outcome.code == 1
    assert " ERROR this is a bug in fastecho: RuntimeError: boom (at " in outcome.err
    assert "\nTraceback (most recent call last):\n" in outcome.err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(24, "Too many open files"), "Too many open files"),
        (MemoryError(), "out of memory"),
    ],
)
def test_shortage_is_no_bug(command: Command, error: Exception, line: str) -> None:
    assert command(run=raising(error)).logged(1) == line


# As a process


def test_module_runs_as_a_process() -> None:
    outcome = as_process(["--version"])
    assert (outcome.code, outcome.out, outcome.err) == (0, f"fastecho {__version__}\n", "")


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_reader_of_help_who_has_left_gets_no_traceback(argument: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        outcome = as_process([argument], stdout=writer)
    finally:
        os.close(writer)
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_help_to_a_full_device_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        outcome = as_process(["--help"], stdout=full)
    line = "fastecho: standard output: cannot be written: No space left on device\n"
    assert outcome.complaint(1) == line


def test_help_without_a_standard_output_is_silent() -> None:
    script = f'"{sys.executable}" -m fastecho --help >&-'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, env=clean_environment({}))
    assert (done.returncode, done.stderr) == (0, "")


def test_complaint_without_a_standard_error_keeps_its_code() -> None:
    script = f'"{sys.executable}" -m fastecho --port x 2>&-'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, env=clean_environment({}))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_argument_that_is_not_utf_8_is_shown_and_breaks_nothing() -> None:
    argv: list[Any] = [b"--port", b"\xff"]
    assert "\\udcff" in as_process(argv).complaint(2)


def test_interrupt_while_the_server_starts_ends_without_a_traceback() -> None:
    code = (
        "import sys, types, signal, os\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def run(config):\n"
        "    print('started', flush=True)\n"
        "    signal.pause()\n"
        "sys.modules['fastecho._workers.supervisor'] = types.SimpleNamespace(run=run)\n"
        "from fastecho.cli.main import main\n"
        "sys.exit(main([]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (130, "")


@pytest.mark.parametrize("command", [[], *([each] for each in ("serve", "bench", "ping", "top", "doctor")),
                                     *(["bench", each] for each in ("compare", "merge", "ab"))], ids=" ".join)
def test_every_command_prints_the_version(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--version"]) == 0
    assert capsys.readouterr().out == f"fastecho {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_shell_completion_is_printed(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_FASTECHO_COMPLETE", f"{shell}_source")
    assert main([]) == 0
    assert f"_FASTECHO_COMPLETE={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fastecho ", ["serve", "bench", "ping", "top", "doctor"]),
        ("fastecho be", ["bench"]),
        ("fastecho --work", ["--workers"]),
        ("fastecho bench --ra", ["--rate"]),
        ("fastecho bench ", ["merge", "compare", "ab"]),
        ("fastecho bench compare --thr", ["--threshold"]),
        ("fastecho --match ", ["tail", "anywhere"]),
        ("fastecho --workers ", []),
        ("fastecho bench --arrivals p", ["poisson"]),
    ],
)
def test_words_are_completed_to_commands_options_and_choices(
    words: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_FASTECHO_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert main([]) == 0
    assert [line.partition(",")[2] for line in capsys.readouterr().out.split()] == expected


@pytest.mark.parametrize(
    "words",
    ["fastecho --config na", "fastecho --tls-cert na", "fastecho --unix na", "fastecho bench --json na",
     "fastecho bench merge na", "fastecho bench ab --json na", "fastecho ping HOST:1 --tls-ca na"],
)  # fmt: skip
def test_the_shell_completes_names_of_files(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_FASTECHO_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert main([]) == 0
    assert capsys.readouterr().out == "file,na\n"


# What a user types, after the line of docs/operating.md for the shell. The functions that zsh completes with need a
# terminal: zsh was tried by hand.
IN_A_SHELL = {
    "bash": 'eval "$(_FASTECHO_COMPLETE=bash_source fastecho)"\n'
            "COMP_WORDS=(fastecho bench --ra) COMP_CWORD=2\n_fastecho_completion fastecho\necho ${COMPREPLY[*]}",
    "fish": "_FASTECHO_COMPLETE=fish_source fastecho | source\n"
            'complete -C "fastecho bench --ra" | string split -f 1 \\t',
}  # fmt: skip


@pytest.mark.parametrize("shell", IN_A_SHELL)
def test_a_shell_completes_an_option(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = clean_environment({"PATH": path, "HOME": str(tmp_path)})
    typed = subprocess.run([shell, "-c", IN_A_SHELL[shell]], capture_output=True, text=True, env=environ)
    assert (typed.stdout, typed.stderr) == ("--rate\n", "")


def test_a_shell_without_completion_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_FASTECHO_COMPLETE", "tcsh_source")
    assert main([]) == 2
    assert "_FASTECHO_COMPLETE=tcsh_source: must be bash, zsh or fish" in capsys.readouterr().err
