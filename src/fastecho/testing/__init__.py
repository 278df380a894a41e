"""The fixture: a real TCP peer for anybody's tests, which records, answers as it is told, and fails on order.

The names are loaded when they are first used, and pytest is not among what they load. (PYTEST_DONT_REWRITE)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._faulty import Armed as Armed
    from ..faults import Fault as Fault
    from ._addresses import blackhole_address as blackhole_address
    from ._addresses import refused_address as refused_address
    from ._arming import FaultNotFired as FaultNotFired
    from ._certificates import Certificate as Certificate
    from ._certificates import Certificates as Certificates
    from ._certificates import certificates as certificates
    from ._leaks import LeakWarning as LeakWarning
    from ._leaks import TeardownError as TeardownError
    from ._notes import Event as Event
    from ._options import derive_seed as derive_seed
    from ._scope import AsyncCapture as AsyncCapture
    from ._scope import Capture as Capture
    from ._server import AsyncServer as AsyncServer
    from ._server import Server as Server
    from ._server import aecho_server as aecho_server
    from ._server import echo_server as echo_server
    from ._session import AsyncSession as AsyncSession
    from ._session import Chunk as Chunk
    from ._session import Session as Session
    from ._sweep import CleanRunError as CleanRunError
    from ._sweep import Outcome as Outcome
    from ._sweep import Sweep as Sweep
    from ._sweep import sweep as sweep

_HOMES = {
    "_addresses": ("blackhole_address", "refused_address"),
    "_arming": ("FaultNotFired",),
    "_certificates": ("Certificate", "Certificates", "certificates"),
    "_options": ("derive_seed",),
    "_scope": ("AsyncCapture", "Capture"),
    "_leaks": ("LeakWarning", "TeardownError"),
    "_notes": ("Event",),
    "_server": ("AsyncServer", "Server", "aecho_server", "echo_server"),
    "_session": ("AsyncSession", "Chunk", "Session"),
    "_sweep": ("CleanRunError", "Outcome", "Sweep", "sweep"),
}
_HOME = {name: f".{module}" for module, names in _HOMES.items() for name in names}
_HOME |= {"Armed": "fastecho._faulty", "Fault": "fastecho.faults"}

__all__ = ["Armed", "Fault", *(name for names in _HOMES.values() for name in names)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
