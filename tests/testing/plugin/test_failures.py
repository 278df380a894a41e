"""What the plugin makes a test fail for, in which phase, and what it says then."""

import pytest


def fails(inner, text, *lines, args=(), **outcomes):
    inner.file(text=text)
    result = inner.run(*args)
    result.assert_outcomes(**(outcomes or {"failed": 1}))
    result.stdout.fnmatch_lines([f"*{line}*" for line in lines])
    assert "_plugin_run.py" not in result.stdout.str()
    return result


def test_a_fault_that_never_fired_fails_the_test_itself(inner):
    fails(
        inner,
        """
@pytest.mark.fastecho(faults=[Fault.corrupt(0), Fault.reset(after_sent=17)])
def test_it(fastecho_server):
    talk(fastecho_server)
""",
        "reset(after_sent=17)",
    )


def test_unless_told_otherwise(inner):
    inner.passes(
        """
@pytest.mark.fastecho(faults=[Fault.reset(after_sent=17)], must_fire=False)
def test_it(fastecho_server):
    talk(fastecho_server)
"""
    )


def test_armed_by_the_test_and_never_fired(inner):
    fails(
        inner,
        """
def test_it(fastecho_server_factory):
    fastecho_server_factory().arm(Fault.reset(after_sent=17))
""",
        "reset(after_sent=17)",
    )


@pytest.mark.parametrize(("expected", "made"), [(0, 1), (1, 0), (1, 2), (3, 2)])
def test_another_number_of_connections(inner, expected, made):
    fails(
        inner,
        f"""
@pytest.mark.fastecho(expect_connections={expected})
def test_it(fastecho_server):
    for _ in range({made}):
        talk(fastecho_server)
""",
        f"expect_connections={expected}, and there were {made}",
    )


def test_connections_are_counted_on_all_of_a_tests_servers(inner):
    inner.passes(
        """
@pytest.mark.fastecho(expect_connections=2)
def test_it(fastecho_server, fastecho_server_factory):
    talk(fastecho_server)
    talk(fastecho_server_factory())
"""
    )


def test_no_client_connects(inner):
    inner.passes(
        """
@pytest.mark.fastecho(expect_connections=0)
def test_it(fastecho_server):
    pass
"""
    )


@pytest.mark.parametrize(
    ("body", "outcome", "line"),
    [
        ("assert 'own' == 'reason'", {"failed": 1}, "AssertionError"),
        ("pytest.skip('own reason')", {"skipped": 1}, ""),
        ("pytest.xfail('own reason')", {"xfailed": 1}, ""),
    ],
)
@pytest.mark.parametrize("style", ["function", "TestCase"])
def test_the_tests_own_outcome_goes_first(inner, body, outcome, line, style):
    head = "def test_it(fastecho_server):"
    if style == "TestCase":
        head = "import unittest\n@pytest.mark.usefixtures('fastecho_server')\nclass TestIt(unittest.TestCase):\n"
        head += "  def test_it(self):"
    marker = "@pytest.mark.fastecho(expect_connections=3, faults=[Fault.reset()])"
    result = fails(inner, f"pytestmark = {marker[1:]}\n{head}\n    {body}\n", line, **outcome)
    assert "expect_connections=3, and" not in result.stdout.str()


def test_an_expected_failure_may_be_ours(inner):
    fails(
        inner,
        """
@pytest.mark.xfail(strict=True)
@pytest.mark.fastecho(expect_connections=3)
def test_it(fastecho_server):
    pass
""",
        "",
        xfailed=1,
    )


BAD = {
    "famly='tcp'": "no option famly; did you mean family?",
    "quite_wrong=1": "no option quite_wrong: must be *",
    "'tcp6'": "takes keywords only, not 'tcp6'",
    "family='udp'": "family udp: must be tcp, *",
    "tls='stale'": "tls stale: must be *",
    "leak='maybe'": "leak maybe: must be ignore, warn or error",
    "faults=[1]": "fault* must be *",
    "faults=['rest(after_sent=1)']": "fault*rest*",
    "faults=[Fault.tls_stall()]": "*tls*",
    "seed='x'": "seed x: must be *",
    "seed=-1": "seed -1: must be *",
    "timeout=0": "timeout 0: must be *",
    "reply=3": "reply 3: must be *",
    "expect_connections=-1": "expect_connections -1: must be *",
    "expect_connections=True": "expect_connections True: must be *",
    "workers=2": "workers 2: must be *",
    "buffer_size=7": "buffer_size 7: must be *",
}


@pytest.mark.parametrize(("argument", "said"), BAD.items(), ids=BAD)
def test_a_marker_that_will_not_do(inner, argument, said):
    result = fails(
        inner,
        f"""
@pytest.mark.fastecho({argument})
def test_it(fastecho_server):
    pass
""",
        f"@pytest.mark.fastecho: {said}",
        errors=1,
    )
    (start,) = (number for number, line in enumerate(result.outlines) if "ERROR at setup of test_it" in line)
    assert len(result.outlines[start + 1 :]) <= 5, "a line, and no traceback"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fastecho_timeout = soon", "ini option fastecho_timeout 'soon': must be a time, such as *"),
        ("fastecho_timeout = 0", "ini option fastecho_timeout '0': must be *"),
        ("fastecho_leak = maybe", "ini option fastecho_leak 'maybe': must be ignore, warn or error"),
        ("fastecho_record_limit = 1 furlong", "ini option fastecho_record_limit '1 furlong': must be a size, *"),
        ("fastecho_seed = x", "ini option fastecho_seed 'x': must be a whole number *"),
    ],
)
@pytest.mark.parametrize("fixture", ["fastecho_server", "fastecho_session_server"])
def test_a_setting_that_will_not_do(inner, line, said, fixture):
    inner.ini(line)
    fails(inner, f"def test_it({fixture}): pass\n", said, errors=1)


def test_a_seed_that_is_no_number(inner):
    inner.file()
    result = inner.run("--fastecho-seed=x", apart=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--fastecho-seed: invalid int value: 'x'*"])


LEAK = """
kept = []

def test_it(fastecho_server):
    kept.append(socket.create_connection(fastecho_server.address, 10))

def test_other():
    kept.pop().close()
"""


def test_a_leak_is_a_warning(inner):
    inner.ini(warnings="default")
    inner.file(text=LEAK)
    result = inner.run()
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*LeakWarning: *tcp://127.0.0.1:*", "*connection 0 of 127.0.0.1:*"])


@pytest.mark.parametrize("how", ["ini", "marker"])
@pytest.mark.parametrize("fixture", ["fastecho_server", "factory"])
def test_a_leak_may_be_an_error(inner, how, fixture):
    text = LEAK
    if fixture == "factory":
        text = LEAK.replace("(fastecho_server)", "(fastecho_server_factory)").replace(
            "    kept.append", "    fastecho_server = fastecho_server_factory()\n    kept.append"
        )
    if how == "ini":
        inner.ini("fastecho_leak = error")
    else:
        text = text.replace("def test_it", "@pytest.mark.fastecho(leak='error')\ndef test_it")
    result = fails(inner, text, "ERROR at teardown of test_it", "fastecho_server* tcp://*: 1 conn*", passed=2, errors=1)
    result.stdout.fnmatch_lines(["*connection 0*"])


def test_a_leak_may_be_ignored(inner):
    inner.ini("fastecho_leak = ignore")
    inner.passes(LEAK, passed=2)


def test_a_connection_that_the_client_closed_is_no_leak(inner):
    inner.ini("fastecho_leak = error")
    inner.passes("def test_it(fastecho_server):\n    talk(fastecho_server)\n")


@pytest.mark.parametrize("fixture", ["fastecho_server", "fastecho_session_server"])
def test_an_error_in_a_reply_fails_a_test_that_does_not_notice(inner, fixture):
    result = fails(
        inner,
        f"""
def test_it({fixture}):
    {fixture}.reply = lambda data: 1 // 0
    try:
        talk({fixture})
    except OSError:
        pass

def test_the_next({fixture}):
    {fixture}.reply = "echo"
    assert talk({fixture}) == b"hello"
""",
        "reply or where() raised ZeroDivisionError on connection 0",
        passed=1,
        failed=1,
    )
    result.stdout.fnmatch_lines(["*raised ZeroDivisionError*"])


def test_a_failing_reply_is_an_event_of_a_test_that_fails_by_itself(inner):
    fails(
        inner,
        """
@pytest.mark.fastecho(reply=lambda data: 1 // 0)
def test_it(fastecho_server):
    talk(fastecho_server)
""",
        "Error",
        "reply or where() raised ZeroDivisionError",
    )


@pytest.mark.parametrize("fixtures", ["", "fastecho_session_server"])
def test_a_marker_without_effect(inner, fixtures):
    fails(
        inner,
        f"""
@pytest.mark.fastecho(faults=[Fault.reset()])
def test_it({fixtures}):
    pass
""",
        "@pytest.mark.fastecho without effect",
    )


def test_a_marker_of_a_class_or_module_may_be_for_others(inner):
    inner.passes(
        """
pytestmark = pytest.mark.fastecho(family="tcp6")

def test_other():
    pass

def test_it(fastecho_server):
    assert fastecho_server.host == "::1"
""",
        passed=2,
    )


def test_what_the_marker_says_holds_for_servers_of_the_factory(inner):
    inner.passes(
        """
@pytest.mark.fastecho(family="tcp6", reply=b"hi")
def test_it(fastecho_server_factory):
    assert fastecho_server_factory().host == "::1"
    assert fastecho_server_factory(family="tcp").host == "127.0.0.1"
    assert talk(fastecho_server_factory()) == b"hihello"
"""
    )


def test_the_fixture_for_asyncio(inner):
    inner.passes(
        """
import asyncio

@pytest.mark.fastecho(expect_connections=1, leak="error")
def test_it(fastecho_async_server):
    async def dialogue():
        reader, writer = await asyncio.open_connection(*fastecho_async_server.address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await fastecho_async_server.assert_all_closed()
        await fastecho_async_server.assert_received(b"hello")

    asyncio.run(dialogue())
"""
    )


def test_no_frame_of_ours_in_a_failing_assertion(inner):
    result = fails(
        inner,
        """
def test_it(fastecho_server):
    with fastecho_server.fault(Fault.reset(after_sent=9)):
        talk(fastecho_server)

@pytest.mark.fastecho(seed=3)
def test_other(fastecho_server):
    talk(fastecho_server)
    fastecho_server.assert_received(b"goodbye")
""",
        "never fired",
        "first difference at offset 0",
        failed=2,
    )
    for ours in ("_fixture_server.py", "_conditions.py", "_sync.py", "_arming.py", "concurrent"):
        assert ours not in result.stdout.str()


@pytest.mark.parametrize("fixture", ["fastecho_server", "fastecho_async_server", "fastecho_session_server"])
def test_an_error_in_a_reply_says_in_which_line(inner, fixture):
    result = fails(
        inner,
        f"""
def broken(data):
    return 1 // 0

def test_it({fixture}):
    {fixture}.reply = broken
    try:
        talk({fixture})
    except OSError:
        pass
""",
        'File "*test_it.py", line 20, in broken',
        "return 1 // 0",
    )
    result.stdout.fnmatch_lines(["*raised ZeroDivisionError: integer division or modulo by zero (test_it.py:20)"])


@pytest.mark.parametrize("fixture", ["fastecho_server", "fastecho_session_server"])
def test_a_failure_that_the_test_has_caught_is_not_raised_again(inner, fixture):
    inner.passes(
        f"""
def broken(data):
    return 1 // 0

def test_it({fixture}):
    {fixture}.reply = broken
    try:
        talk({fixture})
    except OSError:
        pass
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        {fixture}.wait_received(100)
"""
    )


@pytest.mark.parametrize(("how", "outcome"), [("fail", "failed"), ("skip", "skipped"), ("xfail", "xfailed")])
def test_pytests_own_outcomes_in_a_reply_are_those_of_the_test(inner, how, outcome):
    fails(
        inner,
        f"""
def test_it(fastecho_server):
    fastecho_server.reply = lambda data: pytest.{how}("as it is")
    try:
        talk(fastecho_server)
    except OSError:
        pass
""",
        **{outcome: 1},
    )


NEVER_AWAITED = """
import asyncio

@pytest.mark.fastecho(leak="ignore")
def test_it(fastecho_async_server):
    async def dialogue():
        reader, writer = await asyncio.open_connection(*fastecho_async_server.address)
        await fastecho_async_server.wait_connections(1)
        {statement}
        writer.close()

    asyncio.run(dialogue())
"""


@pytest.mark.parametrize("warnings", ["error", "default", "ignore"])
@pytest.mark.parametrize(
    "statement",
    ["fastecho_async_server.assert_connections(3)", "fastecho_async_server.connections[0].assert_received(b'x')"],
)
def test_an_assertion_that_was_never_awaited_fails_the_test(inner, statement, warnings):
    inner.ini(warnings=warnings)
    name = "assert_" + statement.rpartition("assert_")[2].partition("(")[0]
    result = fails(
        inner,
        NEVER_AWAITED.format(statement=statement),
        f"test_it.py:26: {name}() was never awaited, so that it did nothing",
    )
    assert "Warning" not in result.stdout.str()


@pytest.mark.parametrize("fixture", ["fastecho_server", "fastecho_async_server", "fastecho_session_server"])
def test_a_fault_without_its_block_fails_the_test(inner, fixture):
    inner.ini(warnings="ignore")
    fails(
        inner,
        f"""
def test_it({fixture}):
    {fixture}.fault(Fault.reset())
    talk({fixture})
""",
        "test_it.py:20: reset() was never armed: write `with server.fault*",
    )


@pytest.mark.parametrize("fixture", ["fastecho_server", "fastecho_session_server"])
@pytest.mark.parametrize("place", ["Record", "ConnectionLog", "Steering"])
def test_an_error_of_the_server_itself_fails_a_test_that_does_not_notice(inner, place, fixture):
    """What goes wrong while a connection is accepted. The connection is closed, and the next is served."""
    result = fails(
        inner,
        f"""
from fastecho.testing import _fixture_server

def test_it({fixture}):
    def broken(*arguments):
        raise OSError("of the fixture itself")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fixture_server, "{place}", broken)
        with socket.create_connection({fixture}.address, 10) as client:
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass
    assert talk({fixture}) == b"hello"

def test_the_next({fixture}):
    assert talk({fixture}) == b"hello"
""",
        passed=1,
        failed=1,
    )
    said = "the server failed: " if fixture == "fastecho_session_server" else ""
    result.stdout.fnmatch_lines(["_* test_it _*", f"{said}OSError: of the fixture itself", "*FAILED*test_it*"])
