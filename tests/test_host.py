"""A library in another program: it changes nothing of the process that it runs in, neither while it runs nor after."""

from __future__ import annotations

import subprocess
import sys

import pytest

from patience import DEADLINE

STATE = """
import asyncio, decimal, gc, locale, logging, os, random, resource, signal, socket, sys, threading, warnings

def policy():
    with warnings.catch_warnings():  # deprecated since Python 3.14
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop_policy()

def state():
    umask = os.umask(0)
    os.umask(umask)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    root, ours = logging.getLogger(), logging.getLogger("fastecho")
    return {
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in names},
        "signal handlers": handlers,
        "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "wake-up descriptor": wakeup,
        "warning filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), list(gc.callbacks)),
        "frozen objects": gc.get_freeze_count() > 1000,  # some of them end by themselves
        "locale": locale.setlocale(locale.LC_ALL),
        "umask": umask,
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "module path": list(sys.path),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "policy": policy(),
        "random": random.getstate(),
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "socket time-out": socket.getdefaulttimeout(),
        "decimal context": repr(decimal.getcontext()),
        "affinity": os.sched_getaffinity(0),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "logging": (list(root.handlers), root.level, list(ours.handlers), ours.level, ours.propagate),
        "timer": signal.getitimer(signal.ITIMER_REAL),
    }

def differences(before, after):
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}

def same(when):
    changed = differences(BEFORE, state())
    assert not changed, f"{when}: {changed}"

# What a program may have chosen itself.
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(500, hard), hard))
gc.freeze()
gc.set_threshold(1234, 12, 13)
os.umask(0o027)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
signal.signal(signal.SIGHUP, signal.SIG_IGN)
warnings.filterwarnings("error", category=ResourceWarning)
random.seed(1)
BEFORE = state()

def ask(address):
    with socket.create_connection(address) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
"""

PROGRAMS = {
    "EchoServer on uvloop": """
import uvloop, fastecho
async def main():
    async with fastecho.EchoServer(port=0, terminator=None) as server:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        inside.append(differences(IN_LOOP, state()))
        writer.close()
        await writer.wait_closed()
inside = []
async def begin():
    global IN_LOOP
    IN_LOOP = state()  # the loop itself has a wake-up descriptor
    await main()
with_loop = uvloop.new_event_loop()
with_loop.run_until_complete(begin())
with_loop.close()
assert inside == [{}], inside
""",
    "serve": """
import fastecho
with fastecho.serve(port=0, terminator=None) as server:
    ask(server.address)
    same("while it serves")
""",
    "serve with faults, pinned buffers and busy polling": """
import fastecho
with fastecho.serve(port=0, terminator=None, pin_buffers=True, busy_poll=50) as server:
    ask(server.address)
    same("while it serves")
with (
    fastecho.serve(port=0, terminator=None, fault="slice(2)") as server,
    socket.create_connection(server.address) as client,
):
    client.sendall(b"hello")
    assert client.recv(1)
    same("while it serves")
""",
    "fixture": """
from fastecho.testing import Fault, echo_server
with echo_server() as server:
    ask(server.address)
    with server.fault(Fault.latency(0.001)):
        ask(server.address)
    same("while it serves")
    with server.down():
        same("while it is down")
""",
    "fixture with TLS": """
from fastecho.testing import echo_server
with echo_server(tls=True) as server:
    same("while it serves")
""",
    "run_load": '''
import subprocess
SERVER = """
import fastecho, sys
with fastecho.serve(port=0, terminator=None) as server:
    print(server.address[1], flush=True)
    sys.stdin.read()
"""
child = subprocess.Popen(
    [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
port = int(child.stdout.readline())
from fastecho.bench import LoadSpec, run_load
run_load(LoadSpec(target=f"127.0.0.1:{port}", connections=8, duration=0.1, warmup=0.01), lambda event: same(event))
child.communicate("")
''',
    "run": """
import fastecho
ready, theirs = os.pipe()
threading.Thread(target=lambda: (os.read(ready, 100), os.kill(os.getpid(), signal.SIGTERM))).start()
assert fastecho.run(fastecho.ServerConfig(port=0, workers=2, ready_fd=theirs)) == 0
""",
}  # fmt: skip
PROGRAMS["EchoServer on asyncio"] = (
    PROGRAMS["EchoServer on uvloop"].replace("uvloop.new_event_loop", "asyncio.SelectorEventLoop")
)  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_around_it_is_left_as_it_is(name: str) -> None:
    program = f"{STATE}\n{PROGRAMS[name]}\nsame('at the end')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False,
                          timeout=3 * DEADLINE, stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_state_that_is_compared_shows_a_change() -> None:
    """The test above must be able to fail."""
    for change in ("gc.unfreeze()", "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))", "random.random()",
                   "signal.pthread_sigmask(signal.SIG_SETMASK, ())", "warnings.simplefilter('ignore')"):  # fmt: skip
        done = subprocess.run([sys.executable, "-c", f"{STATE}\n{change}\nsame('now')"], capture_output=True, text=True,
                              check=False, timeout=DEADLINE)  # fmt: skip
        assert "AssertionError: now: " in done.stderr, change


def test_max_connections_follows_from_the_limit_that_is_there() -> None:
    program = """
import resource, socket, fastecho
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
with fastecho.serve(port=0, terminator=None) as server:
    clients = [socket.create_connection(server.address) for _ in range(20)]
    for client in clients:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 100
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=2 * DEADLINE)
    assert done.returncode == 0, done.stderr


def test_run_load_names_the_limit_that_its_program_has_to_raise() -> None:
    program = """
import resource
from fastecho.bench import LoadSpec, run_load
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
run_load(LoadSpec(target="127.0.0.1:1", connections=1000))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=2 * DEADLINE)
    assert "LoadError: 1000 connections need 1064 descriptors, and ulimit -n allows 100" in done.stderr
