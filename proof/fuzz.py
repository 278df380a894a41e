"""Fuzz one target of tests/support/targets.py with atheris, guided by the coverage of its Python code.

    python proof/fuzz.py fault_text --seconds 60
    python proof/fuzz.py session --seconds 3600 --grow        adds the inputs that reached new code to tests/corpus

It begins with the corpus in tests/corpus. An input that breaks a promise is added to it, and each run of the suite
replays it from then on. Exit code: 0 nothing was found, 1 an input was, 2 usage, 3 atheris is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUPPORT = ROOT / "tests" / "support"
CORPUS = ROOT / "tests" / "corpus"
NEEDS = "needs atheris (Python 3.11 to 3.13): pip install 'fastecho[proof]'"
LONGEST = 4096  # bytes of an input
LONGEST_RUN = 10  # seconds of an input; one that takes longer is a failure
START = 60  # seconds until the target is imported, and from its last input to its end

# The process that fuzzes: libFuzzer ends it when it is done.
_CHILD = """
import sys
import atheris
sys.path.insert(0, {support!r})
with atheris.instrument_imports(include=["fastecho", "driven", "reference", "worlds"]):
    import targets
target = targets.TARGETS[{target!r}]
atheris.Setup(sys.argv, target)
atheris.Fuzz()
"""


@dataclass(frozen=True)
class Fuzzed:
    """inputs: tried. covered: edges of Python code that were reached. failure: the last line of what was raised."""

    inputs: int
    covered: int
    failure: str = ""
    kept: str = ""


def is_installed() -> bool:
    return importlib.util.find_spec("atheris") is not None


def target_names() -> list[str]:
    return sorted(path.name for path in CORPUS.iterdir() if path.is_dir())


def fuzz(target: str, seconds: float, *, grow: bool = False) -> Fuzzed:
    """Fuzz `target` for about `seconds`. RuntimeError: the fuzzer did not run."""
    with tempfile.TemporaryDirectory(prefix="fastecho-fuzz-") as directory:
        found, broken = Path(directory, "found"), Path(directory, "broken")
        found.mkdir()
        broken.mkdir()
        options = [f"-max_total_time={max(1, round(seconds))}", f"-max_len={LONGEST}"]
        options += [f"-timeout={LONGEST_RUN}", f"-report_slow_units={LONGEST_RUN}"]
        options += ["-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={broken}/"]
        options += [str(found), str(CORPUS / target)]
        code = _CHILD.format(support=str(SUPPORT), target=target)
        done = subprocess.run(
            [sys.executable, "-c", code, *options],
            cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=seconds + 2 * START,
        )  # fmt: skip
        said = done.stdout + done.stderr
        tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
        failures = sorted(broken.iterdir())
        if not failures and (done.returncode or tried is None):
            raise RuntimeError((said.strip().splitlines() or ["the fuzzer printed nothing"])[-1])
        if grow:
            for path in found.iterdir():
                shutil.copy(path, CORPUS / target / f"found-{path.name[:12]}")
        kept = [_keep(target, path) for path in failures]
        covered = [int(edges) for edges in re.findall(r" cov: (\d+)", said)]
        return Fuzzed(int(tried[1]) if tried else 0, max(covered, default=0), _failure(said) if kept else "", *kept[:1])


def _keep(target: str, path: Path) -> str:
    """Add an input that failed to the corpus; its path in the project."""
    kept = CORPUS / target / f"failed-{path.name.rpartition('-')[2][:12]}"
    shutil.copy(path, kept)
    return str(kept.relative_to(ROOT))


def _failure(said: str) -> str:
    """What the target raised."""
    raised = re.findall(r"^([\w.]*(?:Error|Exception|Exit)\b.*)$", said, re.MULTILINE)
    return raised[0] if raised else "the process died"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python proof/fuzz.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=target_names())
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--grow", action="store_true", help="add inputs that reached new code to the corpus")
    given = parser.parse_args(argv)
    if not is_installed():
        print(NEEDS, file=sys.stderr)
        return 3
    found = fuzz(given.target, given.seconds, grow=given.grow)
    print(f"{found.inputs:,} inputs, {found.covered:,} edges reached")
    if found.kept:
        print(f"{found.failure}\n{found.kept}")
    return 1 if found.kept else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
