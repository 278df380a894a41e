"""A listening socket whose connections become faulty sessions, on a loop in a thread; the clients are the tests'."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time

from clients import make_socket
from descriptors import open_descriptors
from fastecho._injection import ArmedFaults, FaultySession
from fastecho._session import Sessions
from fastecho.config import ServerConfig
from fastecho.faults import parse_faults
from fastecho.stats import Stats
from patience import DEADLINE, wait_until


class Recorder:
    """What one connection's observer was told."""

    def __init__(self):
        self.received = bytearray()
        self.sent = bytearray()
        self.sends = []
        self.log = []
        self.version = self.error = self.cause = None
        self.eof = False
        self.ended = threading.Event()

    def fired(self, armed, offset, direction, count):
        assert not self.ended.is_set()
        self.log.append((str(armed.fault), offset, direction, count))

    def client_closed(self):
        assert not self.eof, "told twice"
        self.eof = True

    def secured(self, version):
        self.version = version

    def failed(self, error):
        self.error = error

    def closed(self, cause):
        assert self.cause is None, "told twice"
        self.cause = cause
        self.ended.set()


class Told:
    """The observer itself: `received` and `sent` are both methods and what they gathered."""

    def __init__(self, recorder):
        self.recorder = recorder
        for name in ("fired", "client_closed", "secured", "failed", "closed"):
            setattr(self, name, getattr(recorder, name))

    def received(self, data):
        assert type(data) is bytes
        assert data
        self.recorder.received += data

    def sent(self, data):
        assert type(data) is bytes
        assert data
        self.recorder.sent += data
        self.recorder.sends.append(len(data))


class Host:
    """`with Host(loop_factory, "reset(after_sent=3)") as host: sock = host.connect()`."""

    def __init__(self, factory, faults="none", *, seed=0, context=None, greeting=b"", reply=None, unix=None,
                 rcvbuf=None, **options):  # fmt: skip
        options.setdefault("terminator", None)
        self.config = ServerConfig(port=0, **options)
        self.context, self.greeting, self.reply = context, greeting, reply
        self.loop = factory()
        self.complaints = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.armed_faults = ArmedFaults(seed)
        self.armed = [self.armed_faults.arm(fault, 0) for fault in parse_faults(faults)]
        self.sessions, self.seen = [], []
        self.connected = self.accepted = 0
        self.listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        if rcvbuf:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.listener.bind(unix or ("127.0.0.1", 0))
        self.listener.listen(128)
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()
        self.clients = contextlib.ExitStack()

    def __enter__(self):
        self.before = open_descriptors()
        self.group = Sessions(self.config, self.loop, tls=self.context is not None)
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.call(self._begin)
        return self

    def __exit__(self, kind, error, traceback):
        self.clients.close()
        self.call(self._end)
        try:
            if kind is None:
                wait_until(lambda: not open_descriptors() - self.before, "no descriptor is left")
                assert not self.complaints, self.complaints
                assert all(each.ended.is_set() for each in self.seen)
                assert self.group.count == 0
                self.call(self._check_loop)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()

    def _begin(self):
        self.loop.add_reader(self.listener, self._accept)
        self._tick()

    def _end(self):
        self.group.abort_all()
        self.ticker.cancel()
        self.loop.remove_reader(self.listener)
        self.listener.close()

    def _check_loop(self):
        """Stock asyncio shows what is left: no timer and no watched descriptor but the loop's own."""
        if type(self.loop).__module__.startswith("uvloop"):
            return
        left = [handle for handle in self.loop._scheduled if not handle.cancelled()]
        assert not left, left
        assert len(self.loop._selector.get_map()) == 1

    def _tick(self):
        self.group.sweep(time.monotonic())
        self.ticker = self.loop.call_later(self.group.interval, self._tick)

    def _accept(self):
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return
        self.accepted += 1
        recorder = Recorder()
        session = FaultySession(
            sock, self.armed_faults.choose(self.accepted, recorder), self.group, context=self.context,
            observer=Told(recorder), greeting=self.greeting, reply=self.reply,
        )  # fmt: skip
        self.seen.append(recorder)
        self.sessions.append(session)
        session.start()

    def call(self, function, *arguments):
        """Run it on the loop's thread, and give what it gave."""
        done, outcome = threading.Event(), []

        def run():
            try:
                outcome.append((function(*arguments), None))
            except BaseException as error:
                outcome.append((None, error))
            done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(DEADLINE), "the loop does not turn"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    def steer(self, method, *arguments, index=-1):
        self.session(index)
        return self.call(getattr(self.sessions[index], method), *arguments)

    def connect(self, rcvbuf=None, sndbuf=None):
        """A blocking client, closed with the host."""
        sock = self.clients.enter_context(make_socket(self.address, rcvbuf, sndbuf))
        sock.settimeout(DEADLINE)
        # The server does not accept meanwhile: connect() itself would report a reset that comes at the accept.
        self.call(self.loop.remove_reader, self.listener)
        sock.connect(self.address)
        self.connected += 1
        self.call(self.loop.add_reader, self.listener, self._accept)
        return sock

    def connect_tls(self, context, **options):
        sock = context.wrap_socket(self.connect(), server_hostname="localhost", suppress_ragged_eofs=False, **options)
        return self.clients.enter_context(sock)

    def session(self, index=-1):
        """The recorder of a connection, once it was accepted."""
        wanted = index + 1 if index >= 0 else self.connected
        wait_until(lambda: len(self.seen) >= wanted, "the connection is accepted")
        return self.seen[index]

    def closed(self, index=-1):
        """The recorder of a connection, once it has ended."""
        seen = self.session(index)
        assert seen.ended.wait(DEADLINE), "the session has not ended"
        return seen

    def stats(self):
        return Stats(**self.call(self.group.stats))


def read_all(sock):
    """What can be read, and how it ended: "eof", "reset", or "cut": TLS without a close_notify. The last is also what a
    reset looks like to who was told of it by its send."""
    got = bytearray()
    while True:
        try:
            part = sock.recv(65536)
        except ConnectionResetError:
            return bytes(got), "reset"
        except ssl.SSLEOFError:
            return bytes(got), "cut"
        if not part:
            return bytes(got), "eof"
        got += part


def exchange(sock, data, chunk=65536, eof=False):
    """Send `data` while reading to the end, in one thread (TLS); the outcome of `read_all`."""
    sock.setblocking(False)
    got, rest, end = bytearray(), memoryview(data), time.monotonic() + 4 * DEADLINE
    while time.monotonic() < end:
        try:
            while rest:
                rest = rest[sock.send(rest[:chunk]) :]
            if eof:
                eof = sock.shutdown(socket.SHUT_WR)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            rest, eof = rest[:0], False
        try:
            while part := sock.recv(65536):
                got += part
            return bytes(got), "eof"
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            select.select([sock], [sock] if rest else [], [], DEADLINE)
        except ConnectionResetError:
            return bytes(got), "reset"
        except ssl.SSLEOFError:
            return bytes(got), "cut"
    raise AssertionError("the peer does not end")
