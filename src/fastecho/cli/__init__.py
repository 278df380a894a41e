"""The command line: one file a command, each imported when it is called and not before."""

from typing import Final

__all__ = ["COMMANDS"]

COMMANDS: Final = {
    "serve": ("fastecho.cli.serve", "Run the server; this is what fastecho does without a command."),
    "bench": ("fastecho.cli.bench", "Measure an echo server: rate, latency, errors, CPU."),
    "ping": ("fastecho.cli.ping", "Time round trips to an echo server, like ping(8)."),
    "top": ("fastecho.cli.top", "Watch a running server that was started with --metrics."),
    "doctor": (
        "fastecho.cli.doctor",
        "Check the limits of this machine (descriptors, backlog, CPUs, ports) that would skew a run.",
    ),
}
"""The command, the module that holds it as `command`, and its line in the list of commands."""
