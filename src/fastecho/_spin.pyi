"""`busy_poll`: after a byte the loop looks for more without sleeping, for low latency at the price of a busy CPU."""

from typing_extensions import disjoint_base

from ._session import EchoSession, SessionGroup

class SpinningSession(EchoSession):
    """A session whose bytes keep the loop awake."""

@disjoint_base
class SpinningGroup(SessionGroup):
    """The group whose members are `SpinningSession`s. `config.busy_poll` must be given."""

    @property
    def spinning(self) -> bool:
        """Whether the loop is kept from sleeping."""
    def spin(self) -> None:
        """Look again at once, unless nothing was read for `busy_poll`."""
