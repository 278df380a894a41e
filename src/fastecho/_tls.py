"""The TLS side of a listener: TLS 1.2 at least (RFC 8996 retires what is older), read from files at each start."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import TLSError

if TYPE_CHECKING:
    from .config import ServerConfig

__all__ = ["HANDSHAKE_TIMEOUT", "server_context"]

HANDSHAKE_TIMEOUT = 5.0
"""Seconds a client has for its handshake; the loops' own default is 60."""


def server_context(config: ServerConfig) -> ssl.SSLContext | None:
    """The context for `config`, or None where no certificate is configured.

    Raises:
        TLSError: a file cannot be read, is not PEM, or key and certificate do not belong together.
    """
    if config.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for option in ("tls_cert", "tls_key", "tls_client_ca"):
        _check_readable(option, getattr(config, option))
    try:
        # An empty password: an encrypted key must not stop the server at a prompt that nobody sees.
        context.load_cert_chain(config.tls_cert, config.tls_key, password="")
    except ssl.SSLError as error:
        raise TLSError(_why_not_loaded(config, error)) from None
    if config.tls_client_ca is not None:
        try:
            context.load_verify_locations(config.tls_client_ca)
        except ssl.SSLError:
            raise TLSError(f"tls_client_ca {config.tls_client_ca}: must hold certificates in PEM form") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


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
