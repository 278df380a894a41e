"""The services under all loads, a round at a time, and what has come of all rounds."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from benchmarks.procfs import descriptors

from proof.soak.growth import Sample, of_all, sample
from proof.soak.loads import COMMON, PATIENCE, TLS, Load, LoadProcess, Outcome
from proof.soak.service import DISTURBED, SECURE, STEADY, Service, ServiceError

KILL_EVERY = 7.0  # seconds, in a round with kills
SETTLE = 15.0  # seconds for the last connections to end
# A machine that stood still longer than this: what timed out meanwhile says nothing about the service.
STILL = 5.0
# What may become of a connection whose worker is killed, or is replaced while the client goes on sending.
BY_DISTURBANCE = ("reset", "short")
# UDP promises neither delivery nor order.
BY_NATURE = ("lost", "reordered")


@dataclass
class Tally:
    """All rounds so far.

    loads: by service and load. ended: connections of the disturbed service that ended early; could_end: how many the
    workers had that were killed or replaced. errors: what must not be, by kind.
    """

    rounds: int = 0
    seconds: float = 0.0
    loads: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    kills: int = 0
    reloads: int = 0
    ended: int = 0
    could_end: int = 0
    lost: int = 0
    reordered: int = 0
    pauses: int = 0
    paused_timeouts: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(outcome.bytes for outcome in self.loads.values())

    @property
    def echoes(self) -> int:
        return sum(outcome.echoes for outcome in self.loads.values())

    def add(self, service: str, load: Load, outcome: Outcome, *, stood_still: bool) -> None:
        self.loads.setdefault((service, load.name), Outcome()).add(outcome)
        wrong = 0
        for kind, count in outcome.errors.items():
            if load.scheme == "udp" and kind in BY_NATURE:
                setattr(self, kind, getattr(self, kind) + count)
            elif service == DISTURBED and kind in BY_DISTURBANCE:
                self.ended += count
            elif stood_still and kind == "timeout":
                self.paused_timeouts += count
            else:
                wrong += count
                self.errors[kind] += count
        if wrong:
            shown = [f"{service}, {load.name}: {line}" for line in outcome.details]
            self.details = [*self.details, *shown][:20]

    def add_disturbance(self, ended_before: int, could_end: int) -> None:
        """A round is over in which the workers that were killed or replaced had `could_end` connections."""
        ended = self.ended - ended_before
        self.could_end += could_end
        if ended > could_end:
            had = f"the workers that were killed or replaced had {could_end}"
            self.complain("not by a kill", f"{DISTURBED}: {ended} connections ended, and {had}")

    def complain(self, kind: str, detail: str) -> None:
        self.errors[kind] += 1
        self.details.append(detail)


class Soak:
    """The services and their loads; a context manager that ends all of them."""

    def __init__(self, certificate: str, seed: int, loads: Sequence[Load] = COMMON, tls: Sequence[Load] = TLS) -> None:
        self.certificate, self.draw = certificate, random.Random(seed)
        self.plans = {STEADY: loads, DISTURBED: loads, SECURE: tls}
        self.tally = Tally()
        self.ending = False  # set by a signal handler
        self._due = 0.0  # seconds into the round, of the next kill or reload; 0: not drawn yet
        self._replaced: dict[int, int] = {}  # workers that a reload is to replace: most descriptors of each since then
        self._could_end = 0  # in the round: connections of the workers that were killed
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Soak:
        with self._stack:
            enter = self._stack.enter_context
            quick = ("--drain-timeout", "2", "--linger-timeout", "1")
            self.services = {
                STEADY: enter(Service(STEADY, 4, "--udp")),
                DISTURBED: enter(Service(DISTURBED, 4, "--udp", *quick)),
                SECURE: enter(Service(SECURE, 2, "--tls-cert", self.certificate)),
            }
            self.loads = [
                (name, enter(LoadProcess(load, self.services[name].port)))
                for name, plan in self.plans.items()
                for load in plan
            ]
            self._stack = self._stack.pop_all()
        self.began = time.monotonic()
        self.base = {name: self._sample(service) for name, service in self.services.items()}
        self._idle = self.base[DISTURBED].worker_descriptors // self.services[DISTURBED].workers
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, load in self.loads:
            load.stop()
        self._stack.__exit__(kind, error, trace)

    def _sample(self, service: Service) -> Sample:
        return sample(time.monotonic() - self.began, service.supervisor, service.worker_pids())

    def round(self, seconds: float) -> None:
        """All loads for `seconds`; then, with no connection open, a sample of each service."""
        begun = time.monotonic()
        for number, (_, load) in enumerate(self.loads):
            load.begin(seconds, seed=1000 * self.tally.rounds + number)
        disturb = self._kill if self.tally.rounds % 2 == 0 else self._reload
        self._due, self._could_end, self._replaced = 0.0, 0, {}
        pauses, ended = self.tally.pauses, self.tally.ended
        self._wait(begun, seconds, disturb)
        for name, load in self.loads:
            if load.is_done(0.0):
                self.tally.add(name, load.load, load.outcome(), stood_still=self.tally.pauses > pauses)
            else:
                self.tally.complain("no load", f"{name}, {load.load.name}: its round did not end")
        replaced = sum(most - self._idle for most in self._replaced.values())
        self.tally.add_disturbance(ended, self._could_end + replaced)
        for name, service in self.services.items():
            self._settle(service, self.base[name])
            self.tally.samples.setdefault(name, []).append(self._sample(service))
        self.tally.rounds += 1
        self.tally.seconds = time.monotonic() - self.began

    def _wait(self, begun: float, seconds: float, disturb: Callable[[float, float], None]) -> None:
        """Until every load has ended; `disturb` is called again and again while they run."""
        last, patience = begun, seconds + 3 * PATIENCE
        while not all(load.is_done(0.0) for _, load in self.loads):
            time.sleep(0.05)
            now = time.monotonic()
            if now - last > STILL:
                self.tally.pauses += 1
                patience += now - last
            last = now
            if self.ending:
                for _, load in self.loads:
                    load.stop()
            elif now - begun < seconds:
                disturb(now - begun, seconds)
            if now - begun > patience:
                return

    def _kill(self, at: float, seconds: float) -> None:
        """Kill a worker every KILL_EVERY seconds, or once in a shorter round."""
        self._due = self._due or min(KILL_EVERY, seconds) * (0.3 + 0.4 * self.draw.random())
        service = self.services[DISTURBED]
        if at >= self._due and len(workers := service.worker_pids()) == service.workers:
            self._could_end += service.kill(self.draw.choice(workers)) - self._idle
            self.tally.kills += 1
            self._due += KILL_EVERY

    def _reload(self, at: float, seconds: float) -> None:
        """Replace all workers once, somewhere in the first half of the round."""
        self._due = self._due or seconds * (0.1 + 0.4 * self.draw.random())
        service = self.services[DISTURBED]
        if at >= self._due:
            self._replaced = dict.fromkeys(service.worker_pids(), self._idle)
            service.reload()
            self.tally.reloads += 1
            self._due = 2 * seconds
        for pid, most in self._replaced.items():
            self._replaced[pid] = max(most, of_all(descriptors, [pid]))

    def _settle(self, service: Service, base: Sample) -> None:
        """Wait until the service has all its workers and no connection."""
        if not service.is_alive():
            self.tally.complain("ended", f"{service.name} has ended: {service.last_words()}")
            self.ending = True
            return
        replaced = self._replaced if service.name == DISTURBED else ()
        if not service.await_workers(replaced, 4 * SETTLE):
            self.tally.complain("workers", f"{service.name} has not got back its workers: {service.last_words()}")
        until = time.monotonic() + SETTLE
        while (opened := self._sample(service).worker_descriptors) > base.worker_descriptors:
            if time.monotonic() > until:
                more = opened - base.worker_descriptors
                self.tally.complain("open", f"{service.name}: {more} connections stayed open after their clients")
                return
            time.sleep(0.1)

    def stop_services(self) -> None:
        """Each service must drain and exit with 0, and have logged no traceback."""
        for service in self.services.values():
            try:
                service.stop()
            except ServiceError as error:
                self.tally.complain("stop", str(error))
            if "Traceback" in (log := service.log()):
                self.tally.complain("traceback", f"{service.name}: {log[log.index('Traceback') :][:200]}")


def certificate_in(directory: str) -> str:
    """A file with key and certificate for 127.0.0.1."""
    import trustme

    path = Path(directory, "server.pem")
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)
