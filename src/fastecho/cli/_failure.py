"""The error of a command line, an environment or a file that will not do."""

from ..errors import FastechoError


class CommandLineError(FastechoError):
    """`what` was given (spelled as its user wrote it) and `why` it will not do.

    `exit_code` is 2 for the command line and 78 for the environment and files.
    """

    def __init__(self, what: str, why: str, exit_code: int) -> None:
        super().__init__(what, why, exit_code)
        self.what = what
        self.why = why
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"
