"""What the tests of the client commands share."""

import pytest

from bench_servers import c_server
from fastecho.cli.main import main


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A right server, in C."""
    with c_server(tmp_path_factory.mktemp("server")) as (target, _):
        yield target


@pytest.fixture
def fastecho(capfd):
    """Run a command in this process: exit code, standard output, standard error. Without a command's name, bench."""

    def run(*arguments):
        code = main(arguments if arguments and arguments[0] in ("ping", "doctor", "serve") else ["bench", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run
