"""Addresses that refuse, and addresses that never answer."""

import errno
import select
import socket

import pytest

from clients import connect_blocking
from descriptors import open_descriptors
from fastecho.testing._addresses import blackhole_address, refused_address
from freed_ports import assert_port_freed

FAMILIES = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6}
pytestmark = pytest.mark.parametrize("family", list(FAMILIES))


def test_a_refused_address_refuses_every_time(family):
    with refused_address(family) as address:
        for _ in range(20):
            with pytest.raises(ConnectionRefusedError):
                connect_blocking(address)


@pytest.mark.parametrize("reuse", [False, True])
def test_no_other_socket_takes_the_port_meanwhile(family, reuse):
    with refused_address(family) as address, socket.socket(FAMILIES[family]) as rival:
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        with pytest.raises(OSError) as caught:
            rival.bind(address)
        assert caught.value.errno == errno.EADDRINUSE


def test_the_address_is_a_host_and_a_port(family):
    for given in (refused_address(family), blackhole_address(family)):
        with given as (host, port):
            assert host == {"tcp": "127.0.0.1", "tcp6": "::1"}[family]
            assert 0 < port < 65536


def test_a_blackhole_answers_no_syn(family):
    """Not even the first: of twenty that knock, none is connected and none is refused."""
    with blackhole_address(family) as address:
        knocking = [socket.socket(FAMILIES[family]) for _ in range(20)]
        try:
            poll = select.poll()
            for sock in knocking:
                sock.setblocking(False)
                assert sock.connect_ex(address) == errno.EINPROGRESS
                poll.register(sock, select.POLLOUT)
            # An answer on loopback comes before connect() returns; this leaves room for a machine that is late.
            assert poll.poll(200) == []
        finally:
            for sock in knocking:
                sock.close()


def test_connecting_to_a_blackhole_runs_into_the_time_out(family):
    with blackhole_address(family) as address, pytest.raises(TimeoutError):
        connect_blocking(address, timeout=0.1)


def test_many_blackholes_one_after_another(family):
    for _ in range(200):
        with blackhole_address(family) as address, socket.socket(FAMILIES[family]) as sock:
            sock.setblocking(False)
            assert sock.connect_ex(address) == errno.EINPROGRESS


@pytest.mark.parametrize("make", [refused_address, blackhole_address])
def test_nothing_is_left(family, make):
    before = open_descriptors()
    for _ in range(10):
        with make(family):
            assert open_descriptors() > before
    with pytest.raises(KeyError), make(family):
        raise KeyError
    assert open_descriptors() == before


@pytest.mark.parametrize("make", [refused_address, blackhole_address])
def test_the_port_is_free_afterwards(family, make):
    def use():
        with make(family) as address:
            return address

    assert_port_freed(use)


@pytest.mark.parametrize("make", [refused_address, blackhole_address])
def test_an_unknown_family_is_named(family, make):
    with pytest.raises(ValueError, match="family 'udp': must be tcp or tcp6"), make("udp"):
        pass
