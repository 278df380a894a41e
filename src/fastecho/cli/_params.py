"""How the client commands take their options: text forms as the server's, errors that name option and value."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from .._options.text import parse_terminator, validate_terminator
from .._options.types import Choice, OptionType, Text
from ..errors import EX_USAGE, ConfigError, show_value
from ._failure import CommandLineError
from ._output import print_and_exit

if TYPE_CHECKING:
    from ..bench.target import Target

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # no subscript before click 8.4


class ClickType(_ParamType):
    """A `OptionType` as a click type: `--size 4KiB`, `--duration 500ms`."""

    def __init__(self, type: OptionType, flag: str) -> None:
        self.name, self.type, self.flag = type.metavar, type, flag

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.type.validate(self.type.parse(value))
        except ValueError as error:
            raise usage_error(self.flag, value, str(error)) from None

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return completions(self.type, incomplete)


class FilePath(_ParamType):
    """A path that a shell completes to the name of a file. The command checks it."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


def completions(type: OptionType, incomplete: str) -> list[CompletionItem]:
    """What a shell offers for a value: the choices that begin so, or the names of files."""
    if isinstance(type, Choice):
        return [CompletionItem(choice) for choice in type.choices if choice.startswith(incomplete)]
    return [CompletionItem(incomplete, type="file")] if type.metavar in ("FILE", "PATH") else []


def usage_error(flag: str, value: object, must: str) -> CommandLineError:
    return CommandLineError(f"{flag} {show_value(value)}", must, EX_USAGE)


def as_usage(error: ConfigError) -> CommandLineError:
    """A bad value given on the command line, by the name that it has there."""
    flag = {"target": "TARGET", "sources": "--source"}.get(error.option, _flag(error.option))
    if error.value is True:  # a flag has no value to show
        return CommandLineError(flag, error.must, EX_USAGE)
    return usage_error(flag, error.value, error.must)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def given(name: str) -> bool:
    """Whether the user gave the option, by the name of its parameter."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source is not click.core.ParameterSource.DEFAULT


def conflict_error(name: str, must: str) -> CommandLineError:
    """The error of an option that conflicts with another one."""
    value = click.get_current_context().params[name]
    if isinstance(value, bool):
        return CommandLineError(_flag(name), must, EX_USAGE)
    values = value if isinstance(value, tuple) else (value,)
    shown = ",".join(f"{each:g}" if isinstance(each, float) else show_value(each) for each in values)
    return CommandLineError(f"{_flag(name)} {shown}", must, EX_USAGE)


def check_tls(target: "Target", ca: str | None, insecure: bool) -> None:
    """Raises CommandLineError for an option of TLS that would have no effect."""
    if ca is not None and not target.tls:
        raise conflict_error("tls_ca", "needs a tls:// target")
    if insecure and not target.tls:
        raise conflict_error("tls_insecure", "needs a tls:// target")
    if ca is not None and insecure:
        raise conflict_error("tls_ca", "must not be given with --tls-insecure, which checks no certificate")


def print_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """The callback of --version."""
    if wanted:
        from .._version import __version__

        print_and_exit(f"fastecho {__version__}")


EAGER: Final[dict[str, Any]] = {"is_flag": True, "is_eager": True, "expose_value": False, "allow_from_autoenv": False}


class Command(click.Command):
    """A command with --version. An error of an option without its value names the option that follows instead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--version"], callback=print_version, help="Print the version.", **EAGER))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        self._check_values(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # so that the message can name the --help
            raise

    def _check_values(self, args: list[str]) -> None:
        takes_value = {
            name: not param.is_flag for param in self.params if isinstance(param, click.Option)
            for name in (*param.opts, *param.secondary_opts)
        }  # fmt: skip
        place = 0
        while place < len(args) and args[place] != "--":
            if takes_value.get(args[place]) and place + 1 < len(args):
                if args[place + 1].partition("=")[0] in takes_value:
                    why = f"needs a value; {args[place + 1]} after it is an option"
                    raise CommandLineError(args[place], why, EX_USAGE)
                place += 1
            place += 1


def option(flags: str, type: OptionType | None = None, **settings: Any) -> Callable[[Any], Any]:
    """A click option; `type` parses its value. `flags` as in "--count -c"."""
    names = flags.split()
    if type is not None:
        settings["type"] = ClickType(type, names[0])
        settings.setdefault("metavar", type.metavar)
    return click.option(*names, **settings)


def show_help(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        print_and_exit(ctx.get_help())


help_option = click.option(
    "--help",
    "-h",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=show_help,
    help="Show this help and exit.",
)
TERMINATOR = Text("TEXT", validate_terminator, parse=parse_terminator, none="none")
SETTINGS: dict[str, Any] = {"add_help_option": False, "context_settings": {"max_content_width": 100}}
