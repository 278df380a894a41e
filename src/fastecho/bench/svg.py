"""Line charts as inline SVG, without script. Text keeps its size at every width of the page.

The `<svg>` element is as wide as the plot area, and its labels lie in margins that the page leaves. Positions across
are percentages, positions down are pixels; only the lines are stretched. The attributes alone draw a legible chart, for
hosts that block the style sheet of a page. The style sheet adds colours and shows the values under the pointer.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

HEIGHT = 240
# Around the plot area, in pixels. The value under the pointer is shown above it.
LEFT, RIGHT, TOP, BOTTOM = 60, 24, 24, 28
_ACROSS = 1000  # the width of the lines before they are stretched


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
    """Points (x, y) under a name; `css` is the class that colours it, and `area` fills it down to the x axis."""

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
    """The chart as an `<svg>` element. A screen reader reads `label`; `tips` are values of `x` and their texts."""
    return "".join(
        [
            f'<svg class="plot" role="img" aria-label="{escape(label)}"',
            f' width="100%" height="{HEIGHT + BOTTOM}" overflow="visible">',
            *_axes(x, y),
            f'<svg height="{HEIGHT}" viewBox="0 0 {_ACROSS} {HEIGHT}" preserveAspectRatio="none" overflow="visible">',
            '<g fill="none" stroke="steelblue" stroke-width="2">',
            *(_line(line, x, y) for line in lines if line.points),
            "</g></svg>",
            '<g fill="transparent">',
            *_tips(tips, x, y, lines),
            "</g></svg>",
        ]
    )


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _down(y: Axis, value: float) -> str:
    return f"{(1 - y.place(value)) * HEIGHT:.1f}"


def _axes(x: Axis, y: Axis) -> Iterator[str]:
    yield '<g class="grid" stroke="#8886">'
    for value, _ in y.ticks:
        yield f'<line x2="100%" y1="{_down(y, value)}" y2="{_down(y, value)}"/>'
    yield '</g><g class="axis" stroke="gray">'
    yield f'<line x2="100%" y1="{HEIGHT}" y2="{HEIGHT}"/>'
    for value, _ in x.ticks:
        at = _percent(x.place(value))
        yield f'<line x1="{at}" x2="{at}" y1="{HEIGHT}" y2="{HEIGHT + 5}"/>'
    yield '</g><g class="ticks" fill="gray" font-size="12.5">'
    for value, text in y.ticks:
        yield f'<text x="-8" y="{_down(y, value)}" dy="4" text-anchor="end">{escape(text)}</text>'
    for value, text in x.ticks:
        at = _percent(x.place(value))
        yield f'<text x="{at}" y="{HEIGHT + 20}" text-anchor="middle">{escape(text)}</text>'
    yield "</g>"


def _line(line: Line, x: Axis, y: Axis) -> str:
    across = [f"{x.place(value) * _ACROSS:.1f}" for value, _ in line.points]
    points = " ".join(f"{at},{_down(y, value)}" for at, (_, value) in zip(across, line.points, strict=True))
    area = f"{across[0]},{HEIGHT} {points} {across[-1]},{HEIGHT}"
    return (
        f'<g class="{line.css}">'
        + (f'<polygon class="area" fill="#8883" stroke="none" points="{area}"/>' if line.area else "")
        + f'<polyline class="line" vector-effect="non-scaling-stroke" points="{points}"/></g>'
    )


def _tips(tips: Sequence[tuple[float, str]], x: Axis, y: Axis, lines: Sequence[Line]) -> Iterator[str]:
    """An invisible column around each place on the x axis, and what appears while the pointer is in it.

    It is a rule, a dot on each line, and the text above the plot area. The title is for hosts without our style sheet.
    """
    places = [x.place(value) for value, _ in tips]
    edges = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(places)), 1.0]
    values = [(line.css, dict(line.points)) for line in lines]
    for k, (value, text) in enumerate(tips):
        at = _percent(places[k])
        dots = "".join(
            f'<circle class="{css}" cx="{at}" cy="{_down(y, known[value])}" r="4"/>'
            for css, known in values
            if value in known
        )
        yield (
            f'<g class="tip"><title>{escape(text)}</title>'
            f'<rect x="{_percent(edges[k])}" width="{_percent(edges[k + 1] - edges[k])}" height="{HEIGHT}"/>'
            f'<g visibility="hidden"><line x1="{at}" x2="{at}" y2="{HEIGHT}"/>{dots}'
            f'<text x="100%" y="-9">{escape(text)}</text></g></g>'
        )
