"""`host(...)`: see faulty_harness.Host; runs on uvloop and on stock asyncio."""

from __future__ import annotations

import contextlib
import ssl

import pytest
import trustme

from faulty_harness import Host


@pytest.fixture
def host(loop_factory):
    with contextlib.ExitStack() as hosts:
        yield lambda *arguments, **options: hosts.enter_context(Host(loop_factory, *arguments, **options))


class Certificates:
    def __init__(self):
        self.ca = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.minimum_version = ssl.TLSVersion.TLSv1_2
        self.ca.issue_cert("localhost", "127.0.0.1").configure_cert(self.server)

    def client(self, version=None):
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


@pytest.fixture(scope="session")
def certificates():
    return Certificates()
