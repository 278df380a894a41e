"""Run a command as a unit of systemd would confine it: its system call filter, and no memory that is written and run.

python confined.py UNIT COMMAND...; the program replaces itself with COMMAND. It needs libseccomp, as systemd does.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, REFUSE_EXEC_GAIN = 38, 65, 1
ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050000 | 1


def members(group: str) -> set[str]:
    """The system calls of a group such as @system-service."""
    if not group.startswith("@"):
        return {group}
    shown = subprocess.run(["systemd-analyze", "syscall-filter", group], check=True, capture_output=True, text=True)
    names = [line.strip() for line in shown.stdout.splitlines()[1:] if not line.strip().startswith("#")]
    return set().union(*(members(name) for name in names if name))


def allowed(unit: str) -> set[str]:
    """The system calls that SystemCallFilter= leaves: a line lists those allowed, and one with ~ removes some."""
    calls = members("@default")
    for value in re.findall(r"^SystemCallFilter=(.*)", unit, re.M):
        groups = set().union(*(members(each) for each in value.removeprefix("~").split()))
        calls = calls - groups if value.startswith("~") else calls | groups
    return calls


def confine(unit: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if "MemoryDenyWriteExecute=yes" in unit:
        libc.prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)  # before Linux 6.3: without effect
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    calls = [seccomp.seccomp_syscall_resolve_name(name.encode()) for name in sorted(allowed(unit))]
    context = ctypes.c_void_p(seccomp.seccomp_init(ERRNO_EPERM))
    for number in calls:
        if number >= 0:
            assert seccomp.seccomp_rule_add(context, ALLOW, number, 0) == 0
    assert seccomp.seccomp_load(context) == 0


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text())
    os.execv(sys.argv[2], sys.argv[2:])
