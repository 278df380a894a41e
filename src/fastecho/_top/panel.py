"""The panel: rates with sparklines, workers, and the causes of ends. The most important comes first."""

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..bench.progress import spark
from ..bench.units import number
from .history import RATES, History

_WIDEST = 110
_NARROW = 60
_MOST_ROWS = 8
_BAR = 16
_STATES = {"ready": "green", "starting": "yellow", "stopping": "yellow"}


def draw(history: History, url: str, width: int, *, problem: str | None = None, keys: bool = False) -> Panel:
    """The panel for a terminal of `width` columns.

    Args:
        problem: why the last scrape failed.
        keys: name the key that ends the panel.
    """
    width = min(width, _WIDEST)
    sample = history.last
    parts: list[RenderableType] = []
    if problem is not None:
        parts.append(Text(problem, style="red"))
    if sample is not None:
        parts += (_rates(history, width), Text())
        below = (_workers(history), _closed(history))
        if width < _NARROW:
            parts += (below[0], Text(), below[1])
        else:
            beside = Table.grid(expand=True, padding=(0, 1))
            beside.add_column(ratio=1)
            beside.add_column(ratio=1)
            beside.add_row(*below)
            parts.append(beside)
    version = f" {sample.build['version']}" if sample is not None and "version" in sample.build else ""
    where = url.removeprefix("http://").removesuffix("/metrics")
    title = Text.assemble(("fastecho", "bold"), f"{version}  ", (where, "cyan"))
    state = sample.state if sample is not None and problem is None else "no answer" if problem else ""
    if state:
        title.append(f"  {state}", _STATES.get(state, "red"))
    return Panel(
        Group(*parts), title=title, title_align="left", width=width, border_style="dim",
        subtitle=Text("q: quit", "dim") if keys else None, subtitle_align="right",
    )  # fmt: skip


def _rates(history: History, width: int) -> Table:
    sample = history.last
    assert sample is not None
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(justify="right", no_wrap=True, style="bold", min_width=9)
    table.add_column(no_wrap=True, style="green")
    room = max(0, width - 34)
    for name in RATES:
        series = history.series(name)
        table.add_row(name, _amount(name, series[-1]) if series else "-", _spark(series, room))
    active = history.series("connections")
    table.add_row("connections", number(active[-1]), _spark(active, room))
    paused = sample.value("fastecho_write_paused_connections")
    table.add_row("write paused", number(paused), "", style="yellow" if paused else "")
    table.add_row("buffers in use", number(sample.value("fastecho_buffers_in_use")), "")
    return table


def _spark(series: list[float], width: int) -> str:
    """Nothing for two values: that is no course."""
    return spark(series, width) if len(series) > 2 and width > 0 else ""


def _amount(name: str, value: float) -> str:
    if not name.startswith("bytes"):
        return number(round(value, 1))
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value < 999.5 * scale else f"{value / scale:.0f} {unit}"
    return f"{value:.0f} B"


def _workers(history: History) -> RenderableType:
    sample = history.last
    assert sample is not None
    up = sample.by_label("fastecho_worker_up")
    connections = sample.by_label("fastecho_worker_connections")
    most = max(connections.values(), default=0.0) or 1.0
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, justify="right", style="bold")
    table.add_column(no_wrap=True, style="cyan")
    if len(up) <= _MOST_ROWS:
        for worker, is_up in up.items():
            count = connections.get(worker, 0.0)
            state = number(count) if is_up else Text("down", "red")
            table.add_row(worker, state, "█" * round(_BAR * count / most))
        rows: RenderableType = table
    else:
        # One bar for each worker, by its connections.
        rows = Text("".join(spark([most, connections.get(each, 0.0)])[1] if up[each] else "x" for each in up), "cyan")
    lines: list[RenderableType] = [Text(f"workers: {number(sum(up.values()))} of {len(up)} up", "dim"), rows]
    restarts = sample.by_label("fastecho_worker_restarts_total")
    if any(restarts.values()):
        counts = ", ".join(f"{number(count)} {cause}" for cause, count in restarts.items() if count)
        lines.append(Text(f"restarts: {counts}", "yellow"))
    return Group(*lines)


def _closed(history: History) -> RenderableType:
    sample = history.last
    assert sample is not None
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right", style="bold")
    table.add_column(no_wrap=True, justify="right")
    name = "fastecho_connections_closed_total"
    closed = sample.by_label(name)
    for cause, count in closed.items():
        if count:
            rate = history.rate((name, cause))
            table.add_row(cause.replace("_", " "), number(count), f"{number(round(rate, 1))}/s")
    return Group(Text(f"closed: {number(sum(closed.values()))}", "dim"), table)
