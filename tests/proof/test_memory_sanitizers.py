"""The tests of the C modules under AddressSanitizer, UndefinedBehaviorSanitizer and the interpreter's debug allocator.

The build is a debug build too: it checks bounds and overflows, and asserts at the end of each server that its sessions
have returned every buffer and every count. Building takes half a minute; one run builds once.
"""

import asyncio
import subprocess
import sys

import pytest

from fastecho import ServerConfig
from fastecho._buffer import BUILD
from fastecho._session import Sessions
from memory_checks import (
    ROOT,
    build_with_sanitizers,
    existing,
    passed,
    sanitizer_libraries,
    sanitizer_reports,
    shared_folder,
)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="preloads the sanitizers' libraries"),
    pytest.mark.timeout(7200),
]

WHOLE = [
    "bench/test_histogram.py", "metrics/test_counters.py", "test_buffer.py", "test_session.py", "test_terminator.py",
    "test_busy_poll.py", "test_datagrams.py", "test_direct_send.py", "test_drain.py", "test_echo.py",
    "test_flow_control.py", "test_linger.py", "test_poll_policy.py", "test_server.py", "test_streams.py",
    "test_thread.py", "test_timeouts.py", "test_urgent.py", "bench/test_load.py", "bench/test_proxy_header.py",
    "bench/test_refused_engines.py", "bench/test_server_closes.py", "bench/test_udp.py",
    "bench/test_wrong_servers.py", "injection", "net/test_limits.py", "net/test_sources.py", "net/test_tls.py",
    "net/test_unix.py", "testing/test_exact.py", "testing/test_faults.py", "testing/test_reply.py",
    "testing/test_session.py", "testing/test_states.py", "testing/test_tls.py", "workers/test_supervisor.py",
    "workers/test_udp.py",
]  # fmt: skip


@pytest.fixture
def sanitized(amount, tmp_path_factory):
    """The build, which all tests of a run share."""
    if not amount(suite=False, proof=True):
        pytest.skip("builds for half a minute: runs with --amount proof")
    if not sanitizer_libraries():
        pytest.skip("gcc has no sanitizers here")
    return build_with_sanitizers(shared_folder(tmp_path_factory.getbasetemp(), "sanitized"))


def run_python(build, reports, code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=build.environment(reports), capture_output=True, text=True, timeout=120)


@pytest.mark.proof(
    "The C modules touch no memory that is not theirs and do nothing that C leaves undefined, and at its end a server "
    "has back every buffer, session and count: their tests pass in a build that checks all of it."
)
@pytest.mark.parametrize(
    ("malloc", "short"),
    [
        ("malloc", ["test_buffer.py", "test_session.py"]),
        ("debug", ["test_buffer.py", "test_terminator.py", "bench/test_histogram.py", "metrics/test_counters.py"]),
    ],
    ids=["malloc", "debug"],
)
def test_the_tests_of_the_c_modules_pass_with_sanitizers(sanitized, malloc, short, amount, tmp_path, record_property):
    files, chosen = amount(suite=([], ""), proof=(short, "not slow"), release=(WHOLE, "not alone"))
    reports = tmp_path / "report"
    environment = {**sanitized.environment(reports, malloc), "FASTECHO_TEST_UNIT": "3"}
    imported = subprocess.run(
        [sys.executable, "-c", "from fastecho._buffer import BUILD, __file__; print(BUILD, __file__)"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert imported[0] == "debug"
    assert imported[1].startswith(str(sanitized.lib)), "another build was imported"
    command = [sys.executable, "-m", "pytest", "-q", "-m", chosen, "--timeout", "600", *existing(files)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert sanitizer_reports(reports) == []
    assert done.returncode == 0, done.stdout[-10_000:]
    assert passed(done.stdout) > 50
    record_property("tests", passed(done.stdout))


# The checks find what they are for.


@pytest.mark.parametrize(
    ("mistake", "reported"),
    [
        ("write_beyond_the_end(16)", "heap-buffer-overflow"),
        ("overflow(2**31 - 1)", "signed integer overflow"),
    ],
)
def test_a_mistake_made_on_purpose_is_reported(sanitized, tmp_path, mistake, reported):
    run_python(sanitized, tmp_path / "report", f"from fastecho._planted import *; {mistake}")
    reports = sanitizer_reports(tmp_path / "report")
    assert len(reports) == 1
    assert reported in reports[0]
    assert mistake.partition("(")[0] in reports[0]


WITHOUT_A_RELEASE = """
import asyncio
from fastecho import ServerConfig
from fastecho._planted import *
from fastecho._session import Sessions

loop = asyncio.SelectorEventLoop()
sessions = Sessions(ServerConfig(), loop)
{mistake}
loop.close()
sessions.close()
"""


@pytest.mark.parametrize(
    ("mistake", "reported"),
    [
        ("keep_a_buffer(sessions)", "sessions have ended and not returned 1 buffers"),
        ("keep_a_count(sessions)", "sessions have ended and not returned 1 counts of active"),
        (
            "sessions.new_session().connection_made(asyncio.Transport()); sessions.closed = True",
            "1 sessions were reset and have not ended",
        ),
        ("", None),
    ],
)
def test_what_is_not_returned_at_the_end_is_reported(sanitized, tmp_path, mistake, reported):
    done = run_python(sanitized, tmp_path / "report", WITHOUT_A_RELEASE.format(mistake=mistake))
    if reported is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == f"AssertionError: {reported}"


@pytest.mark.skipif(BUILD != "release", reason="this is another build")
def test_an_ordinary_build_does_not_look_for_what_was_not_returned():
    """The checks at the end of a server are compiled out, like all others."""
    loop = asyncio.SelectorEventLoop()
    sessions = Sessions(ServerConfig(), loop)
    sessions.new_session().connection_made(asyncio.Transport())
    sessions.closed = True
    sessions.close()
    loop.close()
    assert sessions.count == 0
