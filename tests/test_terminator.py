"""The scan, through fastecho._buffer.Terminator, against the reference model."""

import array
import mmap

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import reference
from cuts import OVERLAPPING, PLAIN, cut, every_cut, matches, sizes, streams, terminators
from fastecho._buffer import Terminator

CAPACITY = 17


def test_a_terminator_is_shown_as_it_is_written():
    assert repr(Terminator(b"\r\n", match="anywhere")) == r"Terminator(b'\r\n', match='anywhere')"


def due(terminator, reads):
    """What feed() answers for each read, up to and including the one that ends the stream."""
    answers = []
    for read in reads:
        answers.append(terminator.feed(read))
        if answers[-1] >= 0:
            break
    return answers


def same_as_reference(value, match, reads):
    expected = reference.Terminator(value, match)
    real = Terminator(value, match=match)
    assert due(real, reads) == due(expected, reads)
    assert real.ended == expected.ended
    if real.ended:
        with pytest.raises(ValueError):
            real.feed(b"more")


@pytest.mark.slow
@settings(max_examples=2000)
@given(st.data())
def test_any_cut_of_any_stream(data):
    value = data.draw(st.one_of(st.none(), terminators, terminators, terminators))
    stream = data.draw(streams(value))
    reads = cut(stream, data.draw(sizes(CAPACITY)))
    if data.draw(st.booleans()):
        reads.insert(data.draw(st.integers(0, len(reads))), b"")
    same_as_reference(value, data.draw(matches), reads)


@settings(max_examples=300)
@given(st.text("ab", max_size=160).map(str.encode), terminators, matches, sizes(CAPACITY))
@example(b"a" * 70 + b"b", b"a" * 63 + b"b", "anywhere", [1])
@example(b"ab" * 40 + b"aab", b"aab", "anywhere", [3])
@example(b"aabaabaabaaab", b"aabaabaaab", "anywhere", [5])
def test_streams_of_two_letters(stream, value, match, read_sizes):
    same_as_reference(value, match, cut(stream, read_sizes))


@pytest.mark.parametrize("match", ["tail", "anywhere"])
@pytest.mark.parametrize("value", PLAIN + OVERLAPPING, ids=repr)
def test_straddling_every_boundary(value, match):
    other = b"z" if value != b"z" else b"y"
    for before in (b"", other, value[:-1], value[: len(value) // 2], value[:-1] + other):
        for after in (b"", other, value):
            for reads in every_cut(before + value + after, CAPACITY):
                same_as_reference(value, match, reads)


@pytest.mark.parametrize("match", ["tail", "anywhere"])
@pytest.mark.parametrize("length", range(1, 65))
def test_every_length_one_byte_at_a_time(length, match):
    value = bytes(range(1, length + 1))
    stream = value[:-1] + b"\xff" + value + value
    same_as_reference(value, match, cut(stream, [1]))


def test_a_zero_length_read_never_ends_the_stream():
    for match in ("tail", "anywhere"):
        terminator = Terminator(b"\0", match=match)
        assert terminator.feed(b"") == -1
        assert terminator.feed(b"x") == -1
        assert terminator.feed(memoryview(b"\0")[:0]) == -1
        assert not terminator.ended
        assert terminator.feed(b"\0") == 1


def test_no_terminator_never_ends():
    terminator = Terminator(None)
    assert [terminator.feed(read) for read in (b"\0", b"", b"x" * 100_000)] == [-1, -1, -1]
    assert terminator.value is None
    assert not terminator.ended


def test_after_the_end_only_reset_helps():
    terminator = Terminator(b"\r\n")
    assert terminator.feed(b"x\r\n") == 3
    assert terminator.ended
    for read in (b"x", b"\r\n", b""):
        with pytest.raises(ValueError):
            terminator.feed(read)
    terminator.reset()
    assert not terminator.ended
    assert terminator.feed(b"\n") == -1, "state of the stream before reset() was kept"
    assert terminator.feed(b"\r\n") == 2


def test_reset_in_the_middle_forgets_the_part_seen():
    for match in ("tail", "anywhere"):
        terminator = Terminator(b"abc", match=match)
        assert terminator.feed(b"ab") == -1
        terminator.reset()
        assert terminator.feed(b"c") == -1


def test_a_terminator_shows_its_value_and_match():
    terminator = Terminator(b"ab", match="anywhere")
    assert (terminator.value, terminator.match, terminator.ended) == (b"ab", "anywhere", False)
    assert Terminator(b"ab").match == "tail"
    with pytest.raises(AttributeError):
        terminator.value = b"x"


@pytest.mark.parametrize("value", [b"", b"x" * 65, "x", "", 7, bytearray, [b"x"]], ids=repr)
def test_a_bad_value_is_refused(value):
    with pytest.raises((ValueError, TypeError)):
        Terminator(value)


@pytest.mark.parametrize("match", ["", "head", "TAIL", None, b"tail"], ids=repr)
def test_a_bad_match_is_refused(match):
    with pytest.raises((ValueError, TypeError)):
        Terminator(b"x", match=match)


def test_any_contiguous_buffer_is_accepted():
    with mmap.mmap(-1, 4096) as mapped:
        mapped[:3] = b"x\0y"
        kinds = [
            (bytearray(b"x\0y"), 2),
            (memoryview(b"x\0y"), 2),
            (memoryview(b"_x\0y_")[1:4], 2),
            (array.array("I", [0x01010101, 0x01010001, 0x01010101]), None),
            (memoryview(bytearray(b"x\0yz")).cast("B", shape=[2, 2]), 2),
            (mapped, 2),
        ]
        for buffer, expected in kinds:
            raw = bytes(memoryview(buffer).cast("B"))
            assert Terminator(b"\0", match="anywhere").feed(buffer) == raw.index(b"\0") + 1
            assert expected in (None, raw.index(b"\0") + 1)
    # The mapping closes here: a feed() that kept its buffer would make that a BufferError.


def test_a_buffer_with_gaps_is_refused():
    with pytest.raises((BufferError, ValueError)):
        Terminator(b"\0").feed(memoryview(b"a\0b\0")[::2])


@pytest.mark.parametrize("what", ["text", None, 7, [1]], ids=repr)
def test_what_is_no_buffer_is_refused(what):
    with pytest.raises(TypeError):
        Terminator(b"\0").feed(what)


@pytest.mark.parametrize("match", ["tail", "anywhere"])
def test_a_million_one_byte_reads_look_at_each_byte_once(match):
    """Not a measurement: a scan that starts over at every cut would take days and meet the time limit."""
    terminator = Terminator(b"a" * 63 + b"b", match=match)
    feed, byte = terminator.feed, b"a"
    for _ in range(1_000_000):
        feed(byte)
    assert terminator.feed(b"b") == 1


def test_the_terminator_is_found_in_long_reads():
    noise = bytes(range(1, 256)) * 4096
    for value in (b"\0", b"\r\n\r\n\0", b"\xfe" * 7):
        terminator = Terminator(value, match="anywhere")
        assert terminator.feed(noise) == -1
        assert terminator.feed(noise + value + noise) == len(noise) + len(value)
