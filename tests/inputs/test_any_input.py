"""Any input to what reads it: each target of tests/support/targets.py, with the corpus, then with new inputs."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import fastecho
from corpus import files_of, inputs_of, keep_failure
from datagrams import udp_client
from patience import DEADLINE
from targets import OPTIONS, TARGETS, close_loop

# Hypothesis remembers each input of a run: many runs of this size take less memory than one.
CHUNK = 20_000
FLAGS = [option.flag.encode() for option in OPTIONS]
NUMBERS = [b"0", b"1", b"-1", b"65536", b"1e3", b"0.00005", b"9" * 400, b"0x10", b"1_0", "\u0663".encode()]
UNITS = [b"ms", b" s", b"KiB", b"GiB", b"h", b"min", b"none", b"off", b"auto", b"true", b"%eth0", b"[::1]", b"*"]
TOKENS: dict[str, list[bytes]] = {
    "fault_text": [
        b"reset(", b")", b"after_sent=", b";", b"\n", b"\r", b".first(2)", b".chance(", b"latency(", b"slice([", b"]",
        b"'", b'"', b"\\x00", b"\\", b",", b"None", b"#", b"\f", b"\t", b"inject(0,b'", b"none", b"or ", b"=", *NUMBERS,
    ],
    "option_text": [*NUMBERS, *UNITS, b",", b":", b"@", b"/", b"[", b"]", b"hex:", b"\\0", b"\\x", b".", b"-"],
    "toml": [*(flag[2:].replace(b"-", b"_") for flag in FLAGS), b" = ", b"\n", b'"', b"'", b"[", b"]", b"{", b"#",
             b"inf", b"1979-05-27", b"true", *NUMBERS, *UNITS],
    "command_line": [*(b"\n\0" + flag for flag in FLAGS), b"=", b"\n\0", b"\n\1", b"\n\3", b"--help", b"--", b"@",
                     *NUMBERS, *UNITS],
    "proxy_header": [b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"\r\n", b" ", b"::1", b"1.2.3.4", b"65536",
                     b"\r\n\r\n\0\r\nQUIT\n", b"\x21\x11\0\x0c", b"\x21\x21\0\x24", b"\x20\0\0\0",
                     b"\x21\x31\0\xd8", bytes(216)],
    "bench_target": [b"tcp://", b"tls://", b"udp://", b"unix:", b"/", b"[", b"]", b":", b"::1", b"localhost", b"%lo",
                     *NUMBERS],
    "scanner": [b"ab", b"aab", b"a" * 30, b"\0", b"\r\n", b"ab" * 16],
    "session": [bytes((what, 0, size)) for what in range(16) for size in (0, 1, 100, 255)],
}  # fmt: skip


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """Tokens and noise, alone or put into an input of the corpus."""
    pieces = st.lists(st.one_of(st.sampled_from(TOKENS[target]), st.binary(max_size=6)), max_size=12).map(b"".join)
    known = inputs_of(target)

    def splice(base: bytes, at: int, cut: int, piece: bytes) -> bytes:
        at %= len(base) + 1
        return base[:at] + piece + base[at + cut :]

    return pieces | st.builds(splice, st.sampled_from(known), st.integers(0, 4095), st.integers(0, 8), pieces)


@pytest.fixture(autouse=True)
def _loop_closed():
    yield
    close_loop()


@pytest.mark.parametrize("target", TARGETS)
def test_each_input_of_the_corpus(target):
    assert files_of(target), "no corpus"
    for path in files_of(target):
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:
            raise AssertionError(f"input {path.name}: {error!r}") from error


@pytest.mark.proof("No input breaks a parser, the scan or a session: it is served, or refused in one line.")
@pytest.mark.parametrize("target", TARGETS)
def test_any_input(target, amount, record_property):
    slow = target in ("command_line", "session")
    count = amount(suite=12 if slow else 40, proof=500 if slow else 3_000, release=100_000 if slow else 1_600_000)
    last = b""

    def check(data: bytes) -> None:
        nonlocal last
        last = data
        TARGETS[target](data)

    begin = 0 if count <= 40 else random.randrange(1 << 32)
    try:
        for k in range(0, count, CHUNK):
            chosen = settings(max_examples=min(CHUNK, count - k), derandomize=False,
                              suppress_health_check=list(HealthCheck))  # fmt: skip
            seed(begin + k)(chosen(given(inputs(target))(check)))()
    except BaseException:
        if begin:
            keep_failure(target, last)
        raise
    record_property("inputs", count)


@pytest.mark.proof("Each datagram comes back whole, unaltered and once.")
def test_any_datagrams(amount, record_property):
    count = amount(suite=100, proof=5_000, release=600_000)
    noise = random.Random(3).randbytes(65507)
    draw = random.Random(0 if count == 100 else None)
    with fastecho.serve(port=0, udp=True) as server, udp_client(server.address) as client:
        client.settimeout(DEADLINE)
        sent = 0
        while sent < count:
            borders = (0, 1, 15, 1472, 9000, 65507, draw.randrange(2000))
            sizes = [draw.choice(borders) for _ in range(draw.randint(1, 3))]
            if max(sizes) > 9000:  # a receive buffer may not have space for two of these
                sizes = [max(sizes)]
            for size in sizes:
                client.send(noise[-size:] if size else b"")
            for size in sizes:
                assert client.recv(1 << 16) == (noise[-size:] if size else b"")
            sent += len(sizes)
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            assert client.recv(1 << 16) is None, "a datagram came back twice"
    record_property("datagrams", sent)
