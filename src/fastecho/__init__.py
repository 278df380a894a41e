"""fastecho: the echo server for people who build and test network software."""

from ._version import __version__
from .config import ServerConfig
from .errors import (
    AddressError,
    AddressInUseError,
    ConfigError,
    ConfigFileError,
    CrashLoopError,
    FastechoError,
    MissingExtraError,
    PermissionDeniedError,
    TLSError,
    WorkerStartError,
)
from .server import EchoServer
from .stats import Stats
from .supervisor import run
from .thread import ThreadServer, serve

__all__ = [
    "AddressError",
    "AddressInUseError",
    "ConfigError",
    "ConfigFileError",
    "CrashLoopError",
    "EchoServer",
    "FastechoError",
    "MissingExtraError",
    "PermissionDeniedError",
    "ServerConfig",
    "Stats",
    "TLSError",
    "ThreadServer",
    "WorkerStartError",
    "__version__",
    "run",
    "serve",
]
