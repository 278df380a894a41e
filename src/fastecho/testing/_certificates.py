"""Certificates for tests: made by trustme at first use, and removed when the process ends.

Nothing is checked in, so nothing expires unnoticed, and nothing but a context of `client_context` trusts them.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import MissingExtraError
from . import _files

if TYPE_CHECKING:
    import trustme

__all__ = ["Certificate", "Certificates", "certificates"]

_HOSTS = ("localhost", "127.0.0.1", "::1")
_WRONG_HOST = "wrong-host.invalid"  # RFC 2606: never a real name
_YEAR = datetime.timedelta(days=365)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files.

    Attributes:
        kind: `valid`, `expired`, `wrong_host`, `self_signed` or `client`.
        cert_path, key_path: the files.
        ca_path: the authority that signed it; None if it is self-signed.
    """

    kind: str
    cert_path: str
    key_path: str
    ca_path: str | None

    def server_options(self) -> dict[str, str]:
        """The options of `ServerConfig` for a server that shows it. With `client` the server also asks for a
        certificate of its clients, signed by the same authority."""
        options = {"tls_cert": self.cert_path, "tls_key": self.key_path}
        if self.kind == "client" and self.ca_path is not None:
            options["tls_client_ca"] = self.ca_path
        return options


class Certificates:
    """An authority and what it signs. Each certificate is made once, when it is first asked for."""

    def __init__(self, folder: str) -> None:
        import trustme

        self._folder = folder
        self._lock = threading.RLock()
        self._made: dict[str, Certificate] = {}
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._ca: trustme.CA = trustme.CA(organization_name="fastecho tests")
        self.ca_path = f"{folder}/ca.pem"
        """The authority's own certificate, for clients that want a file."""
        _files.write(self.ca_path, self._ca.cert_pem.bytes())
        self._sign_itself = _signer()

    @property
    def valid(self) -> Certificate:
        """For localhost, 127.0.0.1 and ::1."""
        return self._signed("valid", *_HOSTS)

    @property
    def expired(self) -> Certificate:
        """As `valid`, until yesterday."""
        now = datetime.datetime.now(datetime.timezone.utc)
        return self._signed("expired", *_HOSTS, begin=now - _YEAR, end=now - datetime.timedelta(days=1))

    @property
    def wrong_host(self) -> Certificate:
        """Valid, for a name that no test connects to."""
        return self._signed("wrong_host", _WRONG_HOST)

    @property
    def self_signed(self) -> Certificate:
        """For the same hosts as `valid`, self-signed."""
        return self._once("self_signed", self._sign_itself, ca_path=None)

    @property
    def client(self) -> Certificate:
        """For a client to show (and good for the hosts of `valid`, so that a server can show it too)."""
        return self._signed("client", "client@fastecho.invalid", *_HOSTS)

    def of(self, kind: str) -> Certificate:
        """The certificate of that kind. ValueError for an unknown one."""
        if kind not in KINDS:
            raise ValueError(f"no certificate {kind!r}: must be one of {', '.join(KINDS)}")
        made: Certificate = getattr(self, kind)
        return made

    def client_context(self, with_certificate: bool = False) -> ssl.SSLContext:
        """A client's context that trusts this authority only; `with_certificate` shows `client`.

        The same object each time, because making one costs more than a handshake: do not change it.
        """
        with self._lock:
            if with_certificate not in self._contexts:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.load_verify_locations(self.ca_path)
                if with_certificate:
                    context.load_cert_chain(self.client.cert_path, self.client.key_path)
                self._contexts[with_certificate] = context
            return self._contexts[with_certificate]

    def _signed(
        self, kind: str, *names: str, begin: datetime.datetime | None = None, end: datetime.datetime | None = None
    ) -> Certificate:
        def make() -> tuple[bytes, bytes]:
            leaf = self._ca.issue_cert(*names, not_before=begin, not_after=end)
            chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
            return chain, leaf.private_key_pem.bytes()

        return self._once(kind, make, self.ca_path)

    def _once(self, kind: str, make: Callable[[], tuple[bytes, bytes]], ca_path: str | None) -> Certificate:
        with self._lock:
            if kind not in self._made:
                cert, key = f"{self._folder}/{kind}.pem", f"{self._folder}/{kind}.key"
                for path, content in zip((cert, key), make(), strict=True):
                    _files.write(path, content)
                self._made[kind] = Certificate(kind, cert, key, ca_path)
            return self._made[kind]


KINDS = ("valid", "expired", "wrong_host", "self_signed", "client")


def _signer() -> Callable[[], tuple[bytes, bytes]]:
    """Makes certificates that are their own issuers, and their keys. trustme signs with a CA only."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def sign_itself() -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fastecho self-signed")])
        host, *addresses = _HOSTS
        names = [x509.DNSName(host), *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses)]
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + _YEAR)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        return certificate.public_bytes(encoding), private

    return sign_itself


_making = threading.Lock()
_made: Certificates | None = None


def load() -> None:
    """Import what certificates are made with, if it is installed; beforehand, where modules that are imported later
    would not stay (pyfakefs)."""
    with contextlib.suppress(ImportError):
        import trustme  # noqa: F401

        _signer()


def certificates() -> Certificates:
    """The certificates of this process, made at the first call.

    Raises:
        MissingExtraError: trustme is not installed.
    """
    global _made
    with _making:
        if _made is None:
            try:
                import trustme  # noqa: F401
            except ImportError:
                raise MissingExtraError("certificates need trustme: pip install 'fastecho[testing]'") from None
            folder = _files.make_folder()
            atexit.register(_remove, folder, os.getpid())
            _made = Certificates(folder)
        return _made


def _remove(folder: str, owner: int) -> None:
    """At the end of the process that made it; a forked child that ends before leaves it alone."""
    if os.getpid() == owner:
        _files.remove_folder(folder)
