"""Line charts as inline SVG: axes, lines, an area, and a tooltip for each place on the x axis. No script."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 960, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 12, 34


@dataclasses.dataclass(frozen=True)
class Axis:
    """From `low` to `high`, linear or logarithmic, with labelled ticks."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """The position of `value`, 0 to 1; values outside are at the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclasses.dataclass(frozen=True)
class Line:
    """Points (x, y) under a name; `css` is the class that colours it, `area` fills down to the x axis."""

    name: str
    css: str
    points: Sequence[tuple[float, float]]
    area: bool = False


def nice_axis(highest: float, show: Callable[[float], str], wanted: int = 5) -> Axis:
    """A linear axis from 0 to a round number at or above `highest`."""
    highest = highest or 1.0
    raw = highest / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    count = math.ceil(highest / step * 0.999)
    return Axis(0.0, count * step, tuple((k * step, show(k * step)) for k in range(count + 1)))


def log_axis(lowest: float, highest: float, show: Callable[[float], str]) -> Axis:
    """A logarithmic axis with ticks at 1, 2 and 5 times the powers of ten (fewer when it is long)."""
    lowest, highest = max(lowest, 1e-9), max(highest, lowest * 1.01, 1e-9)
    decades = math.log10(highest / lowest)
    steps = (1, 2, 5) if decades <= 2.5 else (1, 3) if decades <= 4 else (1,)
    powers = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    ticks = [m * 10.0**k for k in powers for m in steps]
    low = max((t for t in ticks if t <= lowest * 1.001), default=lowest)
    high = min((t for t in ticks if t >= highest * 0.999), default=highest)
    return Axis(low, high, tuple((t, show(t)) for t in ticks if low * 0.999 <= t <= high * 1.001), log=True)


def latency_axis(values: Sequence[float], show: Callable[[float], str]) -> Axis:
    """Linear while the values are of one order, else logarithmic."""
    seen = [value for value in values if value > 0]
    if not seen:
        return nice_axis(1e-3, show)
    return log_axis(min(seen), max(seen), show) if max(seen) > 12 * min(seen) else nice_axis(max(seen), show)


def chart(label: str, x: Axis, y: Axis, lines: Sequence[Line], tips: Sequence[tuple[float, str]] = ()) -> str:
    """The chart as an `<svg>` element; `label` says to a screen reader what it is."""
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(value: float) -> float:
        return LEFT + x.place(value) * inner_width

    def down(value: float) -> float:
        return TOP + (1 - y.place(value)) * inner_height

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for value, text in y.ticks:
        at = down(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 8}" y="{at + 4:.1f}">{escape(text)}</text>')
    floor = TOP + inner_height
    for value, text in x.ticks:
        at = across(value)
        parts.append(f'<line class="notch" x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 5}"/>')
        # The last label stays inside the picture.
        anchor = "end" if at > WIDTH - 2 * RIGHT else "mid"
        edge = WIDTH - RIGHT / 4 if anchor == "end" else at
        parts.append(f'<text class="tick {anchor}" x="{edge:.1f}" y="{floor + 20}">{escape(text)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
    for line in lines:
        if not line.points:
            continue
        path = " ".join(f"{across(a):.1f},{down(b):.1f}" for a, b in line.points)
        if line.area:
            first, last = across(line.points[0][0]), across(line.points[-1][0])
            parts.append(f'<polygon class="area {line.css}" points="{first:.1f},{floor} {path} {last:.1f},{floor}"/>')
        parts.append(f'<polyline class="line {line.css}" points="{path}"/>')
    parts += _tips(tips, across, inner_height)
    parts.append("</svg>")
    return "".join(parts)


def _tips(tips: Sequence[tuple[float, str]], across: Callable[[float], float], height: int) -> list[str]:
    """An invisible column around each place, which shows a rule and the browser's own tooltip under the pointer."""
    places = [across(value) for value, _ in tips]
    found = []
    for k, (place, (_, text)) in enumerate(zip(places, tips, strict=True)):
        left = (places[k - 1] + place) / 2 if k else place
        right = (places[k + 1] + place) / 2 if k + 1 < len(places) else place
        found.append(
            f'<g class="tip"><rect x="{left:.1f}" y="{TOP}" width="{max(right - left, 1):.1f}" height="{height}"/>'
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{TOP + height}"/><title>{escape(text)}</title></g>'
        )
    return found
