"""UDP echo: what comes back, from where, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
import threading

import pytest

import fastecho
from datagrams import Exchange, ask, exchange, payload, udp_client
from fastecho._counters import OUTCOMES, SharedCounters
from fastecho._datagrams import DatagramEcho, RateTable
from fastecho.errors import AddressInUseError, ConfigError
from patience import DEADLINE, until, wait_until


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


HOSTS = ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6"))]
SECOND = 1_000_000_000
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux does")
loopback_net = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="127.0.0.2 needs Linux")


@pytest.fixture(params=HOSTS)
def host(request):
    return request.param


def outcomes(server, **wanted):
    """Whether the server has counted these outcomes and no other."""
    return {name: count for name, count in server.stats.datagrams.items() if count} == wanted


async def answer(sock, limit=DEADLINE):
    sock.setblocking(False)
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1 << 16), limit)


# What comes back


def test_a_fault_with_a_small_window_is_none_of_udp(run):
    async def body():
        async with fastecho.EchoServer(port=0, udp=True, fault="stop_reading(9216).nth(9)") as server:
            with udp_client(server.address) as client:
                client.send(bytes(60_000))
                assert await answer(client) == bytes(60_000)

    run(body())


@pytest.mark.parametrize("size", [0, 1, 512, 1472, 9000, 65507])
def test_a_datagram_comes_back_as_one_datagram(run, host, size):
    async def body():
        async with fastecho.EchoServer(host=host, port=0, udp=True) as server:
            with udp_client(server.address) as client:
                data = os.urandom(size)
                client.send(data)
                assert await answer(client) == data
                await until(lambda: outcomes(server, echoed=1), "the count")
                assert (server.stats.bytes_in, server.stats.bytes_out) == (size, size)

    run(body())


def test_many_datagrams_of_many_clients_come_back_once_and_unaltered(run, host):
    """More than a batch, and than a turn of the loop serves, are queued before the server reads."""

    async def body():
        async with fastecho.EchoServer(host=host, port=0, udp=True) as server:
            with contextlib.ExitStack() as stack:
                all = Exchange([stack.enter_context(udp_client(server.address)) for _ in range(9)])
                for count in (1, 63, 64, 65, 150):
                    all.send(count)
                    await until(lambda: all.receive() or not all.lost, "all answers")
                assert (all.received, all.altered, all.duplicated) == (343, 0, 0)
                await until(lambda: outcomes(server, echoed=343), "the count")

    run(body())


def test_tcp_and_udp_have_one_port_on_each_address(run):
    async def body():
        host = "127.0.0.1,::1" if has_ipv6() else "127.0.0.1,127.0.0.2"
        async with fastecho.EchoServer(host=host, port=0, udp=True) as server:
            schemes = [address.partition(":")[0] for address in server.addresses]
            ports = {address.rpartition(":")[2] for address in server.addresses}
            assert schemes == ["tcp", "tcp", "udp", "udp"]
            assert len(ports) == 1

    run(body())


def test_without_the_option_there_is_no_udp_socket(run):
    async def body():
        async with fastecho.EchoServer(port=0) as server:
            with udp_client(server.address) as client:
                client.send(b"x")
                with pytest.raises(ConnectionRefusedError):
                    await answer(client)

    run(body())


@loopback_net
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "127.9.9.9"])
def test_the_answer_comes_from_the_address_that_was_asked(run, asked):
    async def body():
        async with fastecho.EchoServer(host="*", port=0, udp=True) as server:
            with udp_client((asked, server.address[1])) as client:  # connected: it hears no other address
                client.send(b"hello")
                assert await answer(client) == b"hello"

    run(body())


@linux
@pytest.mark.skipif(not has_ipv6(), reason="no IPv6")
def test_a_link_local_client_is_answered_over_its_interface(run):
    with open("/proc/net/if_inet6") as table:
        found = [line.split() for line in table if line.startswith("fe80")]
    if not found:
        pytest.skip("no interface has a link-local address")
    host = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(found[0][0]))

    async def body():
        async with fastecho.EchoServer(host="*", port=0, udp=True) as server:
            with udp_client((host, server.address[1], 0, int(found[0][1], 16))) as client:
                client.send(b"hello")
                assert await answer(client) == b"hello"

    run(body())


def test_a_thread_server_echoes_datagrams(host):
    with fastecho.serve(host=host, port=0, udp=True) as server, udp_client(server.address) as client:
        assert ask(client, b"hello") == b"hello"


@linux
@pytest.mark.timeout(600)
@pytest.mark.proof("A datagram is answered once and unaltered, or the kernel counts it as dropped.")
def test_datagrams_are_lost_only_where_the_kernel_drops_them(host, amount, record_property):
    total = amount(suite=20_000, proof=100_000, release=1_000_000)
    with fastecho.serve(host=host, port=0, udp=True) as server:
        result, dropped = exchange(server.address, total)
        assert (result.received, dropped, result.altered, result.duplicated) == (total, 0, 0, 0)
        flooded, dropped = exchange(server.address, total, window=None)
        assert (flooded.lost, flooded.altered, flooded.duplicated) == (dropped, 0, 0)
    record_property("datagrams", 2 * total)
    record_property("dropped by the kernel in the flood", dropped)


def test_tcp_is_served_beside_a_flood_of_datagrams(run):
    async def body():
        async with fastecho.EchoServer(port=0, udp=True) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            with udp_client(server.address) as client:
                for _ in range(20):
                    for _ in range(300):
                        client.send(b"x" * 64)
                    writer.write(b"hello")
                    assert await reader.readexactly(5) == b"hello"
            writer.close()

    run(body())


# What is refused


@loopback_net
@pytest.mark.parametrize("same", [True, False], ids=["own port", "other port"])
def test_a_datagram_from_a_port_of_a_service_is_refused(run, same):
    async def body():
        async with fastecho.EchoServer(port=0, udp=True) as server:
            port = server.address[1]
            with udp_client(server.address, "127.0.0.2", port if same else 0) as client:
                client.send(b"forged")
                if same:
                    await until(lambda: outcomes(server, refused_port=1), "the refusal")
                else:
                    assert await answer(client) == b"forged"

    run(body())


@loopback_net
@pytest.mark.parametrize("port", [1, 7, 19, 1023])
def test_a_datagram_from_a_port_below_1024_is_refused(run, port):
    async def body():
        async with fastecho.EchoServer(port=0, udp=True) as server:
            try:
                client = udp_socket("127.0.0.3", port)
            except PermissionError:
                pytest.skip("needs the right to bind ports below 1024")
            with client:
                client.sendto(b"forged", server.address)
                await until(lambda: outcomes(server, refused_port=1), "the refusal")

    run(body())


def set_hops(sock, hops):
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)


def udp_socket(host, port=0):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, port))
    return sock


def test_a_forged_datagram_between_two_servers_causes_one_answer(run, host):
    """Hazard 31, with two ports that no rule refuses: the victim does not answer the answer."""

    async def body():
        victims = udp_socket(host)
        with victims.dup() as forger:
            async with (
                fastecho.EchoServer(host=host, port=0, udp=True) as server,
                fastecho.EchoServer(sockets=[victims]) as victim,
            ):
                set_hops(forger, 64)  # as the program sends that forges the address
                forger.sendto(b"forged", server.address)
                set_hops(forger, 255)
                await until(lambda: outcomes(victim, refused_echo=1), "the refusal")
                assert outcomes(server, echoed=1)
                with udp_client(victim.address) as client:  # it answers clients
                    client.send(b"hello")
                    assert await answer(client) == b"hello"

    run(body())


@loopback_net
def test_a_forged_datagram_between_two_servers_on_one_port_causes_no_answer(run):
    async def body():
        async with fastecho.EchoServer(host="127.0.0.1", port=0, udp=True) as server:
            victims = udp_socket("127.0.0.2", server.address[1])
            with victims.dup() as forger:
                async with fastecho.EchoServer(sockets=[victims]) as victim:
                    set_hops(forger, 64)
                    forger.sendto(b"forged", server.address)
                    await until(lambda: outcomes(server, refused_port=1), "the refusal")
                    assert outcomes(victim)

    run(body())


@pytest.mark.parametrize(("hops", "answered"), [(1, True), (64, True), (128, True), (129, False), (255, False)])
def test_the_hop_limit_tells_a_server_from_a_client(run, host, hops, answered):
    async def body():
        async with fastecho.EchoServer(host=host, port=0, udp=True) as server:
            with udp_client(server.address) as client:
                set_hops(client, hops)
                client.send(b"x")
                outcome = "echoed" if answered else "refused_echo"
                await until(lambda: outcomes(server, **{outcome: 1}), outcome)

    run(body())


@linux
def test_a_datagram_to_a_broadcast_address_is_refused(run):
    async def body():
        async with fastecho.EchoServer(host="0.0.0.0", port=0, udp=True) as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                client.sendto(b"to all", ("127.255.255.255", server.address[1]))
                await until(lambda: outcomes(server, refused_address=1), "the refusal")

    run(body())


def forge(source, target):
    """Send one datagram over IPv4 with any source address. Needs the right to use raw sockets."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except PermissionError:
        pytest.skip("needs the right to use raw sockets")
    with sock:
        data = b"forged"
        udp = struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0) + data
        addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
        sock.sendto(head + udp, target)


@linux
@pytest.mark.parametrize("source", ["224.0.0.251", "239.1.2.3", "240.0.0.1", "255.255.255.255", "0.1.2.3"])
def test_a_source_that_is_no_host_is_refused(run, source):
    async def body():
        async with fastecho.EchoServer(port=0, udp=True) as server:
            forge((source, 40_000), server.address)
            await until(lambda: outcomes(server, refused_address=1), "the refusal")

    run(body())


@linux
def test_an_answer_that_cannot_be_sent_is_counted_and_the_next_one_is_sent(run):
    async def body():
        async with fastecho.EchoServer(port=0, udp=True, udp_rate=None) as server:
            with udp_client(server.address) as client:
                forge(("192.0.2.1", 40_000), server.address)  # 127.0.0.1 cannot answer there
                client.send(b"hello")
                assert await answer(client) == b"hello"
            await until(lambda: outcomes(server, echoed=1, send_error=1), "both")

    run(body())


@linux
@pytest.mark.parametrize("size", [0, -1, 65536])
def test_a_size_that_no_datagram_has_is_refused(size):
    with pytest.raises(ValueError, match=f"size={size}: must be between 1 and 655"):
        DatagramEcho(None, [], size=size)


def test_the_rate_of_a_network_is_limited(run):
    async def body():
        async with fastecho.EchoServer(port=0, udp=True, udp_rate=1) as server:
            for host in (1, 2, 3):
                forge((f"192.0.2.{host}", 40_000), server.address)
            forge(("192.0.3.1", 40_000), server.address)
            # Two networks, one datagram each. The answers cannot be sent from 127.0.0.1.
            await until(lambda: outcomes(server, send_error=2, rate_limited=2), "the limit")

    run(body())


def test_loopback_has_no_rate(run, host):
    async def body():
        async with fastecho.EchoServer(host=host, port=0, udp=True, udp_rate=1) as server:
            with udp_client(server.address) as client:
                for number in range(10):
                    client.send(payload(number))
                    assert await answer(client) == payload(number)

    run(body())


def own_address():
    """An address of this machine that is not loopback, or None. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return None
        host = sock.getsockname()[0]
        return None if host.startswith("127.") else host


@pytest.mark.skipif(own_address() is None, reason="this machine has loopback only")
def test_a_loop_with_a_server_of_another_make_ends_at_the_rate_limit():
    host = own_address()
    with fastecho.serve(host=host, port=0, udp=True, udp_rate=20) as server, udp_socket(host) as other:
        other.settimeout(DEADLINE)
        answered = 0

        def echo_all():
            nonlocal answered
            while (got := other.recvfrom(1 << 16))[0] != b"end" and answered < 2000:
                answered += 1
                other.sendto(*got)

        thread = threading.Thread(target=echo_all)
        thread.start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as starter:
            starter.bind((host, 0))
            other.sendto(b"forged", server.address)
            wait_until(lambda: server.stats.datagrams["rate_limited"], "the end of the loop")
            counts = server.stats.datagrams
            assert counts["rate_limited"] == 1
            assert counts["echoed"] >= 20
            wait_until(lambda: answered == counts["echoed"], "the last answer")
            starter.sendto(b"end", other.getsockname())
        thread.join(DEADLINE)
        assert server.stats.datagrams == counts


@pytest.mark.parametrize("rate", [1, 3, 1000, 1_000_000_000])
def test_a_network_may_send_a_burst_of_one_second_and_then_its_rate(rate):
    table, start = RateTable(rate), 5 * SECOND
    burst = min(rate, 5000)
    assert all(table.allow(7, start) for _ in range(burst))
    if rate > burst:
        return
    assert not table.allow(7, start)
    assert not table.allow(7, start + SECOND // rate - 1)
    assert table.allow(7, start + SECOND // rate)
    assert not table.allow(7, start + SECOND // rate)
    assert all(table.allow(7, start + 3 * SECOND) for _ in range(burst))
    assert not table.allow(7, start + 3 * SECOND)


def test_networks_are_limited_apart_from_each_other():
    table = RateTable(1)
    allowed = [table.allow(network, SECOND) for network in (1, 2, 1, 3, 2, 1 << 63)]
    assert allowed == [True, True, False, True, False, True]


def test_a_limited_network_is_remembered_among_a_few_thousand_others():
    """A set of the table forgets the network that has most left, and this one has nothing left."""
    table, now = RateTable(1000), SECOND
    assert sum(table.allow(1, now) for _ in range(1001)) == 1000
    for network in range(2, 10_000):
        table.allow(network, now)
    assert not table.allow(1, now)


@pytest.mark.parametrize("rate", [0, SECOND + 1])
def test_a_rate_out_of_range_is_an_error(rate):
    with pytest.raises(ValueError, match="rate"):
        RateTable(rate)


# Errors of the sockets


def test_a_datagram_that_is_larger_than_the_buffer_is_counted_and_not_answered(run, host):
    async def body():
        counters = SharedCounters(1).counters_of(0)
        sock = udp_socket(host)
        address = sock.getsockname()
        echo = DatagramEcho(asyncio.get_running_loop(), [sock], counters, size=8)
        echo.start()
        with udp_client(address) as client:
            client.send(b"123456789")
            client.send(b"12345678")
            assert await answer(client) == b"12345678"
        await until(lambda: counters.snapshot()["datagrams"]["echoed"] == 1, "the count")
        assert counters.snapshot()["datagrams"]["truncated"] == 1
        echo.close()

    run(body())


@linux
def test_an_icmp_error_is_counted_and_the_socket_serves_on(run, host):
    """Only a connected socket hears of ICMP errors; the loops are not asked to watch one (hazard 30)."""

    async def body():
        counters = SharedCounters(1).counters_of(0)
        with udp_socket(host) as first:
            client = first.getsockname()
            sock = udp_socket(host)
            sock.connect(client)
            first.sendto(b"x", sock.getsockname())
        echo = DatagramEcho(asyncio.get_running_loop(), [sock], counters)
        echo.read(0)  # the client has closed its port
        echo.read(0)
        with udp_socket(host, client[1]) as second:
            second.sendto(b"hello", sock.getsockname())
            echo.read(0)
            assert await answer(second) == b"hello"
        echo.close()
        assert counters.snapshot()["datagrams"]["receive_error"] == 1

    run(body())


# Start and stop


def test_a_stop_answers_what_is_queued(run, host):
    async def body():
        sock = udp_socket(host)
        with udp_client(sock.getsockname()) as client:
            echo = DatagramEcho(asyncio.get_running_loop(), [sock])
            for number in range(100):
                client.send(payload(number))
            echo.close(answer=True)
            for number in range(100):
                assert await answer(client) == payload(number)
            assert sock.fileno() == -1
            echo.close()  # a second one does nothing

    run(body())


def test_a_close_without_drain_answers_nothing_more(run):
    async def body():
        sock = udp_socket("127.0.0.1")
        counters = SharedCounters(1).counters_of(0)
        with udp_client(sock.getsockname()) as client:
            echo = DatagramEcho(asyncio.get_running_loop(), [sock], counters)
            echo.start()
            client.send(b"x")
            echo.close()
        assert not any(counters.snapshot()["datagrams"].values())

    run(body())


def test_the_port_of_a_closed_server_is_free(run, host):
    async def body():
        async with fastecho.EchoServer(host=host, port=0, udp=True) as server:
            port = server.address[1]
        udp_socket(host, port).close()

    run(body())


def test_a_port_that_another_program_has_for_udp_is_an_error(run):
    async def body():
        with contextlib.ExitStack() as stack:
            free, port = None, 0
            while free is None:  # a port that TCP has not
                taken = stack.enter_context(udp_socket("127.0.0.1"))
                port = taken.getsockname()[1]
                with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as free:
                    pass
            with pytest.raises(AddressInUseError, match=rf"udp://127\.0\.0\.1:{port}: already in use"):
                await fastecho.EchoServer(port=port, udp=True).start()

    run(body())


def test_a_unix_socket_and_udp_do_not_go_together():
    with pytest.raises(ConfigError, match=r"unix .*beside udp"):
        fastecho.ServerConfig(udp=True, unix="socket")


def test_the_outcomes_have_the_names_of_the_statistics(run):
    async def body():
        async with fastecho.EchoServer(port=0) as server:
            assert tuple(server.stats.datagrams) == OUTCOMES

    run(body())


def test_an_unusable_socket_is_an_error(run):
    async def body():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            os.close(sock.detach())
            with pytest.raises(OSError) as caught:
                DatagramEcho(asyncio.get_running_loop(), [sock])
            assert caught.value.errno == errno.EBADF

    run(body())
