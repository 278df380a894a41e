"""How the client commands take their options: text forms as the server's, errors that name option and value."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .._parse import Kind, Text
from .._text import check_terminator, read_terminator
from ..errors import EX_USAGE, ConfigError, show_value
from ._failure import CommandLineError
from ._output import print_and_exit

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # no subscript before click 8.4


class KindType(_ParamType):
    """A `_parse.Kind` as a click type: `--size 4KiB`, `--duration 500ms`."""

    def __init__(self, kind: Kind, flag: str) -> None:
        self.name, self.kind, self.flag = kind.metavar, kind, flag

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.kind.check(self.kind.parse(value))
        except ValueError as error:
            raise usage(self.flag, value, str(error)) from None


def usage(flag: str, value: object, must: str) -> CommandLineError:
    return CommandLineError(f"{flag} {show_value(value)}", must, EX_USAGE)


def as_usage(error: ConfigError) -> CommandLineError:
    """A bad value given on the command line, by the name that it has there."""
    flag = "TARGET" if error.option == "target" else f"--{error.option.replace('_', '-')}"
    return usage(flag, error.value, error.must)


def option(flags: str, kind: Kind | None = None, **settings: Any) -> Callable[[Any], Any]:
    """A click option; `kind` reads its value. `flags` as in "--count -c"."""
    names = flags.split()
    if kind is not None:
        settings["type"] = KindType(kind, names[0])
        settings.setdefault("metavar", kind.metavar)
    return click.option(*names, **settings)


def _help(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        print_and_exit(ctx.get_help())


help_option = click.option(
    "--help", "-h", is_flag=True, expose_value=False, is_eager=True, callback=_help, help="Show this and end."
)
TERMINATOR = Text("TEXT", check_terminator, read=read_terminator, none="none")
SETTINGS: dict[str, Any] = {"add_help_option": False, "context_settings": {"max_content_width": 100}}
