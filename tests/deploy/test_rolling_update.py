"""A rolling update of two instances behind HAProxy, with deploy/haproxy/haproxy.cfg."""

from __future__ import annotations

import functools
import shutil
import sys

import pytest
from benchmarks.rolling_update import Clients, HAProxy, cluster, replace

from patience import UNIT, wait_until

pytestmark = [
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy (Debian: haproxy); the gate has it"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs more than one address of loopback"),
]


@pytest.mark.proof("A rolling update of two instances behind HAProxy loses no connection.")
@pytest.mark.timeout(600 * UNIT)
def test_a_rolling_update_behind_a_load_balancer_loses_no_connection(amount, record_property) -> None:
    rounds = amount(suite=1, proof=2)
    wanted = amount(suite=100, proof=10_000, release=100_000)
    rate = amount(suite=200.0, proof=1000.0)
    proxy = functools.partial(HAProxy, inter="50ms")
    with cluster(proxy, ["--shutdown-delay", "0.5"]) as (instances, balancer):
        clients = Clients(balancer.address, at_once=10, rate=rate, window=0.2)
        clients.start()
        try:
            for _ in range(rounds):
                for instance in instances:
                    replace(
                        instance,
                        balancer,
                        lambda name: wait_until(lambda: balancer.serves(name), f"HAProxy gives connections to {name}"),
                    )
            wait_until(lambda: clients.done >= wanted, f"{wanted} connections", 300 * UNIT)
        finally:
            clients.stop()
        served = {row["svname"]: int(row["stot"]) for row in balancer.statistics() if row["pxname"] == "fastecho"}
    record_property("connections", clients.done)
    record_property("replacements", rounds * len(instances))
    assert clients.failures == {}, clients.details
    assert min(served.values()) > 0, "one of the instances got no connection"
