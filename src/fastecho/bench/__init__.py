"""A load generator for echo servers of any make, and what is read from its runs.

    from fastecho.bench import LoadSpec, run_load

    result = run_load(LoadSpec(target="tcp://127.0.0.1:8007", connections=50, size=64))
    print(result.rate, result.percentiles["p99"], result.errors)

It imports nothing of the rest of fastecho but its errors and its version, and meets a server over a socket only.
"""

from ._errors import LoadError
from .result import LoadResult, Sample
from .run import run_load
from .spec import LoadSpec, SizeRange
from .stop import Interrupted, Stop
from .target import Target

__all__ = [
    "Interrupted",
    "LoadError",
    "LoadResult",
    "LoadSpec",
    "Sample",
    "SizeRange",
    "Stop",
    "Target",
    "run_load",
]
