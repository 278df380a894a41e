"""What the plugin costs those who do not use it: the import of one file."""

import ast
import sys

import pytest

LOADED = """
import json, sys
import pytest

class Spy:
    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self):
        print("loaded:", json.dumps(sorted(sys.modules)))

args = ["-p", "no:cacheprovider", "-s", *sys.argv[1:]]
sys.exit(pytest.main(args, plugins=[Spy()]))
"""
OURS = {"fastecho", "fastecho._version", "fastecho.testing", "fastecho.testing.plugin"}


def loaded(inner, test, *args):
    script = inner.pytester.path / "spy.py"
    script.write_text(LOADED)
    (inner.pytester.path / "test_it.py").write_text(test)
    result = inner.pytester.run(sys.executable, script, *args)
    (line,) = (line for line in result.outlines if line.startswith("loaded:"))
    return set(ast.literal_eval(line.partition(": ")[2]))


@pytest.mark.parametrize("option", [(), ("--fastecho-trace",), ("-v",)])
def test_nothing_else_is_imported_until_a_fixture_is_used(inner, option):
    plain = "def test_it(): pass\n\ndef test_fails(): assert False\n"
    with_plugin = loaded(inner, plain, "-p", "fastecho.testing.plugin", *option)
    without = loaded(inner, plain, *(each for each in option if "fastecho" not in each))
    assert with_plugin - without <= OURS


def test_the_check_sees_imports(inner):
    uses = "def test_it(fastecho_server): pass\n"
    assert {"uvloop", "asyncio", "fastecho.testing._sync"} <= loaded(inner, uses, "-p", "fastecho.testing.plugin")


def test_certificates_are_not_imported_with_a_server(inner):
    uses = "def test_it(fastecho_server): pass\n"
    assert not {"trustme", "cryptography"} & loaded(inner, uses, "-p", "fastecho.testing.plugin")
