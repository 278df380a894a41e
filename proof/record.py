"""What a run leaves behind: a JSON file for each kind of run, with one run, or several that are summed up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
ROOT = Path(__file__).parents[1]
RECORDS = Path(__file__).parent / "records"

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class Evidence:
    """What one test has shown.

    test: its pytest node id, or the module that did the work.
    amounts: what it did, by name, such as {"connections": 100}.
    outcome: "passed", "failed" or "not run"; reason: why it failed or was not run.
    """

    promise: str
    test: str
    outcome: str = PASSED
    amounts: Mapping[str, float | str] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Run:
    """One run. `figures` are of a kind of run alone, such as the memory over time of a soak.

    Paths in `command` and in the evidence are relative to the project's folder; there is no name of a host.
    """

    started: str
    seconds: float
    command: str
    commit: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    evidence: tuple[Evidence, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """The runs of one kind ("proof", "release", "soak"), in the order of time."""

    kind: str
    runs: tuple[Run, ...] = ()

    def save(self, directory: Path = RECORDS) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "kind": self.kind, "runs": [asdict(run) for run in self.runs]}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        # A run that is interrupted while it writes leaves the file of the run before.
        fresh = directory / f".{self.kind}.json.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(directory / f"{self.kind}.json")

    @classmethod
    def load(cls, path: Path) -> Record:
        """Reads what save() wrote; ValueError when it is something else."""
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"{path.name}: not a record of this proof, format {FORMAT}")
        return cls(content["kind"], tuple(_run(run) for run in content["runs"]))

    @classmethod
    def load_or_new(cls, kind: str, directory: Path = RECORDS) -> Record:
        path = directory / f"{kind}.json"
        return cls.load(path) if path.exists() else cls(kind)


def _run(content: dict[str, Any]) -> Run:
    evidence = tuple(Evidence(**each) for each in content.pop("evidence"))
    return Run(**content, evidence=evidence)


def load_all(directory: Path = RECORDS) -> list[Record]:
    return [Record.load(path) for path in sorted(directory.glob("*.json"))]


def read_evidence(lines: Iterable[str]) -> list[Evidence]:
    """The lines that `pytest --evidence` wrote."""
    return [Evidence(**json.loads(line)) for line in lines if line.strip()]
