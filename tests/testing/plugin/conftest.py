"""A pytest inside the test, with this plugin and those that are named, and no others."""

import pytest

import fastecho.testing
import fastecho.testing._plugin_run
import fastecho.testing.plugin

# pytester forgets what the pytest inside has imported; a second loop thread, and a second import of the extensions and
# of cryptography, would come of it.
for name in fastecho.testing.__all__:
    getattr(fastecho.testing, name)
fastecho.testing.certificates().of("self_signed")

PLUGIN = "fastecho.testing.plugin"
PREAMBLE = """
import pytest, socket
from fastecho.testing import Fault

def talk(server, data=b"hello"):
    family = {"/": socket.AF_UNIX}.get(str(server.address)[0])
    if family is None:
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(10)
        client.connect(server.address)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        got = b""
        while part := client.recv(65536):
            got += part
        return got
"""


class Inner:
    """Test files in a separate folder, and runs of pytest there."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.ini()

    def ini(self, *lines, warnings="error"):
        text = ["[pytest]", f"filterwarnings = {warnings}", "addopts = --strict-markers --strict-config", *lines]
        self.pytester.makefile(".ini", pytest="\n".join(text))

    def file(self, name="test_it.py", text=""):
        path = self.pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PREAMBLE + text)

    def run(self, *args, plugins=(), apart=False):
        """`apart`: in a separate process, where a plugin changes what is not only its own."""
        loaded = [word for plugin in (PLUGIN, *plugins) for word in ("-p", plugin)]
        run = self.pytester.runpytest_subprocess if apart else self.pytester.runpytest_inprocess
        return run("-p", "no:cacheprovider", *loaded, *args)

    def passes(self, text, *args, passed=1, **options):
        self.file(text=text)
        result = self.run(*args, **options)
        result.assert_outcomes(passed=passed)
        return result


@pytest.fixture
def inner(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return Inner(pytester)

