"""The terminator scan against bytes.find, and against what memchr(3) itself needs for the same memory."""

from __future__ import annotations

import ctypes

import pytest

from fastecho._buffer import Terminator

SIZES = {"64B": 64, "1KiB": 1 << 10, "64KiB": 1 << 16, "1MiB": 1 << 20, "16MiB": 1 << 24}
libc = ctypes.CDLL(None)
libc.memchr.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t]
libc.memchr.restype = ctypes.c_void_p


def text(size: int) -> bytes:
    """Bytes 1 to 255 over and over: no NUL, and no CRLF."""
    return (bytes(range(1, 256)) * (size // 255 + 1))[:size]


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
class TestScan:
    def test_one_byte_terminator(self, benchmark, size):
        benchmark.group = f"find one byte in {size} B"
        assert benchmark(Terminator(b"\0", "anywhere").feed, text(size)) == -1

    def test_one_byte_bytes_find(self, benchmark, size):
        benchmark.group = f"find one byte in {size} B"
        assert benchmark(text(size).find, b"\0") == -1

    def test_one_byte_memchr(self, benchmark, size):
        benchmark.group = f"find one byte in {size} B"
        assert benchmark(libc.memchr, text(size), 0, size) is None

    def test_two_bytes_terminator(self, benchmark, size):
        benchmark.group = f"find two bytes in {size} B"
        assert benchmark(Terminator(b"\r\n", "anywhere").feed, text(size)) == -1

    def test_two_bytes_bytes_find(self, benchmark, size):
        benchmark.group = f"find two bytes in {size} B"
        assert benchmark(text(size).find, b"\r\n") == -1

    def test_worst_case_terminator(self, benchmark, size):
        benchmark.group = f"find a terminator that almost matches everywhere in {size} B"
        assert benchmark(Terminator(b"a" * 63 + b"b", "anywhere").feed, b"a" * size) == -1

    def test_worst_case_bytes_find(self, benchmark, size):
        benchmark.group = f"find a terminator that almost matches everywhere in {size} B"
        assert benchmark((b"a" * size).find, b"a" * 63 + b"b") == -1

    def test_tail(self, benchmark, size):
        benchmark.group = f"tail of {size} B"
        assert benchmark(Terminator(b"\r\n", "tail").feed, text(size)) == -1

    def test_tail_endswith(self, benchmark, size):
        benchmark.group = f"tail of {size} B"
        assert not benchmark(text(size).endswith, b"\r\n")


@pytest.mark.parametrize("length", [1024, 16384])
def test_one_byte_feeds(benchmark, length):
    """Linear for every segmentation: sixteen times the bytes, sixteen times the time."""
    benchmark.group = "a stream fed one byte at a time"
    terminator = Terminator(b"a" * 63 + b"b", "anywhere")

    def feed() -> None:
        terminator.reset()
        for _ in range(length):
            terminator.feed(b"a")

    benchmark(feed)
