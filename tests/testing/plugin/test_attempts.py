"""A test that is run again by another plugin: each attempt has its own server, count and failures."""

import pytest

RETRIES = {
    "pytest-retry": ("pytest_retry.retry_plugin", ["--retries=2"]),
    "pytest-rerunfailures": ("pytest_rerunfailures", ["--reruns=2"]),
}


@pytest.fixture(params=RETRIES)
def again(request, inner):
    """Run `text` with a plugin that makes three attempts at most; the text of its report."""
    plugin, args = RETRIES[request.param]
    pytest.importorskip(plugin)

    def run(text, **outcomes):
        inner.ini(warnings="default")  # of those plugins
        inner.file(text=text)
        result = inner.run(*args, plugins=[plugin], apart=True)
        found = {name: result.parseoutcomes().get(name, 0) for name in ("passed", "failed", "error", "errors")}
        assert {name: count for name, count in found.items() if count} == outcomes
        return result.stdout.str()

    return run


def test_connections_are_counted_for_each_attempt(again):
    again(
        """
attempts = []

@pytest.mark.fastecho(expect_connections=2)
def test_it(fastecho_server, fastecho_server_factory):
    attempts.append(fastecho_server)
    assert fastecho_server.connections == ()
    talk(fastecho_server)
    assert len(attempts) == 3
    talk(fastecho_server_factory())
""",
        passed=1,
    )


def test_a_wrong_number_of_connections_fails_the_attempt_only(again):
    again(
        """
attempts = []

@pytest.mark.fastecho(expect_connections=1)
def test_it(fastecho_server):
    attempts.append(fastecho_server)
    for _ in range(4 - len(attempts)):
        talk(fastecho_server)
""",
        passed=1,
    )


def test_three_attempts_that_all_break_the_promise(again):
    text = again(
        """
@pytest.mark.fastecho(expect_connections=1)
def test_it(fastecho_server):
    talk(fastecho_server)
    talk(fastecho_server)
""",
        failed=1,
    )
    assert "expect_connections=1, and there were 2" in text


def test_a_fault_has_to_fire_in_the_attempt_that_passes(again):
    again(
        """
attempts = []

@pytest.mark.fastecho(faults=[Fault.close(after_sent=2)])
def test_it(fastecho_server):
    attempts.append(fastecho_server)
    if len(attempts) == 2:
        assert talk(fastecho_server) == b"he"
""",
        passed=1,
    )


def test_a_failing_reply_of_an_attempt_does_not_fail_the_next(again):
    again(
        """
attempts = []

def test_it(fastecho_server, fastecho_session_server):
    attempts.append(fastecho_server)
    for server in (fastecho_server, fastecho_session_server):
        server.reply = "echo" if len(attempts) > 1 else lambda data: 1 // 0
    try:
        talk(fastecho_server)
        talk(fastecho_session_server)
    except OSError:
        pass
""",
        passed=1,
    )
