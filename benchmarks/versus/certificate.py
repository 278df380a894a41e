"""The certificate of the servers that serve TLS: one for the whole run, so that all have a key of one kind."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path


@cache
def pem_file() -> str:
    """The path of a file with key and certificate for 127.0.0.1 (ECDSA P-256), removed when this process ends."""
    import trustme

    directory = tempfile.mkdtemp(prefix="fastecho-versus-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = Path(directory, "server.pem")
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)
