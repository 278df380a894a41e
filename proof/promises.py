"""The evidence as lines of a table: the cases of one test together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proof.record import FAILED, NOT_RUN, PASSED, Evidence, Record

Amount = float | str


@dataclass(frozen=True)
class Promise:
    """A promise, tried by one test in one kind of run.

    test: without its parameters. cases: all that were run or skipped; failed, not_run: those of them, with reasons.
    """

    text: str
    test: str
    kind: str
    cases: int
    failed: tuple[str, ...]
    not_run: tuple[str, ...]
    amounts: Mapping[str, Amount]

    @property
    def outcome(self) -> str:
        return FAILED if self.failed else NOT_RUN if len(self.not_run) == self.cases else PASSED


def test_name(node: str) -> str:
    """`tests/net/test_tls.py::test_name[uvloop]` without its case."""
    return node.partition("[")[0]


def amount_name(name: str) -> str:
    return name.replace("_", " ")


def combine(amounts: Iterable[Mapping[str, Amount]]) -> dict[str, Amount]:
    """Counts (int) are summed up; of measured values (float) the greatest stands; texts are listed."""
    found: dict[str, Amount] = {}
    for each in amounts:
        for name, value in each.items():
            before = found.get(name)
            if before is None:
                found[name] = value
            elif isinstance(before, str) or isinstance(value, str):
                known = str(before).split(", ")
                found[name] = str(before) if str(value) in known else f"{before}, {value}"
            elif isinstance(before, float) or isinstance(value, float):
                found[name] = max(before, value)
            else:
                found[name] = before + value
    return found


def amounts_text(amounts: Mapping[str, Amount]) -> str:
    """`100,000 steps, 12 connections`; a measured value or a text is put behind its name."""
    return ", ".join(_amount_text(amount_name(name), value) for name, value in amounts.items())


def _amount_text(name: str, value: Amount) -> str:
    if isinstance(value, int):
        return f"{number(value)} {name}"
    return f"{name}: {value if isinstance(value, str) else number(value)}"


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")


def promises(records: Sequence[Record]) -> list[Promise]:
    """One for each promise, test and kind of run; those of one promise together, in the order of the alphabet."""
    groups: dict[tuple[str, str, str], list[Evidence]] = {}
    for record in records:
        for run in record.runs:
            for each in run.evidence:
                groups.setdefault((each.promise, test_name(each.test), record.kind), []).append(each)
    return [
        Promise(
            text, test, kind, len(cases),
            tuple(each.reason for each in cases if each.outcome == FAILED),
            tuple(each.reason for each in cases if each.outcome == NOT_RUN),
            combine(each.amounts for each in cases if each.outcome != NOT_RUN),
        )
        for (text, test, kind), cases in sorted(groups.items())
    ]  # fmt: skip
