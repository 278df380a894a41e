"""The oracle against hand-written expectations."""

import pytest

import reference
from cuts import cut, every_cut


@pytest.mark.parametrize(
    ("value", "match", "reads", "due"),
    [
        (b"\0", "tail", [b"x\0"], [2]),
        (b"\0", "tail", [b"x\0y", b"z\0"], [-1, 2]),
        (b"\0", "anywhere", [b"x\0y"], [2]),
        (b"\r\n", "tail", [b"x\r", b"\n"], [-1, 1]),
        (b"\r\n", "anywhere", [b"x\r", b"\ny"], [-1, 1]),
        (b"\r\n", "anywhere", [b"x\r", b"", b"\ny"], [-1, -1, 1]),
        (b"aab", "anywhere", [b"aaab!"], [4]),
        (b"\0", "anywhere", [b"\0x"], [1]),
        (b"abab", "anywhere", [b"ab", b"aab", b"abz"], [-1, -1, 2]),
        (None, "tail", [b"\0", b"x"], [-1, -1]),
    ],
)
def test_the_reference_finds_the_terminator(value, match, reads, due):
    terminator = reference.Terminator(value, match)
    assert [terminator.feed(read) for read in reads] == due


def test_a_terminator_that_is_reset_begins_with_an_empty_stream():
    terminator = reference.Terminator(b"ab", "anywhere")
    assert [terminator.feed(b"a"), terminator.feed(b"b")] == [-1, 1]
    with pytest.raises(ValueError, match="has ended"):
        terminator.feed(b"")
    terminator.reset()
    assert [terminator.feed(b"b"), terminator.feed(b"ab")] == [-1, 2]


def test_session_discards_what_follows_the_end():
    session = reference.Session(b"\0", "anywhere")
    for read in (b"ab", b"c\0d", b"ef"):
        session.read(read)
    session.eof()
    assert (session.echo, session.discarded, session.received) == (b"abc\0", 3, 7)
    assert session.end == "terminator"


def test_session_ends_by_eof():
    session = reference.Session(None)
    session.read(b"x\0")
    session.eof()
    assert (session.echo, session.end) == (b"x\0", "eof")


def test_cuts_lose_nothing():
    stream = bytes(range(50))
    assert all(b"".join(pieces) == stream for pieces in every_cut(stream, 7))
    assert [len(piece) for piece in cut(stream, [20, 1])] == [20, 1, 20, 1, 8]
