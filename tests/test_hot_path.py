"""The hot functions take no Python path: held over the C that Cython makes of them.

Like `cython -a`, which colours each line of source by the calls into the Python C API that it compiles to. In the
functions below no line has any but those on the short list, each with its reason.
"""

import re
from pathlib import Path

import pytest
from Cython.Compiler.Main import CompilationOptions, compile

import fastecho

SOURCE = Path(fastecho.__file__).parent

# (file, function): the lines that may touch Python, by a part of their text, and why.
HOT = {
    ("_buffer.pyx", "def get_buffer"): {
        "def get_buffer": "called from Python",
        "return <object>self.reading.view": "one reference to a memoryview that exists already",
    },
    ("_session.pyx", "def buffer_updated"): {
        "def buffer_updated": "called from Python with an int",
        "receive(self, nbytes)": "checks for an exception of the unlikely paths",
    },
    ("_session.pxd", "cdef inline int receive"): {
        "raise ValueError": "a caller's mistake; never taken by a loop",
        "self.process(buffer, nbytes)": "checks for an exception of the unlikely paths",
        "cdef inline int receive": "the traceback of those",
    },
    ("_session.pyx", "cdef int process"): {
        "return self.receive_after_end(size)": "an unlikely path, which may raise",
        "return self.yield_after_full_reads()": "an unlikely path, which may raise",
        "return self.send_failed(errno)": "an unlikely path, which may raise",
        "self.send_rest(buffer, sent, to_echo)": "an unlikely path, which may raise",
        "return self.end_session(END_TERMINATOR)": "once a session, which may raise",
        "cdef int process": "the traceback of those",
    },
    ("testing/_record.pyx", "cdef int add"): {
        "self.store(": "an unlikely path, which may raise",
        "self.watch.notify()": "an unlikely path, which may raise",
        "cdef int add": "the traceback of those",
    },
    ("_datagrams.pyx", "cdef bint serve"): {},
    ("_datagrams.pyx", "cdef int receive"): {},
    ("_datagrams.pyx", "cdef int select"): {},
    ("_datagrams.pyx", "cdef Outcome judge"): {},
    ("_datagrams.pyx", "cdef void send"): {},
    ("_datagrams.pyx", "cdef bint allows"): {},
    ("_scan.pxd", "cdef inline Py_ssize_t scan("): {},
    ("_scan.pxd", "cdef inline Py_ssize_t scan_tail"): {},
    ("_scan.pxd", "cdef inline Py_ssize_t scan_anywhere"): {},
    ("_scan.pxd", "cdef inline unsigned int pattern_step"): {},
}


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The C of the modules of the hot path, with the line of source that each part was made from."""
    texts = []
    for module in ("_buffer", "_session", "testing/_record", "_datagrams"):
        target = tmp_path_factory.mktemp("c") / "module.c"
        directives = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                      "initializedcheck": False, "binding": False}
        options = CompilationOptions(compiler_directives=directives, output_file=str(target))
        name = f"fastecho.{module.replace('/', '.')}"
        result = compile(str(SOURCE / f"{module}.pyx"), options=options, full_module_name=name)
        assert result.num_errors == 0
        texts.append(target.read_text())
    return "\n".join(texts)


def function_lines(path: Path, head: str) -> dict[int, str]:
    """The lines of one function: from its head to the next line that is indented no deeper."""
    lines = path.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith(head))
    depth = len(lines[start]) - len(lines[start].lstrip())
    found = {start + 1: lines[start]}
    for number in range(start + 1, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) <= depth:
            break
        found[number + 1] = line
    return found


PYTHON = re.compile(r"\b(Py[A-Z]\w+|__Pyx_(?!memcpy|PyThreadState_|RefNanny)\w+|__pyx_vectorcallfunc)\s*\(")

def python_calls(generated: str, name: str) -> dict[int, set[str]]:
    """For each line of the source file, the calls into the Python API in the C made from it."""
    found: dict[int, set[str]] = {}
    for mark in re.finditer(rf'/\* "(?:fastecho/)?{re.escape(name)}":(\d+)\n(?:.*\n)*?\s*\*/\n', generated):
        end = generated.find('/* "', mark.end())
        body = generated[mark.end(): end if end > 0 else len(generated)]
        # What follows the last statement of a function is its clean-up, or another function.
        body = re.split(r"\n  /\* function exit code \*/|\n}\n", body)[0]
        found.setdefault(int(mark[1]), set()).update(PYTHON.findall(body))
    return found


@pytest.mark.parametrize(("name", "head"), HOT, ids=lambda part: part)
def test_a_hot_function_takes_no_python_path(generated, name, head):
    allowed = HOT[name, head]
    lines = function_lines(SOURCE / name, head)
    calls = python_calls(generated, name)
    assert calls.keys() & lines.keys(), "found nothing of the function in the C: the test has gone blind"
    for number, text in lines.items():
        if calls.get(number) and not any(part in text for part in allowed):
            raise AssertionError(f"{name}:{number}: {text.strip()!r} calls {sorted(calls[number])}")


def test_the_check_sees_python(generated):
    """A line that does touch Python is found, so that the test above can fail."""
    lines = function_lines(SOURCE / "_session.pyx", "cdef int write_tail")
    calls = python_calls(generated, "_session.pyx")
    write = next(number for number, text in lines.items() if "transport.write(data)" in text)
    assert calls[write]
