"""The engine of the faults: sessions that misbehave on order, over sockets of their own.

The plain session has no branch for any of this. Here a byte may be slow: it is handled in Python, on a raw non-blocking
socket with `add_reader` and `add_writer`, because a transport neither says when its bytes are with the peer nor lets
somebody else close its socket.
"""

from ._armory import Armed, Armory, Chosen, Observer
from ._configured import ConfiguredFaults
from ._session import FaultySession
from ._window import Windows

__all__ = ["Armed", "Armory", "Chosen", "ConfiguredFaults", "FaultySession", "Observer", "Windows"]
