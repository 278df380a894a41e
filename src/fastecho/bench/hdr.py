"""Between the engine's histogram and the standard encoding of HdrHistogram, by the `hdrhistogram` package."""

import warnings
from collections.abc import Iterable
from typing import Any

from ..errors import MissingExtraError
from ._hdr import HIGHEST, Histogram

UNIT = "ns"
DIGITS = 3


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            # Python 3.14 deprecates how the package lays out its ctypes structures.
            warnings.simplefilter("ignore", DeprecationWarning)
            from hdrh.histogram import HdrHistogram
    except ImportError:
        raise MissingExtraError("the hdrhistogram package is missing: pip install 'fastecho[bench]'") from None
    return HdrHistogram


def require() -> None:
    """Raise MissingExtraError now rather than after the run."""
    _package()


def encode(histogram: Histogram) -> str:
    """The histogram in HdrHistogram's V2 encoding, compressed, in base64; its unit is the nanosecond."""
    standard = _package()(1, HIGHEST, DIGITS)
    for value, times in histogram.items():
        standard.record_value(value, times)
    encoded: bytes = standard.encode()
    return encoded.decode("ascii")


def decode(encoded: str, most: int | None = None) -> Histogram:
    """The inverse of `encode`, except that a value becomes the least of its counter.

    The encoding does not hold the greatest value exactly; give it as `most`, and percentiles end there. Raises
    ValueError when it is no such histogram.
    """
    package = _package()
    try:
        standard = package.decode(encoded.encode("ascii"))
    except Exception as error:  # the package raises what its parts raise: zlib.error, binascii.Error, its own
        raise ValueError(f"not an HdrHistogram: {error}") from error
    histogram = Histogram()
    for item in standard.get_recorded_iterator():
        lowest, times = standard.get_lowest_equivalent_value(item.value_iterated_to), item.count_added_in_this_iter_step
        if most is not None and lowest <= most <= standard.get_highest_equivalent_value(lowest):
            histogram.record(most)
            times -= 1
        if times:
            histogram.record(lowest, times)
    return histogram


def merge(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of everything counted in `histograms`."""
    union = Histogram()
    for histogram in histograms:
        union.add(histogram)
    return union
