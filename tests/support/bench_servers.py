"""Echo servers of the load generator's own tests: right ones, and some that are wrong in one way each.

Nothing of fastecho serves here: what measures must not be tested by what it measures.
"""

import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import trustme

from ports import held_port

HERE = Path(__file__).parent
Session = Callable[[socket.socket], None]


def echo(sock: socket.socket) -> None:
    """What comes, goes back."""
    while data := sock.recv(65536):
        sock.sendall(data)


def trickling(sock: socket.socket) -> None:
    """Echoes a byte at a time."""
    while data := sock.recv(65536):
        for k in range(len(data)):
            sock.sendall(data[k : k + 1])


def silent_after(count: int) -> Session:
    """Echoes about `count` bytes, over all connections, then reads on and says nothing more on any."""
    left = [count]

    def session(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            sock.sendall(data[: left[0]])
            left[0] = max(0, left[0] - len(data))

    return session


def corrupting(every: int, made: list[int] | None = None) -> Session:
    """Changes one byte in `every`, counted over all connections; `made` gets an item for each."""
    seen = [0]
    lock = threading.Lock()
    made = [] if made is None else made

    def session(sock: socket.socket) -> None:
        while data := bytearray(sock.recv(65536)):
            with lock:
                before, seen[0] = seen[0], seen[0] + len(data)
            place = every - before % every - 1
            if place < len(data):
                data[place] ^= 1
                made.append(before + place)
            sock.sendall(data)

    return session


def changed(change: Callable[[bytes, int], bytes], after: int) -> Session:
    """Passes what comes through `change(data, offset)` once `after` bytes have gone by, once a connection."""

    def session(sock: socket.socket) -> None:
        offset, done = 0, False
        while data := sock.recv(65536):
            size = len(data)
            if offset >= after and not done:
                data, done = change(data, offset), True
            offset += size
            sock.sendall(data)

    return session


def resetting(after: int) -> Session:
    """Ends with RST after `after` bytes."""

    def session(sock: socket.socket) -> None:
        seen = 0
        while seen < after and (data := sock.recv(65536)):
            sock.sendall(data)
            seen += len(data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return session


def closing(after: int) -> Session:
    """Ends with FIN in the middle of a message, after `after` bytes of echo."""

    def session(sock: socket.socket) -> None:
        seen = 0
        while seen < after and (data := sock.recv(65536)):
            sock.sendall(data[: after - seen])
            seen += len(data)
        # Take what is under way, or the close would be a reset.
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    return session


def stalling(seconds: float, period: float) -> Session:
    """Answers nothing for `seconds` in every `period`, all connections alike."""
    start = time.monotonic()

    def session(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            place = (time.monotonic() - start) % period
            if place < seconds:
                time.sleep(seconds - place)
            sock.sendall(data)

    return session


def slow_connection(seconds: float) -> Session:
    """Answers the first connection once in `seconds`, with what has come by then up to 64 bytes; the others at once."""
    taken: list[socket.socket] = []

    def session(sock: socket.socket) -> None:
        taken.append(sock)
        slow = taken[0] is sock
        while data := sock.recv(64 if slow else 65536):
            if slow:
                time.sleep(seconds)
            sock.sendall(data)

    return session


def tls_context(name: str = "localhost", ca: Path | None = None) -> ssl.SSLContext:
    """Of a server with a certificate for `name`; the authority that signed it is written to `ca`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if ca is not None:
        authority.cert_pem.write_to_path(ca)
    return context


@contextlib.contextmanager
def serving(session: Session, *, unix: Path | None = None, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server with a thread a connection; gives its target."""
    listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    listener.bind(str(unix) if unix else ("127.0.0.1", 0))
    listener.listen(512)
    threads: list[threading.Thread] = []
    open_socks: set[socket.socket] = set()

    def handle(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sock):
            if not unix:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is None:
                session(sock)
                return
            with tls.wrap_socket(sock, server_side=True) as wrapped:
                session(wrapped)
        open_socks.discard(sock)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            open_socks.add(sock)
            threads.append(threading.Thread(target=handle, args=(sock,), daemon=True))
            threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        if unix:
            yield f"unix:{unix}"
        else:
            yield f"{'tls' if tls else 'tcp'}://{'localhost' if tls else '127.0.0.1'}:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for sock in list(open_socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)


@contextlib.contextmanager
def c_server(folder: Path) -> Iterator[tuple[str, int]]:
    """The epoll server in C: its target and process id."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    program = folder / "echo"
    if not program.exists():
        subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-o", program, HERE / "echo.c"], check=True)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield f"tcp://127.0.0.1:{server.stdout.readline().strip()}", server.pid
        finally:
            server.stdin.close()
            server.wait(5)


@contextlib.contextmanager
def ncat() -> Iterator[str]:
    """`ncat -l -k -e /bin/cat`, which cannot choose its port."""
    program = shutil.which("ncat")
    assert program is not None
    # A new session: ncat 7.99 passes the SIGTERM that ends it on to its process group.
    command = [program, "-l", "-k", "-e", "/bin/cat", "127.0.0.1"]
    with held_port() as port, subprocess.Popen([*command, str(port)], start_new_session=True) as server:
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, "ncat does not listen"
                    time.sleep(0.01)
            yield f"tcp://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(5)
