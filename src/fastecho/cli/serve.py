"""`fastecho serve`: the server, with every option of `ServerConfig`."""

import logging
import os
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from .._options.types import Flag, OptionType
from ..config import GROUPS, VARIABLE_PREFIX, Option, options
from ..errors import ConfigError, show_value
from . import COMMANDS
from ._config_file import read_config_file
from ._params import EAGER, Command, FilePath, completions, show_help
from ._sources import GivenOptions, misspelled_variables

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


class ServeCommand(Command):
    """Help in the groups of the configuration, for `fastecho` and `fastecho serve` alike."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("fastecho", "[serve] [OPTIONS]")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {param.name: _help_row(param, ctx) for param in self.params}
        with formatter.section("Commands"):
            _write_rows(formatter, [(name, about) for name, (_, about) in COMMANDS.items()])
        for group in GROUPS:
            with formatter.section(group):
                _write_rows(formatter, [rows[each.name] for each in options() if each.group == group])
        with formatter.section("Other"):
            _write_rows(formatter, [rows[name] for name in _OTHERS])


def _help_row(param: click.Parameter, ctx: click.Context) -> tuple[str, str]:
    names, about = param.get_help_record(ctx) or ("", "")
    return (f"--[no-]{param.opts[0][2:]}" if param.secondary_opts else names), about


def _write_rows(formatter: click.HelpFormatter, rows: list[tuple[str, str]]) -> None:
    # One column for all groups; the few longer names get a separate line.
    formatter.write_dl([(names.ljust(_COLUMN), about) for names, about in rows], col_max=_COLUMN)


class _Unparsed(click.types.UnprocessedParamType):
    """The value as it was given, and a variable as one value: `GivenOptions` parses the value that counts."""

    def __init__(self, type: OptionType) -> None:
        self.type = type

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return completions(self.type, incomplete)

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


class _UnparsedFlag(click.types.BoolParamType):
    """A flag that takes any value from the environment and the file: `GivenOptions` parses it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


def _repeatable(option: Option) -> bool:
    return isinstance(option.default, tuple)


def _param(option: Option) -> click.Option:
    """`option` for click. Its default is for the help only."""
    if isinstance(option.type, Flag):
        return click.Option([f"{option.flag}/--no-{option.flag[2:]}"], type=_UnparsedFlag(), help=option.help)
    default, repeatable = option.format(option.default) or None, _repeatable(option)
    return click.Option(
        [option.flag],
        type=_Unparsed(option.type),
        multiple=repeatable,
        metavar=option.type.metavar,
        default=[default] if repeatable else default,
        show_default=True,
        help=option.help,
    )


def _load_config(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Make the values of the file click's defaults."""
    if path is not None:
        by_argument = ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE
        values = read_config_file(path, "--config " if by_argument else "FASTECHO_CONFIG=")
        # click iterates over the value of an option that may be repeated; a file has one value for it.
        repeatable = {option.name for option in options() if _repeatable(option)}
        ctx.default_map = {name: [value] if name in repeatable else value for name, value in values.items()}
    return path


def _params() -> list[click.Parameter]:
    return [
        # First, so that the file is read before the options whose values may be in it.
        click.Option(["--config"], type=FilePath(), metavar="FILE", callback=_load_config,
                     help="Read options from a TOML file."),
        *map(_param, options()),
        click.Option(["-h", "--help"], callback=show_help, help="Show this help and exit.", **EAGER),
    ]  # fmt: skip


def serve(**values: Any) -> int:
    """Run the server that the options, the environment and the file describe; return the exit code."""
    from .._net.activation import refuse_addresses
    from .._workers.logs import captured_stderr, setup_logging

    context = click.get_current_context()
    if context.args:
        raise click.UsageError(f"{show_value(context.args[0])}: unexpected argument")
    given = GivenOptions(context)
    if given.raw.get("log_format") == "json":
        setup_logging("info", "json")  # for the errors of the other options
    config = given.parse()
    setup_logging(config.log_level, config.log_format)
    try:
        refuse_addresses(given.raw, os.environ)
    except ConfigError as error:
        raise given.explain(error) from None
    context.with_resource(captured_stderr())
    for line in misspelled_variables(os.environ):
        logging.getLogger("fastecho").warning(line)

    from .._workers.supervisor import run

    try:
        return run(config)
    except ConfigError as error:
        raise given.explain(error) from None


command = ServeCommand(
    "serve",
    params=_params(),
    callback=serve,
    help=_ABOUT,
    epilog=_NOTES,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "max_content_width": 80, "auto_envvar_prefix": VARIABLE_PREFIX},
)
