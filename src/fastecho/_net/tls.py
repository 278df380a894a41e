"""The TLS side of a listener: TLS 1.2 at least (RFC 8996 retires what is older)."""

from __future__ import annotations

import math
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TLSError

if TYPE_CHECKING:
    from ..config import ServerConfig

__all__ = ["ALPN", "HANDSHAKE_TIMEOUT", "READ_TIME", "AlertPending", "server_context"]

ALPN = "echo"
"""The protocol that the server selects if a client offers it (RFC 7301)."""

HANDSHAKE_TIMEOUT = 5.0
"""Seconds a client has for its handshake; the loops' own default is 60."""

READ_TIME = 0.0005
"""Seconds for the reads into one buffer, after which other connections are served."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_LARGEST_RECORD = 16384
"""Bytes of data in it (RFC 8446, section 5.1)."""

_MOST_BARREN = 2 * _LARGEST_RECORD
"""Bytes of TLS that may arrive without a byte of data in them."""


class AlertPending(ssl.SSLWantReadError):
    """The handshake has failed, as `__cause__` says, and the alert waits to be sent."""


class _ServerSide(ssl.SSLObject):
    """The server's side of a connection. The client of a failed handshake gets the alert.

    uvloop and asyncio close the connection when `do_handshake` raises, and discard the alert that OpenSSL has
    written. They send what is written when it wants to read more. So the first call that fails wants to, and the error
    itself is raised by the next call: when the client closes, which it does on an alert, or when it sends more. If it
    does neither, the handshake time-out ends the connection. To close earlier would reset the connection if the client
    has sent more, and destroy the alert.

    A client that sends records without data loses its connection. OpenSSL derives new keys for each KeyUpdate, which
    has 27 bytes, and it returns when it has taken all of them: a flood held up the loop for seconds (hazard 47).

    The reads into one buffer end at a record, once they have taken READ_TIME. A record of one byte takes as long as one
    of a thousand, and a loop reads until the buffer is full or nothing is left (hazard 52).

    Attributes:
        out_of_time: whether reads have ended so. The loop takes it that nothing is left: the session must pause and
            resume reading.
    """

    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    out_of_time = False
    _reads_end = math.inf
    _barren = 0
    _failure: ssl.SSLError | None = None

    def begin_reads(self) -> None:
        """The reads that follow are into one buffer."""
        self.out_of_time = False
        self._reads_end = time.monotonic() + READ_TIME

    def do_handshake(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if not self.outgoing.pending:
                raise
            self._failure = error
            raise AlertPending(ssl.SSL_ERROR_WANT_READ, "the alert has not been sent") from error

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        if buffer is None:  # to discard: OpenSSL returns one record, and Python would make room for all of `len`
            len = min(len, _LARGEST_RECORD)
        elif self.out_of_time:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "others are to be served first")
        before = self.incoming.pending
        try:
            got = super().read(len, buffer)
        except ssl.SSLWantReadError:
            self._barren += before - self.incoming.pending
            if self._barren > _MOST_BARREN:
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, "too many records without data") from None
            raise
        self._barren = 0
        if buffer is not None:
            self.out_of_time = time.monotonic() > self._reads_end
        return got


class _ServerContext(ssl.SSLContext):
    sslobject_class = _ServerSide

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *args, **options)
        assert isinstance(made, _ServerSide)
        made.incoming, made.outgoing = incoming, outgoing
        return made


def server_context(config: ServerConfig) -> ssl.SSLContext | None:
    """The context for `config`, or None where no certificate is configured. It reads the files.

    The key that encrypts session tickets belongs to the context: processes that are forked later resume each other's
    sessions, and another context resumes none of them.

    Raises:
        TLSError: a file cannot be read, is not PEM, or key and certificate do not belong together.
    """
    if config.tls_cert is None:
        return None
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.tls_min_version]
    # A client that offers other protocols only is served without one: the callback of Python's ssl refuses no client.
    context.set_alpn_protocols([ALPN])
    context.num_tickets = config.tls_tickets
    if not config.tls_tickets:
        context.options |= ssl.OP_NO_TICKET  # num_tickets is about TLS 1.3 only
    try:
        _load(context, config)
    except TLSError:
        raise
    except OSError as error:
        # OpenSSL does not say which file it could not read. (Nor is it asked before: a test may have replaced `open`.)
        for option in ("tls_cert", "tls_key", "tls_client_ca"):
            _check_readable(option, getattr(config, option))
        raise TLSError(f"tls_cert {config.tls_cert}: cannot be loaded: {error.strerror}") from None
    return context


def _load(context: ssl.SSLContext, config: ServerConfig) -> None:
    assert config.tls_cert is not None
    try:
        # An empty password: an encrypted key must not stop the server at a prompt.
        context.load_cert_chain(config.tls_cert, config.tls_key, password="")
    except ssl.SSLError as error:
        raise TLSError(_why_not_loaded(config, error)) from None
    if config.tls_client_ca is not None:
        try:
            context.load_verify_locations(config.tls_client_ca)
        except ssl.SSLError:
            raise TLSError(f"tls_client_ca {config.tls_client_ca}: must hold certificates in PEM form") from None
        context.verify_mode = ssl.CERT_REQUIRED


def _check_readable(option: str, path: str | None) -> None:
    if path is None:
        return
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise TLSError(f"{option} {path}: cannot be read: {error.strerror}") from None


def _why_not_loaded(config: ServerConfig, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"tls_key {config.tls_key or config.tls_cert}: is not the key of the certificate {config.tls_cert}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(config.tls_cert)
    except ssl.SSLError:
        return f"tls_cert {config.tls_cert}: must hold a certificate chain in PEM form"
    return f"tls_key {config.tls_key or config.tls_cert}: must hold a private key in PEM form, not encrypted"
