"""The pictures: the chart of absolute numbers, and the ratios. SVG without a background, in mid-tones that can be read
on white and on black: a picture in a README does not know the theme of its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.versus import chart, peers
from benchmarks.versus.chart import Bar, Panel
from benchmarks.versus.ratios import compare
from benchmarks.versus.record import Record
from benchmarks.versus.tables import headline_peers, rows_of

# Lines above the bars of a panel.
HEADING = 3.2
GREY, BAR, OURS = "#777777", "#8f9aa8", "#d55e00"
MARKS = {
    "epoll": ("#8c8c8c", "o"),
    "asio-1k": ("#e69f00", "s"),
    "asio-64k": ("#d55e00", "D"),
    "go": ("#56b4e9", "^"),
    "uvloop-buffered": ("#009e73", "v"),
}
# Beyond it a mark stands at the edge, with its value: one outlier would squeeze all the others.
EDGE = 3.0
SHORT = {
    "one": "1 connection, p50",
    "idle": "idle, bytes",
    "pipelined": "64 B, pipelined",
    "churn-client": "churn, client closes",
    "churn-server": "churn, server closes",
}


def _pyplot() -> Any:
    """matplotlib for SVG with text as text, the same bytes in every run; ImportError without it."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fastecho", "font.size": 10})
    from matplotlib import pyplot

    return pyplot


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    figure.savefig(path, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def draw_chart(record: Record, path: Path) -> None:
    """Writes the chart: a panel of speed above one of memory, a bar for each server, the best on top."""
    pyplot = _pyplot()
    panels = [(panel, found) for panel in chart.PANELS if (found := chart.bars(record, panel))]
    if not panels:
        return
    heights = [HEADING + len(found) for _, found in panels]
    figure, grid = pyplot.subplots(len(panels), squeeze=False, figsize=(6.4, 0.235 * sum(heights)))
    top = sum(heights)
    for axes, (panel, found), height in zip(grid[:, 0], panels, heights, strict=True):
        bottom = (top - height) / sum(heights)
        axes.set_position((0.25, bottom, 0.75, len(found) / sum(heights)))
        top -= height
        _bars(axes, panel, found)
    figure.patch.set_alpha(0)
    _save(pyplot, figure, path)


def _bars(axes: Any, panel: Panel, found: Sequence[Bar]) -> None:
    longest = max(bar.value.median for bar in found)
    for line, bar in enumerate(found):
        text = {"color": OURS, "weight": "bold"} if bar.peer.ours else {"color": GREY}
        length = max(bar.value.median, 0.0)
        axes.barh(line, length, height=0.72, color=OURS if bar.peer.ours else BAR)
        for said, place, side in ((bar.peer.chart_name, (0, line), "right"), (bar.text, (length, line), "left")):
            aside = (-5 if side == "right" else 5, 0)
            axes.annotate(said, place, aside, textcoords="offset points", ha=side, va="center_baseline", **text)
    # Room for the numbers at the longest bars.
    axes.set(xlim=(0, 1.16 * longest), ylim=(len(found) - 0.5, -0.5))
    axes.axis("off")
    axes.text(0, -1.95, panel.title, color=GREY, va="center_baseline", weight="bold", fontsize=11)
    axes.text(0, -1.0, panel.note, color=GREY, va="center_baseline", fontsize=9)


def draw_ratios(record: Record, path: Path) -> None:
    """Writes the ratios: a line for each kind of work, a mark for each peer, on a logarithmic scale."""
    pyplot = _pyplot()
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    found = rows_of(record)
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.55 * len(found)))
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for place, (name, (colour, mark)) in enumerate(MARKS.items()):
        label: str | None = peers.BY_NAME[name].label
        for line, row in enumerate(found):
            spread = compare(record, row, headline_peers(row)[0] if name == peers.FLOOR else name).ratio
            if spread is None:
                continue
            height = line + 0.12 * (place - (len(MARKS) - 1) / 2)
            if spread.median > EDGE:
                axes.plot([EDGE], [height], ">", color=colour, markersize=6)
                axes.annotate(
                    f" {spread.median:.0f}", (EDGE * 1.05, height), color=colour, va="center", fontsize=8
                )
                continue
            axes.plot([spread.low, spread.high], [height, height], color=colour, linewidth=2)
            axes.plot([spread.median], [height], mark, color=colour, markersize=6, label=label)
            label = None
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_xscale("log")
    ticks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_yticks(range(len(found)), [SHORT.get(row.name, row.label) for row in found])
    axes.invert_yaxis()
    axes.set_xlabel("fastecho / peer (left of 1: fastecho is ahead)", color=GREY)
    axes.tick_params(colors=GREY, length=0)
    axes.grid(axis="x", color=GREY, alpha=0.25)
    for side in axes.spines.values():
        side.set_visible(False)
    if axes.lines[1:]:
        above = (0.4, 1)
        axes.legend(loc="lower center", bbox_to_anchor=above, ncols=3, frameon=False, labelcolor=GREY)
    _save(pyplot, figure, path)
