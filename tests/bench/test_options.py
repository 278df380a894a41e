"""Options of the client commands: those without effect beside others are refused, and bad ones give one clear line."""

import os

import click
import pytest

from fastecho.cli import bench, doctor, ping, reports, serve

USABLE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
NO_CPU = str(max(USABLE, default=0) + 1)

# What is given, and the line. Every option of bench and ping is here, or in WITH_EFFECT below.
WITHOUT_EFFECT = [
    (["h:1", "--arrivals", "poisson"], "--arrivals poisson: needs --rate or --find-max-rate"),
    (["h:1", "--arrivals", "constant"], "--arrivals constant: needs --rate or --find-max-rate"),
    (["h:1", "--workers", "2"], "--workers 2: must not be given with a TARGET"),
    (["h:1", "--workers", "1"], "--workers 1: must not be given with a TARGET"),
    (["h:1", "--rate", "5", "--find-max-rate", "@p99=1ms"], "--rate 5: must not be given with --find-max-rate"),
    (["h:1", "--tls-insecure"], "--tls-insecure: needs a tls:// target"),
    (["tcp://h:1", "--tls-insecure"], "--tls-insecure: needs a tls:// target"),
    (["unix:/x", "--tls-insecure"], "--tls-insecure: needs a tls:// target"),
    (["--tls-insecure"], "--tls-insecure: needs a tls:// target"),
    (["h:1", "--tls-ca", "ca.pem"], "--tls-ca ca.pem: needs a tls:// target"),
    (["--tls-ca", "ca.pem"], "--tls-ca ca.pem: needs a tls:// target"),
    (["tls://h:1", "--tls-ca", "a", "--tls-insecure"], "--tls-ca a: must not be given with --tls-insecure"),
    (["tls://h:1", "--threads", "2"], "--threads 2: must be 1 with a tls:// target"),
    (["h:1", "--depth", "2", "--churn"], "--depth 2: must be 1 with churn"),
    (["h:1", "--server-closes"], "--server-closes: needs churn"),
    (["h:1", "--churn", "--server-closes", "--terminator", "none"], "--server-closes: needs a terminator"),
    (["h:1", "--churn", "--server-closes", "--terminator", r"\r\n", "--size", "1-9"],
     "--size 1: must be at least that of the terminator, 2"),
    (["h:1", "--cpus", ",".join(map(str, USABLE)), "--threads", str(len(USABLE) - 1)], "--cpus "),
    (["unix:/x", "--source", "127.0.0.1"], "--source 127.0.0.1: must not be given with a UNIX target"),
    (["h:1", "--depth", "50000", "--connections", "100"], "--depth 50000: must be at most 41943 here"),
    (["ping", "udp://h:1", "--size", "7"], "--size 7: must be between 8 and 65507 bytes with a udp:// target"),
    (["h:1", "--threads", "3", "--connections", "2"], "--threads 3: must be at most the connections, 2"),
    (["h:1", "--json", "x", "--report", "x"], "--report x: must be another file than that of --json"),
    (["ping", "h:1", "--tls-insecure"], "--tls-insecure: needs a tls:// target"),
    (["ping", "unix:/x", "--tls-insecure"], "--tls-insecure: needs a tls:// target"),
    (["ping", "h:1", "--tls-ca", "ca.pem"], "--tls-ca ca.pem: needs a tls:// target"),
    (["ping", "h:1", "--once", "--count", "2"], "--count 2: must not be given with --once"),
    (["ping", "tls://h:1", "--tls-ca", "a", "--tls-insecure"], "--tls-ca a: must not be given with --tls-insecure"),
]
# Those that change something beside every other option.
WITH_EFFECT = {
    "bench": {
        "target", "size", "duration", "warmup", "verify", "terminator", "timeout", "slo", "quiet", "help", "version",
        "proxy_protocol",
    },
    "ping": {
        "target", "count", "interval", "size", "timeout", "terminator", "quiet", "help", "version", "proxy_protocol",
    },
}


def words(value):
    """The id of a test."""
    return " ".join(value) if type(value) is list else ""


@pytest.mark.parametrize(("arguments", "said"), WITHOUT_EFFECT, ids=words)
def test_an_option_without_effect_is_refused(fastecho, arguments, said):
    if "--cpus" in arguments and len(USABLE) < 2:
        pytest.skip("one CPU")
    code, out, err = fastecho(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"fastecho: {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["bench", "ping"])
def test_every_option_was_thought_of(name):
    command = {"bench": bench, "ping": ping}[name].command
    rows = [arguments for arguments, _ in WITHOUT_EFFECT if (arguments[0] == "ping") == (name == "ping")]
    given = {word for arguments in rows for word in arguments}
    for param in command.params:
        assert param.name in WITH_EFFECT[name] or given & set(param.opts), f"{param.opts} is in no table"


def test_options_that_have_an_effect_together(fastecho, target):
    base = [target, "--duration", "100ms", "--warmup", "0", "-q"]
    for arguments in (["--rate", "200", "--arrivals", "poisson"], ["--churn", "--depth", "1"], ["--threads", "1"]):
        code, _, err = fastecho(*base, *arguments)
        assert code == 0, err


# A bad value for every option that has values; what the line says is accepted.
BAD_VALUES = [
    ("bench", "--proxy-protocol", "3", "between 1 and 2"),
    ("ping", "--proxy-protocol", "v1", "a whole number between 1 and 2"),
    ("bench", "--connections", "0", "must be between 1 and 1000000"),
    ("bench", "--connections", "many", "must be a whole number between 1 and 1000000"),
    ("bench", "--size", "1GiB", "must be between 1 B and 16 MiB"),
    ("bench", "--size", "64KB", "must be a size, such as 65536, 64KiB or 1MiB"),
    ("bench", "--size", "64-", "must be a size"),
    ("bench", "--depth", "-1", "must be between 1 and 65536"),
    ("bench", "--rate", "5G", "must be a number of echoes a second, such as 20000, 20k or 1.5M"),
    ("bench", "--rate", "1000M", "must be between 0.01 and 1e+08"),
    ("bench", "--arrivals", "never", "must be constant or poisson"),
    ("bench", "--duration", "25h", "must be between 10 ms and 24 h"),
    ("bench", "--duration", "-1", "must be between 10 ms and 24 h"),
    ("bench", "--warmup", "2h", "must be between 0 and 1 h"),
    ("bench", "--threads", "0", "must be between 1 and 256"),
    ("bench", "--cpus", NO_CPU, f"must be CPUs that this process may use: {','.join(map(str, USABLE))}"),
    ("bench", "--cpus", "0-9999", "must be CPUs that this process may use: "),
    ("bench", "--cpus", "1-0", "must be CPU numbers, such as 1 or 0,2-3"),
    ("bench", "--cpus", "", "must be CPU numbers, such as 1 or 0,2-3"),
    ("bench", "--workers", "0", "must be between 1 and 512"),
    ("bench", "--terminator", "hex:0", "must have pairs of hexadecimal digits"),
    ("bench", "--timeout", "1us", "must be a time, such as 30, 2s, 500ms or 5m"),
    ("bench", "--source", "here", "must be numeric addresses, all IPv4 or all IPv6"),
    ("bench", "--tls-ca", "/nowhere", "needs a tls:// target"),
    ("bench", "--slo", "rate>1G", "must be a number of echoes a second, such as 20000, 20k or 1.5M"),
    ("bench", "--slo", "p99<1", "must have a unit of time: us, ms or s"),
    ("bench", "--slo", "errors<1k", "must be a number of errors, such as errors=0"),
    ("bench", "--slo", "speed>1", "must be a metric, a comparison and a bound"),
    ("bench", "--find-max-rate", "rate>1k", "must bound a latency from above, such as @p99=1ms"),
    ("bench", "--report", "-", "must be a file"),
    ("ping", "--count", "0", "must be between 1 and 1000000000"),
    ("ping", "--interval", "2h", "must be between 0 and 1 h"),
    ("ping", "--size", "1TiB", "must be between 1 B and 16 MiB"),
    ("ping", "--timeout", "0", "must be between 1 ms and 1 h"),
    ("ping", "--terminator", r"\q", "must have no escapes but"),
    ("ping", "--tls-ca", "/nowhere", "needs a tls:// target"),
    ("serve", "--buffer-size", "1GiB", "must be between 512 B and 16 MiB"),
    ("serve", "--buffer-size", "2t", "must be between 512 B and 16 MiB"),
]


def called(name, *arguments):
    """The arguments of a command that needs a target, when it takes one."""
    return [name, *(["h:1"] if name == "ping" else []), *arguments]


@pytest.mark.parametrize(("name", "flag", "value", "said"), BAD_VALUES)
def test_a_bad_value_is_one_line_that_says_what_is_accepted(fastecho, name, flag, value, said):
    command = called(name, flag, value)
    code, out, err = fastecho(*(command[1:] if name == "bench" else command))
    assert (code, out) == (2, "")
    assert err.startswith(f"fastecho: {flag} ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["bench", "ping"])
def test_every_option_with_a_value_has_a_bad_one_here(name):
    command = {"bench": bench, "ping": ping}[name].command
    for param in command.params:
        if isinstance(param, click.Option) and not param.is_flag and param.name != "json_path":
            assert any(row[0] == name and row[1] in param.opts for row in BAD_VALUES), param.opts


COMMANDS = {
    "bench": bench.command, "ping": ping.command, "doctor": doctor.command, "serve": serve.command,
    "bench merge": reports.merge, "bench compare": reports.compare,
}  # fmt: skip
HELP = {name: f"(see fastecho {name} --help)" for name in COMMANDS} | {"serve": "(see fastecho --help)"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_names_its_own_help_for_an_unknown_option(fastecho, name):
    first = name.split()
    code, out, err = fastecho(*(first[1:] if first[0] == "bench" else first), "--xyzzy")
    assert (code, out) == (2, "")
    assert err == f"fastecho: --xyzzy: no such option {HELP[name]}\n"


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        (name, flag)
        for name, command in COMMANDS.items()
        for param in command.params
        if isinstance(param, click.Option) and not param.is_flag
        for flag in param.opts
    ],
)
def test_every_option_says_when_its_value_is_missing(fastecho, name, flag):
    first = name.split()[1:] if name.startswith("bench") else [name]
    code, out, err = fastecho(*first, flag)
    assert (code, out) == (2, "")
    assert err == f"fastecho: {flag}: needs a value {HELP[name]}\n"
    code, out, err = fastecho(*first, flag, "--help")
    assert (code, out) == (2, "")
    assert err == f"fastecho: {flag}: needs a value; --help after it is an option\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--stats", "--port", "0"], "--stats: needs a value; --port after it is an option"),
        (["serve", "--stats", "--port=0"], "--stats: needs a value; --port=0 after it is an option"),
        (["--conections", "3"],
         "--conections: no such option; did you mean --connections? (see fastecho bench --help)"),
        (["--stats", "5"], "--stats: no such option; fastecho serve has one (see fastecho bench --help)"),
        (["serve", "--connections", "5"],
         "--connections: no such option; fastecho bench has one (see fastecho --help)"),
        (["ping", "h:1", "--rate", "5"], "--rate: no such option; fastecho bench has one (see fastecho ping --help)"),
        (["doctor", "--json", "x"], "--json: no such option; fastecho bench has one (see fastecho doctor --help)"),
        (["--churn=3"], "--churn: takes no value (see fastecho bench --help)"),
        (["h:1", "h:2"], "h:2: unexpected argument (see fastecho bench --help)"),
        (["ping"], "TARGET: must be given (see fastecho ping --help)"),
        (["ping", "h:1", "h:2"], "h:2: unexpected argument (see fastecho ping --help)"),
        (["doctor", "x"], "x: unexpected argument (see fastecho doctor --help)"),
        (["compare", "a"], "compare a: must be two files, or the runs of A, then --, then those of B"),
        (["comapre", "a", "b"], "comapre: no such command (did you mean compare?)"),
        (["frob"], ("TARGET frob: must be HOST:PORT, [IPV6]:PORT, tcp://HOST:PORT, tls://HOST:PORT, "
                    "udp://HOST:PORT or unix:PATH")),
    ],
    ids=words,
)  # fmt: skip
def test_the_hint_is_the_right_one(fastecho, arguments, said):
    code, out, err = fastecho(*arguments)
    assert (code, out) == (2, "")
    assert err == f"fastecho: {said}\n"


def test_a_value_that_looks_like_an_option_can_be_given(fastecho, target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, *_ = fastecho(target, "-d", "100ms", "--warmup", "0", "-q", "--json=--quiet")
    assert code == 0
    assert (tmp_path / "--quiet").exists()
