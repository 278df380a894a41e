"""The engine against servers that are right: what it counts, and that it says the truth about when."""

import contextlib
import os
import select
import selectors
import shutil
import socket
import ssl
import sys
import threading
import time

import pytest
import trustme

import fastecho
from bench_servers import c_server, echo, ncat, serving, slow_connection, stalling, tls_context
from fastecho.bench import Interrupted, LoadError, LoadSpec, SizeRange, Stop, run_load
from fastecho.bench._load import Phase
from fastecho.bench._tls import TLSEngine
from fastecho.bench.measure import measure
from fastecho.bench.target import Address
from fastecho.errors import ConfigError
from patience import DEADLINE

KINDS = {"connect", "reset", "short", "corrupt", "excess", "timeout"}


def test_the_load_begins_as_soon_as_all_are_connected():
    """The engine slept up to 50 ms before it saw that the load begins: a run of 20 ms had no echo at all."""
    with serving(echo) as target:
        runs = [load(target, duration=0.02, warmup=0.0, connections=2) for _ in range(20)]
    assert sum(run.echoes > 0 for run in runs) >= 10


def load(target, **settings):
    return run_load(LoadSpec(**{"target": target, "duration": 0.4, "warmup": 0.1, "connections": 8, **settings}))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"connections": 1, "size": 1},
        {"size": 65536},
        {"size": 1_000_000, "connections": 2},
        {"size": 16 << 20, "connections": 1},
        {"depth": 64},
        {"size": SizeRange(1, 5000), "depth": 7},
        {"size": (1, 4096, 100_000)},
        {"threads": 2, "connections": 5},
        {"churn": True},
        {"churn": True, "rate": 500.0},
        {"rate": 2000.0},
        {"rate": 2000.0, "arrivals": "poisson", "threads": 2},
        {"verify": False},
        {"terminator": None},
        {"sources": ("127.0.0.3", "127.0.0.4")},
        {"connections": 500},
        {"warmup": 0},
        {"cpus": tuple(sorted(os.sched_getaffinity(0)))[:1] if sys.platform == "linux" else None},
    ],
    ids=lambda settings: ",".join(f"{name}={value}" for name, value in settings.items()) or "default",
)
def test_a_right_server_has_no_errors(target, settings):
    result = load(target, **settings)
    assert set(result.errors) == KINDS
    assert result.ok, result.error_details
    assert result.bytes >= result.echoes
    assert result.stopped is None
    if "rate" not in settings:
        assert len(result.latencies) == result.echoes
    assert 0 < result.min <= result.percentiles["p50"] <= result.percentiles["p99"] <= result.percentiles["max"]
    assert sum(sample.echoes for sample in result.samples) <= result.echoes


def test_the_window_is_the_time_between_the_two_hooks(target):
    at = {}
    clock = __import__("time").monotonic
    spec = LoadSpec(target=target, duration=0.3, warmup=0.1)
    result = run_load(spec, lambda event: at.setdefault(event, clock()))
    assert list(at) == ["connected", "start", "end", "drained"]
    assert result.seconds == pytest.approx(at["end"] - at["start"], abs=0.02)
    assert result.seconds >= 0.3


def test_connections_are_still_open_when_drained(tmp_path):
    live = []

    def session(sock):
        live.append(1)
        echo(sock)
        live.pop()

    seen = {}
    with serving(session) as target:
        spec = LoadSpec(target=target, connections=9, duration=0.5, warmup=0)
        run_load(spec, lambda event: seen.setdefault(event, len(live)))
    assert seen["drained"] == 9


def test_an_open_loop_sends_what_it_was_asked_to(target):
    result = load(target, rate=1000.0, duration=1.0, connections=16)
    assert result.overdue == 0
    due = pytest.approx(1000 * result.seconds, abs=3)
    assert len(result.latencies) == due, "every arrival due in the window is answered for"


def test_a_rate_that_cannot_be_met_is_said(target):
    result = load(target, rate=5e6, duration=0.3, connections=2)
    assert result.overdue > 0
    assert result.latency(50) > 0.05, "the latency counts from when it was due"


@pytest.mark.slow
def test_a_stall_shows_in_the_open_loop_and_hides_in_the_closed_one():
    """The reason for the open loop: 500 ms of silence in every 2 s is 25 % of the arrivals, and one echo in thousands
    a connection when the next is only sent once the last one is back."""
    with serving(stalling(0.5, 2.0)) as target:
        base = {"connections": 8, "duration": 4.0, "warmup": 0.1, "timeout": 3.0}
        opened = load(target, rate=400.0, **base)
        closed = load(target, **base)
    assert opened.ok
    assert closed.ok
    assert opened.percentiles["p99"] > 0.4
    assert opened.latency(80) > 0.05
    assert closed.percentiles["p99"] < 0.2
    assert closed.percentiles["max"] > 0.4, "it saw the stall, in too few echoes to count"


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
@pytest.mark.parametrize("settings", [{}, {"depth": 4}, {"threads": 2}, {"tls_insecure": True}], ids=str)
def test_one_slow_connection_of_many_shows_in_an_open_loop(settings, arrivals):
    """Its share of the messages waits for it; a free connection does not take them over."""
    context = tls_context() if "tls_insecure" in settings else None
    with serving(slow_connection(0.1), tls=context) as target:
        result = load(target, rate=400.0, arrivals=arrivals, connections=10, duration=1.0, warmup=0, **settings)
    assert not result.error_count, result.error_details
    assert len(result.latencies) + result.overdue == pytest.approx(400, abs=90 if arrivals == "poisson" else 25)
    assert result.latency(97) > 0.2, "a message a tenth of a second, where four are due"
    assert result.overdue > 0, "it was never sent all of its share"


def test_an_open_loop_gives_each_connection_its_share():
    counts = {}

    def session(sock):
        count = 0
        while data := sock.recv(65536):
            count += len(data) // 64
            sock.sendall(data)
        counts[sock] = count

    with serving(session) as target:
        result = load(target, rate=1000.0, connections=10, duration=0.5)
    assert len(counts) == 10
    # Those that the warm-up could not send on a busy machine are left out.
    assert max(counts.values()) - min(counts.values()) <= 10, counts.values()
    assert sum(counts.values()) >= len(result.latencies) == pytest.approx(1000 * result.seconds, abs=3)


def test_churn_in_an_open_loop_waits_for_its_slow_connection():
    """One connection of the two is slow at a time: what was due on it in the meantime counts from then."""
    taken = []

    def session(sock):
        taken.append(sock)
        if len(taken) == 20:
            time.sleep(0.5)
        echo(sock)

    with serving(session) as target:
        result = load(target, rate=100.0, connections=2, churn=True, duration=1.0)
    assert result.ok, result.error_details
    assert len(result.latencies) + result.overdue == pytest.approx(100, abs=2)
    assert result.latency(85) > 0.1, "a quarter of the messages was due while it was silent"


def test_a_stop_from_another_thread_gives_a_partial_result(target):
    stop = Stop()
    result = run_load(LoadSpec(target=target, duration=600, warmup=0), on_progress=lambda _: stop.request(), stop=stop)
    assert result.partial
    assert result.stopped == "interrupted"
    assert 0 < result.seconds < 600
    assert result.ok
    with pytest.raises(Interrupted, match="nothing was measured"):
        run_load(LoadSpec(target=target, duration=600, warmup=600), stop=stop)
    assert not load(target).partial


def test_the_load_runs_over_a_unix_socket(tmp_path):
    with serving(echo, unix=tmp_path / "echo.sock") as target:
        assert load(target).ok
        assert load(target, churn=True).ok


@pytest.mark.skipif(sys.platform != "linux", reason="Linux refuses a connection to a full UNIX backlog at once")
@pytest.mark.parametrize(
    "settings", [{}, {"churn": True}, {"churn": True, "rate": 100_000.0}],
    ids=["connections that stay", "churn", "churn in an open loop"],
)  # fmt: skip
def test_connections_wait_for_a_full_backlog_of_a_unix_socket(settings, tmp_path):
    path = str(tmp_path / "echo.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        threads = []

        def handle(sock):
            with sock:
                echo(sock)

        def accept():
            # It accepts none before one waits. The engine asks for all eight in a few microseconds.
            select.select([listener], [], [])
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=handle, args=(sock,)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        result = load(f"unix:{path}", **settings)
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        for thread in threads:
            thread.join()
    assert result.ok, result.error_details


@pytest.mark.parametrize(
    "settings", [{}, {"churn": True}, {"rate": 200.0}, {"size": 100_000, "connections": 2}, {"depth": 4}]
)
def test_the_load_runs_over_tls(settings, tmp_path):
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    with serving(echo, tls=context) as target:
        assert load(target, tls_ca=str(ca), **settings).ok
        assert load(target, tls_insecure=True, connections=1).ok
        with pytest.raises(LoadError, match="cannot connect"):
            load(target, connections=1, timeout=1.0)


def test_tls_sends_what_the_socket_does_not_take_at_once():
    with serving(echo, tls=tls_context()) as target:
        result = run_load(LoadSpec(target=target, size=16 << 20, connections=1, duration=0.1, warmup=0,
                                   tls_insecure=True, timeout=DEADLINE), count_all=True)  # fmt: skip
    assert not result.error_count, result.error_details
    assert result.bytes >= 16 << 20


class Tireless(ssl.SSLSocket):
    """A TLS socket of which each read finds as much as it asks for; it calls `after` in its 200th."""

    def __init__(self, sock, after):
        socket.socket.__init__(self, fileno=sock.detach())
        self.after, self.reads = after, 0

    def recv(self, most):
        self.reads += 1
        if self.reads == 200:
            self.after()
        return bytes(min(most, 4096))

    def send(self, data):
        return len(data)

    def pending(self):
        return 0


def test_a_tls_server_that_sends_as_fast_as_is_read_leaves_the_other_connections_their_turn():
    """One of four connections of 1 MiB was served for seconds, and the others were not."""
    spec = LoadSpec(target="tls://127.0.0.1:1", size=4096, connections=1, tls_insecure=True, verify=False)
    engine = TLSEngine(spec, Address(socket.AF_INET, "127.0.0.1", 1), server_name="localhost", count_all=False)
    [connection], (ours, theirs) = engine.connections, socket.socketpair()
    with theirs, Tireless(ours, lambda: engine.enter_phase(Phase.STOP, 0)) as sock:
        theirs.send(b"readable")
        engine.retries.clear()
        engine.poller.register(sock, selectors.EVENT_READ, connection)
        connection.sock, connection.handshake_done = sock, True
        engine.enter_phase(Phase.MEASURE, 0)
        engine.run()
        assert 200 <= sock.reads < 400
        engine.close()


@pytest.mark.skipif(shutil.which("ncat") is None, reason="ncat is not installed")
def test_ncat_with_cat():
    with ncat() as target:
        assert load(target, connections=4).ok


def test_the_cpu_of_a_server_whose_process_can_be_seen(tmp_path):
    with c_server(tmp_path) as (target, pid):
        result, server = measure(LoadSpec(target=target, duration=0.3, warmup=0.1))
    assert server is not None
    assert server.pids == (pid,)
    assert 0 < server.cpu < result.seconds * 1.2
    assert 0 < result.client_cpu < result.seconds * 1.2


def test_a_port_without_a_listener_is_one_line():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(LoadError, match=r"cannot connect to tcp://127\.0\.0\.1:.*refused"):
            load(f"127.0.0.1:{sock.getsockname()[1]}")


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog of Linux drops the handshake")
def test_a_listener_that_accepts_nothing_is_given_up_after_the_time_out():
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        with pytest.raises(LoadError, match=r"cannot connect to tcp://127\.0\.0\.1:\d+: Connection timed out"):
            load(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has no route for TCP to the broadcast address")
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
@pytest.mark.parametrize("settings", [{}, {"churn": True}], ids=["connections that stay", "churn"])
def test_an_address_without_a_route_is_one_line(scheme, settings):
    with pytest.raises(LoadError, match=f"cannot connect to {scheme}://255.255.255.255:9: Network is unreachable"):
        load(f"{scheme}://255.255.255.255:9", tls_insecure=scheme == "tls", **settings)


def test_a_missing_unix_path_is_one_line():
    with pytest.raises(LoadError, match="cannot connect to unix:/nowhere/at/all: No such file"):
        load("unix:/nowhere/at/all")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", "127.0.0.1"), ("target", "sctp://h:1"), ("target", "h:0"), ("target", "h:70000"),
        ("target", "::1:5"),
        ("connections", 0), ("size", 0), ("size", SizeRange(5, 4)), ("size", ()), ("size", 17 << 20), ("depth", 0),
        ("rate", 0), ("rate", -1.0), ("rate", float("nan")), ("duration", 0), ("threads", 0), ("threads", 51),
        ("arrivals", "never"), ("timeout", 0), ("connections", True), ("connections", "5"), ("terminator", b""),
        ("server_closes", True),
    ],
)  # fmt: skip
def test_a_spec_that_cannot_be(name, value):
    with pytest.raises(ConfigError) as caught:
        LoadSpec(**{"target": "127.0.0.1:1", name: value})
    assert caught.value.option == name
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("localhost:80", "tcp://localhost:80"), ("tcp://127.0.0.1:80/", "tcp://127.0.0.1:80"),
        ("[::1]:80", "tcp://[::1]:80"), ("tls://[::1]:443", "tls://[::1]:443"), ("unix:/a b", "unix:/a b"),
        ("unix:///run/x", "unix:/run/x"), ("/run/x", "unix:/run/x"), ("unix:rel", "unix:rel"),
    ],
)  # fmt: skip
def test_each_form_of_a_target_is_parsed(text, shown):
    from fastecho.bench import Target

    assert str(Target.parse(text)) == shown


def test_the_load_runs_over_ipv6(tmp_path):
    listener = socket.socket(socket.AF_INET6)
    try:
        listener.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    finally:
        listener.close()
    with pytest.raises(LoadError, match="refused"):
        load(f"[::1]:{1}")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_behind_a_path_that_was_renamed(tmp_path):
    with serving(echo, unix=tmp_path / "first.sock"):
        (tmp_path / "first.sock").rename(tmp_path / "second.sock")
        _, server = measure(LoadSpec(target=f"unix:{tmp_path}/second.sock", duration=0.5, warmup=0))
    assert server is not None
    assert server.pids == (os.getpid(),)


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_any_seed_can_be_given(scheme):
    with fastecho.serve(port=0, udp=True, terminator=None) as server:
        target = f"{scheme}://127.0.0.1:{server.address[1]}"
        for seed in (0, 2, (1 << 64) - 1):
            result = run_load(LoadSpec(target=target, connections=1, duration=0.01, warmup=0, seed=seed))
            assert not any(result.errors.values())
