"""The language of faults: which connection x when x what becomes of it.

Pure values and text: no sockets and no asyncio here, since the configuration is made of them. What carries
them out is in `_injection`; docs/faults.md describes them.
"""

from ._fault import Fault
from ._parse import format_faults, parse_faults, validate_faults

__all__ = ["Fault", "format_faults", "parse_faults", "validate_faults"]
