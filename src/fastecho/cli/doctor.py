"""`fastecho doctor`: the limits of this machine that would skew a run, each with the command that raises it."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click

from .._options.cpus import cpu_quota, usable_cpus
from ..errors import EX_FAILURE, EX_OK
from ._output import print_out
from ._params import SETTINGS, Command, help_option

_DESCRIPTORS = 65_536
_BACKLOG = 4096
_PORTS = 28_000


class Check(NamedTuple):
    """A line: the status (`ok`, `low` or `bad`), what was found, what it limits, and the command that raises the
    limit."""

    state: str
    name: str
    found: str
    limits: str = ""
    command: str = ""


@click.command("doctor", cls=Command, **SETTINGS)
@help_option
def command() -> int:
    """Check the limits of this machine (descriptors, backlog, CPUs, ports) that would skew a run.

    `low` limits a large run; the exit code is 1 only for `bad`: what keeps fastecho from working as built.
    """
    checks = [check for function in _CHECKS for check in function()]
    width = max(len(check.name) for check in checks)
    for check in checks:
        print_out(f"{check.state:<5}{check.name:<{width + 2}}{check.found}")
        if check.limits:
            print_out(f"{'':<{width + 7}}{check.limits}")
        if check.command:
            print_out(f"{'':<{width + 7}}$ {check.command}")
    return EX_FAILURE if any(check.state == "bad" for check in checks) else EX_OK


def _setting(path: str) -> str | None:
    """A value of /proc/sys or /sys; None where there is no such thing."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _descriptors() -> Iterator[Check]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # fastecho raises the soft limit to the hard one by itself.
    shown = "no limit" if hard == resource.RLIM_INFINITY else f"{soft:,} (raised to {hard:,} at start)"
    if hard == resource.RLIM_INFINITY or hard >= _DESCRIPTORS:
        yield Check("ok", "descriptors", shown)
    else:
        yield Check(
            "low", "descriptors", shown, f"at most about {hard - 64:,} connections a process",
            "sudo prlimit --pid $$ --nofile=1048576:1048576",
        )  # fmt: skip


def _backlog() -> Iterator[Check]:
    found = _setting("/proc/sys/net/core/somaxconn")
    if found is None:
        return
    if int(found) >= _BACKLOG:
        yield Check("ok", "backlog", f"net.core.somaxconn = {found}")
    else:
        yield Check(
            "low", "backlog", f"net.core.somaxconn = {found}", "clients that connect at once wait a second or fail",
            f"sudo sysctl -w net.core.somaxconn={_BACKLOG}",
        )  # fmt: skip


def _cpus() -> Iterator[Check]:
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    shown = f"{usable} usable of {total}"
    quota = cpu_quota()
    if quota is not None:
        shown += f", with a quota of {quota:g} CPU{'s' * (quota != 1)} (cgroup)"
    if quota is not None and quota < usable:
        limit = f"server and client are stopped when they have used it up; --workers auto is {usable_cpus()}"
        yield Check("low", "CPUs", shown, limit)
    elif usable > 1:
        yield Check("ok", "CPUs", shown)
    elif total > 1:
        yield Check(
            "low", "CPUs", shown, "server and client share one: figures are of both together",
            f"taskset -pc 0-{total - 1} $$",
        )  # fmt: skip
    else:
        limit = "server and client share one: figures are of both together; use a machine with two"
        yield Check("low", "CPUs", shown, limit)


def _governor() -> Iterator[Check]:
    path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor = _setting(path)
    if governor is None:
        yield Check("ok", "CPU governor", "not visible here (a virtual machine, as a rule)")
    elif governor == "performance":
        yield Check("ok", "CPU governor", governor)
    else:
        yield Check(
            "low", "CPU governor", governor, "the clock rate follows the load: latencies vary, rates drift",
            "sudo cpupower frequency-set -g performance",
        )  # fmt: skip


def _ports() -> Iterator[Check]:
    found = _setting("/proc/sys/net/ipv4/ip_local_port_range")
    if found is None:
        return
    low, high = map(int, found.split())
    shown = f"{high - low + 1:,} ({low}-{high})"
    if high - low + 1 >= _PORTS:
        yield Check("ok", "ephemeral ports", f"{shown} for each source address")
    else:
        yield Check(
            "low", "ephemeral ports", shown, "connections to one address, and with --churn the rate, end there",
            'sudo sysctl -w net.ipv4.ip_local_port_range="1024 65535"',
        )  # fmt: skip
    reuse = _setting("/proc/sys/net/ipv4/tcp_tw_reuse")
    if reuse == "0":
        yield Check(
            "low", "TIME_WAIT ports", "net.ipv4.tcp_tw_reuse = 0", "--churn holds each port for 60 s",
            "sudo sysctl -w net.ipv4.tcp_tw_reuse=1",
        )  # fmt: skip


def _loop() -> Iterator[Check]:
    try:
        import uvloop
    except ImportError as error:
        yield Check("bad", "uvloop", f"not there: {error}", "fastecho falls back to asyncio's own loop, half as fast",
                    "pip install uvloop")  # fmt: skip
        return
    yield Check("ok", "uvloop", str(getattr(uvloop, "__version__", "of no version")))


def _build() -> Iterator[Check]:
    try:
        from .._buffer import BUILD
    except ImportError as error:
        again = "pip install --force-reinstall --no-binary fastecho fastecho"
        yield Check("bad", "build", f"no extension modules: {error}", "nothing works without them", again)
        return
    if BUILD == "release":
        yield Check("ok", "build", f"release, Python {sys.version.split()[0]}")
    else:
        again = "FASTECHO_BUILD=release pip install --force-reinstall --no-binary fastecho fastecho"
        yield Check("low", "build", BUILD, "built with checks: several times slower, no figure is of use", again)


def _bench() -> Iterator[Check]:
    missing = []
    for name in ("hdrh", "rich"):
        try:
            __import__(name)
        except ImportError:
            missing.append({"hdrh": "hdrhistogram"}.get(name, name))
    if missing:
        yield Check("low", "fastecho bench", f"{', '.join(missing)} missing", "fastecho bench does not run",
                    "pip install 'fastecho[bench]'")  # fmt: skip
    else:
        yield Check("ok", "fastecho bench", "its packages are there")


_CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    _descriptors, _backlog, _cpus, _governor, _ports, _loop, _build, _bench,
)  # fmt: skip
