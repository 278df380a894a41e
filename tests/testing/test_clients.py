"""The fixture before clients that we did not write: ncat, socat and openssl."""

import subprocess

import pytest

from fastecho.testing import certificates, echo_server
from patience import DEADLINE

DATA = bytes(range(256)) * 1000


def talk(command, data, status=0):
    done = subprocess.run(command, input=data, capture_output=True, timeout=2 * DEADLINE)
    assert done.returncode == status, done.stderr
    return done


def ncat(server, *more):
    where = ["-U", server.address] if isinstance(server.address, str) else [server.host, str(server.port)]
    return ["ncat", *more, *where]


def socat(server, *more):
    if isinstance(server.address, str):
        return ["socat", *more, "-t9", "-", f"UNIX-CONNECT:{server.address}"]
    host = f"[{server.host}]" if ":" in server.host else server.host
    return ["socat", *more, "-t9", "-", f"TCP:{host}:{server.port}"]


def s_client(server, *more):
    where = f"[{server.host}]:{server.port}" if ":" in server.host else f"{server.host}:{server.port}"
    ca = certificates().ca_path
    return ["openssl", "s_client", "-quiet", "-no_ign_eof", "-verify_return_error", "-CAfile", ca, *more,
            "-connect", where]  # fmt: skip


@pytest.mark.parametrize("client", [ncat, socat])
@pytest.mark.parametrize("family", ["tcp", "tcp6", "dual", "unix"])
def test_a_binary_payload_with_nul(client, family):
    with echo_server(family=family) as server:
        for data in (b"bye\0", DATA):
            assert talk(client(server), data).stdout == data
        server.assert_received(b"bye\0" + DATA)
        server.assert_all_closed()
        assert {session.close_reason for session in server.connections} == {"eof"}


@pytest.mark.parametrize("client", [ncat, socat])
def test_a_greeting_arrives_before_the_echo(client):
    with echo_server(reply=b"220 ready\r\n") as server:
        assert talk(client(server), b"hello").stdout == b"220 ready\r\nhello"


@pytest.mark.parametrize("client", [ncat, socat])
def test_a_clean_end_in_the_middle(client):
    with echo_server(faults=["close(after_sent=100)"]) as server:
        assert talk(client(server), DATA[:5000]).stdout == DATA[:100]


def test_a_reset_after_exactly_so_many_bytes():
    """socat says so, with everything before the reset delivered."""
    with echo_server() as server:
        with server.fault("reset(after_sent=17)"):
            # Its input stays open, so that it reads on and does not shut down what is reset.
            process = subprocess.Popen(
                ["socat", "-d", "-t0.1", "-", f"TCP:{server.host}:{server.port}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            process.stdin.write(b"x" * 40)
            process.stdin.flush()
            process.wait(2 * DEADLINE)
            got, said = process.communicate()
        assert got == b"x" * 17
        assert b"reset by peer" in said
        assert talk(socat(server), b"clean").stdout == b"clean"


def test_a_reset_seen_by_ncat():
    with echo_server(faults=["reset(after_sent=17)"]) as server:
        done = subprocess.run(ncat(server), input=b"x" * 40, capture_output=True, timeout=2 * DEADLINE)
        assert done.stdout == b"x" * 17
        assert server.fault_log == ("connection 0: reset(after_sent=17) at out 17",)


@pytest.mark.parametrize("client", [ncat, socat])
def test_a_server_that_is_down_is_refused(client):
    with echo_server() as server:
        server.down()
        assert b"refused" in talk(client(server), b"x", status=1).stderr
        server.up()
        assert talk(client(server), b"x").stdout == b"x"


@pytest.mark.parametrize("client", [ncat, socat])
def test_faults_on_the_bytes(client):
    with echo_server(faults=["slice([3, 5, 8])", "corrupt(0, xor=1)", "drop(1)"]) as server:
        assert talk(client(server), b"hello world").stdout == b"illo world"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("family", ["tcp", "tcp6"])
def test_openssl_s_client_gets_its_echo(family, version):
    with echo_server(family=family, tls=True) as server:
        process = subprocess.Popen(
            s_client(server, version, "-verify_hostname", "localhost"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"hello\n"
            assert server.connections[0].tls == {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}[version]
            server.assert_received(b"hello\n")
        finally:
            process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
        server.assert_all_closed()


@pytest.mark.parametrize(
    ("kind", "said"),
    [("expired", b"certificate has expired"), ("wrong_host", b"ostname mismatch"), ("self_signed", b"self")],
)
def test_openssl_refuses_a_certificate_that_will_not_do(kind, said):
    with echo_server(tls=kind) as server:
        done = talk(s_client(server, "-verify_hostname", "localhost"), b"secret\n", status=1)
        assert said in done.stderr
        server.assert_received(b"")
        server.assert_all_closed()


def test_openssl_with_a_certificate_of_its_own():
    client = certificates().client
    with echo_server(tls="client") as server:
        refused = subprocess.run(s_client(server), input=b"x\n", capture_output=True, timeout=2 * DEADLINE)
        assert refused.stdout == b""
        server.assert_received(b"")
        process = subprocess.Popen(
            s_client(server, "-cert", client.cert_path, "-key", client.key_path),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"hello\n"
        finally:
            process.communicate(timeout=DEADLINE)


def test_openssl_meets_tls_faults():
    with echo_server(tls=True) as server:
        with server.fault("tls_abort()"):
            done = subprocess.run(s_client(server), input=b"", capture_output=True, timeout=2 * DEADLINE)
            assert done.returncode != 0
        with server.fault("reset(after_sent=0)"):
            done = subprocess.run(s_client(server), input=b"x\n", capture_output=True, timeout=2 * DEADLINE)
            assert done.stdout == b""
