"""The text form of faults: `reset(after_out=17).first(2); latency(0.1, jitter=0.02)`.

    faults    fault { (";" | newline) fault }, or "none"
    fault     call { "." call }             the first is the kind, the others are selectors
    call      name "(" [ argument { "," argument } [","] ] ")"
    argument  [ name "=" ] value
    value     number | string | "[" value { "," value } "]"

Names, numbers and strings are spelled as in Python, on one line each; a string is bytes, with or without a `b` before
it, and what is not ASCII in it is UTF-8. Read by hand rather than by `ast.parse`, which warns where it could refuse,
may run out of stack on what nests, and words its errors differently in each version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from . import _kinds, _select
from ._fault import Fault

_EXAMPLE: Final = "such as reset(after_out=17).first(2)"
_NO_VALUE: Final = "that is no value; numbers, strings and lists are"
_LONGEST_TEXT: Final = 1 << 20
_ESCAPE: Final = r"""\\(?:[\\'"abfnrtv]|x[0-9a-fA-F]{2}|[0-3][0-7]{2}|[0-7]{1,2}(?![0-7]))"""
_TOKEN: Final = rf"""(?P<space>[ \t\r\f]+)
    |(?P<string>[bB]?(?:'(?:[^'\\\n]|{_ESCAPE})*'|"(?:[^"\\\n]|{_ESCAPE})*"))
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)(?!\w))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<end>[;\n])
    |(?P<mark>[()\[\],.=])"""
_WHOLE: Final = r"[+-]?(?:0[xX]\w+|[0-9_]+)"
_WORDS: Final[dict[str, Any]] = {"None": None, "True": True, "False": False}


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse_faults(text: str) -> tuple[Fault, ...]:
    """The faults that `text` describes, in their order; `none` is no fault.

    Raises:
        ValueError: it describes none; one line says where, and what would do.
    """
    if not isinstance(text, str):
        raise ValueError(f"must be faults, {_EXAMPLE}")
    if text.strip() == "none":
        return ()
    if len(text) > _LONGEST_TEXT:
        raise ValueError("must be at most 1 MiB of text")
    faults = tuple(_Reader(text).faults())
    if not faults:
        raise ValueError(f"must be faults, {_EXAMPLE}, or none")
    return faults


def show_faults(faults: tuple[Fault, ...]) -> str:
    """The text form of them all."""
    return "; ".join(map(str, faults)) or "none"


def check_faults(value: object) -> tuple[Fault, ...]:
    """`value`, which is a fault, text, or a sequence of either, as faults. Raises ValueError."""
    found: list[Fault] = []
    for each in value if isinstance(value, (list, tuple)) else (value,):
        if not isinstance(each, (Fault, str)):
            raise ValueError(f"must be faults or their text, {_EXAMPLE}, or a list of such")
        found += parse_faults(each) if isinstance(each, str) else (each,)
    return tuple(found)


class _Reader:
    """Reads one token ahead; nothing in the grammar nests, so nothing here calls itself."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._begin = 0
        self._tokens = self._scan()
        self._token = next(self._tokens)

    def faults(self) -> Iterator[Fault]:
        while self._token.kind != "stop":
            self._begin = self._token.at
            if self._token.kind == "end":
                self._next()
                continue
            yield self._fault()
            if self._token.kind not in ("end", "stop"):
                raise self._unexpected("a dot, a ; or the end")

    def _scan(self) -> Iterator[_Token]:
        pattern = re.compile(_TOKEN, re.VERBOSE)  # not before it is needed: 1 ms of start-up
        at = depth = 0
        while at < len(self._text):
            match = pattern.match(self._text, at)
            if match is None:
                raise self._strange(at)
            kind, text = str(match.lastgroup), match[0]
            depth += (text in ("(", "[")) - (text in (")", "]"))
            if kind != "space" and not (text == "\n" and depth > 0):
                yield _Token(kind, text, at)
            at = match.end()
        while True:
            yield _Token("stop", "", at)

    def _strange(self, at: int) -> ValueError:
        rest = self._text[at:]
        if re.match("[bB]?['\"]", rest):
            why = r"a string must end on its line, with no escapes but \0 \r \n \t \\ \xNN and the like"
            return self._error(why, _Token("string", rest, at))
        if number := re.match(r"[+-]?\.?[0-9][\w.]*", rest):
            return self._error("that is no number", _Token("number", number[0], at))
        return self._error(f"{rest[0]!r} has no meaning here", _Token("mark", rest[0], at))

    def _fault(self) -> Fault:
        name = self._name("the name of a fault")
        if name.text not in _kinds.KINDS:
            if name.text in _select.SELECTORS:
                raise self._error(f"a selector stands behind a fault, such as reset().{name.text}", name)
            if name.text == "none":
                raise self._error("must stand alone", name)
            raise self._error(f"no such fault{_kinds.hint(name.text, _kinds.KINDS)}", name)
        takes = _kinds.by_position(name.text)
        by_name = [each.name for each in _kinds.KINDS[name.text] if each.name not in takes]
        fault = Fault(name.text, tuple(self._arguments(takes, by_name)))
        while self._at("."):
            self._next()
            fault = self._narrow(fault)
        return fault

    def _narrow(self, fault: Fault) -> Fault:
        name = self._name("a selector")
        if name.text == "where":
            raise self._error("takes a function, so it can be given in Python only", name)
        if name.text not in _select.SELECTORS:
            if name.text in _kinds.KINDS:
                raise self._error("faults must be separated by ; or a new line", name)
            raise self._error(f"no such selector{_kinds.hint(name.text, _select.SELECTORS)}", name)
        argument = _select.SELECTORS[name.text][0]
        given = dict(self._arguments([argument], []))
        if list(given) != [argument]:
            raise self._error(f"needs {argument}, and nothing else", self._token)
        return Fault(fault.kind, fault.arguments, (*fault.selectors, (name.text, given[argument])))

    def _arguments(self, takes: list[str], by_name: list[str]) -> list[tuple[str, Any]]:
        """What stands in brackets; `takes` are the names of what may come without its name."""
        given: dict[str, Any] = {}
        self._expect("(", "a (")
        while not self._at(")"):
            token = self._token
            name = takes[len(given)] if len(given) < len(takes) else None
            if token.kind == "name" and token.text not in _WORDS:
                name = token.text
                self._next()
                if not self._at("="):
                    raise self._error(_NO_VALUE, token)
                self._next()
            value = self._value()
            if name is None:
                most = f"{', '.join(takes)} and no more" if takes else "no argument"
                raise self._error(f"takes {', '.join(by_name)} by name" if by_name else f"takes {most}", token)
            if name in given:
                raise self._error(f"{_kinds.show_line(name, 40)} is given twice", token)
            given[name] = value
            if not self._at(")"):
                self._expect(",", "a comma or )")
        self._next()
        return list(given.items())

    def _value(self) -> Any:
        if not self._at("["):
            return self._scalar("a value or )")
        self._next()
        values = []
        while not self._at("]"):
            values.append(self._scalar("a number or ]"))
            if not self._at("]"):
                self._expect(",", "a comma or ]")
        self._next()
        return values

    def _scalar(self, wanted: str) -> Any:
        token = self._token
        if token.text not in _WORDS and token.kind not in ("number", "string"):
            raise self._error(_NO_VALUE, token) if token.kind == "name" else self._unexpected(wanted)
        self._next()
        if token.text in _WORDS:
            return _WORDS[token.text]
        return self._number(token) if token.kind == "number" else self._bytes(token)

    def _number(self, token: _Token) -> int | float:
        try:
            return int(token.text, 0) if re.fullmatch(_WHOLE, token.text) else float(token.text)
        except ValueError:
            raise self._error("that is no number, or too long a one", token) from None

    def _bytes(self, token: _Token) -> bytes:
        from ast import literal_eval  # for the escapes of one string, which _TOKEN has seen to be good

        # An argument's bytes that are not UTF-8 come as surrogates, and become what they were.
        try:
            raw = token.text.lstrip("bB").encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise self._error("that is no text", token) from None
        return bytes(literal_eval("b" + "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in raw)))

    def _name(self, wanted: str) -> _Token:
        token = self._token
        if token.kind != "name":
            raise self._unexpected(wanted)
        self._next()
        return token

    def _at(self, mark: str) -> bool:
        return self._token.kind == "mark" and self._token.text == mark

    def _expect(self, mark: str, wanted: str) -> None:
        if not self._at(mark):
            raise self._unexpected(wanted)
        self._next()

    def _next(self) -> None:
        self._token = next(self._tokens)

    def _unexpected(self, wanted: str) -> ValueError:
        ends = {"stop": "the end", "end": "the end of this one"}
        found = ends.get(self._token.kind) or _kinds.show_line(self._token.text, 40)
        return self._error(f"must have {wanted} here, not {found}", self._token)

    def _error(self, why: str, token: _Token) -> ValueError:
        """`why`, after the text of the fault in question as far as `token`."""
        return ValueError(f"{_kinds.show_line(self._text[self._begin : token.at + len(token.text)])}: {why}")
