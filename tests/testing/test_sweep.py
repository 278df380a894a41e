"""`sweep`: every offset once, what the client made of it, and a table that says so."""

import asyncio
import contextvars
import socket
import threading

import pytest

from clients import connect_blocking, read_exactly
from fastecho.testing import Fault, Sweep, sweep
from fastecho.testing._sweep import CleanRunError, Outcome
from patience import UNIT

GREETING = b"a dozen byte"
PATIENCE = 5 * UNIT


def careful(server):
    """Wants all of the answer."""
    with connect_blocking(server.address) as client:
        client.sendall(GREETING)
        read_exactly(client, len(GREETING))


def careless(server):
    """Takes what there is for all there is."""
    with connect_blocking(server.address) as client:
        client.sendall(GREETING)
        client.shutdown(socket.SHUT_WR)
        while client.recv(100):
            pass


def retrying(server):
    for _ in range(3):
        try:
            return careful(server)
        except (EOFError, ConnectionError):
            continue
    raise EOFError("three times")


def quiet(*arguments, **options):
    return sweep(*arguments, **{"echo": None, "timeout": PATIENCE, **options})


def test_a_client_that_wants_all_of_the_answer():
    result = quiet(Fault.close, careful)
    assert result.size == 12
    assert [outcome.offset for outcome in result.outcomes] == list(range(13))
    assert result.failed == tuple(range(12))
    assert result.survived == (12,)
    assert result.hung == ()
    assert {outcome.error for outcome in result.outcomes} == {EOFError, None}
    result.assert_no_hangs()
    result.assert_fails_everywhere()
    result.assert_fails_everywhere(EOFError, ConnectionError)
    with pytest.raises(AssertionError, match=r"another error than ConnectionError at offset 0, 1, .* \(12 in all\)"):
        result.assert_fails_everywhere(ConnectionError)
    with pytest.raises(AssertionError, match="does not survive at offset 0, 1, 2"):
        result.assert_survives_everywhere()


def test_a_client_that_takes_a_broken_answer_for_a_whole_one():
    result = quiet(Fault.close, careless)
    assert result.survived == tuple(range(13))
    with pytest.raises(AssertionError, match="the client does not fail at offset 0, 1, 2"):
        result.assert_fails_everywhere()


def test_a_reset_is_seen_everywhere():
    result = quiet(Fault.reset, careful)
    assert set(result.failed) >= set(range(12))
    result.assert_fails_everywhere(ConnectionResetError, BrokenPipeError, EOFError)


def test_a_client_that_retries_survives_the_first_connection():
    quiet(Fault.close(after_sent=0).first(1), retrying).assert_survives_everywhere()
    assert quiet("close(after_sent=99).first(1)", retrying).survived == tuple(range(13))
    assert quiet(Fault.close, retrying).failed == tuple(range(12))


@pytest.mark.parametrize("offsets", [(3,), (5, 3, 3), range(0, 13, 4), ()])
def test_offsets_of_ones_own(offsets):
    assert tuple(outcome.offset for outcome in quiet(Fault.close, careful, offsets=offsets).outcomes) == tuple(offsets)


def test_a_byte_changed_at_every_offset():
    def checking(server):
        with connect_blocking(server.address) as client:
            client.sendall(GREETING)
            assert read_exactly(client, len(GREETING)) == GREETING

    result = quiet(Fault.corrupt, checking)
    assert result.failed == tuple(range(12))
    result.assert_fails_everywhere(AssertionError)
    assert quiet(Fault.inject(at=5, data=b"x"), checking).failed == tuple(range(12))


def test_a_dialogue_may_be_a_coroutine_function():
    async def careful_async(server):
        reader, writer = await asyncio.open_connection(*server.address)
        try:
            writer.write(GREETING)
            await reader.readexactly(len(GREETING))
        finally:
            writer.close()

    result = quiet(Fault.close, careful_async)
    assert result.failed == tuple(range(12))
    result.assert_fails_everywhere(asyncio.IncompleteReadError)
    assert quiet(Fault.close, lambda server: careful_async(server)).failed == result.failed


def test_a_client_that_hangs_is_named_and_ends():
    before = threading.active_count()
    result = quiet(Fault.stall, careful, offsets=(0, 5, 12), timeout=0.2)
    assert result.hung == (0, 5)
    assert result.survived == (12,)
    assert str(result).splitlines()[2].split() == ["0-5", "by", "5", "hung", "not", "back", "within", "0.2", "s"]
    with pytest.raises(AssertionError, match="the client hangs at offset 0, 5"):
        result.assert_no_hangs()
    with pytest.raises(AssertionError, match="does not survive at offset 0, 5"):
        result.assert_survives_everywhere()
    assert threading.active_count() <= before + 1  # the fixture's own thread


def test_one_that_does_not_even_end_then():
    go = threading.Event()

    def stubborn(server):
        try:
            careful(server)
        except (EOFError, OSError):
            go.wait()

    try:
        result = quiet(Fault.close, stubborn, offsets=(4, 12), timeout=0.1)
    finally:
        go.set()
    assert result.hung == (4,)
    assert "its thread does not end" in result.outcomes[0].text
    assert result.survived == (12,)


@pytest.mark.parametrize(
    ("dialogue", "said"),
    [
        (lambda server: 1 // 0, "fails without any fault: ZeroDivisionError"),
        (lambda server: pytest.fail("no"), "fails without any fault: Failed: no"),
        (lambda server: server.wait_connections(1), "hangs without any fault"),
    ],
)
def test_a_clean_run_that_fails_is_an_error_of_its_own(dialogue, said):
    with pytest.raises(CleanRunError, match=said):
        quiet(Fault.close, dialogue, timeout=0.2)


def test_a_fault_that_never_struck_is_no_survival_to_trust():
    result = quiet(Fault.close(after_sent=0).nth(2), careful, offsets=(3,))
    assert result.outcomes == (Outcome(3, "survived", None, "the fault never struck"),)
    result = quiet(Fault.close(after_sent=0).nth(1), careful, offsets=(12,))
    assert [outcome.text for outcome in result.outcomes] == [""]


@pytest.mark.parametrize("offset", [-1, 13, 500])
def test_an_offset_beyond_what_is_sent(offset):
    with pytest.raises(ValueError, match=f"offset {offset}: must be between 0 and 12, for 12 bytes are sent"):
        quiet(Fault.close, careful, offsets=(0, offset))


def test_a_dialogue_that_has_nothing_sent_to_it():
    with pytest.raises(CleanRunError, match="the server sends nothing"):
        quiet(Fault.close, lambda server: None)


@pytest.mark.parametrize("kind", ["corrupt", "drop", "duplicate", "close"])
def test_the_table_names_the_fault_with_a_star(kind):
    place = "at=*" if kind != "close" else "after_sent=*"
    result = quiet(getattr(Fault, kind), careless, offsets=(0,))
    assert result.fault in (f"{kind}({place})", f"{kind}(*)")


@pytest.mark.parametrize("fault", [Fault.refuse, Fault.latency(0.1), Fault.reset(on=b"x"), Fault.slice])
def test_a_fault_without_an_offset(fault):
    with pytest.raises(ValueError, match="sweep needs a fault with after_sent or at, not"):
        quiet(fault, careful)


def test_too_many_bytes_to_try_them_all():
    def greedy(server):
        with connect_blocking(server.address) as client:
            client.sendall(b"x" * 20_000)
            read_exactly(client, 20_000)

    with pytest.raises(ValueError, match=r"20000 bytes were sent: choose, such as offsets=range\(0, 20000, 200\)"):
        quiet(Fault.close, greedy)


def test_the_table_joins_offsets_with_one_outcome():
    shown = []
    result = sweep(Fault.close, careful, echo=shown.append)
    assert shown == [str(result)]
    assert shown[0].splitlines() == [
        "close(after_sent=*): the server sent 12 bytes in the clean run",
        "offset  outcome",
        "0-11    failed    EOFError: 0 of 12 bytes, then EOF (and alike)",
        "12      survived",
    ]


def test_the_table_is_printed(capsys):
    result = sweep(Fault.close, careful, offsets=[1])
    assert capsys.readouterr().out == f"{result}\n"


def test_runs_of_outcomes_are_joined():
    def row(offset, what, text=""):
        return Outcome(offset, what, None, text)

    outcomes = (row(0, "failed", "E: 1"), row(1, "failed", "E: 1"), row(2, "survived"), row(3, "failed", "E: 1"))
    rows = str(Sweep("f", 4, outcomes)).splitlines()[2:]
    assert rows == ["0-1     failed    E: 1", "2       survived", "3       failed    E: 1"]
    outcomes = (row(7, "hung"), row(3, "hung"), row(5, "hung"))
    assert str(Sweep("f", 4, outcomes)).splitlines()[2:] == ["7-5 (3 of them)  hung"]


def test_options_go_to_the_server():
    def greeted(server):
        with connect_blocking(server.address) as client:
            assert read_exactly(client, 3) == b"hi\n"

    result = quiet(Fault.close, greeted, family="unix", reply=b"hi\n")
    assert result.failed == (0, 1, 2)


def test_the_callers_context_is_there():
    name = contextvars.ContextVar("name", default="none")
    name.set("callers")
    seen = []

    def dialogue(server):
        seen.append(name.get())
        careful(server)

    quiet(Fault.close, dialogue, offsets=(12,))
    assert seen == ["callers"] * 2
