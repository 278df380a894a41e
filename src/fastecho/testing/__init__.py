"""The fixture: a real TCP server inside a test suite, which records its connections and fails on demand.

Names are loaded when they are first used, and none of them loads pytest. (PYTEST_DONT_REWRITE)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._injection import Armed as Armed
    from ..faults import Fault as Fault
    from ._addresses import blackhole_address as blackhole_address
    from ._addresses import refused_address as refused_address
    from ._async import AsyncCapture as AsyncCapture
    from ._async import AsyncServer as AsyncServer
    from ._async import AsyncSession as AsyncSession
    from ._async import async_echo_server as async_echo_server
    from ._certificates import Certificate as Certificate
    from ._certificates import Certificates as Certificates
    from ._certificates import certificates as certificates
    from ._connection import Chunk as Chunk
    from ._connection import Event as Event
    from ._failures import FaultNotFired as FaultNotFired
    from ._failures import LeakWarning as LeakWarning
    from ._failures import TeardownError as TeardownError
    from ._options import derive_seed as derive_seed
    from ._sweep import CleanRunError as CleanRunError
    from ._sweep import Outcome as Outcome
    from ._sweep import Sweep as Sweep
    from ._sweep import sweep as sweep
    from ._sync import Capture as Capture
    from ._sync import Server as Server
    from ._sync import Session as Session
    from ._sync import echo_server as echo_server

_HOMES = {
    "_addresses": ("blackhole_address", "refused_address"),
    "_async": ("AsyncCapture", "AsyncServer", "AsyncSession", "async_echo_server"),
    "_certificates": ("Certificate", "Certificates", "certificates"),
    "_connection": ("Chunk", "Event"),
    "_failures": ("FaultNotFired", "LeakWarning", "TeardownError"),
    "_options": ("derive_seed",),
    "_sweep": ("CleanRunError", "Outcome", "Sweep", "sweep"),
    "_sync": ("Capture", "Server", "Session", "echo_server"),
}
_HOME = {name: f".{module}" for module, names in _HOMES.items() for name in names}
_HOME |= {"Armed": "fastecho._injection", "Fault": "fastecho.faults"}

__all__ = ["Armed", "Fault", *(name for names in _HOMES.values() for name in names)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
