"""`fastecho top`: a live panel of a running service, from its metrics."""

import re
import signal
import time
from typing import TYPE_CHECKING

import click

from .._options.types import Seconds
from ..errors import EX_CANNOT_CONNECT, EX_OK, EX_USAGE, MissingExtraError, show_value
from ._failure import CommandLineError
from ._interrupts import interrupts
from ._output import print_out, wait_while_read
from ._params import SETTINGS, Command, help_option, option

if TYPE_CHECKING:
    from rich.console import Console

    from .._top.scrape import Sample, Scraper

_URL = re.compile(r"(?:https?://)?[^\s/]+:\d+(?:/.*)?|https?://\S+")
_LEAST_WIDTH = 40  # of what is printed
_NOTES = """\
The service must have been started with --metrics. Without URL or PID, the only such service on this machine is shown.
Where standard output is not a terminal, two scrapes are made and the panel is printed once.

\b
Exit codes
  0    left by q or Ctrl-C, or printed
  2    usage, or several services to choose from
  5    no service, or it does not answer
  143  ended by SIGTERM
"""


@click.command("top", cls=Command, epilog=_NOTES, **SETTINGS)
@click.argument("service", metavar="[URL|PID]", required=False)
@option("--interval -i", Seconds(0.1, 3600), default=1.0, help="Time from one scrape to the next.  [1s]")
@help_option
def command(service: str | None, interval: float) -> int:
    """Show workers, connections, rates and causes of ends of a running service, live.

    q or Ctrl-C ends it.
    """
    try:
        from rich.console import Console
    except ImportError:
        raise MissingExtraError("fastecho top needs rich and prometheus_client: pip install 'fastecho[top]'") from None
    from .._top.scrape import Scraper

    scraper = Scraper(_find(service))
    console = Console(highlight=False)
    with interrupts() as signals:
        try:
            if console.is_terminal:
                _show(scraper, interval, console)
            else:
                _print(scraper, interval, console)
        except KeyboardInterrupt:
            return EX_OK if signals.signum == signal.SIGINT else signals.exit_code
    return EX_OK


def _find(service: str | None) -> str:
    """The URL of the metrics."""
    if service is None:
        return _only_service()
    if service.isdecimal():
        return _of_process(int(service))
    if not _URL.fullmatch(service):
        raise CommandLineError(show_value(service), "must be a URL, HOST:PORT or the pid of a fastecho", EX_USAGE)
    url = service if "://" in service else f"http://{service}"
    has_path = url.partition("://")[2].partition("/")[2]
    return url if has_path else f"{url.rstrip('/')}/metrics"


def _of_process(pid: int) -> str:
    from .._top.processes import urls_of

    try:
        urls = urls_of(pid)
    except PermissionError:
        raise CommandLineError(str(pid), "belongs to another user: give the URL instead", EX_CANNOT_CONNECT) from None
    except OSError:
        raise CommandLineError(str(pid), "no such process", EX_CANNOT_CONNECT) from None
    if not urls:
        raise CommandLineError(str(pid), "no fastecho with --metrics", EX_CANNOT_CONNECT)
    return urls[0]


def _only_service() -> str:
    from .._top.processes import all_urls

    try:
        found = all_urls()
    except OSError:
        found = {}
    if not found:
        raise CommandLineError("no service", "none with --metrics is seen here; give its URL", EX_CANNOT_CONNECT)
    if len(found) > 1:
        services = ", ".join(f"{pid} ({url})" for pid, url in found.items())
        raise CommandLineError("several services", f"give the pid of one: {services}", EX_USAGE)
    return next(iter(found.values()))


def _print(scraper: "Scraper", interval: float, console: "Console") -> None:
    """One panel with the rates of one interval."""
    from .._top.history import History
    from .._top.panel import draw

    history = History()
    history.add(_first(scraper))
    wait_while_read(interval)
    history.add(_first(scraper))
    console.width = max(console.width, _LEAST_WIDTH)
    with console.capture() as capture:
        console.print(draw(history, scraper.url, console.width))
    print_out(capture.get().rstrip("\n"))


def _show(scraper: "Scraper", interval: float, console: "Console") -> None:
    from rich.live import Live

    from .._top.history import History
    from .._top.keys import Keys
    from .._top.panel import draw
    from .._top.scrape import ScrapeError

    history = History()
    history.add(_first(scraper))
    problem: str | None = None
    with Keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        due = time.monotonic()
        while True:
            panel = draw(history, scraper.url, console.width, problem=problem, keys=keys.can_be_pressed)
            live.update(panel, refresh=True)
            due = max(due + interval, time.monotonic())
            while (left := due - time.monotonic()) > 0:
                if "q" in keys.wait(left).lower():
                    return
            try:
                history.add(scraper.scrape())
                problem = None
            except ScrapeError as error:
                problem = str(error)


def _first(scraper: "Scraper") -> "Sample":
    """A scrape without which there is nothing to show."""
    from .._top.scrape import ScrapeError

    try:
        return scraper.scrape()
    except ScrapeError as error:
        error.exit_code = EX_CANNOT_CONNECT
        raise
