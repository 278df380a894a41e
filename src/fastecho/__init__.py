"""fastecho: the echo server for people who build and test network software.

The names are loaded when they are first used: `import fastecho` alone costs next to nothing, which matters in the test
suites of others. (For those too: PYTEST_DONT_REWRITE.)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._version import __version__ as __version__
    from ._workers.supervisor import run as run
    from .config import ServerConfig as ServerConfig
    from .errors import AddressError as AddressError
    from .errors import AddressInUseError as AddressInUseError
    from .errors import ConfigError as ConfigError
    from .errors import ConfigFileError as ConfigFileError
    from .errors import CrashLoopError as CrashLoopError
    from .errors import FastechoError as FastechoError
    from .errors import MissingExtraError as MissingExtraError
    from .errors import PermissionDeniedError as PermissionDeniedError
    from .errors import TLSError as TLSError
    from .errors import WorkerStartError as WorkerStartError
    from .server import ConnectionHandler as ConnectionHandler
    from .server import EchoServer as EchoServer
    from .stats import Stats as Stats
    from .thread import ThreadServer as ThreadServer
    from .thread import serve as serve

_HOMES = {
    "_version": ("__version__",),
    "config": ("ServerConfig",),
    "errors": (
        "AddressError",
        "AddressInUseError",
        "ConfigError",
        "ConfigFileError",
        "CrashLoopError",
        "FastechoError",
        "MissingExtraError",
        "PermissionDeniedError",
        "TLSError",
        "WorkerStartError",
    ),
    "server": ("ConnectionHandler", "EchoServer"),
    "stats": ("Stats",),
    "_workers.supervisor": ("run",),
    "thread": ("ThreadServer", "serve"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
