"""Fault injection: sessions that carry the faults out.

`FaultySession` is where to begin: it has an `Input`, an `Output` and an `Ending`. The plain session has no branch for
faults: which session drives a connection is decided when it is accepted (`ConfiguredFaults`, and the fixture's server).
"""

from ._armed import Armed, ArmedFaults, Chosen, Observer
from ._configured import ConfiguredFaults
from ._session import FaultySession
from ._socket import Windows

__all__ = ["Armed", "ArmedFaults", "Chosen", "ConfiguredFaults", "FaultySession", "Observer", "Windows"]
