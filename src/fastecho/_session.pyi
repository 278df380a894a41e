"""The session: joins buffers and terminator to a transport. The only module that touches one."""

import asyncio
from typing import Any

from typing_extensions import disjoint_base

from ._group import Group, Member

@disjoint_base
class EchoSession(Member, asyncio.BufferedProtocol):
    """One connection. Made by `SessionGroup.new_session`, driven by a transport of asyncio or uvloop."""

    def get_buffer(self, sizehint: int, /) -> memoryview: ...
    def buffer_updated(self, nbytes: int, /) -> None:
        """Echo what was read. Raises ValueError without a get_buffer before, or for more than it gave."""
    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_made(self, transport: Any, /) -> None: ...
    def connection_lost(self, exception: Exception | None, /) -> None: ...
    def never_connected(self) -> None:
        """Its TLS handshake failed: it counts no longer. (A session that is collected says so by itself.)"""
    def take_turn(self) -> None:
        """Read again, after the others had a turn."""

@disjoint_base
class SessionGroup(Group):
    """The group whose members are `EchoSession`s."""

    def new_session(self) -> EchoSession:
        """The protocol factory for `create_server`. It cannot fail: a factory that raises leaves uvloop deaf."""
