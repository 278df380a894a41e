"""`bench` and `ping` over UDP: what is lost, duplicated, reordered or altered is counted, and nothing else."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

import fastecho as package
from fastecho.bench.run import run_load
from fastecho.bench.spec import LoadSpec
from fastecho.bench.target import Target
from fastecho.errors import ConfigError
from patience import DEADLINE

PROBE = b"fastecho probe"
Behaviour = Callable[[int, bytes], list[bytes]]


@contextlib.contextmanager
def serving(behave: Behaviour) -> Iterator[str]:
    """A UDP server that sends `behave(n, datagram)` back for the n-th datagram, in a thread."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

        def serve() -> None:
            count = 0
            while True:
                data, client = sock.recvfrom(1 << 16)
                if data == b"end":
                    return
                if data == PROBE:
                    sock.sendto(data, client)
                    continue
                for answer in behave(count, data):
                    sock.sendto(answer, client)
                count += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"udp://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"end", sock.getsockname())
            thread.join(DEADLINE)


def load(target: str, **settings):
    quick = {"connections": 2, "duration": 0.3, "warmup": 0.05, "timeout": 0.1}
    return run_load(LoadSpec(target=target, **{**quick, **settings}))


def seen(result):
    return {kind: count for kind, count in result.errors.items() if count}


@pytest.fixture(scope="module")
def server():
    with package.serve(host="127.0.0.1", port=0, udp=True) as running:
        yield running


@pytest.mark.parametrize(
    "settings",
    [{}, {"depth": 100, "size": 1200}, {"rate": 5000.0}, {"rate": 5000.0, "arrivals": "poisson"}, {"threads": 2},
     {"size": (16, 65507), "connections": 3}, {"size": 16}, {"sources": ("127.0.0.5",)}, {"verify": False},
     {"depth": 300, "connections": 1}, {"arrivals": "poisson", "rate": 200.0}],
    ids=str,
)  # fmt: skip
def test_a_load_of_datagrams(server, settings):
    before = server.stats.datagrams["echoed"]
    result = load(f"udp://127.0.0.1:{server.address[1]}", **{"timeout": 2.0, **settings})
    assert result.ok, result.error_details
    assert server.stats.datagrams["echoed"] - before >= result.echoes > 0
    assert len(result.latencies) > 0
    assert result.overdue == 0


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("lost", lambda data: []),
        ("duplicated", lambda data: [data, data]),
        ("altered", lambda data: [data[:-1] + bytes([data[-1] ^ 1])]),
        ("altered", lambda data: [data[:-1]]),
        ("altered", lambda data: [data + b"x"]),
        ("altered", lambda data: [data, b"\xff" * 64]),
        ("altered", lambda data: [data, b"x"]),
        ("altered", lambda data: [data, bytes([data[0] ^ 1]) + data[1:]]),
    ],
    ids=["lost", "duplicated", "last byte", "short", "long", "foreign", "tiny", "first byte"],
)  # fmt: skip
@pytest.mark.parametrize("rate", [None, 2000.0])
def test_each_wrong_datagram_is_counted_as_what_it_is(kind, wrong, rate):
    made = []

    def behave(count, data):
        if count % 50 == 49 and len(made) < 5:
            made.append(count)
            return wrong(data)
        return [data]

    with serving(behave) as target:
        result = load(target, depth=4, rate=rate, duration=0.5)
    assert seen(result) == {kind: len(made)}
    assert made
    assert not result.ok
    [line] = result.error_details
    assert line.startswith(f"{kind}: ")


def test_datagrams_that_change_places_are_reordered_and_not_lost():
    held: list[bytes] = []
    swapped = []

    def behave(count, data):
        if held:
            swapped.append(count)
            return [data, held.pop()]
        if count % 20 == 19 and len(swapped) < 5:
            held.append(data)
            return []
        return [data]

    with serving(behave) as target:
        result = load(target, connections=1, depth=8, timeout=2.0)
    assert seen(result) == {"reordered": len(swapped)}
    assert swapped


@pytest.mark.parametrize(
    ("change", "kind"),
    [(lambda data: data, "reordered"), (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "altered")],
    ids=["as it was", "altered"],
)
def test_a_datagram_that_comes_after_its_time_is_no_longer_lost(change, kind):
    held: list[bytes] = []
    late = []

    def behave(count, data):
        if count == 30:
            held.append(data)
            return []
        if held and count == 400:
            late.append(count)
            return [data, change(held.pop())]
        return [data]

    with serving(behave) as target:
        result = load(target, connections=1, rate=1000.0, depth=50, duration=1.0, timeout=0.1)
    assert late
    assert seen(result) == {kind: 1}


def test_what_a_silent_server_was_never_sent_is_overdue():
    with serving(lambda count, data: []) as target:
        result = load(target, connections=1, rate=500.0, depth=1, timeout=2.0)
    assert seen(result) == {"lost": 1}
    assert result.overdue >= 100
    assert not result.ok


def test_a_server_that_ends_within_the_run_is_refused_and_lost():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            for _ in range(100):
                sock.sendto(*sock.recvfrom(1 << 16))
            sock.close()

        thread = threading.Thread(target=serve)
        thread.start()
        result = load(f"udp://127.0.0.1:{sock.getsockname()[1]}", duration=600.0)
        thread.join(DEADLINE)
    assert {kind: count > 0 for kind, count in seen(result).items()} == {"reset": True, "lost": True}
    assert any(line.startswith("reset: ") and "Connection refused" in line for line in result.error_details)
    assert result.stopped is not None
    assert "no answer for" in result.stopped


@pytest.mark.skipif(sys.platform != "linux", reason="Linux refuses to connect to the broadcast address")
@pytest.mark.parametrize("arguments", [["-d", "0.2", "-q"], ["ping", "-c", "1"]], ids=["bench", "ping"])
def test_an_address_that_the_system_refuses_is_named(fastecho, arguments):
    target = "udp://255.255.255.255:9"
    code, out, err = fastecho(*arguments, target)
    assert (code, out) == (5, "")
    assert err == f"fastecho: cannot connect to {target}: Permission denied\n"


def test_a_server_that_is_not_there_is_named(fastecho):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        target = f"udp://127.0.0.1:{free.getsockname()[1]}"
    code, _, err = fastecho(target, "-d", "0.2", "-q")
    assert code == 5
    assert f"cannot connect to {target}: Connection refused" in err


def test_a_server_that_does_not_answer_is_named(fastecho):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = f"udp://127.0.0.1:{silent.getsockname()[1]}"
        code, out, err = fastecho(target, "-d", "0.2", "-q", "--timeout", "60ms")
        asked = [silent.recv(100) for _ in range(3)]
    assert (code, out) == (5, "")
    assert err == f"fastecho: cannot connect to {target}: Connection timed out\n"
    assert asked == [PROBE] * 3


def test_a_source_that_is_not_of_this_machine_is_a_failure_of_the_client(fastecho, server):
    target = f"udp://127.0.0.1:{server.address[1]}"
    code, out, err = fastecho(target, "-d", "0.2", "-q", "--source", "192.0.2.1")
    assert (code, out) == (1, "")
    assert err == f"fastecho: cannot connect to {target}: Cannot assign requested address\n"


@pytest.mark.parametrize(("name", "settings"), [
    ("size", {"size": 15}), ("size", {"size": 65508}), ("size", {"size": (8, 64)}), ("churn", {"churn": True}),
])  # fmt: skip
def test_what_datagrams_cannot_be_is_an_error(name, settings):
    with pytest.raises(ConfigError, match=name):
        LoadSpec(target="udp://127.0.0.1:7", **settings)


def test_a_udp_target_is_written_as_it_is_read():
    assert str(Target.parse("udp://[::1]:7")) == "udp://[::1]:7"
    assert Target.parse(str(Target.parse("unix:////x"))) == Target.parse("unix:////x")
    assert Target.parse("udp://host:7").udp
    assert not Target.parse("host:7").udp


def test_only_an_ipv6_address_is_in_brackets():
    with pytest.raises(ConfigError):
        Target.parse("tcp://[a/b]:7")


# Ping


def test_ping_times_datagrams(fastecho, server):
    code, out, _ = fastecho("ping", f"udp://127.0.0.1:{server.address[1]}", "-c", "3", "-i", "0")
    assert code == 0
    assert "3 sent, 3 received, 0 % lost, time" in out


def test_ping_once_is_a_health_check(fastecho, server):
    target = f"udp://127.0.0.1:{server.address[1]}"
    code, _, err = fastecho("ping", target, "--once")
    assert (code, err) == (0, "")
    with serving(lambda count, data: []) as silent:
        code, out, _ = fastecho("ping", silent, "--once", "-W", "0.1")
    assert code == 1
    assert f"{silent}: " in out


@pytest.mark.parametrize(
    ("behave", "summary"),
    [
        (lambda count, data: [] if count == 1 else [data], "3 sent, 2 received, 33.33 % lost, time"),
        (lambda count, data: [data, data] if count == 1 else [data], "3 received, 0 % lost, 1 duplicated, time"),
        (lambda count, data: [b"other", data] if count == 1 else [data], "0 % lost, 1 altered, time"),
    ],
    ids=["lost", "duplicated", "altered"],
)
def test_ping_counts_wrong_datagrams(fastecho, behave, summary):
    with serving(behave) as target:
        code, out, _ = fastecho("ping", target, "-c", "3", "-i", "0", "-W", "0.3")
    assert code == 3
    assert summary in out


def test_ping_counts_an_answer_that_comes_late_as_reordered(fastecho):
    held: list[bytes] = []

    def behave(count, data):
        if count == 0:
            held.append(data)
            return []
        return [*([held.pop()] if held else []), data]

    with serving(behave) as target:
        code, out, _ = fastecho("ping", target, "-c", "2", "-i", "0", "-W", "0.2")
    assert code == 3
    assert "2 sent, 1 received, 50 % lost, 1 reordered, time" in out


def test_ping_takes_what_it_has_long_forgotten_for_altered(fastecho):
    """It remembers a thousand datagrams."""
    first: list[bytes] = []

    def behave(count, data):
        if not first:
            first.append(data)
        return [first[0], data] if count == 1100 else [data]

    with serving(behave) as target:
        code, out, _ = fastecho("ping", target, "-c", "1101", "-i", "0", "-q")
    assert code == 3
    assert "1101 sent, 1101 received, 0 % lost, 1 altered, time" in out


@pytest.mark.parametrize(
    ("target", "said"),
    [
        pytest.param(
            "udp://255.255.255.255:9", "cannot connect to udp://255.255.255.255:9: Permission denied\n",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux refuses the broadcast address"),
        ),
        ("udp://a..b:9", "udp://a..b:9: cannot resolve a..b: "),
    ],
)  # fmt: skip
def test_a_health_check_that_cannot_connect_is_1(fastecho, target, said):
    """As that of a TCP target. It was 5, and on standard error."""
    code, out, err = fastecho("ping", "--once", target)
    assert (code, err) == (1, "")
    assert out.startswith(said)
    assert out.count("\n") == 1
