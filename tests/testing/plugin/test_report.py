"""The section `fastecho` of a report, the command in it, and --fastecho-trace."""

import shlex

import pytest

FAILING = """
@pytest.mark.fastecho(faults=[Fault.reset(after_sent=3)])
def test_it(fastecho_server):
    with pytest.raises(OSError):
        while True:
            talk(fastecho_server, b"some bytes")
    assert not "reached"
"""


def section(result, title="fastecho"):
    """The lines of the first section of that title."""
    lines = iter(result.outlines)
    for line in lines:
        if line.strip("-") == f" {title} " or line.strip("- ").startswith(f"{title}: "):
            break
    else:
        pytest.fail(f"no section {title} in\n{result.stdout.str()}")
    found = []
    for line in lines:
        if line[:3] in ("---", "===", "___"):
            break
        found.append(line)
    return found


def test_a_failing_test_shows_what_happened(inner):
    inner.file(text=FAILING)
    lines = section(inner.run("--fastecho-seed=5"))
    assert lines[0].startswith("fastecho_server at tcp://127.0.0.1:")
    assert ", seed " in lines[0]
    assert any("in " in line and "10 B" in line and "b'some bytes'" in line for line in lines)
    assert any("out" in line and "3 B" in line and "b'som'" in line for line in lines)
    assert any("reset(after_sent=3)" in line for line in lines)
    assert lines[-1] == "replay: pytest test_it.py::test_it --fastecho-seed=5"


def test_a_passing_test_shows_nothing(inner):
    result = inner.passes("def test_it(fastecho_server):\n    talk(fastecho_server)\n")
    assert "replay:" not in result.stdout.str()


def test_a_failing_test_that_has_nothing_of_ours(inner):
    inner.file(text="def test_ours(fastecho_session_server): pass\n\ndef test_it(): assert False\n")
    result = inner.run()
    result.assert_outcomes(passed=1, failed=1)
    assert "replay:" not in result.stdout.str()


def test_a_server_without_a_client(inner):
    inner.file(text="def test_it(fastecho_server): assert False\n")
    assert section(inner.run())[1].strip() == "nothing happened"


def test_all_servers_of_a_test(inner):
    inner.file(
        text="""
def test_it(fastecho_server, fastecho_server_factory):
    talk(fastecho_server, b"one")
    fastecho_server_factory()
    with fastecho_server_factory() as third:
        talk(third, b"three")
    assert False
"""
    )
    lines = section(inner.run())
    assert [line.split()[0] for line in lines if " at tcp://" in line] == [
        "fastecho_server", "fastecho_server_factory", "fastecho_server_factory",
    ]
    text = "\n".join(lines)
    assert "b'one'" in text
    assert "b'three'" in text


def test_the_session_server_shows_the_events_of_that_test_only(inner):
    inner.file(
        text="""
def test_before(fastecho_session_server):
    talk(fastecho_session_server, b"before")

def test_it(fastecho_session_server):
    talk(fastecho_session_server, b"meanwhile")
    assert False
"""
    )
    text = "\n".join(section(inner.run()))
    assert "fastecho_session_server at tcp://" in text
    assert "b'meanwhile'" in text
    assert "b'before'" not in text


def test_an_error_in_the_setup_or_the_end_of_another_fixture(inner):
    inner.file(
        text="""
@pytest.fixture
def other(fastecho_server):
    talk(fastecho_server, b"early")
    assert False

@pytest.fixture
def late(fastecho_server):
    yield
    talk(fastecho_server, b"late")
    assert False

def test_it(other): pass
def test_other(late): pass
"""
    )
    result = inner.run("test_it.py::test_it")
    result.assert_outcomes(errors=1)
    assert "b'early'" in "\n".join(section(result))
    result = inner.run("test_it.py::test_other")
    result.assert_outcomes(passed=1, errors=1)
    assert "b'late'" in "\n".join(section(result))


def test_what_the_marker_promised_has_the_section_too(inner):
    inner.file(
        text="""
@pytest.mark.fastecho(expect_connections=2)
def test_it(fastecho_server):
    talk(fastecho_server)
"""
    )
    assert section(inner.run())[-1].startswith("replay: ")


def test_a_long_story_is_cut(inner):
    inner.file(
        text="""
def test_it(fastecho_server):
    for index in range(200):
        talk(fastecho_server, b"%d" % index)
    assert False
"""
    )
    lines = section(inner.run())
    assert len(lines) == 203
    assert [line for line in lines if "events left out" in line]
    text = "\n".join(lines)
    assert "b'0'" in text
    assert "b'199'" in text
    assert "b'100'" not in text


DRAWS = """
@pytest.mark.parametrize("name", ["a b", "it's"])
class TestDraws:
    @pytest.mark.fastecho(faults=[Fault.corrupt(0).chance(0.5)], must_fire=False)
    def test_it(self, fastecho_server, name):
        for _ in range(40):
            talk(fastecho_server, b"x")
        print("drawn:", [line.split(":")[0] for line in fastecho_server.fault_log])
        assert False
"""


@pytest.mark.parametrize("below", ["", "below"])
def test_the_command_replays_it(inner, below, monkeypatch):
    """From the folder where pytest was started, quoted for a shell, and with the same draws."""
    inner.file(f"{below}/test_it.py".lstrip("/"), DRAWS)
    monkeypatch.chdir(inner.pytester.path / below)
    first = inner.run("--fastecho-seed=99", "test_it.py::TestDraws::test_it[it's]")
    first.assert_outcomes(failed=1)
    word, command = section(first)[-1].split(": ", 1)
    assert word == "replay"
    pytest_, *arguments = shlex.split(command)
    assert pytest_ == "pytest"
    assert arguments[-1] == "--fastecho-seed=99"
    second = inner.run(*arguments)
    second.assert_outcomes(failed=1)
    drawn = [line for line in first.outlines if line.startswith("drawn:")]
    assert drawn
    assert drawn == [line for line in second.outlines if line.startswith("drawn:")]
    other = inner.run(*arguments[:-1], "--fastecho-seed=100")
    assert drawn != [line for line in other.outlines if line.startswith("drawn:")]


PASSING = """
def test_one(fastecho_server):
    talk(fastecho_server, b"traced")

def test_two(fastecho_server):
    talk(fastecho_server, b"failing")
    assert False

def test_three():
    pass
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_trace_of_passing_tests(inner, workers):
    inner.file(text=PASSING)
    options = {"plugins": ["xdist.plugin"], "apart": True} if workers else {}
    result = inner.run("--fastecho-trace", *(["-n", str(workers)] if workers else []), **options)
    result.assert_outcomes(passed=2, failed=1)
    text = "\n".join(section(result, "fastecho: test_it.py::test_one"))
    assert "b'traced'" in text
    assert "replay: pytest test_it.py::test_one --fastecho-seed=0" in text
    assert "b'failing'" in "\n".join(section(result))
    assert result.stdout.str().count("replay:") == 2


def test_a_loop_that_is_held_up_costs_no_report(inner):
    """A reply that does not return holds the server's thread: everything about it fails in time and says why."""
    inner.ini("fastecho_timeout = 0.2", "fastecho_teardown_timeout = 0.2")
    inner.file(
        text="""
import threading
go = threading.Event()

def test_it(fastecho_server):
    fastecho_server.reply = lambda data: go.wait(30) and b"" or b""
    with socket.create_connection(fastecho_server.address, 10) as client:
        client.sendall(b"x")
        fastecho_server.wait_received(1)

def test_after():
    go.set()
"""
    )
    result = inner.run(apart=True)
    result.assert_outcomes(failed=1, errors=1, passed=1)
    result.stdout.fnmatch_lines(["E *TimeoutError: *held up*", "*b'x'*", "replay: *"])


@pytest.mark.parametrize("fixture", ["fastecho_server", "fastecho_session_server", "fastecho_async_server"])
def test_the_trace_has_what_a_client_did_right_before_the_end(inner, fixture):
    """It has sent and closed; the server's loop may not have had a turn since."""
    inner.file(
        text=f"""
@pytest.mark.parametrize("number", range(30))
def test_it({fixture}, number):
    with socket.create_connection({fixture}.address, 10) as client:
        client.sendall(b"hello %02d" % number)
"""
    )
    result = inner.run("--fastecho-trace")
    result.assert_outcomes(passed=30)
    text = result.stdout.str()
    assert [number for number in range(30) if f"received b'hello {number:02d}'" not in text] == []
    assert text.count("closed: eof") + text.count("closed: reset") == 30  # the latter: the echo was not read


def test_an_error_in_the_report_of_another_plugin_is_the_one_that_is_shown(inner):
    (inner.pytester.path / "conftest.py").write_text("""
def pytest_runtest_makereport(item, call):
    raise LookupError("of the other plugin")
""")
    inner.file(text="def test_it(fastecho_server): talk(fastecho_server)\n")
    result = inner.run()
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    text = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR> LookupError: of the other plugin" in text
    assert "fastecho/testing/plugin.py" not in text
