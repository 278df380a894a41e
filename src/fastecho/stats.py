"""Snapshots of the counters, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """What a server has done so far. Counts never go back; the last five can fall again.

    Attributes:
        accepted: connections accepted.
        bytes_in: bytes received.
        bytes_out: bytes handed to the kernel.
        bytes_discarded: bytes received after the end of a session was decided.
        reads: reads that brought bytes.
        pauses: times a session stopped reading because the client did not take its echo.
        yields: times a session let the others have a turn.
        tails_copied: unsent tails that were copied because no buffer was free.
        linger_timeouts: sessions closed because the client did not close in `linger_timeout`.
        ends: ended sessions by cause: eof, terminator, reset, idle, write_timeout, drain, drain_timeout,
            error, refused, fault (ended by fault injection, or by a test).
        datagrams: UDP datagrams by outcome: echoed; truncated; refused_port (of a service: below 1024, or ours);
            refused_address (a broadcast or multicast address, or none); refused_echo (sent by a server like this one);
            rate_limited; dropped (the kernel took no more); send_error; receive_error.
        active: sessions being served now.
        pending: connections accepted whose session has not begun, such as those in a TLS handshake.
        write_paused: of the active sessions, those that wait until the client takes its echo.
        buffers_total: buffers allocated now.
        buffers_in_use: of those, how many hold bytes not sent yet (with `pin_buffers`: belong to a session).
    """

    accepted: int
    bytes_in: int
    bytes_out: int
    bytes_discarded: int
    reads: int
    pauses: int
    yields: int
    tails_copied: int
    linger_timeouts: int
    ends: Mapping[str, int]
    datagrams: Mapping[str, int]
    active: int
    pending: int
    write_paused: int
    buffers_total: int
    buffers_in_use: int
