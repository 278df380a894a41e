"""The section `fastecho` of a report: a line an event, and the command that replays the test."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ._plugin_run import base_seed, node_id

if TYPE_CHECKING:
    import pytest

    from ._notes import Event
    from ._plugin_run import AnyServer, Run
    from ._server import Server

__all__ = ["section"]

_FIRST_LINES, _LAST_LINES = 40, 160


def section(item: pytest.Item, run: Run | None, shared: Server | None, began: float) -> str:
    """Empty for a test that has nothing to do with us.

    Args:
        shared: the server of the session, whose events count from `began` (monotonic seconds).
    """
    lines: list[str] = []
    for name, server in run.servers if run else ():
        lines += _of_server(name, server, _events(server), began)
    if shared is not None:
        events = [event for event in _events(shared) if event.time >= began]
        if events or "fastecho_session_server" in getattr(item, "fixturenames", ()):
            lines += _of_server("fastecho_session_server", shared, events, began)
    if not lines:
        return ""
    lines.append(f"replay: pytest {shlex.quote(_from_here(item))} --fastecho-seed={base_seed(item.config)}")
    return "\n".join(lines)


def _from_here(item: pytest.Item) -> str:
    """The node id as pytest wants it in the folder where it was started: its own ids begin at the root folder."""
    path, colons, rest = node_id(item).partition("::")
    config = item.config
    return os.path.relpath(config.rootpath / path, config.invocation_params.dir) + colons + rest


def _events(server: AnyServer) -> list[Event]:
    try:
        return server.events()
    except Exception:  # a server that is held up must not cost the report of the test that held it up
        return []


def _of_server(name: str, server: AnyServer, events: list[Event], began: float) -> Iterator[str]:
    yield f"{name} at {server.url}, seed {server.seed}"
    if not events:
        yield "  nothing happened"
    left_out = len(events) - _FIRST_LINES - _LAST_LINES
    for index, event in enumerate(events):
        if left_out > 0 and index == _FIRST_LINES:
            yield f"  … {left_out:,} events left out …"
        if left_out <= 0 or not _FIRST_LINES <= index < _FIRST_LINES + left_out:
            yield f"  {event.line(began)}"
