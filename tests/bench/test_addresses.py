"""A name that stands for several addresses: each is tried, and the error names all of them."""

import json
import socket

import pytest

from bench_servers import echo, serving, tls_context
from fastecho.bench import LoadSpec, Target, run_load
from fastecho.bench.measure import measure
from fastecho.errors import ConfigError

QUICK = ["--duration", "200ms", "--warmup", "0", "--connections", "2", "-q"]


@pytest.fixture
def resolving(monkeypatch):
    """Let a name stand for addresses."""

    def resolve(*hosts):
        def found(host, port, *arguments, **settings):
            return [
                (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
                for each in hosts
            ]

        monkeypatch.setattr(socket, "getaddrinfo", found)

    return resolve


@pytest.fixture
def server():
    """The port of a server at 127.0.0.1; nothing listens at it on another address."""
    with serving(echo) as target:
        yield int(target.rpartition(":")[2])


@pytest.mark.parametrize("first", ["127.0.0.9", "::1"])
def test_the_address_that_accepts_is_used_and_shown(fastecho, resolving, server, first, tmp_path):
    resolving(first, "127.0.0.1")
    path, page = tmp_path / "run.json", tmp_path / "run.html"
    name = f"tcp://name.test:{server}"
    code, out, err = fastecho(name, *QUICK, "--json", str(path), "--report", str(page))
    assert code == 0, err
    assert out.startswith(f"{name} (127.0.0.1)  ")
    assert json.loads(path.read_text())["result"]["address"] == "127.0.0.1"
    assert f"{name} (127.0.0.1)" in page.read_text()
    code, out, err = fastecho("ping", f"name.test:{server}", "-c", "1")
    assert code == 0, err
    assert out.startswith(f"PING {name} (127.0.0.1): 64 bytes\n")


@pytest.mark.parametrize("settings", [{}, {"churn": True}, {"rate": 500.0}, {"threads": 2}], ids=str)
def test_every_load_uses_it(resolving, server, settings):
    resolving("127.0.0.9", "127.0.0.1")
    result = run_load(LoadSpec(target=f"name.test:{server}", duration=0.5, warmup=0, connections=4, **settings))
    assert result.ok, result.error_details
    assert result.address == "127.0.0.1"


def test_tls_uses_it(resolving, tmp_path):
    ca = tmp_path / "ca.pem"
    with serving(echo, tls=tls_context("name.test", ca)) as target:
        resolving("127.0.0.9", "127.0.0.1")
        spec = LoadSpec(target=f"tls://name.test:{target.rpartition(':')[2]}", duration=0.5, warmup=0, tls_ca=str(ca))
        assert run_load(spec).ok


@pytest.mark.parametrize("command", [[], ["--churn"], ["ping"]], ids=str)
def test_the_error_names_every_address_that_was_tried(fastecho, resolving, command):
    resolving("::1", "127.0.0.1")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        target = f"name.test:{bound.getsockname()[1]}"
        arguments = ["ping", target] if command else [target, *QUICK, *command]
        code, out, err = fastecho(*arguments)
    assert (code, out) == (5, "")
    assert err.startswith(f"fastecho: cannot connect to tcp://{target}: ::1: ")
    assert err.endswith("; 127.0.0.1: Connection refused\n")


def test_a_name_with_one_address_names_it(fastecho, resolving):
    resolving("127.0.0.1")
    for arguments in (["name.test:1", *QUICK], ["name.test:1", *QUICK, "--churn"], ["ping", "name.test:1"]):
        code, _, err = fastecho(*arguments)
        assert code == 5
        assert err == "fastecho: cannot connect to tcp://name.test:1: 127.0.0.1: Connection refused\n"


def test_a_single_address_is_not_tried_first():
    """A server may count its connections."""
    taken = []

    def session(sock):
        taken.append(sock)
        echo(sock)

    with serving(session) as target:
        run_load(LoadSpec(target=target, connections=3, duration=0.5, warmup=0))
    assert len(taken) == 3


def test_a_name_that_cannot_be_resolved(fastecho, monkeypatch):
    def fail(*arguments, **settings):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for arguments in (["name.test:1", *QUICK], ["ping", "name.test:1"]):
        code, out, err = fastecho(*arguments)
        assert (code, out) == (5, "")
        assert err == "fastecho: cannot resolve name.test: Name or service not known\n"


def test_addresses_come_once_each_in_the_order_of_the_resolver(resolving):
    resolving("::1", "127.0.0.1", "::1")
    assert [address.host for address in Target.parse("name.test:7").addresses()] == ["::1", "127.0.0.1"]


def test_source_chooses_the_addresses_of_its_family(resolving, server):
    resolving("::1", "127.0.0.1")
    spec = LoadSpec(target=f"name.test:{server}", duration=0.5, warmup=0, connections=2, sources=("127.0.0.3",))
    result = run_load(spec)
    assert result.ok
    assert result.address == "127.0.0.1"


@pytest.mark.parametrize("tls", [False, True])
def test_source_is_where_the_connections_come_from(tls):
    peers = set()

    def session(sock):
        peers.add(sock.getpeername()[0])
        echo(sock)

    with serving(session, tls=tls_context() if tls else None) as target:
        spec = LoadSpec(target=target, duration=0.5, warmup=0, connections=4, tls_insecure=tls,
                        sources=("127.0.0.3", "127.0.0.4"))  # fmt: skip
        assert run_load(spec).ok
    assert peers == {"127.0.0.3", "127.0.0.4"}


@pytest.mark.parametrize(
    ("target", "sources", "said"),
    [
        ("127.0.0.1:1", ["::1"], "must be of the family of the target, which has 127.0.0.1"),
        ("[::1]:1", ["127.0.0.1"], "must be of the family of the target, which has ::1"),
        ("127.0.0.1:1", ["::1", "127.0.0.1"], "must be numeric addresses, all IPv4 or all IPv6"),
        ("127.0.0.1:1", ["localhost"], "must be numeric addresses, all IPv4 or all IPv6"),
        ("unix:/x", ["127.0.0.1"], "must not be given with a UNIX target"),
    ],
)
def test_a_source_that_will_not_do(fastecho, target, sources, said):
    arguments = [each for source in sources for each in ("--source", source)]
    code, out, err = fastecho(target, *QUICK, *arguments)
    assert (code, out) == (2, "")
    assert err == f"fastecho: --source {', '.join(sources)!r}: {said}\n".replace("'", "" if len(sources) == 1 else "'")
    with pytest.raises(ConfigError, match="sources"):
        run_load(LoadSpec(target=target, sources=tuple(sources)))


def test_an_address_that_is_not_of_this_machine_is_a_failure_of_the_client(fastecho, server):
    code, out, err = fastecho(f"127.0.0.1:{server}", *QUICK, "--source", "192.0.2.1")
    assert (code, out) == (1, "")
    assert "Cannot assign requested address" in err


def test_the_server_is_found_by_any_address_of_its_name(resolving, server):
    resolving("192.0.2.1", "127.0.0.1")
    spec = LoadSpec(target=f"name.test:{server}", duration=0.5, warmup=0, timeout=0.3)
    _, found = measure(spec)
    assert found is not None
