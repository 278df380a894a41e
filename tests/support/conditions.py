"""The table of conditions: what a command may find when it starts, and how each command is called under it.

`ENTRIES` has the commands, `CONDITIONS` what they are started with: streams, readers of pipes, locale, signals,
environment, folders, limits. tests/cli/test_conditions.py applies every condition to every command.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from command import ASCII_LOCALE, WITHOUT_PRIVILEGES, clean_environment
from patience import DEADLINE
from processes import echoes, to_address

# At a low rate: what is tried is how a process was started, and other tests need the processor.
QUICK = ("--connections", "2", "--rate", "200", "--duration", "500ms", "--warmup", "0")
FILES = ("--json", "{json}", "--report", "{page}")


@dataclass(frozen=True)
class Entry:
    """How the table calls a command. `command` is its name, `prints` a word of its standard output."""

    command: str
    arguments: Sequence[str]
    prints: str = ""
    writes: Sequence[str] = ()
    """The files that it is asked for: "json", "page"."""
    serves: bool = False
    varies: Sequence[int] = ()
    """Exit codes that are all right: those of the verdicts that a few short rounds may reach."""
    endless: Sequence[str] | None = None
    """Arguments with which it ends only when it is told to, if there are such."""


ENTRIES: dict[str, Entry] = {
    "serve": Entry("serve", ("--port", "0"), serves=True),
    "bench": Entry("bench", ("bench", "{target}", *QUICK, *FILES), "echoes/s", writes=("json", "page")),
    "bench, own server": Entry("bench", ("bench", *QUICK, *FILES), "echoes/s", writes=("json", "page")),
    "bench merge": Entry("bench merge", ("bench", "merge", "{a}", "{b}", *FILES), "echoes/s", writes=("json", "page")),
    "bench compare": Entry(
        "bench compare", ("bench", "compare", "{a}", "{b}", "--json", "{json}"), "verdict", writes=("json",)
    ),
    "bench ab": Entry(
        "bench ab",
        ("bench", "ab", "{target}", "{target}", "--connections", "2", "--rounds", "3", "--quiet", "--json", "{json}"),
        "verdict",
        writes=("json",),
        varies=(0, 1),
    ),
    "ping": Entry(
        "ping", ("ping", "{target}", "-c", "3", "-i", "0"), "3 sent", endless=("ping", "{target}", "-i", "0")
    ),
    "top": Entry("top", ("top", "{metrics}", "-i", "100ms"), "echoes/s"),
    "doctor": Entry("doctor", ("doctor",), "uvloop"),
    "--help": Entry("--help", ("--help",), "Usage"),
    "--version": Entry("--version", ("--version",), "fastecho"),
}


@dataclass(frozen=True)
class Condition:
    """How a command is started. `shell` starts it as `"$@"`; the rest says what differs from a plain start."""

    shell: str = 'exec "$@"'
    environ: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    """What its output must be."""
    shows_output: bool = True
    output_fails: bool = False
    """Standard output cannot be written: one line and exit code 1, if there was anything to print."""
    shows_errors: bool = True
    lines_read: int | None = None
    """The readers of `unread` leave after so many lines; 0: before the command starts."""
    unread: Sequence[str] = ()
    program: Sequence[str] = ("-m", "fastecho")
    folder: Callable[[Path], None] | None = None
    """Fills the working directory."""
    refuses_to_serve: bool = False


def _decoys(*without: str) -> Callable[[Path], None]:
    """Modules in the working directory that have the names of what fastecho imports."""
    names = {"click", "rich", "hdrh", "uvloop", "fastecho", "selectors", "socket", "logging", "signal", "subprocess",
             "ctypes", "random", "json", "ssl", "asyncio", "difflib", "tomllib", "platform"}  # fmt: skip

    def fill(folder: Path) -> None:
        for name in names - set(without):
            (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported from the working directory')\n")

    return fill


def _after(statement: str) -> tuple[str, ...]:
    """Start the command after a statement of Python, which has `os` and `signal`."""
    start = "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return ("-c", f"import os, signal, sys; {statement}; {start}", "-m", "fastecho")


_NO_OUTPUT = {"shows_output": False}
_NO_ERRORS = {"shows_errors": False}
_IN_ASCII = {"environ": ASCII_LOCALE, "program": ("-S", "-m", "fastecho")}

CONDITIONS: dict[str, Condition] = {
    "nothing unusual": Condition(),
    # Streams
    "standard input closed": Condition('exec "$@" <&-'),
    "standard output closed": Condition('exec "$@" >&-', **_NO_OUTPUT),
    "standard error closed": Condition('exec "$@" 2>&-', **_NO_ERRORS),
    "standard input and output closed": Condition('exec "$@" <&- >&-', **_NO_OUTPUT),
    "standard output and error closed": Condition('exec "$@" >&- 2>&-', **_NO_OUTPUT, **_NO_ERRORS),
    "all streams closed": Condition('exec "$@" <&- >&- 2>&-', **_NO_OUTPUT, **_NO_ERRORS),
    "standard input not readable": Condition('exec "$@" 0>/dev/null'),
    "standard output not writable": Condition('exec "$@" 1</dev/null', **_NO_OUTPUT, output_fails=True),
    "standard error not writable": Condition('exec "$@" 2</dev/null', **_NO_ERRORS),
    "standard output on a full disk": Condition('exec "$@" >/dev/full', **_NO_OUTPUT, output_fails=True),
    "standard error on a full disk": Condition('exec "$@" 2>/dev/full', **_NO_ERRORS),
    "all output on a full disk": Condition('exec "$@" >/dev/full 2>&1', **_NO_OUTPUT, **_NO_ERRORS, output_fails=True),
    # Readers of pipes
    "standard output is not read": Condition(unread=["stdout"], lines_read=0),
    "standard error is not read": Condition(unread=["stderr"], lines_read=0),
    "no output is read": Condition(unread=["stdout", "stderr"], lines_read=0),
    "the reader of standard output leaves": Condition(unread=["stdout"], lines_read=1),
    "the reader of standard error leaves": Condition(unread=["stderr"], lines_read=1),
    "the reader of both leaves": Condition('exec "$@" 2>&1', unread=["stdout"], lines_read=1, **_NO_ERRORS),
    "outputs that do not wait": Condition(program=_after("os.set_blocking(1, False); os.set_blocking(2, False)")),
    # Locale
    "an ASCII locale": Condition(**_IN_ASCII, encoding="ascii"),
    "an ASCII locale, all streams closed": Condition(
        'exec "$@" <&- >&- 2>&-', **_IN_ASCII, **_NO_OUTPUT, **_NO_ERRORS
    ),
    "PYTHONIOENCODING=ascii": Condition(environ={"PYTHONIOENCODING": "ascii"}, encoding="ascii"),
    "PYTHONIOENCODING=latin-1": Condition(environ={"PYTHONIOENCODING": "latin-1"}, encoding="latin-1"),
    # Signals
    "signals ignored": Condition("trap '' HUP INT TERM PIPE USR1 USR2 ALRM; exec \"$@\""),
    "the end of children ignored": Condition("trap '' CHLD; exec \"$@\""),
    "signals blocked": Condition(program=_after("signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())")),
    # Environment
    "an empty environment": Condition('exec env -i "$@"', encoding="utf-8"),
    "options in the environment": Condition(
        environ={"FASTECHO_CONFIG": "/nowhere.toml", "FASTECHO_FAULT": "refuse()", "FASTECHO_TERMINATOR": "x"},
        refuses_to_serve=True,
    ),
    "development mode": Condition(environ={"PYTHONDEVMODE": "1"}),
    "no docstrings, no asserts": Condition(environ={"PYTHONOPTIMIZE": "2"}),
    "a terminal of one column": Condition(environ={"COLUMNS": "1", "TERM": "dumb"}),
    "no folder for temporary files": Condition(environ={"TMPDIR": "/nowhere", "HOME": "/nowhere"}),
    # Folders
    "decoys in the working directory": Condition(program=("-m", "fastecho"), folder=_decoys("fastecho")),
    "decoys beside the console script": Condition(program=(), folder=_decoys()),
    "decoys and a safe path": Condition(environ={"PYTHONSAFEPATH": "1"}, program=(), folder=_decoys()),
    "the working directory deleted": Condition('mkdir gone && cd gone && rmdir ../gone && exec "$@"'),
    "the working directory unreadable": Condition(
        'mkdir closed && cd closed && chmod 000 ../closed && exec "$@"', program=(*WITHOUT_PRIVILEGES, "-m", "fastecho")
    ),
    # Limits
    "few descriptors": Condition('ulimit -n 128; exec "$@"'),
    "no core dumps, small stack": Condition('ulimit -c 0; ulimit -s 1024; exec "$@"'),
}


@dataclass
class Ended:
    code: int
    out: bytes
    err: bytes


class Run:
    """A command under a condition. Everything that it writes lies below a folder whose name has a space and an ü."""

    def __init__(
        self, condition: Condition, arguments: Sequence[str], scratch: Path, places: Mapping[str, str]
    ) -> None:
        self.condition = condition
        self.results = scratch / "results ü"
        self.json, self.page = self.results / "run.json", self.results / "run.html"
        folder = scratch / "a folder ü"
        for each in (self.results, folder):
            each.mkdir()
        if condition.folder is not None:
            condition.folder(folder)
        places = {**places, "json": str(self.json), "page": str(self.page)}
        self._arguments = [argument.format(**places) for argument in arguments]
        self._folder = folder

    def result(self) -> str:
        """What a measurement came to, for the message of a failed test."""
        if not self.json.exists():
            return "no file was written"
        result = json.loads(self.json.read_text(encoding="utf-8")).get("result")
        if result is None:
            return "no measurement was written"
        return str({name: result[name] for name in ("echoes", "errors", "error_details", "stopped")})

    @contextlib.contextmanager
    def _started(self, *more: str, pass_fds: Sequence[int] = ()) -> Iterator[tuple[subprocess.Popen[bytes], _Reader]]:
        condition = self.condition
        script = str(Path(sys.executable).with_name("fastecho"))
        program = [sys.executable, *condition.program] if condition.program else [script]
        reader = _Reader(condition)
        process = subprocess.Popen(
            ["/bin/sh", "-c", condition.shell, "sh", *program, *self._arguments, *more],
            env=clean_environment({**_UTF_8, **condition.environ}),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=reader.writers["stdout"],
            stderr=reader.writers["stderr"],
            pass_fds=pass_fds,
        )
        try:
            reader.close_writers()
            yield process, reader
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            reader.close()

    def to_the_end(self) -> Ended:
        """Run a command that ends."""
        with self._started() as (process, reader):
            out, err = reader.read(process)
            return Ended(process.wait(DEADLINE), out, err)

    def interrupted(self) -> Ended:
        """Run a command that prints until Ctrl-C, which comes once it has printed a second line."""
        with self._started() as (process, reader):
            reader.wait_for_lines()
            process.send_signal(signal.SIGINT)
            out, err = reader.read(process)
            return Ended(process.wait(DEADLINE), out, err)

    def serving(self) -> Ended:
        """Run a server: it must say its address, echo, and end when told to."""
        mine, theirs = socket.socketpair()
        with mine, theirs, self._started("--ready-fd", str(theirs.fileno()), pass_fds=[theirs.fileno()]) as started:
            process, reader = started
            theirs.close()
            mine.settimeout(2 * DEADLINE)
            if address := mine.recv(4096).decode():
                if self.condition.shows_errors:
                    reader.leave("stdout")  # a server prints nothing there
                reader.leave_when_read()
                for _ in range(2):
                    with socket.create_connection(to_address(address.split("\n")[0]), DEADLINE) as client:
                        assert echoes(client)
                process.terminate()
            out, err = reader.read(process)
            return Ended(process.wait(DEADLINE), out, err)


# So that "nothing unusual" is the same on every machine.
_UTF_8 = {"LC_ALL": "C.UTF-8", "COLUMNS": "100"}


class _Reader:
    """Reads both outputs of a process at once; those that the condition calls unread only as far as it says."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self.writers: dict[str, int] = {}
        self._open: dict[int, str] = {}
        self._got = {"stdout": b"", "stderr": b""}
        for name in self._got:
            mine, self.writers[name] = os.pipe()
            if name in condition.unread and condition.lines_read == 0:
                os.close(mine)
            else:
                self._open[mine] = name

    def close_writers(self) -> None:
        for writer in self.writers.values():
            os.close(writer)
        self.writers = {}

    def close(self) -> None:
        for descriptor in (*self._open, *self.writers.values()):
            os.close(descriptor)
        self._open.clear()

    def leave(self, name: str) -> None:
        """Leave `name` unread, if the condition says that its reader leaves at all."""
        for descriptor, each in list(self._open.items()):
            if each == name and name in self._condition.unread:
                self._close(descriptor)

    def leave_when_read(self) -> None:
        """Wait until each reader that is to leave has left."""
        while any(name in self._condition.unread for name in self._open.values()):
            if not self._turn():
                return

    def wait_for_lines(self) -> None:
        while self._open and self._got["stdout"].count(b"\n") < 2:
            assert self._turn(), f"nothing was printed: {self._got}"

    def read(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        while self._open and self._turn():
            pass
        assert not self._open, f"{process.args} did not end: {self._got}"
        return self._got["stdout"], self._got["stderr"]

    def _turn(self) -> bool:
        """Read what has come; False when nothing did in time."""
        ready, _, _ = select.select(list(self._open), [], [], 2 * DEADLINE)
        for descriptor in ready:
            name = self._open[descriptor]
            data = os.read(descriptor, 65536)
            self._got[name] += data
            if not data or self._has_enough(name):
                self._close(descriptor)
        return bool(ready)

    def _close(self, descriptor: int) -> None:
        os.close(descriptor)
        del self._open[descriptor]

    def _has_enough(self, name: str) -> bool:
        lines = self._condition.lines_read
        return lines is not None and name in self._condition.unread and self._got[name].count(b"\n") >= lines


def decoded(data: bytes, encoding: str) -> str:
    """Output in the encoding that was asked for; fails where it is not."""
    return codecs.decode(data, encoding)
