"""One worker process: what happens in the child after the fork. Nothing here returns to its caller.

The worker serves its sockets with an `EchoServer`, writes its heartbeat, and follows the messages of the supervisor:
`RETIRE` (another process accepts on the same sockets), `REMOVE` (none does) and `STOP` (the service ends).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from .._net.loops import new_loop
from ..errors import EX_FAILURE, EX_OK, FastechoError
from ..server import EchoServer
from .channel import DRAINED, LEAVING, READY, REMOVE, RETIRE, STOP, Channel, failed
from .platform import die_with_parent
from .signals import reset_in_child

if TYPE_CHECKING:
    import ssl

    from .._counters import Counters
    from ..config import ServerConfig

HEARTBEAT = 1.0
"""Seconds between two beats."""
BEATS_BETWEEN_REQUESTS = 10
"""A worker that has lacked memory asks for a successor at each tenth beat, until one takes its place. Its loop has lost
the callbacks that it had no memory for. Only the end of the process resets the clients that wait for those."""
LEAVE_PATIENCE = 2.0
"""Seconds to wait for a successor after a SIGTERM of this worker's own."""

_log = logging.getLogger("fastecho")


def main(
    config: ServerConfig,
    sockets: Sequence[socket.socket],
    channel: Channel,
    counters: Counters,
    tls_context: ssl.SSLContext | None,
    parent: int,
) -> NoReturn:
    """Serve until the supervisor ends the service, then end the process. Called in the forked child only.

    `sockets` are this worker's listeners; every other descriptor of the supervisor is closed already.
    """
    code = EX_FAILURE
    try:
        reset_in_child()
        counters.pid = os.getpid()
        die_with_parent(parent)
        loop = new_loop()
        code = loop.run_until_complete(Worker(config, sockets, channel, counters, tls_context).run())
    except OSError as error:
        # Out of descriptors or memory: one line says it, no traceback.
        _log.debug("worker ended by an error", exc_info=True)
        channel.send(failed(code, error.strerror or str(error)))
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
        tls_context: ssl.SSLContext | None,
    ) -> None:
        self._config = config
        self._channel = channel
        self._counters = counters
        self._server = EchoServer(config, sockets=sockets, counters=counters, tls_context=tls_context)
        self._ending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring = self._stopping = self._short_of_memory = self._must_be_replaced = False
        self._beats = 0

    async def run(self) -> int:
        """Serve to the end; return the exit code."""
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[int] = self._loop.create_future()
        self._loop.set_exception_handler(self._on_loop_error)
        try:
            await self._server.start()
        except Exception as exc:
            code = exc.exit_code if isinstance(exc, FastechoError) else EX_FAILURE
            _log.debug("worker cannot start", exc_info=True)
            self._channel.send(failed(code, str(exc) or type(exc).__name__))
            return code
        self._loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        self._beat()
        self._channel.send(READY)
        self._loop.add_reader(self._channel.fileno(), self._on_message)
        return await self._finished

    def _beat(self) -> None:
        self._counters.beat()
        self._loop.call_later(HEARTBEAT, self._beat)
        self._beats += 1
        if self._short_of_memory:
            self._short_of_memory = False
            _log.error("out of memory: connections were lost, or have had to wait; this worker will be replaced")
            self._server.revive()
            self._must_be_replaced = True
        if self._must_be_replaced and self._beats % BEATS_BETWEEN_REQUESTS == 0:
            self._channel.send(LEAVING)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Leave the report of a lack of memory, and what has to follow, to the next beat: either needs some."""
        if isinstance(context.get("exception"), MemoryError):
            self._short_of_memory = True
        else:
            loop.default_exception_handler(context)

    def _on_message(self) -> None:
        while (message := self._channel.receive()) is not None:
            if message == RETIRE:
                self._retire()
            elif message == REMOVE:
                self._retire(last=True)
            elif message == STOP:
                self._stop()
            elif not message:
                # The supervisor has died, and no other process would end this one.
                os._exit(EX_FAILURE)

    def _on_sigterm(self) -> None:
        """A SIGTERM to this process alone, or to the whole group as a service manager sends it.

        The supervisor knows which. Closing now would reset the clients in the queues of these sockets.
        """
        if not self._channel.send(LEAVING):
            self._retire()
        self._loop.call_later(LEAVE_PATIENCE, self._retire)

    def _retire(self, last: bool = False) -> None:
        """End when the open sessions have ended. `last`: no other process accepts the clients in the backlog."""
        if not self._retiring and not self._stopping:
            self._retiring = True
            self._end(self._serve_remaining_sessions(last))

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._end(self._drain())

    async def _serve_remaining_sessions(self, last: bool) -> None:
        """Serve the open sessions until they end; if this is the `last` process, those of the backlog too."""
        await self._server.stop_accepting(accept_backlog=last)
        if last:
            self._channel.send(DRAINED)
        await self._server.wait_until_empty()
        await self._server.close(drain=False)

    async def _drain(self) -> None:
        """The service ends: accept every client that has connected, then drain."""
        await self._server.stop_accepting(accept_backlog=True)
        self._channel.send(DRAINED)
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
