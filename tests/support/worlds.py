"""Sessions of one loop and their clients, moved a step at a time: the steps of the state machines and of the fuzzer.

Each client sends its stream, and the sessions are moved through `driven.Wire`. After each step, what a session
has sent and what its transport has queued must be what the reference model says is due: in order, once.
"""

from __future__ import annotations

import random
from typing import Any

from driven import Driven, Wire
from fastecho import ServerConfig
from fastecho._session import Sessions

CAPACITY = 512
_NOISE = random.Random(7).randbytes(4099)  # a prime length: bytes that are lost or doubled do not fit again
TERMINATORS = (None, b"\0", b"\r\n", b"aab", b"abab", b"\0\0", bytes(range(64)))
TAKES: tuple[list[int | None], ...] = ([None], [0], [1], [None, 0, 5], [CAPACITY - 1, None], [3, 300])


class Client:
    """One connection: what the client has sent and the server has not read, and how it ended."""

    def __init__(self, number: int, driven: Driven, takes: list[int | None]) -> None:
        self.number, self.driven, self.takes = number, driven, takes
        self.wire = driven.wire
        self.pending = bytearray()
        self.sent = 0
        self.fin = self.fin_read = self.reset = False
        self.checked = 0

    @property
    def is_open(self) -> bool:
        return not self.driven.lost and not self.wire.closing

    @property
    def can_be_read(self) -> bool:
        return self.is_open and not self.wire.reading_paused

    def check(self) -> None:
        """Sent and queued bytes are what is due; no more after the end."""
        wire = self.wire
        assert not wire.violations, wire.violations
        due = self.driven.model.echo
        have = bytes(wire.sent[self.checked :]) + b"".join(wire.queue)
        if self.reset or wire.aborted:
            assert due[self.checked :].startswith(have), f"client {self.number}: no prefix of what is due"
        else:
            assert due[self.checked :] == have, f"client {self.number}: {have!r} instead of {due[self.checked :]!r}"
        self.checked = len(wire.sent)


class World:
    """`options`: of ServerConfig. Steps take a client by index, and do nothing where they cannot be done."""

    def __init__(self, loop: Any, terminator: bytes | None = None, match: str = "tail", pinned: bool = False) -> None:
        self.loop = loop
        self.config = ServerConfig(
            terminator=terminator, match=match, pin_buffers=pinned, buffer_size=CAPACITY, buffers=2, write_timeout=30.0,
            idle_timeout=60.0, linger_timeout=2.0, drain_grace=0.2,
        )  # fmt: skip
        self.group = Sessions(self.config, loop)
        self.now = 1.0
        self.group.sweep(self.now)
        self.clients: list[Client] = []
        self.steps = self.aborted = self.half_closed = 0

    # -- steps --------------------------------------------------------------------------------------

    def connect(self, takes: int = 0) -> None:
        """A client connects; its kernel takes bytes as `TAKES[takes]` says."""
        if len(self.clients) < 40:
            chosen = TAKES[takes % len(TAKES)]
            client = Client(len(self.clients), Driven(self.group, self.config, self.loop, Wire(chosen)), chosen)
            self.clients.append(client)

    def send(self, index: int, kind: int, size: int) -> None:
        """A client sends: noise, a part of the terminator, the whole, or one that begins again within itself."""
        if (client := self._client(index)) is None or client.fin or client.sent > 1 << 15:
            return
        value = self.config.terminator or b"ab\0"
        at = size % (len(value) + 1)
        start = (client.sent * 31 + client.number * 977) % len(_NOISE)
        noise = (_NOISE * 2)[start : start + size % 1200]
        # Noise more often than not: a session that has ended at its terminator has little left to show.
        harmless = noise.replace(value[-1:], b"x")
        parts = (noise, noise, noise, harmless, value[:at], value[at:], value[:at] + value, value)
        data = parts[kind % len(parts)]
        client.pending += data
        client.sent += len(data)

    def deliver(self, index: int, most: int) -> None:
        """The server reads once: at most `most` bytes, or a buffer; the FIN when nothing is left; or nothing."""
        client = self._client(index)
        if client is None or not client.can_be_read:
            return
        size = min(len(client.pending), max(1, most), CAPACITY)
        if size:
            self._read(client, size)
        elif client.fin and not client.fin_read:
            client.fin_read = True
            client.driven.eof()
        else:
            client.driven.buffer()  # a read that finds nothing

    def _read(self, client: Client, size: int) -> None:
        piece = bytes(client.pending[:size])
        del client.pending[:size]
        view = client.driven.buffer()
        view[:size] = piece
        client.driven.session.buffer_updated(size)
        client.driven.model.read(piece)
        # A session that waits for the client's FIN discards what comes.
        client.driven.lose_if_flushed()

    def take(self, index: int, most: int) -> None:
        """The client reads: the kernel has space for `most` bytes of what is queued."""
        if (client := self._client(index)) is not None and not client.driven.lost:
            client.wire.flush(most)
            client.driven.lose_if_flushed()

    def read_slowly(self, index: int, takes: int) -> None:
        """The client reads otherwise from now on."""
        if (client := self._client(index)) is not None:
            client.wire.takes = TAKES[takes % len(TAKES)]

    def half_close(self, index: int) -> None:
        if (client := self._client(index)) is not None and not client.fin:
            client.fin = True
            self.half_closed += 1

    def reset(self, index: int) -> None:
        if (client := self._client(index)) is not None and not client.driven.lost:
            client.reset = True
            client.driven.lose(ConnectionResetError())

    def turn(self) -> None:
        """The loop runs what was scheduled."""
        self.loop.run_until_complete(_nothing())
        for client in self.clients:
            client.driven.lose_if_flushed()

    def sweep(self, seconds: float) -> None:
        """Time passes, and the time-outs are checked."""
        self.now += seconds
        self.group.sweep(self.now)
        for client in self.clients:
            model = client.driven.model
            # Ended by the sweep: what was received is due, and what comes later is not.
            if model.end is None and (client.wire.eof_asked or client.wire.closing):
                model.end = "sweep"
            self.aborted += client.wire.aborted and not client.driven.lost
            client.driven.lose_if_flushed()

    def drain(self) -> None:
        self.group.draining_since = self.group.draining_since or self.now

    # -- what holds ---------------------------------------------------------------------------------

    def check(self) -> None:
        self.steps += 1
        for client in self.clients:
            client.check()

    def finish(self) -> None:
        """Each client that is left sends its FIN and reads to the end: it has got all that is due."""
        for index, client in enumerate(self.clients):
            self.half_close(index)
            client.wire.takes = [None]
            for _ in range(10_000):
                if client.driven.lost:
                    break
                if client.wire.queue:
                    self.take(index, CAPACITY)
                if client.can_be_read:
                    self.deliver(index, CAPACITY)
                else:
                    self.turn()
            assert client.driven.lost, f"client {index}: its session did not end"
            client.check()
        stats = self.group.stats()
        assert (self.group.count, stats["active"], stats["buffers_in_use"]) == (0, 0, 0)
        assert sum(stats["ends"].values()) == stats["accepted"] == len(self.clients)
        assert stats["bytes_in"] == sum(client.driven.model.received for client in self.clients)

    def close(self) -> None:
        self.group.close()

    def _client(self, index: int) -> Client | None:
        return self.clients[index % len(self.clients)] if self.clients else None

    # -- a program of steps -------------------------------------------------------------------------

    def run(self, program: bytes) -> None:
        """Three bytes are a step: which one, its client, its size. For inputs that a fuzzer or a corpus has."""
        for at in range(0, len(program) - 2, 3):
            what, index, size = program[at : at + 3]
            self.step(what, index, size)
            self.check()
        self.finish()

    def step(self, what: int, index: int, size: int) -> None:
        kind, what = what >> 4, what & 15
        if what == 0:
            self.connect(size)
        elif what <= 4:
            self.send(index, kind, 5 * size)
        elif what <= 9:
            self.deliver(index, 3 * size)
        elif what == 10:
            self.take(index, 5 * size)
        elif what == 11:
            self.read_slowly(index, size)
        elif what == 12:
            self.half_close(index)
        elif what == 13:
            self.turn()
        elif what == 14:
            self.sweep(size / 50 if size < 250 else 31.0)
        elif size < 128:
            self.reset(index)
        elif size == 255:
            self.drain()


async def _nothing() -> None:
    pass


def world_of(loop: Any, options: int) -> World:
    """The World of a number: terminator, match and pinned buffers."""
    terminator = TERMINATORS[options % len(TERMINATORS)]
    return World(loop, terminator, ("tail", "anywhere")[options >> 4 & 1], bool(options >> 5 & 1))


def run_program(loop: Any, data: bytes) -> int:
    """Run `data`: a byte of options, then steps. Returns how many steps."""
    world = world_of(loop, data[0] if data else 0)
    try:
        world.connect(1)
        world.connect()
        world.run(data[1:])
        return world.steps
    finally:
        world.close()
