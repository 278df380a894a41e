"""`fastecho bench`: measure an echo server; `bench merge` and `bench compare` work on what `--json` wrote."""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from .._parse import Integer, Kind, Seconds, Size
from ..errors import EX_FAILURE, EX_OK, ConfigError
from ._params import SETTINGS, TERMINATOR, as_usage, help_option, option, usage

if TYPE_CHECKING:
    from ..bench.live import Live
    from ..bench.measure import Report, Server
    from ..bench.result import LoadResult
    from ..bench.slo import Slo
    from ..bench.spec import LoadSpec

_NOTES = """\
TARGET is HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:PATH; without one, fastecho is started on a CPU of its
own and measured. The exit code is 1 when a byte came back wrong, late or not at all, or an --slo was missed.

\b
fastecho bench merge A.json B.json      add up runs of several hosts
fastecho bench compare A.json B.json    differences, with confidence intervals
"""


class Sizes(Kind):
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
        return self._size.accept(self._size.read(text.strip()))

    def accept(self, value: Any) -> Any:
        return value


class Rate(Kind):
    """`20000`, `20k`, `1.5M` a second."""

    metavar = "N"

    def parse(self, text: str) -> float:
        match = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*([kKmM]?)(?:/s)?", text.strip())
        if match is None:
            raise ValueError("must be a number of echoes a second, such as 20000 or 20k")
        return float(match[1]) * {"": 1.0, "k": 1e3, "m": 1e6}[match[2].lower()]

    def accept(self, value: Any) -> Any:
        return value


class Numbers(Kind):
    """`0,2-3`: numbers of CPUs."""

    metavar = "LIST"

    def parse(self, text: str) -> tuple[int, ...]:
        found: list[int] = []
        for part in text.split(","):
            match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
            if match is None:
                raise ValueError("must be CPU numbers, such as 1 or 0,2-3")
            found += range(int(match[1]), int(match[2] or match[1]) + 1)
        return tuple(found)

    def accept(self, value: Any) -> Any:
        return value


class BenchCommand(click.Command):
    """Hands `merge` and `compare` on to commands of their own: a group could not also take a TARGET."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        if args and args[0] in ("merge", "compare"):
            from . import reports

            command: click.Command = getattr(reports, args[0])
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("bench", cls=BenchCommand, epilog=_NOTES, **SETTINGS)
@click.argument("target", required=False)
@option("--connections -c", Integer(1, 1_000_000), default=50, help="Connections at once.  [50]")
@option("--size -s", Sizes(), default=64, help="Bytes a message: one size, several, or a range.  [64]")
@option("--depth", Integer(1, 65536), default=1, help="Messages in flight on each connection.  [1]")
@option("--rate -r", Rate(), help="Offer so many echoes a second, and count latency from when each was due.")
@click.option("--arrivals", type=click.Choice(["constant", "poisson"]), default="constant",
              help="How the messages of --rate follow each other.  [constant]")  # fmt: skip
@click.option("--churn", is_flag=True, help="Connect, echo one message, close, again and again.")
@option("--duration -d", Seconds(0.01, 86400), default=10.0, help="How long to measure.  [10s]")
@option("--warmup", Seconds(0, 3600), default=1.0, help="Load before that, not measured.  [1s]")
@option("--threads -t", Integer(1, 256), default=1, help="Threads of the client, one a core.  [1]")
@option("--cpus", Numbers(), help="Pin the client's threads to these CPUs.  [apart from its own server's]")
@option("--workers", Integer(1, 512), default=1, help="Worker processes of its own server.  [1]")
@click.option("--verify/--no-verify", default=True, help="Compare every byte that comes back, or count them only.")
@option("--terminator", TERMINATOR, default=b"\0", help="Never send the last byte of this; none: any byte.  [\\0]")
@option("--timeout", Seconds(0.05, 3600), default=5.0, help="Silence after which a connection has failed.  [5s]")
@click.option("--source", multiple=True, metavar="ADDRESS", help="Connect from this address; may be repeated.")
@click.option("--tls-ca", metavar="FILE", help="Certificates that a tls:// server is checked against.")
@click.option("--tls-insecure", is_flag=True, help="Do not check the server's certificate.")
@click.option("--slo", multiple=True, metavar="TEXT", help="Fail unless met: 'p99<1ms', 'rate>100000'. Repeatable.")
@click.option("--find-max-rate", metavar="TEXT", help="Search the highest rate that holds '@p99=1ms'.")
@click.option("--json", "json_path", metavar="FILE", help="Write everything as JSON.")
@click.option("--report", "report_path", metavar="FILE", help="Write a page with plots: FILE.html.")
@click.option("--quiet", "-q", is_flag=True, help="Show nothing while it runs.")
@help_option
def command(**options: Any) -> int:
    """Measure an echo server: rate, latency, errors, CPU."""
    from ..bench import hdr

    hdr.require()
    try:
        objectives, searched, spec = _checked(options)
    except ConfigError as error:
        raise as_usage(error) from None
    with _target(options, spec) as (spec, pids):
        report = _run(spec, pids, searched, quiet=options["quiet"])
    return _account(report, objectives, searched, options)


def _checked(options: dict[str, Any]) -> "tuple[list[Slo], Slo | None, LoadSpec]":
    from ..bench.slo import Slo
    from ..bench.spec import LoadSpec

    objectives = [Slo.parse(text) for text in options["slo"]]
    text = options["find_max_rate"]
    searched = Slo.latency_bound(text, "find_max_rate") if text is not None else None
    if searched is not None and options["rate"] is not None:
        raise usage("--rate", options["rate"], "must not stand beside --find-max-rate, which finds it")
    names = ("connections", "size", "depth", "rate", "arrivals", "churn", "duration", "warmup", "threads", "cpus",
             "verify", "terminator", "timeout", "tls_ca", "tls_insecure")  # fmt: skip
    chosen = {name: options[name] for name in names}
    spec = LoadSpec(target=options["target"] or "127.0.0.1:1", sources=options["source"] or None, **chosen)
    return objectives, searched, spec


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
    with own_server(server_cpus if options["workers"] == 1 else (), options["workers"]) as (address, pid):
        yield dataclasses.replace(spec, target=address, cpus=spec.cpus or client_cpus or None), (pid,)


def _run(spec: "LoadSpec", pids: "tuple[int, ...] | None", searched: "Slo | None", *, quiet: bool) -> "Report":
    from ..bench.live import Live
    from ..bench.measure import measure, report_of

    with Live(spec.target, spec.duration, quiet=quiet) as live:
        result, server = _search(spec, pids, searched, live) if searched else measure(
            spec, pids=pids, on_progress=live
        )  # fmt: skip
    return report_of(result, server)


def _search(
    spec: "LoadSpec", pids: "tuple[int, ...] | None", slo: "Slo", live: "Live"
) -> "tuple[LoadResult, Server | None]":
    from ..bench.measure import measure
    from ..bench.search import find_max_rate

    def once(probe: "LoadSpec") -> "tuple[LoadResult, Server | None]":
        return measure(probe, pids=pids)

    return find_max_rate(spec, slo, once, live.say, probe_seconds=min(spec.duration, 2.0))


def _account(report: "Report", objectives: "list[Slo]", searched: "Slo | None", options: dict[str, Any]) -> int:
    from ..bench.html import save_page
    from ..bench.text import number

    if options["json_path"]:
        report.save(options["json_path"])
    if options["report_path"]:
        save_page(report, options["report_path"], objectives)
    show(report, objectives)
    if searched is not None:
        print(f"highest rate with {searched}: {number(report.result.spec.rate or 0)} echoes/s")
    met = all(slo.met(report.result) for slo in objectives)
    return EX_OK if met and report.result.ok and report.result.stopped is None else EX_FAILURE


def show(report: "Report", objectives: "list[Slo] | None" = None) -> None:
    import shutil

    from ..bench.text import render

    terminal = sys.stdout.isatty()
    width = min(120, shutil.get_terminal_size((100, 24)).columns) if terminal else 100
    print(render(report, objectives or (), color=terminal, width=width), flush=True)
