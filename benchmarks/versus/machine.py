"""Where a run took place, and with what. No names of hosts or people."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers.build import VERSIONS

PACKAGES = ("fastecho", "uvloop", "Cython", "Twisted", "gevent", "trio")


LOAD = "load average at the start"


def _first(path: str, pattern: str) -> str:
    try:
        match = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match[1].strip() if match else ""


def describe() -> dict[str, str]:
    memory = _first("/proc/meminfo", r"^MemTotal:\s+(\d+)")
    flags = _first("/proc/cpuinfo", r"^flags(.*)").split()
    found = {
        "processor": _first("/proc/cpuinfo", r"^model name\s*:(.*)"),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory) / 2**20:.0f} GiB" if memory else "",
        "virtual machine": "yes" if "hypervisor" in flags else "",
        "governor": _first("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", r"(.*)"),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "distribution": _first("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)'),
        LOAD: f"{os.getloadavg()[0]:.2f}",
    }
    return {name: value for name, value in found.items() if value}


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of Python, and of those packages that are installed."""
    found = {"Python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def versions() -> dict[str, str]:
    found = package_versions(PACKAGES)
    with contextlib.suppress(OSError):
        said = subprocess.run(["socat", "-V"], capture_output=True, text=True).stdout
        if match := re.search(r"version (\S+)", said):
            found["socat"] = match[1]
    built: dict[str, str] = json.loads(VERSIONS.read_text()) if VERSIONS.exists() else {}
    return {**found, **built}
