"""What finds mistakes with memory, and how its reports are read: sanitizers of the C compiler, and valgrind's memcheck.

A build with sanitizers is made from a copy of the sources, with one module more, `fastecho._planted`, whose mistakes
the tests make on purpose: a check that finds none of those has found nothing at all.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SANITIZERS = "address,undefined"

PLANTED = '''
"""Mistakes on purpose: see tests/support/memory_checks.py."""

cimport cython
from libc.stdlib cimport free, malloc

from ._sessions cimport SessionRegistry


def write_beyond_the_end(int size):
    cdef unsigned char* block = <unsigned char*>malloc(size)
    block[size] = 1
    free(block)


@cython.overflowcheck(False)
def overflow(int number):
    number += 1
    return number


def keep_a_buffer(SessionRegistry sessions):
    sessions.pool.acquire()


def keep_a_count(SessionRegistry sessions):
    sessions.context.counters.active += 1
'''

LEAKING = '''
"""Mistakes on purpose: see tests/support/memory_checks.py."""

from libc.stdlib cimport free, malloc


def leak(int size):
    cdef unsigned char* block = <unsigned char*>malloc(size)
    block[0] = 1


def read_after_free(int size):
    cdef unsigned char* block = <unsigned char*>malloc(size)
    block[0] = 1
    free(block)
    return block[0]
'''


@dataclass(frozen=True)
class SanitizedBuild:
    """A debug build with sanitizers: the folder with the package, and the libraries that a process must preload."""

    lib: Path
    preload: tuple[str, ...]

    def environment(self, reports: Path, malloc: str = "malloc") -> dict[str, str]:
        """The environment of a process that uses the build, for whose reports `reports` is the beginning of file names.

        `malloc` is PYTHONMALLOC: with "malloc" each Python object is a block that AddressSanitizer guards, with "debug"
        the interpreter checks its own blocks.
        """
        # Leaks are memcheck's: at its end, an interpreter leaves much that LeakSanitizer would take for one.
        address = f"log_path={reports}:detect_leaks=0:allocator_may_return_null=1:verify_asan_link_order=0"
        undefined = f"log_path={reports}:print_stacktrace=1:halt_on_error=1"
        without = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return {
            **without,
            "PYTHONPATH": str(self.lib),
            "PYTHONMALLOC": malloc,
            "LD_PRELOAD": " ".join(self.preload),
            "ASAN_OPTIONS": address,
            "UBSAN_OPTIONS": undefined,
        }


def sanitizer_libraries() -> tuple[str, ...]:
    """Paths of the sanitizers' libraries, and of the C++ library, whose exceptions they intercept; empty if missing."""
    if shutil.which("gcc") is None:
        return ()
    found = []
    for name in ("libubsan.so", "libasan.so", "libstdc++.so"):  # only as the first, UBSan writes to its log
        answer = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        if not Path(answer.stdout.strip()).is_absolute():
            return ()
        found.append(str(Path(answer.stdout.strip()).resolve()))
    return tuple(found)


def build_with_sanitizers(folder: Path) -> SanitizedBuild:
    """Build in `folder`, or use what another process of the same run has built there."""
    folder.mkdir(parents=True, exist_ok=True)
    build = SanitizedBuild(folder / "lib", sanitizer_libraries())
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            checkout = folder / "checkout"
            shutil.copytree(ROOT / "src", checkout / "src", ignore=shutil.ignore_patterns("*.so", "*.c", "*.egg-info"))
            for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
                shutil.copy(ROOT / name, checkout)
            (checkout / "src" / "fastecho" / "_planted.pyx").write_text(PLANTED)
            environment = {**os.environ, "FASTECHO_BUILD": "debug", "FASTECHO_SANITIZE": SANITIZERS}
            command = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(build.lib)]
            done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            (folder / "built").touch()
    return build


def build_leaking(folder: Path) -> Path:
    """Build the module `leaking` as the package's modules are built; the folder to import it from."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "leaking.pyx").write_text(LEAKING)
    (folder / "setup.py").write_text(
        "from setuptools import Extension, setup\n"
        "from Cython.Build import cythonize\n"
        "module = Extension('leaking', ['leaking.pyx'], extra_compile_args=['-O0', '-g'])\n"
        "setup(name='leaking', ext_modules=cythonize([module], language_level=3))\n"
    )
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def sanitizer_reports(reports: Path) -> list[str]:
    """What the sanitizers wrote, a text for each process that they stopped."""
    return [path.read_text(errors="replace") for path in sorted(reports.parent.glob(f"{reports.name}.*"))]


def memcheck(report: Path, command: Sequence[str]) -> list[str]:
    """`command` under memcheck, which writes its report as XML."""
    return [
        "valgrind", "-q", "--tool=memcheck", "--leak-check=full", "--show-leak-kinds=definite,indirect",
        "--num-callers=40", "--xml=yes", f"--xml-file={report}", *command,
    ]  # fmt: skip


@dataclass(frozen=True)
class MemcheckError:
    """What memcheck reports once: its kind, and the functions of the stack with the file that each is in."""

    kind: str
    frames: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "\n    ".join([self.kind, *(f"{function} ({Path(file).name})" for function, file in self.frames)])


def memcheck_errors(report: Path, ours: Path) -> list[MemcheckError]:
    """The errors whose stack has a frame in an extension module below `ours`.

    The interpreter reads memory that it has not written, and keeps what it has allocated at its end; neither is ours.
    """
    found = []
    for error in ElementTree.parse(report).getroot().iter("error"):
        frames = tuple(
            (frame.findtext("fn", "?"), frame.findtext("obj", "?")) for stack in error.iter("stack") for frame in stack
        )
        if any(is_below(file, ours) for _, file in frames):
            found.append(MemcheckError(error.findtext("kind", "?"), frames))
    return found


def is_below(file: str, folder: Path) -> bool:
    return file.endswith(".so") and Path(file).is_relative_to(folder)


def passed(output: str) -> int:
    """How many tests the last line of a pytest run says have passed."""
    found = re.findall(r"(\d+) passed", output)
    return int(found[-1]) if found else 0


def shared_folder(base: Path, name: str) -> Path:
    """A temporary folder that all processes of one pytest run share. `base` is pytest's for this process."""
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


def existing(files: Iterable[str]) -> list[str]:
    """Test files by their path below `tests`."""
    paths = [ROOT / "tests" / file for file in files]
    assert all(path.exists() for path in paths), [path for path in paths if not path.exists()]
    return [str(path) for path in paths]
