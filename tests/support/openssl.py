"""A client of TLS that does what Python's `ssl` has no call for: OpenSSL itself, through ctypes."""

from __future__ import annotations

import ctypes
import select
import socket
from typing import Any

PEM = 1
WANT_READ, WANT_WRITE = 2, 3
TLS_1_2, TLS_1_3 = 0x0303, 0x0304
SET_MIN, SET_MAX = 123, 124  # SSL_CTRL_SET_MIN_PROTO_VERSION and its opposite
_POINTERS = {
    "TLS_client_method": [],
    "SSL_CTX_new": [ctypes.c_void_p],
    "SSL_new": [ctypes.c_void_p],
}
_NUMBERS = {
    "SSL_CTX_ctrl": [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p],
    "SSL_CTX_use_certificate_chain_file": [ctypes.c_void_p, ctypes.c_char_p],
    "SSL_CTX_use_PrivateKey_file": [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int],
    "SSL_set_fd": [ctypes.c_void_p, ctypes.c_int],
    "SSL_connect": [ctypes.c_void_p],
    "SSL_do_handshake": [ctypes.c_void_p],
    "SSL_get_error": [ctypes.c_void_p, ctypes.c_int],
    "SSL_key_update": [ctypes.c_void_p, ctypes.c_int],
    "SSL_renegotiate": [ctypes.c_void_p],
    "SSL_write": [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int],
    "SSL_free": [ctypes.c_void_p],
    "SSL_CTX_free": [ctypes.c_void_p],
}


def load() -> Any:
    """libssl of OpenSSL 3. OSError: there is none."""
    library = ctypes.CDLL("libssl.so.3")
    for name, arguments in _POINTERS.items():
        getattr(library, name).restype = ctypes.c_void_p
        getattr(library, name).argtypes = arguments
    for name, arguments in _NUMBERS.items():
        getattr(library, name).argtypes = arguments
    return library


class OpenSSLClient:
    """A client on a connected blocking socket, after its handshake. It checks no certificate of the server."""

    def __init__(self, sock: socket.socket, certificate: str, key: str, version: int) -> None:
        self.sock = sock
        self._library = load()
        self._context = self._library.SSL_CTX_new(self._library.TLS_client_method())
        for option in (SET_MIN, SET_MAX):
            assert self._library.SSL_CTX_ctrl(self._context, option, version, None) == 1
        assert self._library.SSL_CTX_use_certificate_chain_file(self._context, certificate.encode()) == 1
        assert self._library.SSL_CTX_use_PrivateKey_file(self._context, key.encode(), PEM) == 1
        self._ssl = self._library.SSL_new(self._context)
        self._library.SSL_set_fd(self._ssl, sock.fileno())
        sock.settimeout(None)
        assert self._library.SSL_connect(self._ssl) == 1
        sock.setblocking(False)

    def update_keys(self, most: int, quiet: float) -> int:
        """Send KeyUpdates that ask for one in return, until the server takes no more; how many went."""
        for sent in range(most):
            if not select.select([], [self.sock], [], quiet)[1]:
                return sent
            self._library.SSL_key_update(self._ssl, 1)  # an error while the one before waits to be sent
            result = self._library.SSL_do_handshake(self._ssl)
            if result <= 0 and self._library.SSL_get_error(self._ssl, result) not in (WANT_READ, WANT_WRITE):
                return sent  # the server has ended the connection
        return most

    def renegotiate(self) -> None:
        """Begin another handshake; the answer is not read."""
        self._library.SSL_renegotiate(self._ssl)
        self._library.SSL_do_handshake(self._ssl)

    def write(self, data: bytes) -> int:
        return int(self._library.SSL_write(self._ssl, data, len(data)))

    def close(self) -> None:
        """Free what OpenSSL holds; the socket stays."""
        if self._ssl:
            self._library.SSL_free(self._ssl)
            self._library.SSL_CTX_free(self._context)
            self._ssl = None
