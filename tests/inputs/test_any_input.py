"""Any input to what reads it: each target of tests/support/targets.py, with the corpus, then with new inputs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import pytest

import fastecho
from corpus import files_of, inputs_of, keep_failure
from datagrams import udp_client
from patience import DEADLINE
from targets import OPTIONS, TARGETS, close_loop

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


# How many inputs a run tries: in the suite, in the short form of the proof, and for a release.
COUNTS = {
    "fault_text": (200, 20_000, 1_500_000),
    "option_text": (200, 20_000, 2_000_000),
    "toml": (100, 10_000, 1_000_000),
    "command_line": (10, 300, 20_000),
    "proxy_header": (50, 5_000, 500_000),
    "bench_target": (200, 20_000, 2_000_000),
    "scanner": (200, 20_000, 2_500_000),
    "session": (50, 5_000, 500_000),
}


def inputs(target: str, draw: random.Random) -> Iterator[bytes]:
    """Without end: tokens and noise, alone or put into an input of the corpus."""
    known, tokens = inputs_of(target), TOKENS[target]
    while True:
        pieces = [
            draw.choice(tokens) if draw.random() < 0.5 else draw.randbytes(draw.randrange(7))
            for _ in range(draw.randrange(13))
        ]
        base, cut = (draw.choice(known), draw.randrange(9)) if draw.random() < 0.5 else (b"", 0)
        at = draw.randrange(len(base) + 1)
        yield base[:at] + b"".join(pieces) + base[at + cut :]


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
    suite, proof, release = COUNTS[target]
    count = amount(suite=suite, proof=proof, release=release)
    drawn = inputs(target, random.Random(target if count == suite else None))
    for _ in range(count):
        data = next(drawn)
        try:
            TARGETS[target](data)
        except BaseException as error:
            kept = keep_failure(target, data)
            raise AssertionError(f"input {kept.name}: {error!r}") from error
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
