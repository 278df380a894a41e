"""The text form of faults: `reset(after_sent=17).first(2); latency(0.1, jitter=0.02)`.

    faults    fault { (";" | newline) fault }, or "none"
    fault     call { "." call }             the first is the kind, the others are selectors
    call      name "(" [ argument { "," argument } [","] ] ")"
    argument  [ name "=" ] value
    value     number | string | "[" value { "," value } "]" | None | True | False

The text is a subset of Python, and `ast` parses it; indentation has no meaning, and comments are allowed. A string is
bytes, with or without a `b` before it. What is not ASCII in it is UTF-8 (with a `b`, as in Python, only ASCII is
allowed).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from . import _kinds, _select
from ._fault import Fault

if TYPE_CHECKING:
    import ast

_EXAMPLE: Final = "such as reset(after_sent=17).first(2)"
_NO_VALUE: Final = "that is no value; numbers, strings and lists are"
_LONGEST_TEXT: Final = 1 << 20
# Python warns of other escapes, or will refuse them.
_ESCAPES: Final = r"""(?:[^\\]|\\(?:[\\'"abfnrtv]|x[0-9a-fA-F]{2}|[0-3][0-7]{2}|[0-7]{1,2}(?![0-7])))*"""
_BAD_ESCAPE: Final = r"the only escapes are \0 \r \n \t \\ \xNN and the like"


def parse_faults(text: str) -> tuple[Fault, ...]:
    """The faults of `text`, in order; `none` is no fault.

    Raises:
        ValueError: the text describes no fault; one line says where, and what is accepted.
    """
    if not isinstance(text, str):
        raise ValueError(f"must be faults, {_EXAMPLE}")
    if text.strip() == "none":
        return ()
    if len(text) > _LONGEST_TEXT:
        raise ValueError("must be at most 1 MiB of text")
    faults = tuple(_Parser(text).faults())
    if not faults:
        raise ValueError(f"must be faults, {_EXAMPLE}, or none")
    return faults


def format_faults(faults: tuple[Fault, ...]) -> str:
    """The text form of them all."""
    return "; ".join(map(str, faults)) or "none"


def validate_faults(value: object) -> tuple[Fault, ...]:
    """`value`, which is a fault, text, or a sequence of either, as faults. Raises ValueError."""
    found: list[Fault] = []
    for each in value if isinstance(value, (list, tuple)) else (value,):
        if not isinstance(each, (Fault, str)):
            raise ValueError(f"must be faults or their text, {_EXAMPLE}, or a list of such")
        found += parse_faults(each) if isinstance(each, str) else (each,)
    return tuple(found)


class _Parser:
    """The faults of one text."""

    _begin: tuple[int, int]
    """The line and the column at which the fault under way begins."""

    def __init__(self, text: str) -> None:
        import ast  # when it is needed: 1 ms of start-up

        self._ast = ast
        try:
            # Each byte is one character, so that a string may hold bytes that are not UTF-8.
            characters = text.encode("utf-8", "surrogateescape").decode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(f"{_kinds.show_line(text)}: that is no text") from None
        # Python, which counts the lines of an error, ends a line at each of these.
        self._lines = [line.strip(" \t\f;") for line in re.split("\r\n|\r|\n", characters)]

    def faults(self) -> list[Fault]:
        return [self._fault(statement) for statement in self._statements()]

    def _statements(self) -> list[ast.stmt]:
        text = "\n".join(self._lines)
        escapes = re.match(_ESCAPES, text, re.S)
        if escapes is not None and escapes.end() < len(text):
            bad = text[escapes.end() : escapes.end() + 2]
            raise ValueError(f"{_shown(text[: escapes.end()].rpartition(chr(10))[2] + bad)}: {_BAD_ESCAPE}")
        try:
            return self._ast.parse(text).body
        except SyntaxError as error:
            line = (error.text or text).split("\n")[0]
            raise ValueError(f"{_shown(line)}: {error.msg}; must be faults, {_EXAMPLE}") from None
        except (ValueError, RecursionError, MemoryError):
            raise ValueError(f"{_shown(text)}: must be faults, {_EXAMPLE}") from None

    def _fault(self, statement: ast.stmt) -> Fault:
        ast = self._ast
        self._begin = (statement.lineno, statement.col_offset)
        node = statement.value if isinstance(statement, ast.Expr) else None
        selectors = []
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            selectors.append(node)
            node = node.func.value
        name = node.func if isinstance(node, ast.Call) else node
        if not isinstance(name, ast.Name):
            raise self._error(f"must be a fault, {_EXAMPLE}", node or statement)
        if name.id not in _kinds.KINDS:
            raise self._error(self._no_kind(name.id), name)
        if not isinstance(node, ast.Call):
            raise self._error(f"needs brackets: {name.id}()", name)
        positional = _kinds.by_position(name.id)
        by_name = [each.name for each in _kinds.KINDS[name.id] if each.name not in positional]
        fault = Fault(name.id, tuple(self._arguments(node, positional, by_name)))
        for call in reversed(selectors):
            fault = self._select(fault, call)
        return fault

    def _no_kind(self, name: str) -> str:
        if name in _select.SELECTORS:
            return f"a selector stands behind a fault, such as reset().{name}"
        return "must stand alone" if name == "none" else f"no such fault{_kinds.hint(name, _kinds.KINDS)}"

    def _select(self, fault: Fault, call: ast.Call) -> Fault:
        name = call.func.attr  # type: ignore[attr-defined]
        if name == "where":
            raise self._error("takes a function, so it can be given in Python only", call.func)
        if name not in _select.SELECTORS:
            if name in _kinds.KINDS:
                raise self._error("faults must be separated by ; or a new line", call.func)
            raise self._error(f"no such selector{_kinds.hint(name, _select.SELECTORS)}", call.func)
        argument = _select.SELECTORS[name][0]
        given = dict(self._arguments(call, [argument], []))
        if list(given) != [argument]:
            raise self._error(f"needs {argument}, and nothing else", call)
        return Fault(fault.kind, fault.arguments, (*fault.selectors, (name, given[argument])))

    def _arguments(self, call: ast.Call, positional: list[str], by_name: list[str]) -> list[tuple[str, Any]]:
        """The arguments of `call`; `positional` are the names of those that may be given without their names."""
        given: dict[str, Any] = {}
        for index, node in enumerate(call.args):
            value = self._value(node)
            if index >= len(positional):
                most = f"{', '.join(positional)} and no more" if positional else "no argument"
                raise self._error(f"takes {', '.join(by_name)} by name" if by_name else f"takes {most}", node)
            given[positional[index]] = value
        for keyword in call.keywords:
            value = self._value(keyword.value)
            if keyword.arg is None:
                raise self._error(_NO_VALUE, keyword.value)
            if keyword.arg in given:
                raise self._error(f"{_kinds.show_line(keyword.arg, 40)} is given twice", keyword)
            given[keyword.arg] = value
        return list(given.items())

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, self._ast.List):
            return [self._scalar(each) for each in node.elts]
        return self._scalar(node)

    def _scalar(self, node: ast.expr) -> Any:
        try:
            value = self._ast.literal_eval(node)
        except (ValueError, TypeError, RecursionError, MemoryError):
            value = ...
        if isinstance(value, str):
            return value.encode("latin-1")
        if value is not None and not isinstance(value, (bool, int, float, bytes)):
            raise self._error(_NO_VALUE, node)
        return value

    def _error(self, why: str, node: ast.AST) -> ValueError:
        """`why`, after the text of the fault up to the end of `node`."""
        (first, begin), last, end = self._begin, node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]
        lines = [line.encode() for line in self._lines[first - 1 : last]]
        lines[-1] = lines[-1][:end]
        lines[0] = lines[0][begin:]
        return ValueError(f"{_shown(b' '.join(lines).decode())}: {why}")


def _shown(characters: str) -> str:
    """Text of one character a byte, as a message shows it."""
    return _kinds.show_line(characters.encode("latin-1", "replace").decode("utf-8", "surrogateescape"))
