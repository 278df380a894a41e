"""`fastecho bench merge` and `fastecho bench compare`: on the files that `fastecho bench --json` wrote."""

import sys

import click

from ..errors import EX_FAILURE, EX_OK
from ._params import SETTINGS, help_option, usage


@click.command("merge", **SETTINGS)
@click.argument("files", nargs=-1, metavar="A.json B.json [...]")
@click.option("--json", "json_path", metavar="FILE", help="Write the merged run as JSON.")
@click.option("--report", "report_path", metavar="FILE", help="Write a page with plots: FILE.html.")
@help_option
def merge(files: tuple[str, ...], json_path: str | None, report_path: str | None) -> int:
    """Add up runs that several hosts made at the same time: rates, errors and histograms."""
    from ..bench.html import save_page
    from ..bench.measure import Report
    from ..bench.merge import merge_reports
    from .bench import show

    if len(files) < 2:
        raise usage("merge", " ".join(files), "must name two files at least")
    report = merge_reports([Report.load(path) for path in files], tuple(sys.argv))
    if json_path:
        report.save(json_path)
    if report_path:
        save_page(report, report_path)
    show(report)
    return EX_OK if report.result.ok else EX_FAILURE


@click.command("compare", **SETTINGS)
@click.argument("before", metavar="A.json")
@click.argument("after", metavar="B.json")
@click.option("--threshold", default=2.0, metavar="PERCENT", type=click.FloatRange(0, 100),
              help="Differences below it count as none.  [2]")  # fmt: skip
@help_option
def compare(before: str, after: str, threshold: float) -> int:
    """Compare B with A: the exit code is 1 when B is worse, by more than its interval and the threshold."""
    from ..bench.compare import compare as differences
    from ..bench.measure import Report
    from ..bench.text import duration, number

    a, b = Report.load(before).result, Report.load(after).result
    try:
        found = differences(a, b)
    except ValueError as error:
        raise usage("compare", f"{before} {after}", str(error)) from None
    verdicts = {}
    print(f"{'':<6}{'A':>12}{'B':>12}{'change':>10}   95 % interval")
    for each in found:
        show = number if each.metric == "rate" else duration
        verdicts[each.metric] = each.verdict(threshold / 100)
        interval = f"{each.low:+.1%} .. {each.high:+.1%}"
        line = f"{each.metric:<6}{show(each.a):>12}{show(each.b):>12}{each.change:>+10.1%}   {interval:<20}"
        print(f"{line}{verdicts[each.metric]}")
    for name, result in (("A", a), ("B", b)):
        if not result.ok:
            wrong = ", ".join(f"{kind} {count}" for kind, count in result.errors.items() if count) or "no echoes"
            print(f"{name} had errors: {wrong}")
    print("The interval is of the variation within these runs; repeat both to see that between runs.")
    worse = [metric for metric, verdict in verdicts.items() if verdict == "worse"]
    better = [metric for metric, verdict in verdicts.items() if verdict == "better"]
    failed = b.error_count > 0 or not b.echoes
    if worse or failed:
        print(f"verdict: B is worse ({', '.join([*worse, *(['errors'] if failed else [])])})")
        return EX_FAILURE
    print(f"verdict: {'B is better (' + ', '.join(better) + ')' if better else 'no difference'}")
    return EX_OK
