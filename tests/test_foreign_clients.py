"""Clients of other people, as their users start them: ncat, socat, Perl and Node."""

import os
import shutil
import subprocess
import tempfile

import pytest

import fastecho
from patience import DEADLINE

PERL = r"""
use IO::Socket::INET;
my ($host, $port, $match) = @ARGV;
my $s = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Proto => "tcp", Timeout => 5) or die $!;
binmode $s; binmode STDOUT; $s->autoflush(1);
sub ask { my ($d) = @_; print $s $d; my $g = ""; while (length $g < length $d) { sysread($s, my $b, 65536) or last; $g .= $b } $g }
my $big = join "", map { chr(1 + $_ % 255) } 0 .. 199999;
for my $at (map { $_ * 1000 } 0 .. 199) { my $part = substr $big, $at, 1000; die "wrong bytes" if ask($part) ne $part }
if ($match eq "tail") { die "a NUL inside ended it" if ask("in\0side") ne "in\0side" }
print $s "hello\0more" x ($match eq "anywhere"), "bye\0" x ($match eq "tail");
local $/; print scalar <$s>;
"""  # noqa: E501

NODE = r"""
const net = require("net");
const [host, port, match] = process.argv.slice(1);
const s = net.connect({host, port: Number(port), allowHalfOpen: true});
let got = Buffer.alloc(0), big = Buffer.alloc(1 << 20, 7), sent = false;
s.setTimeout(8000, () => { console.error("time-out"); process.exit(1); });
s.on("connect", () => s.write(big));
s.on("data", (part) => {
  got = Buffer.concat([got, part]);
  if (!sent && got.length >= big.length) {
    if (!got.equals(big)) { console.error("wrong bytes"); process.exit(1); }
    sent = true;
    s.write(match === "anywhere" ? "hello\0more" : "bye\0");
  }
});
s.on("end", () => { process.stdout.write(got.subarray(big.length)); s.end(); });
s.on("error", (e) => { console.error(String(e)); process.exit(1); });
"""


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def talk(command, data=b""):
    done = subprocess.run(command, input=data, capture_output=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["tail", "anywhere"])
def match(request):
    return request.param


@pytest.fixture
def server(match):
    with fastecho.serve(port=0, match=match, linger_timeout=1, drain_grace=0.05) as server:
        yield server


def due(match):
    return {"tail": b"hello\0more", "anywhere": b"hello\0"}[match]


def test_ncat_gets_its_echo(server, match):
    need("ncat")
    host, port = server.address
    assert talk(["ncat", host, str(port)], b"hello\0more") == due(match)


def test_ncat_with_a_nul_at_the_end(server):
    need("ncat")
    host, port = server.address
    assert talk(["ncat", host, str(port)], b"hello\0") == b"hello\0"


def test_ncat_half_closes_and_gets_its_x(server):
    need("ncat")
    host, port = server.address
    assert talk(["ncat", host, str(port)], b"x") == b"x"


def test_ncat_with_a_megabyte(server):
    need("ncat")
    host, port = server.address
    data = bytes(range(1, 256)) * 4112
    assert talk(["ncat", host, str(port)], data) == data


def test_ncat_over_a_unix_socket(match):
    need("ncat")
    folder = tempfile.mkdtemp(prefix="fe")
    path = os.path.join(folder, "echo.sock")
    try:
        with fastecho.serve(unix=path, match=match, drain_grace=0.05):
            assert talk(["ncat", "-U", path], b"hello\0more") == due(match)
    finally:
        shutil.rmtree(folder)


def test_socat_gets_its_echo(server, match):
    need("socat")
    host, port = server.address
    assert talk(["socat", "-t5", "-", f"TCP:{host}:{port}"], b"hello\0more") == due(match)


def test_socat_in_small_blocks(server, match):
    """1-byte writes: the NUL ends the read that it arrives in, unless the read brings more bytes."""
    need("socat")
    host, port = server.address
    got = talk(["socat", "-t5", "-b1", "-", f"TCP:{host}:{port},nodelay"], b"hello\0more")
    assert got == b"hello\0" if match == "anywhere" else got in {b"hello\0", b"hello\0m", b"hello\0mo",
                                                                b"hello\0mor", b"hello\0more"}  # fmt: skip


def test_a_perl_client_gets_its_echo(server, match):
    need("perl")
    host, port = server.address
    expected = {"tail": b"bye\0", "anywhere": b"hello\0"}[match]
    assert talk(["perl", "-e", PERL, host, str(port), match]) == expected


def test_a_node_client_gets_its_echo(server, match):
    need("node")
    host, port = server.address
    expected = {"tail": b"bye\0", "anywhere": b"hello\0"}[match]
    assert talk(["node", "-e", NODE, host, str(port), match]) == expected
