"""`busy_poll`: after a byte the loop polls for more without sleeping: low latency at the price of a busy CPU."""

import asyncio
from typing import Any

from typing_extensions import disjoint_base

from ._poll_policy import PollPolicy
from ._session import EchoSession, Sessions
from .config import ServerConfig

class BusyPollSession(EchoSession):
    """A session whose bytes keep the loop awake."""

@disjoint_base
class BusyPollSessions(Sessions):
    """The registry of `BusyPollSession`s. `config.busy_poll` must be given.

    Args:
        config, loop, options: those of `Sessions`.
        policy: decides when the loop polls, with `busy_poll="auto"`. Default: a new one.
    """

    def __init__(
        self,
        config: ServerConfig,
        loop: asyncio.AbstractEventLoop,
        *,
        policy: PollPolicy | None = None,
        **options: Any,
    ) -> None: ...
    @property
    def polling(self) -> bool:
        """Whether the loop is kept from sleeping."""
    def poll(self) -> None:
        """Poll again at once, unless nothing was read for as long as the loop polls."""
