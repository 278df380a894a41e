"""`busy_poll`: after a byte the loop polls for more without sleeping: low latency at the price of a busy CPU."""

from typing_extensions import disjoint_base

from ._session import EchoSession, Sessions

class BusyPollSession(EchoSession):
    """A session whose bytes keep the loop awake."""

@disjoint_base
class BusyPollSessions(Sessions):
    """The registry of `BusyPollSession`s. `config.busy_poll` must be given."""

    @property
    def polling(self) -> bool:
        """Whether the loop is kept from sleeping."""
    def poll(self) -> None:
        """Poll again at once, unless nothing was read for `busy_poll`."""
