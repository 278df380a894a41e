"""`python -m fastecho`, the same as the command `fastecho`."""

import os
import sys


def _leave_working_directory() -> None:
    """Take the working directory off the import path, unless fastecho itself is imported from there.

    `python -m` puts it first, so that a `click.py` or `selectors.py` in it would be imported for ours.
    """
    if sys.flags.isolated or getattr(sys.flags, "safe_path", False):
        return
    package = os.path.dirname(os.path.abspath(__file__))
    try:
        added = sys.path[0] in ("", os.getcwd()) and os.path.dirname(package) != os.getcwd()
    except FileNotFoundError:
        added = sys.path[0] == ""
    if added:
        del sys.path[0]


if __name__ == "__main__":
    _leave_working_directory()
    from .cli.main import main

    sys.exit(main())
