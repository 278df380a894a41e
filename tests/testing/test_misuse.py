"""A wrong type, or a wrong moment, in each public method: one clear line, where it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from clients import connect_blocking, read_exactly
from fastecho.testing import Fault, async_echo_server, blackhole_address, echo_server, refused_address, sweep
from patience import DEADLINE

WRONG_SERVER = {
    "wait_connections('x')": "'x': must be a number of connections, not str",
    "wait_connections(True)": "True: must be a number of connections, not bool",
    "wait_connections(-1)": "-1: must be a number of connections, 0 or more",
    "wait_connections(1.5)": "1.5: must be a number of connections, not float",
    "assert_connections(None)": "None: must be a number of connections, not NoneType",
    "wait_received('text')": "'text': must be bytes, a number of bytes, or a function of bytes, not str",
    "wait_received(None)": "None: must be bytes, a number of bytes, or a function of bytes, not NoneType",
    "wait_received(2.5)": "2.5: must be a number of bytes, not float",
    "wait_received(-1)": "-1: must be a number of bytes, 0 or more",
    "wait_received(True)": "True: must be a number of bytes, not bool",
    "wait_received(coroutine)": "coroutine: must be no coroutine function: *",
    "assert_received('text')": "'text': must be bytes, not str",
    "assert_received(3)": "3: must be bytes, not int",
    "assert_sent_in('3')": "'3': must be a number of chunks, not str",
    "assert_sent_in(-3)": "-3: must be a number of chunks, 0 or more",
    "close_all('slowly')": "how slowly: must be fin or reset",
    "close_all(3)": "how 3: must be fin or reset",
    "fault()": "fault() needs a fault, such as Fault.reset(after_sent=17)",
    "fault(3)": "fault *3*: must be faults or their text, *",
    "fault(Fault.reset)": "fault *: must be faults or their text, *",
    "fault('rest()')": "fault *rest*",
    "arm('reset(); reset()')": "fault *: must be one fault",
    "arm(None)": "fault *: must be faults or their text, *",
    "disarm('reset()')": "'reset()': must be what arm() returned, not str",
    "disarm(None)": "None: must be what arm() returned, not NoneType",
    "stop('soon')": "timeout soon: must be a number of seconds above 0",
    "stop(0)": "timeout 0: must be a number of seconds above 0",
    "stop(-1)": "timeout -1: must be a number of seconds above 0",
}
WRONG_SESSION = {
    "send('text')": "'text': must be bytes, not str",
    "send(5)": "5: must be bytes, not int",
    "send(None)": "None: must be bytes, not NoneType",
    "send([1])": "[[]1]: must be bytes, not list",
    "wait_received('x')": "'x': must be bytes, a number of bytes, or a function of bytes, not str",
    "assert_received(None)": "None: must be bytes, not NoneType",
    "assert_sent_in(1.0)": "1.0: must be a number of chunks, not float",
}


async def coroutine(data):
    return True


def told(error: BaseException, pattern: str) -> bool:
    from fnmatch import fnmatchcase

    assert "\n" not in str(error)
    assert isinstance(error, (TypeError, ValueError))
    return fnmatchcase(str(error), pattern)


def call(owner, text):
    return eval(f"owner.{text}", {"owner": owner, "Fault": Fault, "coroutine": coroutine})


@pytest.mark.parametrize(("text", "said"), WRONG_SERVER.items(), ids=WRONG_SERVER)
def test_a_server_names_what_is_wrong(run, text, said) -> None:
    with echo_server() as server:
        with pytest.raises((TypeError, ValueError)) as caught:
            call(server, text)
        assert told(caught.value, said)
        with connect_blocking(server.address) as sock:
            sock.sendall(b"x")
            assert read_exactly(sock, 1) == b"x"

    async def body():
        async with async_echo_server() as server:
            with pytest.raises((TypeError, ValueError)) as caught:
                await call(server, text)
            assert told(caught.value, said)

    run(body())


@pytest.mark.parametrize(("text", "said"), WRONG_SESSION.items(), ids=WRONG_SESSION)
def test_a_session_names_what_is_wrong(run, text, said) -> None:
    with echo_server() as server, connect_blocking(server.address) as sock:
        with pytest.raises((TypeError, ValueError)) as caught:
            call(server.connections[0], text)
        assert told(caught.value, said)
        sock.sendall(b"x")
        assert read_exactly(sock, 1) == b"x"

    async def body():
        async with async_echo_server() as server:
            with connect_blocking(server.address):
                with pytest.raises((TypeError, ValueError)) as caught:
                    await call(server.connections[0], text)
                assert told(caught.value, said)

    run(body())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"config": "tcp6"}, "config tcp6: must be a ServerConfig; *"),
        ({"family": None}, "family None: must be tcp, tcp6, dual or unix"),
        ({"family": ["tcp"]}, "family *: must be tcp, tcp6, dual or unix"),
        ({"leak": ["warn"]}, "leak *: must be ignore, warn or error"),
        ({"tls": 3}, "tls 3: must be True, *"),
        ({"faults": 3}, "fault *: must be faults or their text, *"),
        ({"faults": [None]}, "fault *: must be faults or their text, *"),
        ({"reply": None}, "reply None: must be echo, discard, bytes, *"),
        ({"reply": "Echo"}, "reply Echo: must be echo, discard, bytes, *"),
        ({"timeout": "5"}, "timeout 5: must be a number of seconds above 0"),
        ({"timeout": float("nan")}, "timeout nan: must be a number of seconds above 0"),
        ({"record_limit": 1.5}, "record_limit 1.5: must be a number of bytes *"),
    ],
)
def test_echo_server_names_what_is_wrong(options, said) -> None:
    for make in (echo_server, async_echo_server):
        with pytest.raises((TypeError, ValueError)) as caught:
            make(**options)
        assert told(caught.value, said)


@pytest.mark.parametrize("make", [refused_address, blackhole_address])
def test_an_address_of_no_family_is_refused(make) -> None:
    with pytest.raises(ValueError, match="family 'unix': must be tcp or tcp6"):
        with make("unix"):
            pass


def two_triggers(after_sent):
    return Fault.reset(after_sent=after_sent, on=b"x")


def never(server):
    pytest.fail("the dialogue was run")


@pytest.mark.parametrize(
    ("fault", "options", "said"),
    [
        (Fault.latency, {}, "sweep needs a fault with after_sent or at, not latency: such as Fault.reset, *"),
        (Fault.reset(on=b"x"), {}, "sweep needs a fault with after_sent or at, not reset(on=b'x'): *"),
        (two_triggers, {}, "sweep gives after_sent and nothing else: *one trigger only*"),
        (lambda after_sent, more: Fault.reset(), {}, "sweep gives after_sent and nothing else: *more*"),
        (Fault.inject, {}, "sweep gives at and nothing else: *data*"),
        (lambda after_sent: "reset", {}, "sweep needs a function that returns a fault, not 'reset': *"),
        ("reset(after_sent=0); latency(1)", {}, "sweep needs one fault, not 2: *"),
        ("none", {}, "sweep needs one fault, not 0: none"),
        ("rest(after_sent=0)", {}, "*rest*"),
        (3, {}, "sweep needs a fault with after_sent or at, not 3: *"),
        (Fault.reset, {"offsets": 3}, "offsets 3: must be whole numbers, *"),
        (Fault.reset, {"offsets": "123"}, "offsets '123': must be whole numbers, *"),
        (Fault.reset, {"offsets": [1.5]}, "offset 1.5: must be a whole number, not float"),
        (Fault.reset, {"timeout": 0}, "timeout 0: must be a number of seconds above 0"),
        (Fault.reset, {"family": "unix"}, "fault *: reset sends RST, *"),
        (Fault.reset, {"dialogue": b"GET"}, "dialogue b'GET': must be a function that is given the server"),
    ],
)
def test_a_sweep_names_what_is_wrong_before_the_dialogue_runs(fault, options, said) -> None:
    options = {"dialogue": never, "echo": None, **options}
    with pytest.raises((TypeError, ValueError)) as caught:
        sweep(fault, **options)
    assert told(caught.value, said)


def test_a_sweep_with_a_partial_that_has_a_trigger_of_its_own() -> None:
    import functools

    with pytest.raises(ValueError, match=r"sweep gives after_sent and nothing else: .*one trigger only") as caught:
        sweep(functools.partial(Fault.close, after_received=3), never, echo=None)
    assert told(caught.value, "*")


@pytest.mark.parametrize(
    ("f", "said"),
    [
        (coroutine, "must not be a coroutine function"),
        (lambda: True, "must be a function of the session"),
        (3, "must be a function of the session"),
    ],
)
def test_a_where_that_cannot_be_called_is_refused_where_it_is_given(f, said) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Fault.reset().where(f)
    assert told(caught.value, "*")


def test_nothing_sent_is_said_without_a_hole_in_the_sentence() -> None:
    with echo_server() as server, pytest.raises(AssertionError, match=r"^sent in no chunks, expected 3$"):
        server.assert_sent_in(3)


# The wrong moment

EVERYTHING = [
    "address", "host", "port", "url", "sockname", "stats", "connections", "open_connections", "connection_count",
    "bytes_in", "reply", "down()", "blackhole()", "up()", "close_all()", "fault('refuse()')", "arm('refuse()')",
    "events()", "fault_log", "read_pending()", "check_failures()", "check_unused()", "check_fired()", "take_failures()",
    "wait_connections(0)", "wait_received(0)", "wait_closed()", "wait_idle()", "assert_all_closed()", "capture()",
    "reset()",
]  # fmt: skip
NEEDS_A_LISTENER = ["down()", "blackhole()", "up()", "close_all()", "fault('refuse()')", "arm('refuse()')", "reset()"]


@pytest.mark.parametrize("text", EVERYTHING)
def test_a_server_that_was_not_started_says_so(run, text) -> None:
    with pytest.raises(RuntimeError, match=r"^the server has not been started$"):
        call(echo_server(), text)

    async def body():
        with pytest.raises(RuntimeError, match=r"^the server has not been started$"):
            await call(async_echo_server(), text)

    run(body())


def test_a_stop_without_a_start_does_nothing(run) -> None:
    assert echo_server().stop() == ()
    assert async_echo_server().stop_blocking() == ()

    async def body():
        assert await async_echo_server().stop() == ()

    run(body())


def test_a_stop_that_was_refused_may_be_asked_for_again(run) -> None:
    server = echo_server().start()
    with pytest.raises(ValueError, match="timeout"):
        server.stop(0)
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        connect_blocking(server.address)

    async def body():
        server = await async_echo_server().start()
        with pytest.raises(ValueError, match="timeout"):
            await server.stop(0)
        await server.stop()
        with pytest.raises(ConnectionRefusedError):
            connect_blocking(server.address)

    run(body())


@pytest.mark.parametrize("text", EVERYTHING)
def test_a_server_that_was_stopped_says_so_or_tells_what_was(text) -> None:
    with echo_server() as server:
        pass
    if text in NEEDS_A_LISTENER:
        with pytest.raises(RuntimeError, match=r"^the server was stopped$"):
            call(server, text)
    else:
        call(server, text)
    with pytest.raises(RuntimeError, match=r"^the server was stopped$"):
        server.reply = "echo"
    with pytest.raises(RuntimeError, match=r"^the server was started before$"):
        server.start()


@pytest.mark.parametrize("text", ["send(b'x')", "reset()", "close()", "shutdown_write()", "pause()", "resume()"])
def test_steering_a_connection_of_a_server_that_was_stopped(text) -> None:
    server = echo_server().start()
    with connect_blocking(server.address):
        server.wait_connections(1)
        server.stop()
    session = server.connections[0]
    if text in ("reset()", "close()", "shutdown_write()"):
        call(session, text)
    else:
        with pytest.raises(BrokenPipeError, match="connection 0 is closed"):
            call(session, text)
    assert session.close_reason == "server_stopped"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_that_leaves_the_blocks_of_its_parent_says_nothing() -> None:
    with echo_server() as server:
        with server.down(), server.fault("refuse()", must_fire=False), server.capture():
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    with server.down():
                        pass
                except RuntimeError as error:
                    status = 0 if "belongs to the process that started it" in str(error) else 2
                os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


LEAVING = """
import os, sys
from fastecho.testing import echo_server

with echo_server() as server:
    child = None
    with server.down(), server.fault("refuse()", must_fire=False):
        child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_forked_child_may_leave_all_blocks_in_order() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", LEAVING], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


ATEXIT = """
import atexit, sys
sys.path.insert(0, "tests")
from fastecho.testing import async_echo_server, echo_server

def late():
    try:
        server = {make}().{start}()
    except RuntimeError as error:
        print("refused:", error)
    else:
        import socket
        with socket.create_connection(server.address, 5) as client:
            client.sendall(b"x")
            print("served:", client.recv(1))
        server.{stop}()

atexit.register(late)
{before}
"""


@pytest.mark.parametrize("before", ["", "echo_server().start().stop()"], ids=["first", "later"])
@pytest.mark.parametrize(
    ("make", "start", "stop"),
    [("echo_server", "start", "stop"), ("async_echo_server", "start_blocking", "stop_blocking")],
)
def test_a_server_started_while_the_interpreter_ends(make, start, stop, before) -> None:
    """Either it serves, or one line says why not; it does not hang, and no traceback is left."""
    script = ATEXIT.format(make=make, start=start, stop=stop, before=before)
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line == "served: b'x'" or (line.startswith("refused: ") and "interpreter is ending" in line)


def test_an_async_server_is_used_from_a_loop_in_another_thread() -> None:
    import asyncio

    server = async_echo_server().start_blocking()
    found: list[object] = []

    async def body():
        found.append(await server.wait_connections(0))
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(body()))
    thread.start()
    thread.join(DEADLINE)
    assert found == [()]


AFTER_THE_END = """
import atexit, sys

def late():
    for call in (lambda: server.wait_connections(0), lambda: server.read_pending()):
        try:
            call()
        except RuntimeError as error:
            print(error)

atexit.register(late)  # before that of the package, so that it is called after it

from fastecho.testing import echo_server
server = echo_server().start()
"""


def test_a_server_is_waited_for_after_the_end_of_its_thread() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AFTER_THE_END], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["the interpreter is ending, and the thread of the servers has ended"] * 2


NO_THREAD = """
import gc, threading
from fastecho.testing import echo_server

def start(thread):
    raise RuntimeError("can't start new thread")

original, threading.Thread.start = threading.Thread.start, start
try:
    echo_server().start()
except RuntimeError as error:
    print(error)
gc.collect()
threading.Thread.start = original
with echo_server() as server:
    print(server.connection_count)
"""


def test_a_thread_that_cannot_be_started_is_said() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", NO_THREAD], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["can't start new thread", "0"]
