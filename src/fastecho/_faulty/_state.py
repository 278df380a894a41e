"""The states of a faulty session.

    NEW ─start─► WAITING ─place─► SLOW ─► SHAKING ─► OPEN ─┬─ an end is decided ─► ENDING ─ all is sent ─┐
                 (a place)     (slow_accept)  (TLS)        │                                             │
                                                           │   RESETTING (until SIOCOUTQ is 0) ◄─ reset ─┤
                                                           │   LINGERING (FIN, read in vain) ◄── close ──┤
                                                           │   HALF (FIN, read on) ◄──────── half_close ─┤
                                                           │   STALLED ◄──────────────────────── stall ──┘
                                                           └─ abort, refuse, an RST of either side ─► CLOSED

Straight to CLOSED leads, from anywhere, whatever breaks the connection.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["EARLY", "NOT_SWEPT", "SILENT", "State"]


class State(enum.Enum):
    NEW, WAITING, SLOW, SHAKING, OPEN, ENDING, RESETTING, LINGERING, HALF, STALLED, CLOSED = range(11)


EARLY: Final = frozenset({State.WAITING, State.SLOW, State.SHAKING})
"""Started, but no byte may flow yet."""
SILENT: Final = frozenset({State.NEW, State.WAITING, State.SLOW, State.STALLED, State.CLOSED})
"""Nothing is read."""
NOT_SWEPT: Final = EARLY | SILENT
"""No time-out of the configuration runs."""
