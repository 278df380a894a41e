"""What is shown while a run goes on: a panel on a terminal, plain lines elsewhere. Standard error, both."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .result import Sample
from .text import bar
from .units import duration, number

if TYPE_CHECKING:
    from rich.console import RenderableType

_LINE_SECONDS = 1.0
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 40


def spark(values: list[float], width: int = _SPARK_WIDTH) -> str:
    """The last `width` values as bars one character wide."""
    values = values[-width:]
    most = max(values, default=0.0) or 1.0
    return "".join(_SPARKS[min(7, int(value / most * 7.999))] for value in values)


class ProgressDisplay:
    """Takes the samples of a run; `seconds` is what the measured window will last."""

    def __init__(self, target: str, seconds: float, *, quiet: bool = False) -> None:
        self.target, self.seconds, self.quiet = target, seconds, quiet or sys.stderr is None
        self.terminal = not self.quiet and sys.stderr.isatty()
        self.rates: list[float] = []
        self.sample: Sample | None = None
        self._said = 0.0
        self._since: tuple[int, float] = (0, 0.0)
        self._live: Any = None  # rich.live.Live on a terminal

    def __enter__(self) -> "ProgressDisplay":
        if self.terminal:
            from rich.console import Console
            from rich.live import Live

            # At the pace of the samples: drawing takes CPU from the client's core.
            self._live = Live(self.drawing(), console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, at)

    def __call__(self, sample: Sample) -> None:
        self.sample = sample
        self.rates.append(sample.rate)
        if self._live is not None:
            self._live.update(self.drawing(), refresh=True)
        elif not self.quiet:
            self._line(sample)

    def say(self, line: str) -> None:
        """A separate line above the panel."""
        if self._live is not None:
            self._live.console.print(line, highlight=False)
        else:
            self._print(line)

    def _line(self, sample: Sample) -> None:
        echoes, seconds = self._since
        self._since = (echoes + sample.echoes, seconds + sample.seconds) if sample.measuring else (0, 0.0)
        if time.monotonic() - self._said < _LINE_SECONDS:
            return
        self._said = time.monotonic()
        if not sample.measuring:
            self._print("warming up")
            return
        rate = self._since[0] / self._since[1]
        self._since = (0, 0.0)
        latency = f"p50 {duration(sample.p50)}  p99 {duration(sample.p99)}"
        self._print(f"{sample.at:6.1f} s  {number(rate):>12} echoes/s  {latency}")

    def _print(self, line: str) -> None:
        """To standard error, as long as it can be written: its reader may have left."""
        if not self.quiet:
            try:
                print(line, file=sys.stderr, flush=True)
            except (OSError, ValueError):
                self.quiet = True

    def drawing(self) -> "RenderableType":
        from rich.panel import Panel
        from rich.text import Text

        sample = self.sample
        if sample is None or not sample.measuring:
            body = Text("warming up" if sample else "connecting", style="dim")
            return Panel(body, title=self.target, title_align="left", width=76, border_style="dim")
        share = min(1.0, sample.at / self.seconds)
        body = Text.assemble(
            (f"{bar(share, 40):<40}", "cyan"), f"  {sample.at:.1f} of {self.seconds:g} s\n",
            (f"{spark(self.rates):<40}", "green"), f"  {number(sample.rate)} echoes/s\n",
            (f"p50 {duration(sample.p50):<12}p99 {duration(sample.p99):<12}max {duration(sample.max)}", "bold"),
        )  # fmt: skip
        return Panel(body, title=self.target, title_align="left", width=76, border_style="dim")
