"""What goes wrong in a test's own functions, and what a test forgets to await: told once, with its line."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import socket
import warnings
from unittest import mock

import pytest

from clients import Client, connect_blocking, read_exactly
from fastecho.errors import ConfigError
from fastecho.testing import Fault, async_echo_server, echo_server
from patience import DEADLINE

FAULTS = pytest.mark.parametrize("faults", [(), [Fault.latency(0.0)]], ids=["plain", "faulty"])


def helper(data):
    return {}[data]


def raises(data):
    return helper(data)


def line_of(function, offset=1) -> str:
    return f'test_reported.py", line {function.__code__.co_firstlineno + offset}, in {function.__name__}'


def fail(server, times=1) -> None:
    """Have the reply fail so many times."""
    for _ in range(times):
        with connect_blocking(server.address) as sock:
            sock.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


# Where it happened


@FAULTS
def test_an_error_of_a_reply_says_in_which_line(faults) -> None:
    server = echo_server(reply=raises, faults=faults).start()
    fail(server)
    with pytest.raises(RuntimeError, match="raised KeyError on connection 0: b'x'") as caught:
        server.wait_idle()
    text = str(caught.value)
    assert line_of(raises) in text
    assert line_of(helper) in text
    assert "return {}[data]" in text
    assert "_reply.py" not in text
    frames = inspect.getinnerframes(caught.value.__cause__.__traceback__)
    assert [frame.function for frame in frames] == ["raises", "helper"]
    (event,) = (event for event in server.events() if "raised" in event.what)
    assert event.what.endswith(f"(test_reported.py:{raises.__code__.co_firstlineno + 1})")
    server.stop()


def test_an_error_of_a_where_says_in_which_line() -> None:
    with echo_server() as server:
        with pytest.raises(RuntimeError) as caught:  # noqa: PT012
            with server.fault(Fault.reset().where(raises), must_fire=False):
                with connect_blocking(server.address) as sock:
                    sock.sendall(b"x")
                    assert read_exactly(sock, 1) == b"x"
        assert line_of(raises) in str(caught.value)


def test_an_answer_that_is_none_says_which_function_gave_it() -> None:
    def reply(data):
        return "text"

    server = echo_server(reply=reply).start()
    fail(server)
    where = rf"returned str \(test_reported.py:{reply.__code__.co_firstlineno}\): must be bytes"
    with pytest.raises(RuntimeError, match=where):
        server.check_failures()
    server.stop()


def test_a_predicate_that_asserts_keeps_its_line() -> None:
    def predicate(data):
        assert data == b"something"

    with echo_server() as server, pytest.raises(AssertionError) as caught:
        server.wait_received(predicate)
    assert "predicate" in [frame.function for frame in inspect.getinnerframes(caught.value.__traceback__)]


# Once


def test_a_failure_that_a_test_has_caught_is_not_raised_again() -> None:
    with echo_server(reply=raises) as server:
        fail(server)
        with pytest.raises(RuntimeError, match="KeyError"):
            server.wait_received(b"more")
        server.check_failures()
        server.reply = "echo"
        with server.fault("close(after_sent=1)"), connect_blocking(server.address) as sock:
            sock.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"
        server.assert_connections(2)


def test_all_that_have_failed_so_far_are_told_as_one() -> None:
    with echo_server(reply=raises) as server:
        fail(server, times=3)
        with pytest.raises(RuntimeError) as caught:
            server.check_failures()
        assert [f"on connection {number}" in str(caught.value) for number in range(3)] == [True] * 3
        fail(server)
        with pytest.raises(RuntimeError, match="on connection 3"):
            server.assert_connections(4)


def test_a_failure_that_no_test_has_seen_ends_the_block() -> None:
    with pytest.raises(RuntimeError, match="KeyError"):
        with echo_server(reply=raises) as server:
            fail(server)


def test_two_waits_at_once_are_both_told(run) -> None:
    async def body():
        async with async_echo_server(reply=raises, timeout=1000) as server:
            waits = [asyncio.ensure_future(server.wait_received(9)), asyncio.ensure_future(server.wait_idle())]
            waits.append(asyncio.ensure_future(server.wait_connections(5)))
            await asyncio.to_thread(fail, server)
            found = await asyncio.gather(waits[0], waits[2], return_exceptions=True)
            assert [type(each) for each in found] == [RuntimeError] * 2
            await asyncio.gather(waits[1], return_exceptions=True)
            server.check_failures()

    run(body())


def test_a_wait_that_was_given_up_takes_no_failure_with_it(run) -> None:
    async def body():
        with pytest.raises(RuntimeError, match="KeyError"):  # noqa: PT012
            async with async_echo_server(reply=raises, timeout=1000) as server:
                waiting = asyncio.ensure_future(server.wait_received(9))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.to_thread(fail, server)

    run(body())


# Which arguments a reply takes


class Callable:
    def __call__(self, data):
        return data.upper()

    def method(self, data, session):
        return b"%d" % session.index

    @classmethod
    def of_class(cls, data, extra=b"!"):
        return data + extra

    @staticmethod
    def static(data, session):
        return b"%d" % session.index


def with_extra(prefix, data):
    return prefix + data


def with_session(data, session, *, suffix=b"?"):
    return b"%d" % session.index + suffix


@functools.wraps(with_session)
def wrapped(*args, **kwargs):
    return with_session(*args, **kwargs)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (lambda data, prefix=b">": prefix + data, b">a"),
        (lambda data, session=None: b"none" if session is None else b"one", b"none"),
        (lambda data, session, prefix=b">": prefix + b"%d" % session.index, b">0"),
        (lambda *data: b"%d" % len(data), b"1"),
        (lambda data, *rest: b"%d" % len(rest), b"0"),
        (lambda data, session, *rest: b"%d" % len(rest), b"0"),
        (lambda data, *, prefix=b">": prefix + data, b">a"),
        (lambda data, **options: data + b"%d" % len(options), b"a0"),
        (functools.partial(with_extra, b">"), b">a"),
        (functools.partial(with_session, suffix=b"!"), b"0!"),
        (with_session, b"0?"),
        (wrapped, b"0?"),
        (Callable(), b"A"),
        (Callable().method, b"0"),
        (Callable.of_class, b"a!"),
        (Callable.static, b"0"),
        (bytes.upper, b"A"),
        (bytes, b"a"),
        (mock.Mock(return_value=b"m"), b"m"),
    ],
)
@FAULTS
def test_a_reply_gets_the_session_where_it_must_have_it(reply, answer, faults) -> None:
    with echo_server(reply=reply, faults=faults) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"a")
        assert read_exactly(sock, len(answer)) == answer


async def coroutine_function(data):
    return data


class CoroutineCallable:
    async def __call__(self, data):
        return data


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda data, session, more: data, "not of 3 arguments: data, session, more"),
        (lambda: b"x", "too many positional arguments"),
        (lambda data, *, needed: data, "needed"),
        (functools.partial(with_session, b"data", None), "too many positional arguments"),
        (coroutine_function, "not a coroutine function"),
        (CoroutineCallable(), "not a coroutine function"),
        (functools.partial(coroutine_function), "not a coroutine function"),
        (mock.AsyncMock(), "not a coroutine function"),
    ],
)
def test_a_reply_that_cannot_be_called_is_refused_where_it_is_given(reply, said) -> None:
    for make in (echo_server, async_echo_server):
        with pytest.raises(ConfigError, match=said) as caught:
            make(reply=reply)
        assert "must be a function of the bytes received" in str(caught.value)
        assert "\n" not in str(caught.value)
    with echo_server() as server:
        with pytest.raises(ConfigError, match=said):
            server.reply = reply
        assert server.reply == "echo"


def test_a_coroutine_as_an_answer_is_named_and_closed() -> None:
    server = echo_server(reply=lambda data: coroutine_function(data)).start()
    fail(server)
    with pytest.raises(RuntimeError, match="reply returned coroutine"):
        server.check_failures()
    server.stop()
    gc.collect()


# Never awaited


def waits(owner):
    """Every method of `owner` that has to be awaited, with valid arguments."""
    arguments = {"wait_connections": (0,), "assert_connections": (0,), "wait_received": (0,), "assert_received": (b"",)}
    arguments["assert_sent_in"] = (0,)
    names = [name for name in dir(type(owner)) if name.split("_")[0] in ("wait", "assert") or name in ("stop", "reset")]
    return [
        (name, functools.partial(getattr(owner, name), *arguments.get(name, ())))
        for name in names
        if not (name == "reset" and "index" in dir(type(owner)))  # a session's own needs no await
    ]


def test_every_coroutine_of_the_server_is_among_those_that_are_tried() -> None:
    server = async_echo_server().start_blocking()
    assert [name for name, _ in waits(server)] == [
        "assert_all_closed", "assert_connections", "assert_no_connections", "assert_received", "assert_sent_in",
        "reset", "stop", "wait_closed", "wait_connections", "wait_idle", "wait_received",
    ]  # fmt: skip
    server.stop_blocking()


@pytest.mark.slow
@pytest.mark.timeout(8 * DEADLINE)
@pytest.mark.parametrize("owner", ["server", "session", "capture"])
def test_what_is_never_awaited_fails_the_block(run, owner) -> None:
    async def body():
        async with async_echo_server() as server, Client.to(server.address) as client:
            await client.ask(b"x")
            with server.capture() as captured:
                about = {"server": server, "session": server.connections[0], "capture": captured}[owner]
            found = [name for name, _ in waits(about)]
        assert found
        for forgotten in found:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # it is said once, and not by Python too
                with pytest.raises(AssertionError) as caught:  # noqa: PT012
                    async with async_echo_server() as server, Client.to(server.address) as client:
                        await client.ask(b"x")
                        with server.capture() as captured:
                            about = {"server": server, "session": server.connections[0], "capture": captured}[owner]
                        dict(waits(about))[forgotten]()
                gc.collect()
            assert str(caught.value).startswith("test_reported.py:")
            assert str(caught.value).endswith(f": {forgotten}() was never awaited, so that it did nothing")

    run(body(), limit=7 * DEADLINE)


def test_what_is_never_awaited_fails_a_stop_by_hand(run) -> None:
    async def body():
        server = await async_echo_server().start()
        server.assert_connections(3)
        with pytest.raises(AssertionError, match=r"assert_connections\(\) was never awaited"):
            await server.stop()
        await server.stop()

    run(body())


def test_what_is_awaited_in_any_way_counts(run) -> None:
    async def body():
        async with async_echo_server() as server:
            await server.assert_connections(0)
            await asyncio.gather(server.assert_connections(0), server.assert_no_connections())
            await asyncio.create_task(server.wait_idle())
            await asyncio.wait_for(server.wait_connections(0), 10)
            waiting = server.wait_connections(0)
            server.check_failures()
            assert await waiting == ()
            await asyncio.gather(asyncio.create_task(server.assert_all_closed()))
            cancelled = asyncio.create_task(server.wait_received(1))
            cancelled.cancel()  # before its first turn
            await asyncio.gather(cancelled, return_exceptions=True)
            with pytest.raises((TimeoutError, asyncio.TimeoutError)):
                await asyncio.wait_for(server.wait_received(1), 0)
            closed = server.wait_received(1)
            closed.close()
        await server.stop()

    run(body())


def test_an_error_in_the_block_goes_before_what_was_not_awaited(run) -> None:
    async def body():
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with async_echo_server() as server:
                forgotten = server.assert_connections(1)
                raise ZeroDivisionError
        forgotten.close()

    run(body())


def test_an_assertion_outside_asyncio_says_what_to_use() -> None:
    server = async_echo_server().start_blocking()
    waiting = server.wait_connections(1)
    with pytest.raises(RuntimeError, match=r"async_echo_server is for asyncio, and none runs here: use echo_server"):
        waiting.send(None)
    server.stop_blocking()


# What is known right after the client has closed


@FAULTS
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_the_events_are_those_of_a_client_that_has_just_closed(faults, family) -> None:
    with echo_server(family=family, faults=faults) as server:
        for number in range(100):
            with connect_blocking(server.address) as sock:
                sock.sendall(b"hello")
            events = [event for event in server.events() if event.connection == number]
            assert [event.data for event in events if event.direction == "in"] == [b"hello"]
            assert any(event.what.startswith("closed") for event in events)


def test_the_fault_log_is_that_of_a_client_that_has_just_closed() -> None:
    with echo_server(faults=["corrupt(0)"]) as server:
        for number in range(50):
            with connect_blocking(server.address) as sock:
                sock.sendall(b"x")
            assert len(server.fault_log) == number + 1


@pytest.mark.parametrize("fault", ["stall()", "stop_reading()", "blackhole()", "slow_accept(1000)", "coalesce(99)"])
def test_events_wait_for_no_session_that_does_not_read(fault) -> None:
    """Not for one that is left open, nor for one whose client has closed."""
    with echo_server(faults=[fault]) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        assert any("opened" in event.what for event in server.events())
        sock.close()
        assert any("opened" in event.what for event in server.events())


def test_events_of_a_paused_session_and_from_a_reply() -> None:
    counted = []

    def reply(data):
        counted.append(len(server.events()))
        return data

    with echo_server(reply=reply) as server, connect_blocking(server.address) as sock:
        sock.sendall(b"x")
        assert read_exactly(sock, 1) == b"x"
        assert counted[0] >= 2
        server.connections[0].pause()
        sock.sendall(b"y")
        sock.shutdown(socket.SHUT_WR)
        assert b"y" not in [event.data for event in server.events()]
        server.connections[0].resume()
        assert b"y" in [event.data for event in server.events()]
