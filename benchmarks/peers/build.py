"""Builds the peers that are not Python into build/peers, as far as compilers and headers are there.

    python -m benchmarks.peers.build [NAME...]

What cannot be built is named with the Debian package that is missing; the exit code is 1 then, and 0 when all
were built. A program newer than its source is left alone.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
OUTPUT = SOURCES.parents[1] / "build" / "peers"
VERSIONS = OUTPUT / "versions.json"

C_FLAGS = ("-O3", "-DNDEBUG", "-Wall", "-Wextra")
ASIO_FLAGS = ("-std=c++17", *C_FLAGS, "-DASIO_STANDALONE", "-pthread")


@dataclass(frozen=True)
class Tool:
    """A compiler or a header: how to see whether it is here, and the Debian package that brings it."""

    package: str
    command: str
    header: str | None = None

    def missing(self) -> bool:
        compiler = shlex.split(self.command)
        if shutil.which(compiler[0]) is None:
            return True
        if self.header is None:
            return False
        suffix = ".cpp" if self is ASIO else ".c"
        with tempfile.TemporaryDirectory() as directory:
            probe = Path(directory, "probe" + suffix)
            probe.write_text(f"#include <{self.header}>\n")
            return subprocess.run([*compiler, "-E", str(probe)], capture_output=True).returncode != 0


CC = os.environ.get("CC", "cc")
CXX = os.environ.get("CXX", "c++")
C = Tool("gcc", CC)
CPLUSPLUS = Tool("g++", CXX)
ASIO = Tool("libasio-dev", f"{CXX} -std=c++17 -DASIO_STANDALONE", "asio.hpp")
LIBUV = Tool("libuv1-dev", CC, "uv.h")
OPENSSL = Tool("libssl-dev", CC, "openssl/ssl.h")
GO = Tool("golang-go", os.environ.get("GO", "go"))


@dataclass(frozen=True)
class Program:
    name: str
    source: str
    needs: tuple[Tool, ...]
    flags: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return OUTPUT / self.name

    def command(self) -> list[str]:
        source, output = str(SOURCES / self.source), str(self.path)
        compiler = shlex.split(self.needs[0].command)
        if self.needs[0] is GO:
            return [*compiler, "build", "-o", output, source]
        return [*compiler, *self.flags, source, "-o", output, *self.libraries]


def asio(name: str, source: str, array_size: int) -> Program:
    return Program(name, source, (CPLUSPLUS, ASIO), (*ASIO_FLAGS, f"-DARRAY_SIZE={array_size}"))


PROGRAMS = (
    Program("epoll_echo", "epoll_echo.c", (C,), C_FLAGS),
    asio("asio_echo_1k", "asio_echo.cpp", 1024),
    asio("asio_echo_64k", "asio_echo.cpp", 65536),
    asio("asio_threaded", "asio_threaded.cpp", 1024),
    asio("asio_iterative", "asio_iterative.cpp", 1024),
    Program("asio_udp", "asio_udp.cpp", (CPLUSPLUS, ASIO), ASIO_FLAGS),
    Program("libuv_echo", "libuv_echo.c", (C, LIBUV), C_FLAGS, ("-luv",)),
    Program("openssl_echo", "openssl_echo.c", (C, OPENSSL), C_FLAGS, ("-lssl", "-lcrypto")),
    Program("echo_go", "echo.go", (GO,)),
)


def first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return ""
    return done.stdout.strip().partition("\n")[0]


def defined(header: str, pattern: str, compiler: str) -> list[int]:
    """The numbers of the macros that match `pattern`, as the preprocessor sees them."""
    command = [*shlex.split(compiler), "-dM", "-E", "-include", header, "-x", "c++", os.devnull]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return []
    return [int(match) for match in re.findall(pattern, done.stdout)]


def versions() -> dict[str, str]:
    """What the programs were built with, as far as it is here."""
    found = {name: first_line(*shlex.split(tool), "--version") for name, tool in (("cc", CC), ("c++", CXX))}
    if number := defined("asio.hpp", r"#define ASIO_VERSION (\d+)", ASIO.command):
        # From Asio's version.hpp: % 100 is the sub-minor, / 100 % 1000 the minor, / 100000 the major version.
        found["asio"] = f"{number[0] // 100000}.{number[0] // 100 % 1000}.{number[0] % 100}"
    parts = [defined("uv.h", rf"#define UV_VERSION_{part} (\d+)", CC) for part in ("MAJOR", "MINOR", "PATCH")]
    if all(parts):
        found["libuv"] = ".".join(str(part[0]) for part in parts)
    if all(parts := [defined("openssl/opensslv.h", rf"#define OPENSSL_VERSION_{part} (\d+)", CC)
                     for part in ("MAJOR", "MINOR", "PATCH")]):  # fmt: skip
        found["OpenSSL"] = ".".join(str(part[0]) for part in parts)
    found["go"] = first_line(*shlex.split(GO.command), "version").removeprefix("go version ")
    return {name: version for name, version in found.items() if version}


def build(program: Program) -> str | None:
    """Builds one program; a line that says why not, or None."""
    newest = max((SOURCES / program.source).stat().st_mtime, Path(__file__).stat().st_mtime)
    if program.path.exists() and program.path.stat().st_mtime > newest:
        return None
    if missing := [tool.package for tool in program.needs if tool.missing()]:
        return f"needs the Debian package {' and '.join(missing)}: apt-get install {' '.join(missing)}"
    done = subprocess.run(program.command(), capture_output=True, text=True)
    if done.returncode:
        return f"does not build:\n{shlex.join(program.command())}\n{done.stderr.rstrip()}"
    if done.stderr.strip():
        print(done.stderr.rstrip(), file=sys.stderr)
    return None


def main(names: Iterable[str]) -> int:
    chosen = set(names)
    if unknown := chosen - {program.name for program in PROGRAMS}:
        print(f"unknown: {', '.join(sorted(unknown))}; there is {', '.join(p.name for p in PROGRAMS)}")
        return 2
    OUTPUT.mkdir(parents=True, exist_ok=True)
    failed = 0
    for program in PROGRAMS:
        if chosen and program.name not in chosen:
            continue
        reason = build(program)
        failed += reason is not None
        print(f"{program.name:<15} {reason or 'built'}")
    VERSIONS.write_text(json.dumps(versions(), indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
