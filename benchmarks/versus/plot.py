"""The plot: one line a kind of work, one mark a peer, on a logarithmic scale of ratios."""

from __future__ import annotations

from pathlib import Path

from benchmarks.versus import peers
from benchmarks.versus.ratios import compare
from benchmarks.versus.record import Record
from benchmarks.versus.tables import rows_of

# Mid-tones that hold against white and against black.
MARKS = {
    "epoll": ("#8c8c8c", "o"),
    "asio-1k": ("#e69f00", "s"),
    "asio-64k": ("#d55e00", "D"),
    "go": ("#56b4e9", "^"),
    "uvloop-buffered": ("#009e73", "v"),
}
GREY = "#808080"
# Beyond it a mark stands at the edge, with its value: one outlier would squeeze all the others.
EDGE = 3.0
SHORT = {
    "one": "1 connection, p50",
    "idle": "idle, bytes",
    "pipelined": "64 B, pipelined",
    "churn": "churn",
}


def draw(record: Record, path: Path) -> None:
    """Writes the plot as SVG; ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fastecho", "font.size": 10})
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    found = rows_of(record)
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.55 * len(found)))
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for place, (name, (colour, mark)) in enumerate(MARKS.items()):
        label: str | None = peers.BY_NAME[name].label
        for line, row in enumerate(found):
            spinning = name == peers.FLOOR and peers.BY_NAME[row.subject].spins
            spread = compare(record, row, peers.FLOOR_SPINNING if spinning else name).ratio
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
    above = (0.4, 1)
    axes.legend(loc="lower center", bbox_to_anchor=above, ncols=3, frameon=False, labelcolor=GREY)
    figure.savefig(path, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
