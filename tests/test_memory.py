"""Resident memory of a server process: what a peer can make it hold."""

import random
import resource
import select
import subprocess
import sys
import threading
import time

import pytest
from benchmarks.procfs import descriptors, resident

from clients import connect_blocking, read_exactly
from patience import UNIT, wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.timeout(120 * UNIT),
]

MIB = 1 << 20


@pytest.fixture
def server(child, pinned):
    """Warm: it has served a few connections, and the code of every path is resident."""
    server = child(terminator=None, write_timeout=600.0, pin_buffers=pinned)
    for _ in range(3):
        with connect_blocking(server.address) as sock:
            sender = threading.Thread(target=sock.sendall, args=(b"x" * 4 * MIB,))
            sender.start()
            time.sleep(0.1)
            assert read_exactly(sock, 4 * MIB) == b"x" * 4 * MIB
            sender.join()
    wait_until(lambda: server.stats()["active"] == 0, "the warm-up is over")
    return server


@pytest.mark.slow
def test_100_mib_to_a_peer_that_reads_slower_than_it_writes(server):
    block = random.Random(8).randbytes(MIB)
    before = resident(server.pid)
    peak = [before]
    with connect_blocking(server.address, 60 * UNIT) as sock:

        def send():
            for turn in range(100):
                sock.sendall(turn.to_bytes(4, "big") + block[4:])

        sender = threading.Thread(target=send)
        sender.start()
        for turn in range(100):
            if turn % 10 == 0:
                # Slower than it writes: the sender runs into the wall of the kernel's buffers.
                time.sleep(0.1)
                peak.append(resident(server.pid))
            got = read_exactly(sock, MIB)
            assert got[:4] == turn.to_bytes(4, "big")
            assert got[4:] == block[4:], f"wrong bytes in mebibyte {turn}"
        sender.join()
    assert server.stats()["pauses"] > 0, "the peer was never slower than the server"
    assert max(peak) - before < MIB


def test_a_peer_that_sends_200_mb_and_never_reads(server):
    before = resident(server.pid)
    with connect_blocking(server.address) as sock:
        sock.setblocking(False)
        sent, data = 0, b"x" * MIB
        while sent < 200_000_000 and select.select([], [sock], [], 0.5 * UNIT)[1]:
            sent += sock.send(data)
        assert sent < 200_000_000, "everything was taken from a peer that reads nothing"
        stats = server.stats()
        assert stats["pauses"] > 0
        assert stats["buffers_in_use"] == 1
        assert resident(server.pid) - before < MIB


@pytest.mark.slow
@pytest.mark.usefixtures("only_uvloop")
def test_8000_idle_connections_that_have_each_echoed_64_kib(child):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8200:
        pytest.skip(f"the descriptor limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    data, socks = b"x" * 65536, []
    try:
        server = child()

        def add(count):
            for _ in range(count):
                sock = connect_blocking(server.address)
                socks.append(sock)
                sock.sendall(data)
                assert read_exactly(sock, len(data)) == data

        add(100)
        before = resident(server.pid)
        add(8000)
        stats = server.stats()
        assert stats["active"] == 8100
        assert stats["buffers_in_use"] == 0
        each = (resident(server.pid) - before) / 8000
        assert each < 2100, f"{each:.0f} bytes resident a connection"
        assert socks[0].getpeername() == server.address
    finally:
        for sock in socks:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_connections_one_after_the_other_leave_nothing(child):
    server = child()

    def churn(count):
        for number in range(count):
            with connect_blocking(server.address) as sock:
                sock.sendall(b"x\0" if number % 2 else b"x")
                assert sock.recv(2)
        wait_until(lambda: server.stats()["active"] == 0, "all sessions are closed")

    churn(1000)
    opened, before = descriptors(server.pid), resident(server.pid)
    churn(9000)
    assert descriptors(server.pid) == opened
    assert resident(server.pid) - before < MIB // 2


NO_MEMORY = """
import asyncio, resource, sys
sys.path.insert(0, {tests!r})
from driven import Driven, Wire
from fastecho import ServerConfig
from fastecho._session import Sessions

loop = asyncio.SelectorEventLoop()
config = ServerConfig(buffers=2, buffer_size=16 << 20, terminator=None)
group = Sessions(config, loop)
sessions = [Driven(group, config, loop, Wire([2])) for _ in range(5)]
sessions[0].read(b"warm")
sessions[0].until_reading([None])
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (8 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for number, driven in enumerate(sessions):
    driven.read(bytes([65 + number]) * 1000)
    assert driven.wire.reading_paused
copied = group.stats()["tails_copied"]
assert copied > 0, "the pool was meant to be unable to grow"
view = memoryview(sessions[0].session.get_buffer(-1))
assert len(view) == 16 << 20
for driven in sessions:
    driven.until_reading([1, None])
    driven.read(b"after")
    driven.until_reading([None])
    driven.eof()
    driven.finish()
    driven.check()
print(group.stats()["buffers_in_use"])
group.close()
loop.close()
"""


def test_when_the_pool_cannot_grow_the_tail_is_copied():
    """get_buffer cannot fail: the bytes of a held tail are copied out, and the slot stands ready again."""
    from pathlib import Path

    code = NO_MEMORY.format(tests=str(Path(__file__).parent / "support"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30 * UNIT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0"
