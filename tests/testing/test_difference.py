"""The message of a failed comparison: it names the offset, shows both sides, and stays short."""

import random
from itertools import accumulate, repeat

import pytest

from fastecho.testing._difference import difference


def chunks(*sizes):
    return tuple(zip(accumulate(sizes, initial=0), sizes, repeat(0.0)))


def test_nothing_to_say_of_equal_strings():
    assert difference(b"", b"") == ""
    assert difference(b"x" * 100_000, b"x" * 100_000, chunks(50_000, 50_000)) == ""


@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 32, 33, 1000])
def test_the_offset_is_the_first_that_differs(length):
    expected = bytes(range(256)) * 4
    for at in {0, length // 3, length // 2, length - 1}:
        for later in {at, length - 1}:
            got = bytearray(expected[:length])
            got[at] ^= 0x80
            got[later] ^= 0x80 if later != at else 0
            said = difference(expected[:length], bytes(got)).splitlines()[0]
            assert said.startswith(f"first difference at offset {at}: 0x{got[at]:02x} where 0x{expected[at]:02x} was")


def test_both_sides_are_dumped_with_a_mark_under_the_first_difference():
    lines = difference(b"0123456789abcdef" * 4, b"0123456789abcdef" * 2 + b"01234X6789abcdef" + b"0" * 16).splitlines()
    rows = [line for line in lines if "00000020" in line]
    assert [row.partition("|")[2] for row in rows] == ["0123456789abcdef|", "01234X6789abcdef|"]
    assert [row.strip()[0] for row in rows] == ["-", "+"]
    for row, byte in zip(rows, "5X", strict=True):
        mark = lines[lines.index(row) + 1]
        assert mark.strip().startswith("?")
        assert row[mark.rindex("^")] == byte, "the mark is below the byte as text"


def test_a_beginning_is_called_missing_not_different():
    said = difference(b"a" * 20, b"a" * 13)
    assert said.startswith("7 bytes missing: the 13 that came are the beginning of the 20 expected")
    assert "+ 00000000  61 61 61 61 61 61 61 61 61 61 61 61 61           |aaaaaaaaaaaaa|" in said


def test_more_than_expected_is_called_too_many():
    said = difference(b"a" * 20, b"a" * 21)
    assert said.startswith("1 byte too many: the 20 expected are the beginning of the 21 that came")
    assert "- 00000010  61 61 61 61                                      |aaaa|" in said


def test_nothing_at_all_is_said_plainly():
    assert difference(b"hello", b"").startswith("nothing came, where 5 bytes were expected")
    assert difference(b"", b"hello").startswith("5 bytes too many: nothing was expected")
    assert "+ 0" not in difference(b"hello", b"")


@pytest.mark.parametrize("expected", [b"a" * 100, b"a" * 200])
def test_a_record_that_was_cut_is_no_proof_of_missing_bytes(expected):
    said = difference(expected, b"a" * 100, truncated=True)
    assert said.startswith("the record ends after 100 bytes (record_limit), which agree")
    assert "missing" not in said


def test_a_record_that_was_cut_may_differ_before_its_end():
    assert difference(b"ab", b"ac", truncated=True).startswith("first difference at offset 1")


def test_the_chunks_around_the_offset_and_whether_it_is_a_border():
    parts = chunks(10, 20, 30, 40)
    said = difference(b"a" * 100, b"a" * 30 + b"b" + b"a" * 69, parts).splitlines()[-1]
    assert said == (
        "  chunks near offset 30, a border between two: #1 at 10, 20 bytes; #2 at 30, 30 bytes (here); "
        "#3 at 60, 40 bytes (of 4)"
    )
    said = difference(b"a" * 100, b"a" * 31 + b"b" + b"a" * 68, parts).splitlines()[-1]
    assert said.startswith("  chunks near offset 31: #1 at 10")
    said = difference(b"a" * 110, b"a" * 100, parts).splitlines()[-1]
    assert said == "  chunks near offset 100: #2 at 30, 30 bytes; #3 at 60, 40 bytes (of 4)"


def test_the_message_is_short_for_megabytes():
    expected = random.Random(1).randbytes(8 << 20)
    got = bytearray(expected)
    got[5_000_000] ^= 1
    said = difference(expected, bytes(got), chunks(*[1] * 1000, *[4096] * 2000))
    assert said.startswith("first difference at offset 5000000: ")
    assert len(said) < 2000
    assert len(difference(expected, expected[:-1])) < 2000
    assert len(difference(expected, b"")) < 2000
    assert max(map(len, said.splitlines())) <= 120 + 20
