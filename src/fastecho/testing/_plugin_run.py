"""What the plugin keeps of a test: settings, marker, servers; and the section `fastecho` of its report."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from .._options.types import Choice, Integer, OptionType, Seconds, Size
from ..config import ServerConfig
from ..config import options as config_options
from ..errors import FastechoError
from ._async import AsyncServer, async_echo_server
from ._connection import Event
from ._options import derive_seed, unknown_option
from ._sync import Server, echo_server

__all__ = ["TestState", "fail_plainly", "node_id", "section", "session_server"]

AnyServer = Server | AsyncServer

_FIRST_LINES, _LAST_LINES = 40, 160
_SECONDS = Seconds(0.001, 86400.0)
_DEFAULTS = pytest.StashKey[dict[str, Any]]()
_OF_THE_TEST = (AssertionError, RuntimeError, TimeoutError)
_OWN_OPTIONS = ("expect_connections", "must_fire")


@contextmanager
def fail_plainly(where: str = "") -> Iterator[None]:
    """Turn an error in the options into a one-line failure without a traceback."""
    try:
        yield
    except (FastechoError, TypeError, ValueError) as error:
        complaint = where + (": " if where else "") + str(error)
        raise pytest.fail.Exception(complaint, pytrace=False) from None


def base_seed(config: pytest.Config) -> int:
    given = config.getoption("fastecho_seed")
    if given is not None:
        return int(given)
    return int(_ini(config, "fastecho_seed", Integer(0, (1 << 64) - 1)))


def defaults(config: pytest.Config) -> dict[str, Any]:
    """The options of `echo_server` that the ini file sets. Read once: they are the same for each test."""
    if _DEFAULTS not in config.stash:
        config.stash[_DEFAULTS] = _read_defaults(config)
    return config.stash[_DEFAULTS]


def _read_defaults(config: pytest.Config) -> dict[str, Any]:
    return {
        "timeout": _ini(config, "fastecho_timeout", _SECONDS),
        "teardown_timeout": _ini(config, "fastecho_teardown_timeout", _SECONDS),
        "record_limit": _ini(config, "fastecho_record_limit", Size(0, 1 << 40)),
        "leak": _ini(config, "fastecho_leak", Choice("ignore", "warn", "error")),
    }


def _ini(config: pytest.Config, name: str, type: OptionType) -> Any:
    text = str(config.getini(name)).strip()
    try:
        return type.validate(type.parse(text))
    except ValueError as error:
        raise ValueError(f"ini option {name} {text!r}: {error}") from None


def node_id(item: pytest.Item) -> str:
    """The node id without the group that xdist adds with --dist loadgroup."""
    if item.config.getoption("loadgroup", False) and item.get_closest_marker("xdist_group"):
        return item.nodeid.rpartition("@")[0] or item.nodeid
    return item.nodeid


@dataclass(frozen=True)
class Marker:
    """The `fastecho` markers of a test as one: a marker of the test overrides one of its class or module."""

    options: dict[str, Any]
    expect_connections: int | None
    must_fire: bool

    @classmethod
    def of(cls, item: pytest.Item) -> Marker:
        given: dict[str, Any] = {}
        for marker in reversed(list(item.iter_markers("fastecho"))):
            if marker.args:
                raise TypeError(f"takes keywords only, not {', '.join(map(repr, marker.args))}")
            given.update(marker.kwargs)
        if given:
            _check_names(given)
        expected = given.pop("expect_connections", None)
        if expected is not None and (isinstance(expected, bool) or not isinstance(expected, int) or expected < 0):
            raise ValueError(f"expect_connections {expected!r}: must be a number of connections, 0 or more")
        must_fire = bool(given.pop("must_fire", True))
        return cls(given, expected, must_fire)


def _check_names(given: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(echo_server).parameters if name != "options"]
    known += [option.name for option in config_options() if option.name not in known]
    known += _OWN_OPTIONS
    for name in given:
        if name not in known:
            raise TypeError(unknown_option(name, known, otherwise=f": must be {', '.join(known[:8])}, …"))


class TestState:
    """What the plugin keeps of one run of one test."""

    def __init__(self, item: pytest.Item) -> None:
        self.servers: list[tuple[str, AnyServer]] = []
        """Each with the name of its fixture; also those that are stopped already."""
        with fail_plainly():
            self._defaults = defaults(item.config)
            self._base = base_seed(item.config)
        with fail_plainly("@pytest.mark.fastecho"):
            self._marker = Marker.of(item)
        self._id = node_id(item)

    @contextmanager
    def marked_server(self) -> Iterator[Server]:
        """The server that the marker describes."""
        with fail_plainly("@pytest.mark.fastecho"):
            server = echo_server(**self._options(self._marker.options)).start()
        with self._started("fastecho_server", server):
            yield server

    @contextmanager
    def marked_async_server(self) -> Iterator[AsyncServer]:
        """`marked_server` for an asyncio test."""
        with fail_plainly("@pytest.mark.fastecho"):
            server = async_echo_server(**self._options(self._marker.options)).start_blocking()
        with self._started("fastecho_async_server", server):
            yield server

    @contextmanager
    def factory(self) -> Iterator[Callable[..., Server]]:
        """A function that starts servers; the options of the marker are their defaults."""
        marked = dict(self._marker.options)
        with ExitStack() as ending:

            def make(config: ServerConfig | None = None, **options: Any) -> Server:
                given = {**marked, **options}
                if config is not None:
                    given = {"leak": marked.get("leak", self._defaults["leak"]), **options, "config": config}
                server = echo_server(**self._options(given)).start()
                ending.enter_context(self._started("fastecho_server_factory", server))
                return server

            yield make

    def failure(self) -> BaseException | None:
        """What the test has not seen itself: errors of its functions on the server's thread, unused statements, faults
        that never fired, unexpected connections. None if there is nothing."""
        failures: list[str] = []
        for _, server in self.servers:
            try:
                server.check_failures()
                server.check_unused()
                if self._marker.must_fire:
                    _check_fired(server)
            except Exception as error:
                failures.append(str(error) if isinstance(error, _OF_THE_TEST) else f"{type(error).__name__}: {error}")
            except BaseException as error:  # pytest.fail() or pytest.skip() in a reply
                return error
        if self._marker.expect_connections is not None and not failures:
            failures += self._unexpected(self._marker.expect_connections)
        return pytest.fail.Exception("\n".join(failures), pytrace=False) if failures else None

    def _unexpected(self, expected: int) -> Iterator[str]:
        """Count the connections at the end of the test, without waiting."""
        made = [session for _, server in self.servers for session in server.connections]
        if len(made) != expected:
            listed = "".join(f"\n  {session!r}" for session in made[:10])
            yield f"expect_connections={expected}, and there were {len(made)}{listed}"

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        """`given`, with the defaults of the ini file, and a seed unless `config` is given."""
        seed = {} if given.get("config") is not None else {"seed": self._seed(len(self.servers))}
        return {**self._defaults, **seed, **given}

    def _seed(self, number: int) -> int:
        """The seed of server `number` of the test; different for each."""
        given: int | None = self._marker.options.get("seed")
        if given is not None:
            return derive_seed(given, str(number)) if number else given
        return derive_seed(self._base, f"{self._id}#{number}" if number else self._id)

    @contextmanager
    def _started(self, name: str, server: AnyServer) -> Iterator[None]:
        self.servers.append((name, server))
        try:
            yield
        finally:
            _stop(name, server)


def _stop(name: str, server: AnyServer) -> None:
    with fail_plainly(f"{name} {server.url}"):
        server._fixture.stop(server.teardown_timeout)


def _check_fired(server: AnyServer) -> None:
    try:
        server.check_fired()
    except AssertionError:
        server.read_pending()  # what a client has sent may not have been read yet
        server.check_fired()


@contextmanager
def session_server(config: pytest.Config) -> Iterator[Server]:
    with fail_plainly():
        seed = derive_seed(base_seed(config), "fastecho_session_server")
        server = echo_server(seed=seed, **defaults(config)).start()
    try:
        yield server
    finally:
        _stop("fastecho_session_server", server)


def section(item: pytest.Item, state: TestState | None, shared: Server | None, began: float) -> str:
    """The section of the report of a test: a line an event, and the command that replays the test.

    Empty for a test that has not used fastecho.

    Args:
        shared: the server of the session, whose events count from `began` (monotonic seconds).
    """
    lines: list[str] = []
    for name, server in state.servers if state else ():
        lines += _of_server(name, server, _events(server), began)
    if shared is not None:
        events = [event for event in _events(shared) if event.time >= began]
        if events or "fastecho_session_server" in getattr(item, "fixturenames", ()):
            lines += _of_server("fastecho_session_server", shared, events, began)
    if not lines:
        return ""
    lines.append(f"replay: pytest {shlex.quote(_node_id_from_cwd(item))} --fastecho-seed={base_seed(item.config)}")
    return "\n".join(lines)


def _node_id_from_cwd(item: pytest.Item) -> str:
    """The node id as pytest wants it in the folder where it was started: its own ids begin at the root folder."""
    path, colons, rest = node_id(item).partition("::")
    config = item.config
    return os.path.relpath(config.rootpath / path, config.invocation_params.dir) + colons + rest


def _events(server: AnyServer) -> list[Event]:
    try:
        return server.events()
    except Exception:  # a server that is held up must not cost the report of the test that held it up
        return []


def _of_server(name: str, server: AnyServer, events: list[Event], began: float) -> Iterator[str]:
    yield f"{name} at {server.url}, seed {server.seed}"
    if not events:
        yield "  nothing happened"
    left_out = len(events) - _FIRST_LINES - _LAST_LINES
    for index, event in enumerate(events):
        if left_out > 0 and index == _FIRST_LINES:
            yield f"  … {left_out:,} events left out …"
        if left_out <= 0 or not _FIRST_LINES <= index < _FIRST_LINES + left_out:
            yield f"  {event.line(began)}"
