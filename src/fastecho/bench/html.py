"""A run as one HTML page that loads nothing and runs no script. It is light or dark as the browser is."""

import math
import shlex
import time
from collections.abc import Iterable, Sequence
from html import escape

from ._page import POLICY, STYLE
from .measure import Report, write_file
from .result import LoadResult, Sample
from .slo import Slo
from .svg import Axis, Line, chart, latency_axis, nice_axis
from .text import load_line, rows, where
from .units import count_tick, duration, number, tick

_MOST_POINTS = 150
_POINTS_PER_NINE, _POINTS_PER_VALUE = 40, 4
_NINES = ((0.0, "0"), (50.0, "50"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"), (99.99, "99.99"), (99.999, "99.999"))


def save_page(report: Report, path: str, slos: Iterable[Slo] = ()) -> None:
    """Raises ReportError when the file cannot be written."""
    write_file(path, page(report, slos))


def page(report: Report, slos: Iterable[Slo] = ()) -> str:
    """The page."""
    result = report.result
    when = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(result.started))
    notes = [f"<li>{escape(line)}</li>" for line in (*result.error_details, *report.warnings())]
    goals = [(slo.met(result), f"{slo} ({slo.seen(result)})") for slo in slos]
    words = [("good", "met") if met else ("bad", "missed") for met, _ in goals]
    said = [f'<li class="{css}">{word}: {escape(t)}</li>' for (css, word), (_, t) in zip(words, goals, strict=True)]
    charts = [_by_percentile(result), *_over_time(result)] if len(result.latencies) else []
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            f"<title>{escape(result.spec.target)} · fastecho bench</title><style>{STYLE}</style></head><body><main>",
            f"<header><p>fastecho bench · {escape(when)}</p><h1>{escape(where(result))}</h1>",
            f"<p class=load>{escape(load_line(result))}</p></header>",
            f'<ul class="goals">{"".join(said)}</ul>' if said else "",
            f'<ul class="notes">{"".join(notes)}</ul>' if notes else "",
            f'<section class="tiles">{"".join(_tiles(report))}</section>',
            *charts,
            '<section class="tables">',
            _table("Figures", rows(report)),
            _table("Latency", _percentile_rows(result)),
            _table("Circumstances", _circumstances(report)),
            "</section></main></body></html>",
            "",
        ]
    )


def _tiles(report: Report) -> list[str]:
    result, server = report.result, report.server
    tiles = [
        ("echoes a second", number(result.rate), ""),
        ("p50", duration(result.percentiles["p50"]), ""),
        ("p99", duration(result.percentiles["p99"]), ""),
        ("p99.9", duration(result.percentiles["p99.9"]), ""),
        ("errors", number(result.error_count), "bad" if result.error_count else "good"),
    ]
    if server is not None and result.echoes:
        tiles.append(("server CPU an echo", duration(server.cpu / result.echoes), ""))
    return [f'<div class="tile {css}"><b>{escape(value)}</b><span>{name}</span></div>' for name, value, css in tiles]


def _figure(
    title: str, note: str, lines: Sequence[Line], picture: str, head: Sequence[str], values: Iterable[Sequence[str]]
) -> str:
    """A chart with its caption. For keyboards and screen readers, `values` are a table that opens below it."""
    legend = "".join(f'<li class="{line.css}">{escape(line.name)}</li>' for line in lines if len(lines) > 1)
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in values)
    return (
        f"<figure><figcaption><h2>{escape(title)}</h2><p>{escape(note)}</p>"
        f"{f'<ul>{legend}</ul>' if legend else ''}</figcaption>{picture}"
        '<details><summary>Values</summary><div tabindex="0">'
        f"<table><tr>{names}</tr>{body}</table></div></details></figure>"
    )


def _nines(percent: float) -> float:
    """How many nines: 90 is 1, 99 is 2."""
    return -math.log10(max(1 - percent / 100, 1e-12))


def _percent(nines: float) -> float:
    return 100 * (1 - 10**-nines)


def _by_percentile(result: LoadResult) -> str:
    histogram = result.latencies
    most = min(math.log10(max(len(histogram), 10)), _nines(_NINES[-1][0]))
    nines = [k / _POINTS_PER_NINE for k in range(math.ceil(most * _POINTS_PER_NINE - 1e-9))] + [most]
    values = [histogram.percentile(_percent(n)) / 1e9 for n in nines]
    x = Axis(0.0, most, tuple((_nines(p), text) for p, text in _NINES if _nines(p) <= most + 1e-9))
    line = Line("latency", "c1", list(zip(nines, values, strict=True)))
    told = [*line.points[:-1:_POINTS_PER_VALUE], line.points[-1]]
    shown = [(f"{_percent(n):.5g} %", duration(value)) for n, value in told]
    tips = [(n, f"{percent} within {latency}") for (n, _), (percent, latency) in zip(told, shown, strict=True)]
    note = (
        "The time within which this percentage of the echoes came back. "
        "Percentile p, logarithmic scale of 1/(1-p): 90, 99 and 99.9 are equally far apart."
    )
    picture = chart("Latency by percentile", x, latency_axis(values, tick), [line], tips)
    return _figure("Latency by percentile", note, [line], picture, ("echoes", "within"), shown)


def _thinned(samples: Sequence[Sample]) -> list[Sample]:
    """At most 150 samples: neighbours are combined."""
    size = max(1, -(-len(samples) // _MOST_POINTS))
    groups = [samples[k : k + size] for k in range(0, len(samples), size)]
    return [Sample.combine(group, group[-1].at, sum(s.seconds for s in group)) for group in groups]


def _over_time(result: LoadResult) -> list[str]:
    samples = _thinned(result.samples)
    if len(samples) < 2:
        return []
    x = nice_axis(samples[-1].at, lambda seconds: f"{seconds:g} s")
    x = Axis(0.0, samples[-1].at, tuple(tick for tick in x.ticks if tick[0] <= samples[-1].at))
    return [_latency_over_time(samples, x), _throughput_over_time(samples, x)]


def _latency_over_time(samples: Sequence[Sample], x: Axis) -> str:
    seen = [s for s in samples if s.echoes]
    lines = [
        Line("max", "c3", [(s.at, s.max) for s in seen]),
        Line("p99", "c2", [(s.at, s.p99) for s in seen]),
        Line("p50", "c1", [(s.at, s.p50) for s in seen]),
    ]
    shown = [(f"{s.at:.2f} s", duration(s.p50), duration(s.p99), duration(s.max)) for s in seen]
    texts = [f"{at}: p50 {p50}, p99 {p99}, max {most}" for at, p50, p99, most in shown]
    y = latency_axis([value for line in lines for _, value in line.points], tick)
    picture = chart("Latency over time", x, y, lines, [(s.at, text) for s, text in zip(seen, texts, strict=True)])
    note = f"Of the echoes in each {duration(samples[0].seconds)}."
    return _figure("Latency over time", note, lines, picture, ("time", "p50", "p99", "max"), shown)


def _throughput_over_time(samples: Sequence[Sample], x: Axis) -> str:
    line = Line("echoes a second", "c1", [(s.at, s.rate) for s in samples], area=True)
    y = nice_axis(max(s.rate for s in samples), count_tick)
    shown = [(f"{s.at:.2f} s", number(s.rate), f"{s.bytes / s.seconds / 1e6:,.1f}") for s in samples]
    tips = [(s.at, f"{at}: {rate} echoes/s, {each} MB/s") for s, (at, rate, each) in zip(samples, shown, strict=True)]
    picture = chart("Throughput over time", x, y, [line], tips)
    return _figure("Throughput over time", "Echoes a second.", [line], picture, ("time", "echoes/s", "MB/s"), shown)


def _percentile_rows(result: LoadResult) -> list[tuple[str, str]]:
    found = [("min", duration(result.min)), ("mean", duration(result.mean))]
    return found + [(name, duration(value)) for name, value in result.percentiles.items()]


def _circumstances(report: Report) -> list[tuple[str, str]]:
    machine = [(name, str(value)) for name, value in report.machine.items() if value]
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    runs = [("runs", str(report.runs))] if report.runs > 1 else []
    return [*machine, ("versions", versions), *runs, ("command", shlex.join(report.command))]


def _table(title: str, lines: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in lines)
    return f"<div><h2>{escape(title)}</h2><table>{body}</table></div>"
