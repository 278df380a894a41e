"""`fastecho bench`: measure an echo server; `bench merge` and `bench compare` work on what `--json` wrote."""

import contextlib
import difflib
import importlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from .._net.limits import raise_descriptor_limit
from .._options.types import Choice, Integer, OptionType, Seconds, Size
from ..errors import EX_OBJECTIVE_MISSED, EX_OK, EX_USAGE, EX_WRONG_ECHO, ConfigError, show_value
from ._failure import CommandLineError
from ._interrupts import Interrupts, interrupts
from ._params import (
    SETTINGS,
    TERMINATOR,
    Command,
    FilePath,
    as_usage,
    check_tls,
    conflict_error,
    given,
    help_option,
    option,
)
from ._results import check_outputs, write_outputs

if TYPE_CHECKING:
    from ..bench.measure import Report, Server
    from ..bench.progress import ProgressDisplay
    from ..bench.result import LoadResult
    from ..bench.slo import Slo
    from ..bench.spec import LoadSpec
    from ..bench.target import Target

_NOTES = """\
TARGET is HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT or unix:PATH; without one, fastecho is started on
a CPU of its own and measured. Ctrl-C and SIGTERM end the run early; the result up to then is printed and saved, marked
as partial.

\b
Exit codes
  0        the run is complete, every byte came back, every --slo was met
  1        the client failed: a result cannot be written, no descriptors or ports are left, ...
  2        usage
  3        wrong, missing or late bytes, or none at all
  4        an --slo was missed, or no rate holds --find-max-rate
  5        cannot connect
  130, 143 interrupted by SIGINT, SIGTERM

\b
fastecho bench merge A.json B.json      add up runs of several hosts
fastecho bench compare A.json B.json    differences, with confidence intervals
fastecho bench ab TARGET_A TARGET_B     measure two servers in turns, and say whether they differ
"""


_LOST_SECONDS: Final = 1.0
"""The default of --timeout with a udp:// target: a datagram is not sent again, so it comes soon or never."""

SUBCOMMANDS: Final = {"merge": "reports", "compare": "reports", "ab": "ab"}
"""Commands below `bench`, each with the module that holds it."""


class Sizes(OptionType):
    """`64`, `4KiB`, `64,1KiB,64KiB` or `64-1024`."""

    metavar = "SIZE[,...]|LOW-HIGH"
    _size = Size(1, 16 << 20)

    def parse(self, text: str) -> Any:
        from ..bench.spec import SizeRange

        low, dash, high = text.partition("-")
        if dash:
            return SizeRange(self._one(low), self._one(high))
        sizes = tuple(self._one(each) for each in text.split(","))
        return sizes[0] if len(sizes) == 1 else sizes

    def _one(self, text: str) -> int:
        size: int = self._size.validate(self._size.parse(text))
        return size

    def validate_value(self, value: Any) -> Any:
        return value


class Rate(OptionType):
    """`20000`, `20k`, `1.5M` a second."""

    metavar = "N"

    def parse(self, text: str) -> float:
        from ..bench.spec import parse_rate

        return parse_rate(text)

    def validate_value(self, value: Any) -> Any:
        return value


class Numbers(OptionType):
    """`0,2-3`: numbers of CPUs that this process may use."""

    metavar = "LIST"

    def parse(self, text: str) -> tuple[int, ...]:
        found: list[int] = []
        for part in text.split(","):
            match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
            if match is None or int(match[1]) > int(match[2] or match[1]):
                raise ValueError("must be CPU numbers, such as 1 or 0,2-3")
            found += range(int(match[1]), int(match[2] or match[1]) + 1)
        return tuple(found)

    def validate_value(self, value: Any) -> Any:
        if not hasattr(os, "sched_getaffinity"):
            raise ValueError("this system cannot pin threads to CPUs")
        usable = sorted(os.sched_getaffinity(0))
        if not set(value) <= set(usable):
            raise ValueError(f"must be CPUs that this process may use: {','.join(map(str, usable))}")
        return value


class BenchCommand(Command):
    """Passes the subcommands to separate commands: a click group cannot also take a TARGET."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        if args and args[0] not in SUBCOMMANDS and re.fullmatch("[a-z]+", args[0]):
            close = difflib.get_close_matches(args[0], SUBCOMMANDS, 1)
            if close:
                raise CommandLineError(show_value(args[0]), f"no such command (did you mean {close[0]}?)", EX_USAGE)
        if args and args[0] in SUBCOMMANDS:
            module = importlib.import_module(f".{SUBCOMMANDS[args[0]]}", __package__)
            command: click.Command = getattr(module, args[0])
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def _complete_target(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """A shell offers the subcommands where a TARGET may stand."""
    return [name for name in SUBCOMMANDS if name.startswith(incomplete)]


@click.command("bench", cls=BenchCommand, epilog=_NOTES, **SETTINGS)
@click.argument("target", required=False, shell_complete=_complete_target)
@option("--connections -c", Integer(1, 1_000_000), default=50, help="Connections at once.  [50]")
@option("--size -s", Sizes(), default=64, help="Bytes a message: one size, several, or a range.  [64]")
@option("--depth", Integer(1, 65536), default=1, help="Messages in flight on each connection.  [1]")
@option("--rate -r", Rate(), help="Send at this rate (open loop); latency counts from when each message was due.")
@option("--arrivals", Choice("constant", "poisson"), default="constant",
        help="How the messages of --rate follow each other.  [constant]")  # fmt: skip
@click.option("--churn", is_flag=True, help="Connect, echo one message, close, again and again.")
@click.option("--server-closes", is_flag=True,
              help="With --churn: end each message in the terminator, and wait for the server to close.")  # fmt: skip
@option("--proxy-protocol", Integer(1, 2), help="Begin each connection with a PROXY header of this version.  [off]")
@option("--duration -d", Seconds(0.01, 86400), default=10.0, help="How long to measure.  [10s]")
@option("--warmup", Seconds(0, 3600), default=1.0, help="Load before that, not measured.  [1s]")
@option("--threads -t", Integer(1, 256), default=1, help="Threads of the client, one a core.  [1]")
@option("--cpus", Numbers(), help="Pin the client's threads to these CPUs.  [apart from its own server's]")
@option("--workers", Integer(1, 512), default=1, help="Worker processes of the server that bench starts.  [1]")
@click.option("--verify/--no-verify", default=True, help="Compare every byte that comes back, or count them only.")
@option("--terminator", TERMINATOR, default=b"\0",
        help="Terminator to avoid in payloads; 'none' allows any byte.  [\\0]")  # fmt: skip
@option("--timeout", Seconds(0.05, 3600), default=5.0,
        help="Count a connection as timed out, or a datagram as lost, after this long.  [5s; udp:// 1s]")
@click.option("--source", multiple=True, metavar="ADDRESS", help="Connect from this address; may be repeated.")
@click.option("--tls-ca", type=FilePath(), metavar="FILE", help="Certificates that a tls:// server is checked against.")
@click.option("--tls-insecure", is_flag=True, help="Do not check the server's certificate.")
@click.option("--slo", multiple=True, metavar="TEXT", help="Fail unless met: 'p99<1ms', 'rate>100000'. Repeatable.")
@click.option("--find-max-rate", metavar="TEXT",
              help="Find the highest rate that meets a latency objective, such as '@p99=1ms'.")  # fmt: skip
@click.option("--json", "json_path", type=FilePath(), metavar="FILE",
              help="Write the result as JSON to FILE; - is standard output.")  # fmt: skip
@click.option("--report", "report_path", type=FilePath(), metavar="FILE", help="Write a page with plots: FILE.html.")
@click.option("--quiet", "-q", is_flag=True, help="Show nothing while it runs.")
@help_option
def command(**options: Any) -> int:
    """Measure an echo server: rate, latency, errors, CPU."""
    from ..bench import hdr

    hdr.require()
    raise_descriptor_limit()
    with interrupts() as signals:
        try:
            objectives, searched, spec = _checked(options)
            check_outputs(options["json_path"], options["report_path"])
            with _target(options, spec) as (spec, pids):
                report, more = _run(spec, pids, searched, signals, quiet=options["quiet"])
        except ConfigError as error:
            raise as_usage(error) from None
        write_outputs(
            report, objectives, json_path=options["json_path"], report_path=options["report_path"], more=more
        )
        return signals.exit_code or _verdict(report, objectives)


def _verdict(report: "Report", objectives: "list[Slo]") -> int:
    result = report.result
    if not result.ok or result.stopped is not None:
        return EX_WRONG_ECHO
    return EX_OK if all(slo.met(result) for slo in objectives) else EX_OBJECTIVE_MISSED


def _checked(options: dict[str, Any]) -> "tuple[list[Slo], Slo | None, LoadSpec]":
    from ..bench.slo import Slo
    from ..bench.spec import LoadSpec
    from ..bench.target import Target

    objectives = [Slo.parse(text) for text in options["slo"]]
    text = options["find_max_rate"]
    searched = Slo.latency_bound(text, "find_max_rate") if text is not None else None
    names = ("connections", "size", "depth", "rate", "arrivals", "churn", "server_closes", "proxy_protocol",
             "duration", "warmup", "threads", "cpus", "verify", "terminator", "timeout", "tls_ca",
             "tls_insecure")  # fmt: skip
    chosen = {name: options[name] for name in names}
    if options["target"] and Target.parse(options["target"]).udp and not given("timeout"):
        chosen["timeout"] = _LOST_SECONDS
    spec = LoadSpec(target=options["target"] or "127.0.0.1:1", sources=options["source"] or None, **chosen)
    check_effects(options, Target.parse(spec.target))
    return objectives, searched, spec


def check_effects(options: dict[str, Any], target: "Target") -> None:
    """Raises CommandLineError for an option that would have no effect beside the others."""
    search, threads, cpus = options["find_max_rate"], options["threads"], options["cpus"]
    if search is not None and options["rate"] is not None:
        raise conflict_error("rate", "must not be given with --find-max-rate, which finds it")
    if given("arrivals") and search is None and options["rate"] is None:
        raise conflict_error("arrivals", "needs --rate or --find-max-rate: a closed loop has no arrivals")
    if given("workers") and options["target"]:
        why = "must not be given with a TARGET: it is for the server that bench starts without one"
        raise conflict_error("workers", why)
    if target.tls and threads > 1:
        raise conflict_error("threads", "must be 1 with a tls:// target: the TLS client has one thread")
    if cpus is not None and len(cpus) > threads:
        raise conflict_error("cpus", f"must not name more CPUs than there are --threads, {threads}")
    check_tls(target, options["tls_ca"], options["tls_insecure"])


@contextlib.contextmanager
def _target(options: dict[str, Any], spec: "LoadSpec") -> "Iterator[tuple[LoadSpec, tuple[int, ...] | None]]":
    """The spec with its target; a server of one's own runs meanwhile when none was given."""
    import dataclasses

    from ..bench._own import own_server, split_cpus

    if options["target"]:
        yield spec, None
        return
    server_cpus, client_cpus = split_cpus()
    if spec.cpus:
        server_cpus = tuple(cpu for cpu in (*server_cpus, *client_cpus) if cpu not in spec.cpus) or server_cpus
    pinned = server_cpus if options["workers"] == 1 else ()
    with own_server(pinned, options["workers"], spec.ending) as (address, pid):
        yield dataclasses.replace(spec, target=address, cpus=spec.cpus or client_cpus or None), (pid,)


def _run(
    spec: "LoadSpec", pids: "tuple[int, ...] | None", searched: "Slo | None", signals: Interrupts, *, quiet: bool
) -> "tuple[Report, list[str]]":
    """The report, and the lines below it."""
    from ..bench.measure import measure, report_of
    from ..bench.progress import ProgressDisplay

    signals.leave_to_stop()
    with ProgressDisplay(spec.target, spec.duration, quiet=quiet) as live:
        if searched:
            return _search(spec, pids, searched, live, signals)
        return report_of(*measure(spec, pids=pids, on_progress=live, stop=signals.stop)), []


def _search(
    spec: "LoadSpec", pids: "tuple[int, ...] | None", slo: "Slo", live: "ProgressDisplay", signals: Interrupts
) -> "tuple[Report, list[str]]":
    import dataclasses

    from ..bench.measure import measure, report_of
    from ..bench.search import find_max_rate, holds
    from ..bench.stop import Interrupted
    from ..bench.units import number

    found: list[tuple[LoadResult, Server | None]] = []

    def once(probe: "LoadSpec") -> "tuple[LoadResult, Server | None]":
        result, server = measure(probe, pids=pids, stop=signals.stop)
        if result.partial:
            raise Interrupted("")
        found.append((result, server))
        return result, server

    try:
        result, server, max_rate = find_max_rate(spec, slo, once, live.say, probe_seconds=min(spec.duration, 1.0))
        return dataclasses.replace(report_of(result, server), max_rate=max_rate), max_rate.lines()
    except Interrupted:
        held = [each for each in found if each[0].spec.rate and holds(each[0], slo)]
        if not found:
            raise Interrupted("interrupted in the first probe: nothing was measured yet") from None
        result, server = max(held, key=lambda each: each[0].spec.rate or 0.0) if held else found[-1]
        rate = number(result.spec.rate or 0) if held else "none"
        line = f"the search was interrupted; highest rate with {slo} so far: {rate}{' echoes/s' if held else ''}"
        return report_of(dataclasses.replace(result, partial=True, stopped="interrupted"), server), [line]
