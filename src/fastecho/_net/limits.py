"""How many descriptors this process may open, and how many connections follow from that."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

DESCRIPTOR_RESERVE = 64
"""Descriptors of a process that are never given to connections: listeners, loop, logs, control channel."""

_LEAST_RESERVE = 32
"""The reserve where descriptors are scarce: a worker with one address has 18 open before the first client."""

FEW_CONNECTIONS = 512
"""A service that can hold no more at once than this says so at its start."""

_OPEN_MAX = 10240
_NO_LIMIT = 1 << 20


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one; return the limit that now holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS reports an unlimited hard limit but accepts no more than OPEN_MAX.
    for wanted in (hard, _OPEN_MAX):
        if wanted != resource.RLIM_INFINITY and (soft == resource.RLIM_INFINITY or wanted <= soft):
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        soft = wanted
        break
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


@contextlib.contextmanager
def raised_descriptor_limit() -> Iterator[None]:
    """`raise_descriptor_limit` for the block."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_descriptor_limit()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connection_limit(wanted: int | None) -> int:
    """How many connections this process may hold: `wanted`, but never past the descriptor limit's reserve.

    Past it `accept` fails with EMFILE, and libuv then accepts and closes all clients in the backlog. Below 128
    descriptors the reserve is half of them.
    """
    descriptors = descriptor_limit()
    reserve = min(DESCRIPTOR_RESERVE, max(_LEAST_RESERVE, descriptors // 2))
    most = max(1, descriptors - reserve)
    return most if wanted is None else min(wanted, most)


def descriptor_limit() -> int:
    """The soft limit of open descriptors."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def describe_shortage(max_connections: int | None, processes: int = 1) -> str | None:
    """The warning where the descriptor limit allows fewer connections than `max_connections`, or few of them at all."""
    most = connection_limit(None) * processes
    wanted = FEW_CONNECTIONS if max_connections is None else max_connections
    if most >= wanted:
        return None
    asked = "" if max_connections is None else f", not {max_connections}"
    each = f" in each of {processes} workers" if processes > 1 else ""
    return (
        f"at most {most} connections are served at once{asked}; further clients wait: the limit of open files is "
        f"{descriptor_limit()}{each}. Raise it with ulimit -n, or LimitNOFILE= of systemd"
    )
