"""The server below the fixture: an `EchoServer` on the loop thread that looks at each connection before it is served.

Everything here runs on the loop's thread, but for what is marked. What tests call is in `_server` and `_session`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._accept import Take
from .._faulty import Armed, Armory, FaultySession
from .._tls import server_context
from ..server import EchoServer
from . import _loop
from ._asking import Asked
from ._listening import Listening
from ._notes import Notes
from ._options import Options
from ._ports import bind_by_number, of_reserved
from ._record import Record, RecordingGroup, RecordingSession, Steering
from ._reply import Reply, Responder

if TYPE_CHECKING:
    from ..faults import Fault

_LOOK = 0.001
"""Seconds between two looks at whether something is still under way: nobody tells when the kernel is done."""


class Peer(Asked, EchoServer):
    """One server of the fixture."""

    _guard = _loop.fork_guard

    def __init__(self, options: Options) -> None:
        """In the thread of the caller: bound and listening when this returns."""
        config, self._folder = options.config, None
        context = server_context(config)
        if options.needs_folder:
            self._folder = tempfile.mkdtemp(prefix="fastecho-")
            config = replace(config, unix=os.path.join(self._folder, "socket"))
        try:
            EchoServer.__init__(self, config, listeners=bind_by_number(config))
        except BaseException:
            self.clean_up()
            raise
        Asked.__init__(self, options.timeout)
        assert self._listeners is not None
        self.options = options
        self.listening = Listening(self._listeners.sockets[0], self._listeners.addresses, config)
        self.notes: list[Notes] = []
        self.open: dict[Notes, None] = {}
        self.armory = Armory(options.config.seed)
        self._frozen: list[Notes] = []
        self.responder = Responder(options.reply)
        self._tickets = self.serials = 0
        self.over = False
        _loop.register(self)
        self._thread.post(self._begin, context)

    def _begin(self, context: ssl.SSLContext | None) -> None:
        self._context = context
        try:
            acceptor = self._set_up(self._thread.loop, context)
            self.set_reply(self.options.reply)
            self.listening.open(acceptor)
        except BaseException as error:  # no memory, no descriptor: told at the first call
            self.errors.append((-1, error))

    # -- each connection ---------------------------------------------------------------------------------------

    def _group_class(self) -> type[RecordingGroup]:
        return RecordingGroup

    def _taker(self, context: ssl.SSLContext | None) -> Take:
        return self._take

    def _take(self, connection: socket.socket, name: Any) -> RecordingSession | None:
        group = self._group
        assert isinstance(group, RecordingGroup)
        of_reserved(connection)
        record = Record(self.watch, self.options.record_limit)
        notes = Notes(self, self._tickets, name, connection, record)
        notes.serial = self.serials
        self._tickets += 1
        self.serials += 1
        self.notes.append(notes)
        self.open[notes] = None
        chosen = []
        notes.session = self.seen(notes)
        try:
            chosen = self.armory.choose(self._tickets, notes.session)
        except BaseException as error:  # of a test's own `where`
            notes.failed(error)
        if not chosen:
            session = group.recorded(record, notes)
            notes.driver = Steering(session)
            self.watch.tell()
            return session
        faulty = FaultySession(
            connection,
            chosen,
            group,
            context=self._context,
            observer=notes,
            banner=self.responder.banner,
            reply=notes.answer,
        )
        notes.driver = faulty
        faulty.start()
        self.watch.tell()
        return None

    def seen(self, notes: Notes) -> Any:
        """What tests get to see of it; set by the server."""
        raise NotImplementedError

    def ended(self, notes: Notes) -> None:
        self.open.pop(notes, None)
        self.watch.tell()

    def set_reply(self, reply: Reply) -> None:
        self.accept_all()  # a greeting is for those who connect from now on
        self.responder.set(reply)
        group = self._group
        if isinstance(group, RecordingGroup):
            group.answer_with(self.responder.echoes, self.responder.banner)

    # -- faults ------------------------------------------------------------------------------------------------

    def arm(self, fault: Fault) -> Armed:
        """For the connections that nobody has made yet: those who wait are accepted first."""
        self.accept_all()
        armed = self.armory.arm(fault, self._tickets)
        self._fit_windows()
        return armed

    def disarm(self, *armed: Armed) -> None:
        self.accept_all()
        for each in armed:
            self.armory.disarm(each)
        self._fit_windows()

    def _fit_windows(self) -> None:
        self.listening.fit_windows(self._armed_faults())

    def _armed_faults(self) -> list[Fault]:
        return [armed.fault for armed in self.armory.armed]

    # -- the listeners -----------------------------------------------------------------------------------------

    def accept_all(self) -> None:
        """Whoever has connected is a connection when this returns."""
        self.listening.accept_all()

    def down(self) -> None:
        self.up()
        self.listening.down()

    def blackhole(self) -> None:
        self.up()
        self.listening.drop()
        self._frozen = [notes for notes in self.open if notes.driver is not None]
        for notes in self._frozen:
            if notes.driver is not None:
                notes.driver.pause()

    def up(self) -> None:
        self.listening.up(self._armed_faults(), self._group is not None and self._group.full)
        for notes in self._frozen:
            if notes.driver is not None and not notes.paused:
                notes.driver.resume()
        self._frozen = []

    def _accept_while_there_is_room(self, full: bool) -> None:
        if full or self.listening.serves:
            super()._accept_while_there_is_room(full)

    # -- the end -----------------------------------------------------------------------------------------------

    def close_all(self, how: str) -> None:
        self.accept_all()
        for notes in tuple(self.open):
            if notes.driver is not None:
                notes.by_order = notes.by_order or "test"
                (notes.reset if how == "reset" else notes.driver.finish)()
        self._end_handshakes()

    def _end_handshakes(self) -> None:
        """A session that has not begun cannot end."""
        for notes in self.open if self._context is not None else ():
            if notes.is_shaking:
                notes.reset()

    async def start_over(self) -> None:
        """As it was after the start. Whoever connects meanwhile is the first connection of the new life."""
        self.up()
        self.set_reply(self.options.reply)
        self.close_all("reset")
        before = tuple(self.open)
        self.armory = Armory(self.config.seed)
        for fault in self.options.faults:
            self.armory.arm(fault, 0)
        self._fit_windows()
        self.notes, self.errors, self._tickets = [], [], 0
        await _until(lambda: all(notes.closed_at is not None for notes in before), self.timeout)

    async def shut(self, patience: float) -> list[Notes]:
        """Stop; who was left, because its client had not closed. They are reset, the others may end in peace."""
        self.accept_all()
        left = [notes for notes in self.open if not notes.peer_gone()]
        self._close_listeners()
        for notes in left:
            if notes.driver is not None:
                notes.by_order = notes.by_order or "server_stopped"
                notes.due = notes.driver.due()
                notes.reset()
        self._end_handshakes()
        await _until(self._all_idle, patience)
        await self.close(drain=False)
        self._forget()
        return left

    def shut_at_once(self) -> bool:
        """Stop, where nobody is connected and nothing must be waited for. False, and nothing done, elsewhere."""
        self.accept_all()
        if self.open or self._acceptor is None:
            return False
        self._close_listeners()
        self._finish()
        self._forget()
        return True

    def _close_listeners(self) -> None:
        self.over = True
        self.listening.close()
        self._release()

    def _forget(self) -> None:
        self.finished = True
        self.watch.tell()
        self.clean_up()
        _loop.forget(self)

    def clean_up(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def until_idle(self, timeout: float) -> bool:
        """Nothing is under way: nobody waits to be accepted, and all that came is answered and acknowledged."""

        def idle() -> bool:
            self.accept_all()
            return self._all_idle()

        self.accept_all()
        return await _until(idle, timeout)

    def _all_idle(self) -> bool:
        return all(notes.driver is None or notes.driver.idle() for notes in self.open)

    # -- in a forked child -------------------------------------------------------------------------------------

    def close_copies(self) -> None:
        """In a forked child."""
        self.forked = True
        self.listening.close_copies()
        for notes in tuple(self.open):
            notes.close_copy()


async def _until(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether it came to hold within `timeout` seconds."""
    latest = time.monotonic() + timeout
    for _ in range(3):  # what the kernel has reported, and what follows from it, is done in two turns of the loop
        await asyncio.sleep(0)
    while not condition():
        if time.monotonic() > latest:
            return False
        await asyncio.sleep(_LOOK)
    return True
