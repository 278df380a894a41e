"""Load fastecho services for hours and compare every byte; write docs/reliability.md.

    python -m proof.soak --hours 2        adds a run to proof/records/soak.json; several runs are summed up on the page
    python -m proof.soak --hours 0.02 --no-record      a look; prints what it did, writes nothing

SIGINT or SIGTERM ends the round under way; the run until then is recorded.

Exit code: 0 all held, 1 something did not hold, 2 usage.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace

from proof import machine, page
from proof.promises import amounts_text
from proof.record import FAILED, Record, Run
from proof.soak.rounds import Soak, Tally, certificate_in
from proof.soak.summary import evidence, figures

ROUND = 60.0  # seconds
SAVE_EVERY = 10  # rounds


def hours(text: str) -> float:
    value = float(text)
    if not 0.001 <= value <= 1000:
        raise argparse.ArgumentTypeError("must be between 0.001 and 1000")
    return value


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proof.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hours", type=hours, required=True, help="fractions are allowed")
    parser.add_argument("--round", type=float, default=ROUND, help="seconds of a round, default 60")
    parser.add_argument("--seed", type=int, help="of sizes, kills and reloads; default a random one")
    parser.add_argument("--no-record", action="store_true", help="write neither a record nor the page")
    return parser.parse_args(argv)


def progress(tally: Tally) -> None:
    speed = tally.bytes / tally.seconds / 1e6 if tally.seconds else 0.0
    print(
        f"{tally.seconds / 3600:.2f} h: {tally.bytes / 1e9:,.1f} GB verified ({speed:,.0f} MB/s), {tally.kills} kills, "
        f"{tally.reloads} reloads, {tally.ended} connections ended by them, errors {dict(tally.errors) or 'none'}",
        flush=True,
    )


def main(argv: Sequence[str]) -> int:
    found = arguments(argv)
    seed = found.seed if found.seed is not None else random.randrange(1 << 32)
    earlier = Record.load_or_new("soak").runs
    before = machine.begin(["python", "-m", "proof.soak", "--hours", f"{found.hours:g}", "--seed", str(seed)])

    def run_of(tally: Tally) -> Run:
        seconds = round(tally.seconds, 1)
        return replace(before, seconds=seconds, evidence=evidence(tally), figures=figures(tally))

    def save(tally: Tally) -> None:
        if not found.no_record:
            Record("soak", (*earlier, run_of(tally))).save()
            page.write()

    with tempfile.TemporaryDirectory(prefix="fastecho-soak-") as directory:
        with Soak(certificate_in(directory), seed) as soak:

            def end_early(*_: object) -> None:
                soak.ending = True

            signal.signal(signal.SIGINT, end_early)
            signal.signal(signal.SIGTERM, end_early)
            end = time.monotonic() + found.hours * 3600
            while (left := end - time.monotonic()) > 0 and not soak.ending:
                soak.round(max(1.0, min(found.round, left)))
                progress(soak.tally)
                if soak.tally.rounds % SAVE_EVERY == 0:
                    save(soak.tally)
            soak.stop_services()
            save(soak.tally)
    done = run_of(soak.tally)
    for each in done.evidence:
        print(f"{each.outcome:8} {each.promise} {amounts_text(each.amounts)}{each.reason and ': ' + each.reason}")
    for line in soak.tally.details:
        print(f"  {line}")
    return 1 if any(each.outcome == FAILED for each in done.evidence) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
