"""`fastecho bench ab`: two targets measured in turns, and a verdict."""

import random
from typing import TYPE_CHECKING, Any

import click

from .._options.types import Integer, Seconds
from ..bench.ab import ROUND_SECONDS, ROUNDS, WARM_UP_SECONDS
from ..errors import ConfigError
from ._interrupts import Interrupts, interrupts
from ._params import SETTINGS, Command, as_usage, conflict_error, given, help_option, option, usage_error
from ._verdict import check_json_path, json_option, report_verdict, threshold_option
from .bench import Numbers, check_effects
from .bench import command as bench

if TYPE_CHECKING:
    from ..bench.ab import Turn
    from ..bench.metrics import Run
    from ..bench.spec import LoadSpec

# The options of the load that `bench` has: these apply to both targets.
_LOAD = ("connections", "size", "depth", "rate", "arrivals", "churn", "server_closes", "proxy_protocol", "threads",
         "verify", "terminator", "timeout", "source", "tls_ca", "tls_insecure")  # fmt: skip
_NOTES = """\
Each round measures both targets, in an order that is drawn. The verdict comes from the ratios of the rounds. Pin the
servers to one CPU and the client to another (taskset, --cpus).

\b
exit code 0   no difference, B is better, or not enough runs to decide
exit code 1   B is worse in some respect, or had errors
exit code 2   usage; others as in fastecho bench
"""


@click.command("ab", cls=Command, epilog=_NOTES, **SETTINGS)
@click.argument("target_a")
@click.argument("target_b")
@option("--rounds -n", Integer(1, 1000), default=ROUNDS, help=f"How often both are measured.  [{ROUNDS}]")
@option("--duration -d", Seconds(0.01, 86400), default=ROUND_SECONDS,
        help=f"How long to measure a target each round.  [{ROUND_SECONDS}s]")  # fmt: skip
@option("--warmup", Seconds(0, 3600), default=WARM_UP_SECONDS,
        help=f"Load before that, not measured.  [{WARM_UP_SECONDS}s]")  # fmt: skip
@option("--cpus", Numbers(), help="Pin the client's threads to these CPUs.")
@threshold_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Show nothing while it runs.")
@help_option
def ab(target_a: str, target_b: str, threshold: float, json_path: str | None, rounds: int, quiet: bool,
       **options: Any) -> int:  # fmt: skip
    """Measure two echo servers in turns: whether B differs from A, and by how much."""
    from ..bench import hdr
    from ..bench.compare import compare_turns
    from ..bench.metrics import values
    from ..bench.spec import LoadSpec
    from ..bench.target import Target

    hdr.require()
    check_json_path(json_path)
    sources = options.pop("source") or None
    try:
        a, b = (LoadSpec(target=target, sources=sources, **options) for target in (target_a, target_b))
    except ConfigError as error:
        raise as_usage(error) from None
    if given("arrivals") and a.rate is None:
        raise conflict_error("arrivals", "needs --rate: a closed loop has no arrivals")
    targets = [Target.parse(spec.target) for spec in (a, b)]
    for target in targets:
        check_effects({**options, "target": str(target), "find_max_rate": None}, target)
    if targets[0].tls != targets[1].tls:
        raise usage_error("TARGET_B", target_b, "must have TLS when TARGET_A has it, and not otherwise")
    with interrupts() as signals:
        turns = _turns(a, b, rounds, signals, quiet=quiet)
    notes = [f"interrupted after {len(turns)} of {rounds} rounds"] if signals.exit_code else []
    more = {
        "load": {name: value for name, value in a.to_dict().items() if name != "target"},
        "targets": {"a": a.target, "b": b.target},
        "rounds": [{"b_first": turn.b_first, "a": values(*turn.a), "b": values(*turn.b)} for turn in turns],
    }
    code = report_verdict(compare_turns(turns, threshold, notes), json_path, more)
    return signals.exit_code or code


def _turns(a: "LoadSpec", b: "LoadSpec", rounds: int, signals: Interrupts, *, quiet: bool) -> "list[Turn]":
    """The rounds, as many as were complete when a signal came."""
    from ..bench._procfs import server_pids
    from ..bench.ab import take_turns
    from ..bench.measure import measure
    from ..bench.progress import ProgressDisplay
    from ..bench.stop import Interrupted
    from ..bench.target import Target
    from ..bench.units import number

    # Looked for once: it takes as long as a short run.
    pids = {spec.target: server_pids(Target.parse(spec.target)) for spec in (a, b)}
    found: list[Turn] = []
    signals.leave_to_stop()
    with ProgressDisplay(f"{a.target} and {b.target}", a.duration, quiet=quiet) as live:

        def once(spec: "LoadSpec") -> "Run":
            on_progress = live if live.terminal else None
            run = measure(spec, pids=pids[spec.target], on_progress=on_progress, stop=signals.stop)
            if run[0].partial:
                raise Interrupted("interrupted in the first round: nothing was measured yet")
            return run

        try:
            for turn in take_turns(a, b, rounds, once, random.Random()):
                found.append(turn)
                rates = " and ".join(number(result.rate) for result, _ in (turn.a, turn.b))
                live.say(f"round {len(found)} of {rounds}: {rates} echoes/s")
        except Interrupted:
            if not found:
                raise
    return found


ab.params += [parameter for parameter in bench.params if parameter.name in _LOAD]
