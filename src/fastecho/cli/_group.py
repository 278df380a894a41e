"""The click group: `fastecho COMMAND`, where `serve` may be left out."""

import difflib
import importlib
from typing import Final

import click
from click.shell_completion import CompletionItem

from ..errors import EX_USAGE, show_value
from . import COMMANDS
from ._failure import CommandLineError

DEFAULT: Final = "serve"


class LazyGroup(click.Group):
    """Imports a command's module when the command is called, and adds the default command where none is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and ctx.resilient_parsing:  # shell completion of the first word: a command, or an option of serve
            return []
        if not args or args[0].startswith("-"):
            args = [DEFAULT, *args]
        elif args[0] not in COMMANDS:
            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {close[0]}?" if close else "see fastecho --help"
            raise CommandLineError(show_value(args[0]), f"no such command ({hint})", EX_USAGE)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return load(DEFAULT).shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in COMMANDS else None


def load(name: str) -> click.Command:
    """One of COMMANDS."""
    command: click.Command = importlib.import_module(COMMANDS[name][0]).command
    return command


group = LazyGroup("fastecho", add_help_option=False)
