"""Durations and numbers as text for people."""

import math


def duration(seconds: float) -> str:
    """Three significant digits and a unit: `850 ns`, `12.3 us`, `1.00 ms`, `2.50 s`; `-` for NaN."""
    if math.isnan(seconds):
        return "-"
    for unit, scale in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * scale:
            return f"{_digits(seconds / scale)} {unit}"
    return f"{_digits(seconds)} s"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 or value == 0 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def tick(seconds: float) -> str:
    """A round duration without the zeros after its point: `20 ms`, `2.5 us`."""
    for unit, scale in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 0.9995 * scale * 1000:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds:.4g} s"


def number(value: float) -> str:
    """A count with thin groups: `1,234,567`."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def count_tick(value: float) -> str:
    """A round count, as `--rate` takes it: `0`, `500`, `2.5k`, `300k`, `1.2M`."""
    unit, scale = ("M", 1e6) if value >= 1e6 else ("k", 1e3) if value >= 1e3 else ("", 1.0)
    return f"{value / scale:.4g}{unit}"
