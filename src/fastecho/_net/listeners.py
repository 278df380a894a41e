"""Listening sockets: bound in an order that refuses a second instance, one set for each worker.

TCP. With `SO_REUSEPORT` alone a second instance starts on the same port without an error, and checking first
whether another server listens is a race. So the first socket of an address is bound with `SO_REUSEADDR` only and
*listens* before it gets `SO_REUSEPORT`: two instances may both bind, but the second `listen` fails. The
other workers' sockets are bound afterwards, each with both options (`SO_REUSEADDR` on all of them, or a
restart fails while TIME_WAIT lasts).

UDP. Its sockets are bound after those of TCP, to the same port, so TCP has already refused a second instance. The first
one gets `SO_REUSEPORT` after its bind: a port that another program has is an error, even if that program would share.

UNIX sockets know no `SO_REUSEPORT`: all workers share one (see unix.py). They also share the sockets that a service
manager has passed (see activation.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import itertools
import os
import re
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .._options.text import LONGEST_UNIX_PATH, is_abstract
from ..errors import AddressError, AddressInUseError, FastechoError, PermissionDeniedError
from .unix import TEMPORARY_SUFFIX, bind_path, give_path, remove_path

if TYPE_CHECKING:
    from ..config import ServerConfig

__all__ = [
    "EXPOSED",
    "Listeners",
    "beyond_loopback",
    "bind",
    "drop_syns",
    "set_connection_options",
    "set_min_ttl",
    "socket_address",
]

EXPOSED = "listening beyond loopback: %s; any host that can reach this may connect"
"""The warning for what `beyond_loopback` finds."""

_LINUX = sys.platform.startswith("linux")
_STREAM = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)
_DATAGRAM = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)
_PORT_ATTEMPTS = 64
_SUFFIX = re.compile(TEMPORARY_SUFFIX)
_MISSING_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_SO_ATTACH_FILTER = 26
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73
_MOST_TTL = 255
_LISTEN = b"0A"  # TCP_LISTEN in /proc/net/tcp
_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)  # loads SKF_AD_RANDOM


class Listeners:
    """What `bind` returns: every socket of a service, those of TCP before those of UDP.

    `sockets[i]` are the sockets of copy (worker) `i`, one an address. Where the kernel does not spread clients over
    several sockets of one address (UNIX sockets; TCP and UDP anywhere but on Linux), all copies hold the same socket
    object. `addresses` are texts like `tcp://127.0.0.1:8007`, `udp://[::1]:8007` and `unix:/run/echo.sock`, in their
    order.

    Sockets that are `inherited` go on listening for another process after this one has ended.
    """

    def __init__(
        self, sockets: list[list[socket.socket]], addresses: tuple[str, ...], *, inherited: bool = False
    ) -> None:
        self.sockets = sockets
        self.addresses = addresses
        self.inherited = inherited
        self._path: str | None = None
        self._inode = (0, 0)
        self._owner = os.getpid()
        self._diversions: dict[socket.socket, socket.socket] = {}
        self.diverts_syns = False
        """Whether another socket of this process gets the new handshakes since `drop_syns`.

        Then this process must call `close` last: a socket that leaves the group gives its number to another one.
        """

    def close(self) -> None:
        """Close this process's copies of all sockets. The path of a UNIX socket stays; see `unlink`."""
        sockets = _flat(self.sockets)
        if self.diverts_syns and self._owner == os.getpid():
            # The sockets are closed one after another, and each of them changes where new handshakes begin.
            for sock in filter(_is_tcp, sockets):
                set_min_ttl(sock, _MOST_TTL)
            for first in self._diversions:
                _detach_reuseport_program(first)  # another program may have joined the group meanwhile
        _close_all((*sockets, *self._diversions.values()))

    def close_other_copies(self, own: Sequence[socket.socket]) -> None:
        """Close the sockets that are not in `own`, in this process."""
        _close_all([sock for sock in (*_flat(self.sockets), *self._diversions.values()) if sock not in own])

    def give_to(self, uid: int, gid: int) -> None:
        """Make the user and the group the owners of the path of a UNIX socket, so that its clients can connect.

        Raises `PermissionDeniedError`.
        """
        if self._path is not None:
            try:
                give_path(self._path, self._inode, uid, gid)
            except OSError as exc:
                why = f"cannot be given to the user {uid}: {exc.strerror}"
                raise PermissionDeniedError(f"unix:{self._path}: {why}") from None

    def drop_syns(self) -> None:
        """Let no new handshake begin on a TCP socket, while those under way finish. Linux only.

        A filter on an inherited socket would outlive this process: it gets none.
        """
        if self.inherited or not _LINUX:
            return
        for column in zip(*self.sockets, strict=True):
            sockets = list(dict.fromkeys(column))
            if _is_tcp(sockets[0]) and not all(map(drop_syns, sockets)):
                self._divert_syns(sockets)

    def prepare_to_drop_syns(self) -> None:
        """Bind what `drop_syns` may need. For a process that changes its user: all sockets of an address must be one
        user's."""
        for sock in self.sockets[0]:
            if _LINUX and not self.inherited and _is_tcp(sock):
                with contextlib.suppress(OSError):
                    self._diversions[sock] = _bind_diversion(sock)

    def _divert_syns(self, sockets: Sequence[socket.socket]) -> None:
        """Lead new handshakes to one more socket of the group `sockets`, which drops them.

        The kernel asks the program of the group for a SYN only. A handshake under way belongs to the socket on which it
        began, and that one has no minimum TTL: what is accepted from it would inherit it, and lose bytes.
        """
        first = sockets[0]
        with contextlib.suppress(OSError):
            if _is_shared(sockets):
                return  # the number of our socket in the group is not known
            diversion = self._diversions[first] = self._diversions.get(first) or _bind_diversion(first)
            diversion.listen(1)
            # It is the last one in the order in which they began to listen.
            if _attach(first, _SO_ATTACH_REUSEPORT_CBPF, ((0x06, 0, 0, len(sockets)),)):
                self.diverts_syns = True

    def prefer(self, copies: int) -> None:
        """Begin new handshakes on the sockets of the first `copies` copies only; those under way go on.

        With all copies, the kernel chooses as before. A copy that was added is the last one.
        """
        for column in zip(*self.sockets, strict=True):
            distinct = len(dict.fromkeys(column[:copies]))
            if copies == len(self.sockets):
                _detach_reuseport_program(column[0])
            elif distinct < len(dict.fromkeys(column)):
                # Socket number N of the group, in the order in which they began to listen: a random number modulo
                # `distinct`.
                _attach(column[0], _SO_ATTACH_REUSEPORT_CBPF, (_RANDOM, (0x94, 0, 0, distinct), (0x16, 0, 0, 0)))

    def add_copy(self, backlog: int) -> list[socket.socket]:
        """The sockets of one more copy: new ones, or those of another copy where the system gives no more.

        It gives none after the user of the process has changed: all sockets of an address must be one user's.
        """
        row = self.sockets[len(self.sockets) // 2]  # not always the same one
        if _LINUX and not self.inherited and self._path is None and row[0].family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                row = _bind_more(self.sockets[0], backlog)
        self.sockets.append(row := list(row))
        return row

    def shares(self, row: Sequence[socket.socket]) -> bool:
        """Whether another copy has the sockets of the copy `row` too."""
        return any(sock in other for other in self.sockets if other is not row for sock in row)

    def remove_copy(self, row: list[socket.socket]) -> None:
        """Forget a copy, and close its sockets in this process, unless another copy shares them."""
        self.sockets = [other for other in self.sockets if other is not row]
        for sock in row:
            if not any(sock in other for other in self.sockets):
                sock.close()

    def unlink(self) -> None:
        """Remove the path of a UNIX socket, if it still is the socket bound here, by this process."""
        if self._path is None or self._owner != os.getpid():
            return
        path, self._path = self._path, None
        remove_path(path, self._inode)


def bind(config: ServerConfig, copies: int = 1, port: int | None = None) -> Listeners:
    """Bind and listen on every address of `config`, for `copies` workers.

    The sockets are non-blocking and listen with `config.backlog`. One copy leaves `SO_REUSEPORT` unset.
    With `port` 0 all addresses get the same free port. (`port` goes before that of `config`.)

    Raises `AddressInUseError`, `PermissionDeniedError` or `AddressError`, each with one line that says which
    address and why; nothing stays bound then.
    """
    if config.unix is not None:
        return _bind_unix(config.unix, config.backlog, copies)
    wanted = _resolve(config.host)
    for attempt in range(_PORT_ATTEMPTS):
        try:
            return _bind_tcp(config, wanted, copies, config.port if port is None else port)
        except AddressInUseError:
            # A free port of the first address may be taken at another one, or by UDP.
            if port or config.port != 0 or (len(wanted) == 1 and not config.udp) or attempt == _PORT_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _bind_tcp(config: ServerConfig, wanted: Sequence[tuple[int, str, bool]], copies: int, port: int) -> Listeners:
    shared = copies if not _LINUX else 1
    own = copies // shared
    columns: list[list[socket.socket]] = []
    bound: list[str] = []
    opened: list[socket.socket] = []
    skipped: FastechoError | None = None
    kinds = (_STREAM, _DATAGRAM) if config.udp else (_STREAM,)
    try:
        for kind, (family, host, optional) in itertools.product(kinds, wanted):
            column: list[socket.socket] = []
            address = _text(kind, host, port)
            try:
                for copy in range(own):
                    column.append(sock := socket.socket(family, kind))
                    opened.append(sock)
                    _set_options(sock, family)
                    if copy > 0:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    sock.bind(_sockaddr(family, host, port))
                    if kind == _STREAM:
                        sock.listen(config.backlog)
                    if copy == 0 and own > 1:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    if port == 0:
                        port = sock.getsockname()[1]
            except OSError as exc:
                if optional and exc.errno in _MISSING_ADDRESS:
                    skipped = _error(address, exc)
                    _close_all(column)
                    continue
                raise _error(address, exc) from None
            columns.append(column * shared)
            bound.append(_text(kind, host, port))
        if not columns:
            raise skipped or AddressError(f"{config.host}: no address to listen on")
    except BaseException:
        _close_all(opened)
        raise
    rows = [list(row) for row in zip(*columns, strict=True)]  # one list for each copy: `remove_copy` compares them
    return Listeners(rows, tuple(bound))


def _resolve(hosts: str) -> list[tuple[int, str, bool]]:
    """Families and numeric hosts to bind, and whether a machine without that address may go without."""
    found: dict[tuple[int, str], bool] = {}
    for host in hosts.split(","):
        host = host.strip()
        if host == "*":
            found.setdefault((socket.AF_INET, "0.0.0.0"), False)
            if socket.has_ipv6:
                found.setdefault((socket.AF_INET6, "::"), True)
            continue
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if (numeric_address := _numeric(bare)) is not None:
            found.setdefault(numeric_address, False)
            continue
        try:
            infos = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "not a host name"
            raise AddressError(f"host {host}: cannot be resolved: {reason}") from None
        numeric = {str(info[4][0]) for info in infos}
        for family, _, _, _, sockaddr in infos:
            if family in (socket.AF_INET, socket.AF_INET6):
                name = _with_scope(str(sockaddr[0]), sockaddr)
                found.setdefault((family, name), len(numeric) > 1)
    return [(family, host, optional) for (family, host), optional in found.items()]


def _numeric(host: str) -> tuple[int, str] | None:
    """Family and canonical text of an address without a scope; the resolver takes longer than all the rest."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            return family, socket.inet_ntop(family, socket.inet_pton(family, host))
    return None


def _sockaddr(family: int, host: str, port: int) -> tuple[str | int, ...]:
    if family == socket.AF_INET6:
        name, _, scope = host.partition("%")
        return (name, port, 0, socket.if_nametoindex(scope) if scope else 0)
    return (host, port)


def _with_scope(host: str, sockaddr: Sequence[object]) -> str:
    scope = sockaddr[3] if len(sockaddr) == 4 else 0
    if isinstance(scope, int) and scope and "%" not in host:
        return f"{host}%{socket.if_indextoname(scope)}"
    return host


def _set_options(sock: socket.socket, family: int) -> None:
    """Options of a socket that is not bound yet."""
    if _STREAM == socket.SOCK_STREAM:
        sock.setblocking(False)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if sock.type == socket.SOCK_DGRAM:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    set_connection_options(sock)


def set_connection_options(sock: socket.socket) -> None:
    """Options of a TCP listener that accepted sockets inherit, which saves system calls on each accept."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # An urgent byte (MSG_OOB) stays in the stream, where the echo expects it.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def _bind_abstract(name: str, backlog: int, copies: int) -> Listeners:
    """No file and no mode: every process of the network namespace may connect."""
    sock = socket.socket(socket.AF_UNIX, _STREAM)
    try:
        sock.setblocking(False)
        sock.bind(b"\0" + os.fsencode(name[1:]))
        sock.listen(backlog)
    except OSError as exc:
        sock.close()
        raise _error(f"unix:{name}", exc) from None
    return Listeners([[sock] for _ in range(copies)], (f"unix:{name}",))


def _bind_unix(path: str, backlog: int, copies: int) -> Listeners:
    if is_abstract(path):
        return _bind_abstract(path, backlog, copies)
    path = os.path.abspath(path)
    address = f"unix:{path}"
    try:
        sock, inode = bind_path(path, backlog)
    except OSError as exc:
        raise _error(address, exc) from None
    listeners = Listeners([[sock] for _ in range(copies)], (address,))
    listeners._path, listeners._inode = path, inode
    return listeners


def _bind_more(row: Sequence[socket.socket], backlog: int) -> list[socket.socket]:
    """Another socket for each address of `row`. Raises `OSError`."""
    added: list[socket.socket] = []
    before = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock in row]
    try:
        for first in row:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            kind = _STREAM if first.type == socket.SOCK_STREAM else _DATAGRAM
            added.append(sock := socket.socket(first.family, kind))
            _set_options(sock, first.family)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(first.getsockname())
            if kind == _STREAM:
                sock.listen(backlog)
    except OSError:
        for first, value in zip(row, before, strict=True):
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, value)
        _close_all(added)
        raise
    return added


def _bind_diversion(first: socket.socket) -> socket.socket:
    """A socket at the address of the listener `first`, which will drop every SYN once it listens. Raises `OSError`."""
    diversion = socket.socket(first.family, _STREAM)
    try:
        before = first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            _set_options(diversion, first.family)
            diversion.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            diversion.bind(first.getsockname())
            if not set_min_ttl(diversion, _MOST_TTL):
                raise OSError("no minimum TTL")
        except OSError:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, before)
            raise
    except OSError:
        diversion.close()
        raise
    return diversion


def _is_shared(sockets: Sequence[socket.socket]) -> bool:
    """Whether another program of this user listens at the address of the listeners `sockets`, too (SO_REUSEPORT).

    False where the kernel's table cannot be read.
    """
    own = {os.fstat(sock.fileno()).st_ino for sock in sockets}
    listeners: dict[bytes, set[int]] = {}  # inodes of each address
    table = "/proc/self/net/tcp6" if sockets[0].family == socket.AF_INET6 else "/proc/self/net/tcp"
    with contextlib.suppress(OSError), open(table, "rb") as lines:
        next(lines)  # the header
        for fields in map(bytes.split, lines):
            if fields[3] != _LISTEN:
                break  # listeners come first
            listeners.setdefault(fields[1], set()).add(int(fields[9]))
    return any(own & inodes and inodes - own for inodes in listeners.values())


def _is_tcp(sock: socket.socket) -> bool:
    return sock.family != socket.AF_UNIX and sock.type == socket.SOCK_STREAM


def _flat(sockets: Sequence[Sequence[socket.socket]]) -> list[socket.socket]:
    return list({id(sock): sock for row in sockets for sock in row}.values())


def _close_all(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _text(kind: int, host: str, port: int) -> str:
    scheme = "udp" if kind == _DATAGRAM else "tcp"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _in_use(address: str) -> str:
    other = "--unix path" if address.startswith("unix:") else "--port (0 takes any free one)"
    return f"{address}: already in use by another server; stop it or choose another {other}"


def _error(address: str, exc: OSError) -> FastechoError:
    """The one line for a failed bind or listen."""
    if exc.errno == errno.EADDRINUSE:
        return AddressInUseError(_in_use(address))
    if exc.errno == errno.EEXIST:
        return AddressInUseError(f"{address}: exists and is not a socket; remove it or choose another path")
    if exc.errno in (errno.EACCES, errno.EPERM):
        privileged = not address.startswith("unix:") and 0 < int(address.rpartition(":")[2]) < 1024
        needs = "; ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= of systemd), or root and --user"
        hint = needs if privileged else ""
        return PermissionDeniedError(f"{address}: permission denied{hint}")
    if exc.errno == errno.EADDRNOTAVAIL:
        return AddressError(f"{address}: not an address of this machine")
    if exc.errno is None:
        return AddressError(f"{address}: the path is longer than {LONGEST_UNIX_PATH} bytes")
    return AddressError(f"{address}: {exc.strerror}")


def socket_address(sock: socket.socket) -> str:
    """The local address of `sock` as text, in the form of `Listeners.addresses`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        if name[:1] in (b"\0", "\0"):
            return "unix:@" + os.fsdecode(name[1:])
        return "unix:" + _SUFFIX.sub("", os.fsdecode(name))
    kind = _DATAGRAM if sock.type == socket.SOCK_DGRAM else _STREAM
    return _text(kind, _with_scope(name[0], name), name[1])


def beyond_loopback(addresses: Iterable[str]) -> list[str]:
    """Those of `addresses` that other hosts may reach: neither loopback nor a UNIX socket. Texts in the form of
    `Listeners.addresses`, and URLs."""
    return [address for address in addresses if not (address.startswith("unix:") or _is_loopback(address))]


def _is_loopback(address: str) -> bool:
    host = address.partition("://")[2].partition("/")[0].rpartition(":")[0].strip("[]")
    ip = ipaddress.ip_address(host.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def drop_syns(sock: socket.socket) -> bool:
    """Let a TCP listener begin no new handshakes while those under way finish; False where it cannot be done.

    Closing a listener resets handshakes that end between the last `accept` and the close; after this filter
    there are none once a round trip has passed. It works on the socket, so on every process's copy at once.
    """
    if not _LINUX or not _is_tcp(sock):
        return False
    # Offset 13 of the TCP header holds the flags: drop what has SYN (0x02) without ACK (0x10).
    program = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
    return _attach(sock, _SO_ATTACH_FILTER, program)


def set_min_ttl(sock: socket.socket, least: int) -> bool:
    """Have a TCP socket drop what arrives with a lower TTL (IPv6: hop limit) than `least`; 0 drops nothing. False where
    it cannot be done.

    Most hosts, and loopback, send with 64. On a listener it drops SYNs, and handshakes under way finish all the same
    (but for those with SYN cookies), but what is accepted from them has the option, too.
    """
    if not _LINUX or not _is_tcp(sock):
        return False
    level, option = socket.IPPROTO_IP, _IP_MINTTL
    if sock.family == socket.AF_INET6:
        level, option = socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT
    try:
        sock.setsockopt(level, option, least)
    except OSError:
        return False
    return True


def _detach_reuseport_program(sock: socket.socket) -> None:
    """Let the kernel choose among the sockets of the group again."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)


def _attach(sock: socket.socket, option: int, program: Sequence[tuple[int, int, int, int]]) -> bool:
    """Attach a program of classic BPF; False where the system refuses."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("HP", len(program), ctypes.addressof(memory)))
    except OSError:
        return False
    return True
