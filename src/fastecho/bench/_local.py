"""What this machine has to give to a load: descriptors and ports."""

import resource
import sys

from ._errors import LoadError
from .spec import LoadSpec

_DESCRIPTORS_SPARE = 64
# Of the 28,232 ports that Linux gives to one source address; the rest are other programs', or in TIME_WAIT.
_PORTS_A_SOURCE = 20_000
_CHURN_SOURCES = 8


def check_descriptor_limit(connections: int) -> None:
    """Raise LoadError unless `connections` fit into the soft limit of descriptors, which is the program's to raise."""
    needed = connections + _DESCRIPTORS_SPARE
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        raise LoadError(f"{connections} connections need {needed} descriptors, and ulimit -n allows {soft}")


def source_addresses(spec: LoadSpec, host: str, *, several: bool = sys.platform == "linux") -> list[str]:
    """The addresses to connect from: those asked for, or several of 127/8 when the ports of one would run out."""
    if spec.sources is not None:
        return list(spec.sources)
    if not host.startswith("127.") or not several:
        return []
    count = _CHURN_SOURCES if spec.churn else -(-spec.connections // _PORTS_A_SOURCE)
    return [f"127.0.0.{k + 1}" for k in range(count)] if count > 1 else []
