"""The certificates: what a verifying client says to each, and what becomes of the files."""

import os
import re
import socket
import ssl
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from fastecho.errors import MissingExtraError
from fastecho.testing._certificates import KINDS, certificates


def shake(server, client, host="localhost"):
    """A handshake over a socket pair; the error that the client saw, if any, and what the server got to see."""
    ours, theirs = socket.socketpair()
    seen = {}

    def serve():
        try:
            with server.wrap_socket(theirs, server_side=True) as sock:
                sock.recv(1)
                seen["certificate"] = sock.getpeercert()
                sock.sendall(b".")
        except (OSError, ssl.SSLError) as error:
            seen["error"] = error

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=host) as sock:
            sock.sendall(b".")
            sock.recv(1)
    except OSError as error:  # of TLS, or of a server that has hung up meanwhile
        return error, seen
    finally:
        thread.join()
    return None, seen


def context(certificate):
    options = certificate.server_options()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options["tls_cert"], options["tls_key"])
    if "tls_client_ca" in options:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(options["tls_client_ca"])
    return context


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_valid_is_trusted_for_each_of_this_machines_names(host):
    error, _ = shake(context(certificates().valid), certificates().client_context(), host)
    assert error is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("expired", "certificate has expired"),
        ("wrong_host", "Hostname mismatch"),
        ("self_signed", "self.signed certificate"),
    ],
)
def test_what_a_client_says_to_the_others(kind, said):
    error, _ = shake(context(certificates().of(kind)), certificates().client_context())
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert re.match(said, error.verify_message), error.verify_message


def test_others_do_not_trust_the_authority():
    error, _ = shake(context(certificates().valid), ssl.create_default_context())
    assert isinstance(error, ssl.SSLCertVerificationError)


def test_a_server_that_asks_for_the_clients_certificate():
    server = context(certificates().client)
    error, seen = shake(server, certificates().client_context(with_certificate=True))
    assert error is None
    assert ("email", "client@fastecho.invalid") in seen["certificate"]["subjectAltName"]
    _, seen = shake(server, certificates().client_context())
    assert "certificate" not in seen


def test_only_the_client_kind_asks():
    for kind in KINDS:
        assert ("tls_client_ca" in certificates().of(kind).server_options()) == (kind == "client")


def test_certificates_are_made_once_for_a_process():
    assert certificates() is certificates()
    for kind in KINDS:
        assert certificates().of(kind) is getattr(certificates(), kind)
        assert certificates().of(kind).kind == kind
    for shown in (False, True):
        assert certificates().client_context(shown) is certificates().client_context(shown)
    assert certificates().client_context() is not certificates().client_context(True)


def test_made_once_by_many_threads():
    got = []
    threads = [threading.Thread(target=lambda: got.append(certificates().wrong_host)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in got}) == 1
    assert len(got) == 8


def test_the_authority_of_each():
    for kind in KINDS:
        ca_path = certificates().of(kind).ca_path
        assert ca_path == (None if kind == "self_signed" else certificates().ca_path)


def test_keys_are_for_this_user_only():
    folder = Path(certificates().valid.key_path).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="no certificate 'stale': must be one of valid, expired"):
        certificates().of("stale")


def script(text):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(text)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def test_the_files_end_with_the_process():
    folder, existed = script(
        """
        import os
        from fastecho.testing._certificates import certificates
        folder = os.path.dirname(certificates().valid.cert_path)
        print(folder, os.path.exists(certificates().valid.cert_path))
        """
    )
    assert existed == "True"
    assert not os.path.exists(folder)


def test_a_forked_child_that_ends_takes_nothing_with_it():
    existed = script(
        """
        import os, sys, warnings
        from fastecho.testing._certificates import certificates
        path = certificates().valid.cert_path
        child = os.fork()
        if not child:
            sys.exit(0)  # runs what is registered for the exit
        os.waitpid(child, 0)
        print(os.path.exists(path))
        """
    )
    assert existed == ["True"]


def test_without_trustme_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("fastecho.testing._certificates._made", None)
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastecho\[testing\]'"):
        certificates()
