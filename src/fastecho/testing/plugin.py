"""The pytest plugin. Without its fixtures a run of pytest only imports this file: other modules are loaded when a
fixture is first used.

Hooks are of the old style (`hookwrapper`), which pytest 7, 8 and 9 all know. Its assertion rewriting has nothing to do
here (PYTEST_DONT_REWRITE).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ._async import AsyncServer
    from ._certificates import Certificates
    from ._plugin_run import TestState
    from ._sync import Server

_BEGAN = pytest.StashKey[float]()
_STATE = pytest.StashKey["TestState"]()
_SESSION_SERVER = pytest.StashKey["Server"]()
SECTION = "fastecho"
_OF_PYFAKEFS = frozenset({"fs", "fs_class", "fs_module", "fs_session"})


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastecho", "a real TCP server (fastecho)")
    group.addoption(
        "--fastecho-seed",
        type=int,
        metavar="N",
        help="base seed for faults; each test derives its own from this and its node id "
        "(default: ini option fastecho_seed)",
    )
    group.addoption(
        "--fastecho-trace", action="store_true", help="show what happened on the connections of passing tests too"
    )
    parser.addini("fastecho_timeout", "seconds that a wait or an assertion of fastecho takes at most", default="5")
    parser.addini("fastecho_teardown_timeout", "seconds that stopping a fastecho server takes at most", default="1")
    parser.addini("fastecho_leak", "connections left open at a test's end: ignore, warn or error", default="warn")
    parser.addini("fastecho_record_limit", "bytes recorded a connection and direction", default="1MiB")
    parser.addini("fastecho_seed", "base seed of the faults", default="0")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "fastecho(family, tls, faults, seed, expect_connections, leak, must_fire, ...): configure the fastecho_server "
        "of this test; also takes every option of fastecho.testing.echo_server.",
    )


@pytest.fixture
def fastecho_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for this test alone, as its @pytest.mark.fastecho(...) says; a plain echo without one."""
    with _state(request.node).marked_server() as server:
        yield server


@pytest.fixture
def fastecho_async_server(request: pytest.FixtureRequest) -> Iterator[AsyncServer]:
    """A server for this asyncio test alone: `fastecho_server` whose waits and assertions are awaited."""
    if _is_of_trio(request):
        why = "fastecho_async_server is for asyncio, not trio: use fastecho_server"
        raise pytest.fail.Exception(why, pytrace=False)
    with _state(request.node).marked_async_server() as server:
        yield server


@pytest.fixture
def fastecho_server_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """A function that starts a server, with the options of fastecho.testing.echo_server. All end with the test."""
    with _state(request.node).factory() as make:
        yield make


@pytest.fixture(scope="session")
def fastecho_session_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for the whole session; `with fastecho_session_server.capture() as captured:` isolates a block."""
    from ._plugin_run import session_server

    stash = request.config.stash
    with session_server(request.config) as server:
        stash[_SESSION_SERVER] = server
        try:
            yield server
        finally:
            del stash[_SESSION_SERVER]


@pytest.fixture(scope="session")
def fastecho_tls() -> Certificates:
    """Certificates (valid, expired, wrong_host, self_signed, client) and a client_context() that trusts them."""
    from ._plugin_run import fail_plainly

    with fail_plainly():
        from ._certificates import certificates

        return certificates()


def _state(item: pytest.Item) -> TestState:
    """The state of this run of the test; made by the first fixture that it uses."""
    if _STATE not in item.stash:
        from ._plugin_run import TestState

        item.stash[_STATE] = TestState(item)
    return item.stash[_STATE]


def _is_of_trio(request: pytest.FixtureRequest) -> bool:
    """Whether pytest-trio or anyio runs the test on trio."""
    if request.node.get_closest_marker("trio") is not None:
        return True
    backend = request.getfixturevalue("anyio_backend") if "anyio_backend" in request.fixturenames else None
    return bool((backend[0] if isinstance(backend, (tuple, list)) else backend) == "trio")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _STATE in item.stash:  # of an attempt before: some plugins run a test again without a report of the first
        del item.stash[_STATE]
    # The clock of the events is _net.kernel.monotonic. Read it under a name that freezegun leaves alone and that needs
    # no import.
    item.stash[_BEGAN] = time.clock_gettime(time.CLOCK_MONOTONIC)
    if _OF_PYFAKEFS.intersection(getattr(item, "fixturenames", ())):
        # A module that is imported while the file system is replaced does not outlive the test.
        from . import _certificates

        _certificates.load()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """What the marker promises is checked here, and not in the fixture's end, so that the test itself fails."""
    outcome = yield
    state = item.stash.get(_STATE, None)
    # A TestCase keeps its failure to itself until the report is made.
    if outcome.excinfo is not None or getattr(item, "_excinfo", None):
        return
    failure = state.failure() if state is not None else None
    if state is None and any(marker.name == "fastecho" for marker in item.own_markers):
        failure = _failed("@pytest.mark.fastecho without effect: the test uses no fixture that starts a server")
    shared = item.config.stash.get(_SESSION_SERVER, None)
    if failure is None and shared is not None and (texts := shared.take_failures()):
        failure = _failed("\n".join(texts))
    if failure is not None:
        outcome.force_exception(failure)


def _failed(text: str) -> BaseException:
    return pytest.fail.Exception(text, pytrace=False)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, None]:
    outcome = yield
    if outcome.excinfo is not None:
        return
    report: pytest.TestReport = outcome.get_result()
    if report.failed or (report.when == "call" and item.config.getoption("fastecho_trace")):
        text = _section(item)
        if text:
            report.sections.append((SECTION, text))
    if report.when == "teardown" and _STATE in item.stash:
        del item.stash[_STATE]  # items live as long as the session, and the state holds recordings


def _section(item: pytest.Item) -> str:
    state = item.stash.get(_STATE, None)
    shared = item.config.stash.get(_SESSION_SERVER, None)
    if state is None and shared is None:
        return ""
    from ._plugin_run import section

    return section(item, state, shared, item.stash.get(_BEGAN, 0.0))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """With --fastecho-trace: the sections that pytest does not show, since their tests have passed."""
    if not config.getoption("fastecho_trace"):
        return
    quiet = [name for name in terminalreporter.stats if name not in ("failed", "error")]
    for report in (report for name in quiet for report in terminalreporter.stats[name]):
        for name, text in getattr(report, "sections", ()):
            if name == SECTION:
                terminalreporter.write_sep("-", f"{SECTION}: {report.nodeid}")
                terminalreporter.write_line(text)
