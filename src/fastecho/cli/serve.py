"""`fastecho serve`: the server, with every option of `ServerConfig`."""

import logging
import os
from typing import Any

import click

from .._parse import Flag
from ..config import GROUPS, Option, options
from ..errors import ConfigError, show_value
from ._output import print_and_exit

_ABOUT = """\
An echo server: it sends back what it receives. A session ends when a read ends
in the terminator, which is one NUL byte unless you say otherwise.
"""
_NOTES = """\
Sizes: 65536, 64KiB, 1MiB (K and KiB are 1024 bytes). Times: seconds, or 500ms,
2s, 5m, 1h. Each option is also an environment variable (FASTECHO_BUFFER_SIZE
for --buffer-size) and a key of the --config file (buffer_size). The command
line comes before the environment, and that before the file. --fault may be
given several times.
"""

_COLUMN = 22
_OTHERS = ("config", "version", "help")


class ServeCommand(click.Command):
    """Help in the groups of the configuration, for `fastecho` and `fastecho serve` alike."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("fastecho", "[serve] [OPTIONS]")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from ._group import COMMANDS

        if len(COMMANDS) > 1:
            with formatter.section("Commands"):
                _write_rows(formatter, [(name, about) for name, (_, about) in COMMANDS.items()])
        for group in GROUPS:
            with formatter.section(group):
                _write_rows(formatter, [_help_row(each) for each in options() if each.group == group])
        with formatter.section("Other"):
            rows = [param.get_help_record(ctx) for param in self.params if param.name in _OTHERS]
            _write_rows(formatter, [row for row in rows if row is not None])


def _write_rows(formatter: click.HelpFormatter, rows: list[tuple[str, str]]) -> None:
    # One column for all groups; the few names that are longer get a line of their own.
    formatter.write_dl([(names.ljust(_COLUMN), about) for names, about in rows], col_max=_COLUMN)


def may_be_repeated(option: Option) -> bool:
    return isinstance(option.default, tuple)


def _help_row(option: Option) -> tuple[str, str]:
    names = f"{option.flag} {option.kind.metavar}"
    if isinstance(option.kind, Flag):
        return f"--[no-]{option.flag[2:]}", option.help
    default = option.show(option.default)
    return names, f"{option.help} [default: {default}]" if default else option.help


def _help(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        print_and_exit(ctx.get_help())


def _version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from .._version import __version__

        print_and_exit(f"fastecho {__version__}")


def _params() -> list[click.Parameter]:
    params: list[click.Parameter] = []
    for option in options():
        if isinstance(option.kind, Flag):
            params.append(click.Option([f"{option.flag}/--no-{option.flag[2:]}"], default=None))
        else:
            params.append(click.Option([option.flag], type=click.UNPROCESSED, multiple=may_be_repeated(option)))
    eager: dict[str, Any] = {"is_flag": True, "is_eager": True, "expose_value": False}
    params += [
        click.Option(["--config"], type=click.UNPROCESSED, metavar="FILE", help="Read options from a TOML file."),
        click.Option(["--version"], callback=_version, help="Print the version.", **eager),
        click.Option(["-h", "--help"], callback=_help, help="Print this.", **eager),
    ]
    return params


def serve(config: str | None = None, **arguments: Any) -> int:
    """Run the server that the options, the environment and the file describe; return the exit code."""
    from .._logging import setup_logging
    from ._sources import resolve, stray_variables

    context = click.get_current_context()
    if context.args:
        raise click.UsageError(f"{show_value(context.args[0])}: unexpected argument")
    given = {name: value for name, value in arguments.items() if value is not None}
    resolved = resolve(given, os.environ, config)
    setup_logging(resolved.config.log_level, resolved.config.log_format)
    for line in stray_variables(os.environ):
        logging.getLogger("fastecho").warning(line)

    from ..supervisor import run

    try:
        return run(resolved.config)
    except ConfigError as error:
        raise resolved.explain(error) from None


command = ServeCommand(
    "serve",
    params=_params(),
    callback=serve,
    help=_ABOUT,
    epilog=_NOTES,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "max_content_width": 80},
)
