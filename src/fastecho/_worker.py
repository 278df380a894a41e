"""One worker process: what happens in the child after the fork. Nothing here returns to its caller.

The worker serves its sockets with an `EchoServer` on a loop of its own, beats, and does as the channel says:
`RETIRE` (a successor accepts on the same sockets), `STOP` (the service ends), `ADOPT` (serve a dead sibling's
sockets too), `ROOM` (the shared pause of accepting may have changed).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from . import _control as control
from ._control import Channel
from ._platform import die_with_parent
from ._signals import reset_in_child
from ._sockets import raise_descriptor_limit
from ._tls import HANDSHAKE_TIMEOUT
from .errors import EX_FAILURE, EX_OK, FastechoError
from .server import EchoServer

new_event_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

if TYPE_CHECKING:
    from ._counters import Counters
    from .config import ServerConfig

HEARTBEAT = 1.0
"""Seconds between two beats."""
RETIRE_LOOK = 0.05
"""Seconds between two looks whether a retired worker's last session has ended."""
LEAVE_PATIENCE = 2.0
"""Seconds to wait for a successor after a SIGTERM of this worker's own."""

_log = logging.getLogger("fastecho")


def main(
    config: ServerConfig,
    sockets: Sequence[socket.socket],
    channel: Channel,
    counters: Counters,
    parent: int,
) -> NoReturn:
    """Serve until told otherwise, then end the process. To be called in the forked child only.

    `sockets` are this worker's listeners; every other descriptor of the supervisor is closed already.
    """
    code = EX_FAILURE
    try:
        reset_in_child()
        counters.pid = os.getpid()
        raise_descriptor_limit()
        die_with_parent(parent)
        loop = new_event_loop()
        code = loop.run_until_complete(Worker(config, sockets, channel, counters).run())
    except BaseException:
        _log.exception("worker ended by an error")
    finally:
        with contextlib.suppress(Exception):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Worker:
    """The life of a worker on its loop, from the start of its server to its exit code."""

    def __init__(
        self,
        config: ServerConfig,
        sockets: Sequence[socket.socket],
        channel: Channel,
        counters: Counters,
    ) -> None:
        self._config = config
        self._channel = channel
        self._counters = counters
        self._server = EchoServer(config, sockets=sockets, counters=counters, on_room=self._tell_room)
        self._ending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring = self._stopping = False

    async def run(self) -> int:
        """Serve to the end; return the exit code."""
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[int] = self._loop.create_future()
        try:
            await self._server.start()
        except Exception as exc:
            code = exc.exit_code if isinstance(exc, FastechoError) else EX_FAILURE
            _log.debug("worker cannot start", exc_info=True)
            self._channel.send(control.failed(code, str(exc) or type(exc).__name__))
            return code
        self._loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        self._beat()
        self._channel.send(control.READY)
        self._loop.add_reader(self._channel.fileno(), self._on_message)
        return await self._finished

    def _beat(self) -> None:
        self._counters.beat()
        self._loop.call_later(HEARTBEAT, self._beat)

    def _tell_room(self, paused: bool) -> None:
        self._channel.send(control.PAUSED if paused else control.RESUMED)

    def _on_message(self) -> None:
        while (received := self._channel.receive()) is not None:
            message, sockets = received
            if message == control.ROOM:
                self._server.settle()
            elif message == control.ADOPT:
                self._spawn(self._server.adopt(sockets))
            elif message == control.RETIRE:
                self._retire()
            elif message == control.STOP:
                self._stop()
            elif not message:
                # The supervisor is gone, and nobody would ever end this process.
                os._exit(EX_FAILURE)

    def _on_sigterm(self) -> None:
        """A SIGTERM to this process alone, or to the whole group as a service manager sends it.

        The supervisor knows which. Closing now would reset whoever waits in the queue of our sockets.
        """
        if not self._channel.send(control.LEAVING):
            self._retire()
        self._loop.call_later(LEAVE_PATIENCE, self._retire)

    def _retire(self) -> None:
        if not self._retiring and not self._stopping:
            self._retiring = True
            self._end(self._serve_out())

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._end(self._close_up())

    async def _serve_out(self) -> None:
        """Somebody else accepts from now on; serve the sessions there are until they end."""
        await self._server.stop_accepting(finish=False)
        self._channel.send(control.RETIRED)
        now = self._loop.time()
        # Handshakes of TLS under way are not sessions yet.
        earliest = now + (HANDSHAKE_TIMEOUT if self._config.tls_cert is not None else RETIRE_LOOK)
        latest = now + self._config.drain_timeout
        while (now < earliest or self._has_sessions()) and now < latest:
            await asyncio.sleep(RETIRE_LOOK)
            now = self._loop.time()
        await self._server.close(drain=False)

    def _has_sessions(self) -> bool:
        counts = self._counters.snapshot()
        return bool(counts["active"] or counts["waiting"])

    async def _close_up(self) -> None:
        """The service ends: take everybody who has connected, then drain."""
        await self._server.stop_accepting(finish=True)
        await self._server.drain()
        await self._server.close(drain=False)

    def _end(self, way: Coroutine[Any, Any, None]) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self._spawn(way)
        self._ending.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._finished.done():
            return
        if (error := task.exception()) is None:
            self._finished.set_result(EX_OK)
        else:
            self._finished.set_exception(error)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
