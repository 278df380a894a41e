"""A rolling update behind a load balancer, with what Kubernetes sends: counts the connections that fail.

    python -m benchmarks.rolling_update [--connections N] [--rounds N] [--proxy haproxy|nginx] [--shutdown-delay S]

Two instances of fastecho are behind HAProxy (Debian: haproxy; or nginx: libnginx-mod-stream) with the configuration
of deploy/. Clients open connections through it, echo 64 B, compare every byte, and close; in every other second the
server closes first. Meanwhile each instance is replaced once a round: SIGTERM, at which /readyz answers 503; its exit;
the start of another one; /readyz answers 200; --min-ready seconds, as minReadySeconds of a Deployment. It ends when all
rounds are over and there were --connections of them. The exit code is 1 if one of them failed.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fastecho.bench import LoadError, LoadSpec, run_load

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
HOSTS = {"one": "127.0.0.11", "two": "127.0.0.12"}
PATIENCE = 60.0
Settle = Callable[[str], None]


class UpdateError(Exception):
    """The update did not go as it does in a cluster."""


def wait_for(state: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not state():
        if time.monotonic() > end:
            raise UpdateError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.01)


class Instance:
    """One of the two places for a fastecho: replacements get the same addresses."""

    def __init__(self, name: str, options: Sequence[str] = ()) -> None:
        self.name, self.host, self.options = name, HOSTS[name], options
        self.port = self.metrics_port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ready, theirs = os.pipe()
        where = ["--host", self.host, "--port", str(self.port), "--metrics", f"{self.host}:{self.metrics_port}"]
        command = [sys.executable, "-m", "fastecho", *where, "--ready-fd", str(theirs), *self.options]
        self.process = subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.DEVNULL)
        os.close(theirs)
        with open(ready) as lines:
            ports = [int(port) for port in re.findall(r":(\d+)", lines.read())]
        if len(ports) != 2:
            raise UpdateError(f"instance {self.name} did not start")
        self.port, self.metrics_port = ports
        wait_for(lambda: self.readyz() == 200, f"instance {self.name} is ready")

    def readyz(self) -> int:
        """What the readiness probe gets; 0 without an answer."""
        connection = http.client.HTTPConnection(self.host, self.metrics_port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        wait_for(lambda: self.readyz() != 200, f"instance {self.name} is not ready any more")
        if code := self.process.wait(PATIENCE):
            raise UpdateError(f"instance {self.name} ended with exit code {code}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def with_servers(text: str, instances: Sequence[Instance]) -> str:
    """The configuration with the addresses of these instances, in the order of its lines."""
    places = iter(instances)

    def here(line: re.Match[str]) -> str:
        instance = next(places)
        return f"{line[1]}{instance.host}:{instance.port}"

    return re.sub(r"^( *server (?:\w+ )?)192\.0\.2\.\d+:8007", here, text, flags=re.M)


class HAProxy:
    """HAProxy with deploy/haproxy/haproxy.cfg: it asks /readyz, and needs to be told nothing.

    Args:
        inter: the interval of its checks.
    """

    program = "haproxy"

    def __init__(self, instances: Sequence[Instance], folder: Path, inter: str = "1s") -> None:
        self._stats = folder / "stats"
        text = with_servers((DEPLOY / "haproxy" / "haproxy.cfg").read_text(), instances)
        for instance in instances:
            text = re.sub(rf"(server {instance.name} .*)", rf"\1 port {instance.metrics_port}", text)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address: tuple[str, int] = self._listener.getsockname()
        text = text.replace("bind :8007", f"bind fd@{self._listener.fileno()}").replace("inter 1s", f"inter {inter}")
        text = text.replace("maxconn 20000", f"maxconn 2000\n    stats socket {self._stats} level admin")
        configuration = folder / "haproxy.cfg"
        configuration.write_text(text)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self.program, "-db", "-f", configuration], pass_fds=[self._listener.fileno()], stdout=log, stderr=log
            )
        for instance in instances:
            wait_for(lambda name=instance.name: self.serves(name), "HAProxy serves all instances")

    def statistics(self) -> list[dict[str, str]]:
        """A row for the frontend, for each server and for the backend."""
        if self._process.poll() is not None:
            raise UpdateError(f"HAProxy has ended: {self._log.read_text()}")
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(self._stats))
            except OSError:
                return []
            sock.sendall(b"show stat\n")
            text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        return list(csv.DictReader(io.StringIO(text.removeprefix("# "))))

    def serves(self, name: str) -> bool:
        """Whether it gives new connections to that instance."""
        return any(row["svname"] == name and row["status"].startswith("UP") for row in self.statistics())

    def before_stop(self, name: str) -> None:
        """Kubernetes tells it nothing."""

    def after_start(self, name: str) -> None:
        """Kubernetes tells it nothing."""

    def report(self) -> Iterator[str]:
        for row in self.statistics():
            if row["pxname"] == "fastecho":
                counts = {"connections": row["stot"], "retried": row["wretr"], "sent to the other": row["wredis"]}
                yield f"{row['svname']}: " + ", ".join(f"{int(count or 0):,} {name}" for name, count in counts.items())

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._listener.close()


class Nginx:
    """nginx with deploy/nginx/nginx.conf: it has no checks, and is reloaded before an instance stops."""

    program = "nginx"

    def __init__(self, instances: Sequence[Instance], folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address: tuple[str, int] = probe.getsockname()
        text = with_servers((DEPLOY / "nginx" / "nginx.conf").read_text(), instances)
        text = text.replace("listen 8007", f"listen 127.0.0.1:{self.address[1]} backlog=4096")
        modules = next(iter(Path("/usr/lib/nginx/modules").glob("ngx_stream_module.so")), None)
        load = f"load_module {modules};\n" if modules else ""
        self._text = f"{load}daemon off;\npid {folder}/pid;\nerror_log {folder}/log warn;\n{text}"
        self._lines = {instance.name: f"{instance.host}:{instance.port} max_fails=0" for instance in instances}
        self._down: set[str] = set()
        self._write()
        self._process = subprocess.Popen([self.program, "-p", folder, "-c", folder / "nginx.conf"])
        wait_for(self._accepts, "nginx accepts")

    def _accepts(self) -> bool:
        if self._process.poll() is not None:
            raise UpdateError(f"nginx has ended: {(self._folder / 'log').read_text()}")
        with socket.socket() as sock:
            return sock.connect_ex(self.address) == 0

    def _write(self) -> None:
        text = self._text
        for name in self._down:
            text = text.replace(self._lines[name], f"{self._lines[name]} down")
        (self._folder / "nginx.conf").write_text(text)

    def _workers(self) -> set[str]:
        return set(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split())

    def _reload(self) -> None:
        before = self._workers()
        self._write()
        self._process.send_signal(signal.SIGHUP)
        wait_for(lambda: bool(self._workers() - before), "nginx has a new worker")

    def before_stop(self, name: str) -> None:
        self._down.add(name)
        self._reload()

    def after_start(self, name: str) -> None:
        self._down.remove(name)
        self._reload()

    def report(self) -> Iterator[str]:
        yield f"{(self._folder / 'log').read_text().count('[error]')} connections to an instance failed"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


Proxy = HAProxy | Nginx


class Clients:
    """Connections, one after the other in each of `at_once` places, from `start()` until `stop()`.

    Args:
        rate: connections a second; None: as many as there can be.
        window: seconds until the other side is the one that closes first.
    """

    def __init__(self, address: tuple[str, int], at_once: int, rate: float | None = None, window: float = 1.0) -> None:
        self._spec = {"target": "{}:{}".format(*address), "connections": at_once, "rate": rate, "duration": window}
        self.done = 0
        self.failures: Counter[str] = Counter()
        self.details: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        server_closes = False
        while not self._stop.is_set():
            spec = LoadSpec(churn=True, server_closes=server_closes, warmup=0.0, **self._spec)
            try:
                result = run_load(spec, count_all=True)
            except LoadError as error:
                self.failures["connect"] += 1
                self.details.append(str(error))
                continue
            self.done += result.echoes
            self.failures.update({kind: count for kind, count in result.errors.items() if count})
            self.details += result.error_details
            server_closes = not server_closes

    @property
    def failed(self) -> int:
        return self.failures.total()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the connections that are open have ended."""
        self._stop.set()
        self._thread.join()


@contextmanager
def cluster(
    proxy: Callable[[Sequence[Instance], Path], Proxy], options: Sequence[str]
) -> Iterator[tuple[list[Instance], Proxy]]:
    """Two instances that were started with `options`, and a proxy that serves them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastecho-")))
        instances = [Instance(name, options) for name in HOSTS]
        for instance in instances:
            stack.callback(instance.kill)
            instance.start()
        balancer = proxy(instances, folder)
        stack.callback(balancer.close)
        yield instances, balancer


def replace(instance: Instance, balancer: Proxy, settle: Settle) -> None:
    """What happens to one pod of a rolling update. `settle` waits until the replacement counts as available."""
    balancer.before_stop(instance.name)
    instance.stop()
    instance.start()
    balancer.after_start(instance.name)
    settle(instance.name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=100_000, help="at least  [100000]")
    parser.add_argument("--rounds", type=int, default=2, help="replacements of each instance  [2]")
    parser.add_argument("--at-once", type=int, default=20, help="connections that are open at the same time  [20]")
    parser.add_argument("--rate", type=float, help="connections a second  [as many as there can be]")
    parser.add_argument("--proxy", choices=["haproxy", "nginx"], default="haproxy")
    parser.add_argument("--shutdown-delay", type=float, default=5.0, metavar="S", help="of the instances  [5]")
    parser.add_argument("--min-ready", type=float, default=4.0, metavar="S", help="before the next one stops  [4]")
    options = parser.parse_args()
    proxy = {"haproxy": HAProxy, "nginx": Nginx}[options.proxy]
    if shutil.which(proxy.program) is None:
        sys.exit(f"{proxy.program} is not installed")
    print(f"load average {os.getloadavg()[0]:.2f}, {options.proxy}, --shutdown-delay {options.shutdown_delay:g}")
    with cluster(proxy, ["--shutdown-delay", str(options.shutdown_delay)]) as (instances, balancer):
        clients = Clients(balancer.address, options.at_once, options.rate)
        began = time.monotonic()
        clients.start()
        try:
            for _ in range(options.rounds):
                for instance in instances:
                    replace(instance, balancer, lambda name: time.sleep(options.min_ready))
                    print(f"{time.monotonic() - began:5.1f} s: {instance.name} replaced, {clients.done:,} connections,"
                          f" {clients.failed} failed", flush=True)  # fmt: skip
            wait_for(lambda: clients.done >= options.connections, f"{options.connections:,} connections")
        finally:
            clients.stop()
        seconds = time.monotonic() - began
        print(*balancer.report(), sep="\n")
    for detail in clients.details[:10]:
        print(detail)
    print(f"{clients.done:,} connections in {seconds:.0f} s, {options.rounds * len(instances)} replacements,"
          f" {clients.failed} failed {dict(clients.failures) or ''}")  # fmt: skip
    print(f"load average {os.getloadavg()[0]:.2f}")
    return int(clients.failed > 0 or clients.done < options.connections)


if __name__ == "__main__":
    sys.exit(main())
