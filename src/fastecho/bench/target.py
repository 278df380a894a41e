"""The server that is measured: how its address is written, and what it resolves to."""

import re
import socket
from typing import NamedTuple

from ..errors import EX_CANNOT_CONNECT, ConfigError
from ._errors import LoadError


class Address(NamedTuple):
    """An address family, a numeric host (or the path of a UNIX socket), and a port."""

    family: int
    host: str
    port: int

    def __str__(self) -> str:
        return self.host


class Target(NamedTuple):
    """Where the server is: `tls`, `udp` or plain TCP, a host and port, or the path of a UNIX stream socket."""

    host: str
    port: int
    tls: bool = False
    unix: bool = False
    udp: bool = False

    @classmethod
    def parse(cls, text: str) -> "Target":
        """`HOST:PORT`, `tcp://HOST:PORT`, `tls://HOST:PORT`, `udp://HOST:PORT`, `unix:PATH`; IPv6 is in brackets.

        Raises ConfigError.
        """
        must = "must be HOST:PORT, [IPV6]:PORT, tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT or unix:PATH"
        if text.startswith(("unix:", "/")):
            path = text.removeprefix("unix:")
            path = path.removeprefix("//") if path.startswith("//") else path
            if not path or "\0" in path:
                raise ConfigError("target", text, must)
            return cls(path, 0, unix=True)
        match = re.fullmatch(r"(?:(tcp|tls|udp)://)?(?:\[([^\]]*:[^\]]*)\]|([^:/\[\]]+)):([0-9]{1,5})/?", text)
        if match is None or not 1 <= int(match[4]) <= 65535:
            raise ConfigError("target", text, must)
        return cls(match[2] or match[3], int(match[4]), tls=match[1] == "tls", udp=match[1] == "udp")

    def __str__(self) -> str:
        if self.unix:
            # parse() takes two slashes off: unix:///run/x is /run/x.
            return f"unix:{'//' if self.host.startswith('//') else ''}{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'udp' if self.udp else 'tcp'}://{host}:{self.port}"

    def addresses(self) -> list[Address]:
        """Every address of the host, in the resolver's order. Raises LoadError."""
        if self.unix:
            return [Address(socket.AF_UNIX, self.host, 0)]
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise LoadError(f"cannot resolve {self.host}: {reason}", EX_CANNOT_CONNECT) from None
        each = (Address(family, str(address[0]).partition("%")[0], self.port) for family, _, _, _, address in found)
        return list(dict.fromkeys(each))
