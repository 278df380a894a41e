"""The click group: `fastecho COMMAND`, where `serve` may be left out."""

import difflib
import importlib
from typing import Final

import click

from ..errors import EX_USAGE, show_value
from ._failure import CommandLineError

# The command, the module that holds it as `command`, and its line in the list of commands.
COMMANDS: Final = {
    "serve": ("fastecho.cli.serve", "Run the server; this is what fastecho does without a command."),
    "bench": ("fastecho.cli.bench", "Measure an echo server: rate, latency, errors, CPU."),
    "ping": ("fastecho.cli.ping", "Time round trips to an echo server, like ping(8)."),
    "doctor": ("fastecho.cli.doctor", "Say what on this machine will limit a run, and how to lift it."),
}
DEFAULT: Final = "serve"


class LazyGroup(click.Group):
    """Imports a command's module when the command is called, and puts the default in where none stands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0].startswith("-"):
            args = [DEFAULT, *args]
        elif args[0] not in COMMANDS:
            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {close[0]}?" if close else "see fastecho --help"
            raise CommandLineError(show_value(args[0]), f"no such command ({hint})", EX_USAGE)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command


group = LazyGroup("fastecho", add_help_option=False)
