"""docs/reliability.md, made of the records and of findings.toml alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from proof.findings import Findings
from proof.machine import LOAD
from proof.promises import Promise, amounts_text, number, promises
from proof.record import FAILED, NOT_RUN, RECORDS, ROOT, Record, Run, load_all
from proof.soak import summary

PAGE = ROOT / "docs" / "reliability.md"

INTRODUCTION = """\
What fastecho promises, how much each promise was tried, and what came of it. Each line below is a test that anyone can
run again: `make proof` is the short form, `make soak HOURS=1` loads a service for an hour and compares every byte."""

METHOD = """\
Where a test has several cases (both event loops, TLS and plain), the line has all of them: counts are summed up, and
of a measured value the greatest stands. What a machine does not allow is not run, and never counts as passed.

Beside hostile clients, the other clients run with a real-time priority where the machine allows it: their p99 is then
the server's, without the time in which they wait for a core. A misbehaviour that holds them up is tried three times at
most. Besides its bound for each connection, the process may grow by 1 MiB in all. Hostile senders of datagrams are on
loopback, which `--udp-rate` exempts.

The edges that fuzzing reached are those of all its targets together, in Python: it does not see into the C modules.
They are fuzzed all the same, since the targets call them, and the memory tests look into them."""

SOAK = """\
Two services of four workers have the same mixed load: messages of 1 B to 256 KiB, a connection for each message,
clients that read slowly, half-close or reset, and UDP. A third one speaks TLS. In one of the two, workers are killed
and all workers are replaced (SIGHUP) while the load goes on. Only there may a connection end, and only by that: in each
minute no more may end than those workers had (the first run did not count these). Growth is the slope of the
least-squares line through samples that are taken when no connection is open, without the first fifth of a run."""

MUTATION = """\
Each mutant is its module with one change: another operator, number or condition, no decorator, no turn of a loop. It is
killed when a test of the module fails. Those listed in `proof/survivors.toml` cannot be killed, or need not be, each
with the reason."""

COVERAGE = """\
Lines and branches of Python and Cython that the suite runs, in all its processes. A line that is not run is listed in
`proof/uncovered.toml` with the reason. So is a condition of session, buffer and supervisor that always takes the same
way."""

MENDED = "Each bug has a test that fails without its mend. Where a test failed by chance, it is that test."
MACHINES = "The machines, each with the versions that were used:"


def cell(text: str) -> str:
    """`text` for a cell of a table: on one line, and no column begins in it."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: Sequence[str], body: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    rule = "|" + "|".join("---:" if column in right else "---" for column in range(len(head))) + "|"
    lines = [head, *body]
    first, *rest = ("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)
    return "\n".join([first, rule, *rest])


def bullets(lines: Iterable[str], none: str) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines) or none


def section(title: str, *paragraphs: str) -> str:
    return "\n\n".join([f"## {title}", *filter(None, paragraphs)])


def result(promise: Promise) -> str:
    if promise.outcome == FAILED:
        return f"**failed** ({len(promise.failed)} of {promise.cases}): {'; '.join(dict.fromkeys(promise.failed))}"
    if promise.outcome == NOT_RUN:
        return NOT_RUN
    return f"passed, {len(promise.not_run)} of {promise.cases} not run" if promise.not_run else "passed"


def verdict(found: Sequence[Promise]) -> str:
    texts = {each.text for each in found}
    broken = {each.text for each in found if each.outcome == FAILED}
    tried = {each.text for each in found if each.outcome != NOT_RUN}
    parts = [f"{len(tried - broken)} of {len(texts)} promises were tried and held"]
    if broken:
        parts.append(f"**{len(broken)} did not hold**")
    if untried := len(texts - tried):
        parts.append(f"{untried} could not be tried on this machine")
    return ", ".join(parts) + "."


def promise_table(found: Sequence[Promise]) -> str:
    body, before = [], ""
    for each in found:
        text = each.text if each.text != before else ""
        before = each.text
        body.append((text, f"`{each.test}`", amounts_text(each.amounts), each.kind, result(each)))
    return table(("promise", "test", "amount", "run", "result"), body)


def not_run(found: Sequence[Promise], findings: Findings) -> str:
    lines = [
        f"{each.text} (`{each.test}`, {each.kind}): {'; '.join(dict.fromkeys(each.not_run))}"
        for each in found
        if each.not_run
    ]
    lines += [f"{each.what} {each.why}" for each in findings.not_run]
    return section("Not run, and why", bullets(lines, "Everything was run."))


def mended(findings: Findings) -> str:
    lines = (f"{each.what} `{each.test}`" for each in findings.mended)
    return section("Found and mended", MENDED, bullets(lines, "None yet."))


def facts(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


def duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.1f} minutes"


def soak(records: Sequence[Record]) -> str:
    found = [run for record in records if record.kind == "soak" for run in record.runs]
    if not found:
        return ""
    right = range(1, len(summary.HEAD))
    return section("Soak", SOAK, table(summary.HEAD, summary.rows(found), right))


def coverage(records: Sequence[Record]) -> str:
    found = [run.figures for record in records if record.kind == "coverage" for run in record.runs]
    lines = (
        (
            "all of `src/fastecho`" if name == "all" else f"`{name}`",
            number(counts["lines"]),
            f"{100 * (1 - counts['not_run'] / max(1, counts['lines'])):.2f} %",
            number(counts["branches"]),
            number(counts["one_way"]),
        )
        for figures in found
        for name, counts in figures.items()
    )
    head = ("file", "lines", "lines run", "branches", "conditions that go one way")
    return section("Coverage", COVERAGE, table(head, lines, range(1, len(head)))) if found else ""


def mutation(records: Sequence[Record]) -> str:
    found = [run for record in records if record.kind == "mutation" for run in record.runs]
    lines = sorted(
        (f"`{module}`", *(number(counts[name]) for name in ("mutants", "killed", "listed")))
        for run in found
        for module, counts in run.figures["modules"].items()
    )
    head = ("module", "mutants", "killed", "survived, with a reason")
    return section("Mutation", MUTATION, table(head, lines, range(1, len(head)))) if lines else ""


def place(run: Run) -> str:
    """Machine and versions, without what is another one in each run."""
    machine = {name: value for name, value in run.machine.items() if name != LOAD}
    return f"{facts(machine)}; {facts(run.versions)}."


def runs(records: Sequence[Record]) -> str:
    found = [(record.kind, run) for record in records for run in record.runs]
    places = list(dict.fromkeys(place(run) for _, run in found))
    lines = (
        (
            kind, run.started, duration(run.seconds), f"`{run.command}`", run.commit, run.machine.get(LOAD, ""),
            str(places.index(place(run)) + 1),
        )
        for kind, run in found
    )  # fmt: skip
    head = ("run", "started", "took", "command", "commit", LOAD, "machine")
    known = "\n".join(f"{number}. {each}" for number, each in enumerate(places, 1))
    shown = (table(head, lines), MACHINES, known) if found else ("No run yet: `make proof`.",)
    return section("Runs, machines and versions", *shown)


def page(records: Sequence[Record], findings: Findings) -> str:
    found = promises(records)
    parts = [
        "# Reliability",
        "<!-- Written by `make proof` and `make soak` from proof/records and proof/findings.toml: do not edit. -->",
        INTRODUCTION,
        section("Promises", verdict(found), promise_table(found), METHOD) if found else "",
        soak(records),
        coverage(records),
        mutation(records),
        not_run(found, findings),
        mended(findings),
        runs(records),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def write(directory: Path = RECORDS, to: Path = PAGE) -> None:
    to.write_text(page(load_all(directory), Findings.load()), encoding="utf-8")
