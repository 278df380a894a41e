"""The types of options: how each parses text, validates a Python value and formats it.

A type raises a plain `ValueError` that says what is accepted ("must be ..."). The caller adds which option it was, and
where the value came from.

Text forms, the same on the command line, in the environment and in strings of a configuration file:

- sizes: `65536`, `64KiB`, `64K`, `1MiB`, `1M`, in any case. K and KiB are both 1024 bytes. KB and MB are
  refused, since they mean 1000 to half of their readers.
- times: seconds such as `2` or `0.25`, or a number with one of the units ms, s, m (min) and h: `500ms`, `5m`.
- those of addresses, paths and terminators are in `text.py`.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from .cpus import usable_cpus

_SIZE_UNITS: Final = {
    "": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30,
    "t": 1 << 40, "tib": 1 << 40,
}  # fmt: skip
_TIME_UNITS: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"([+-]?[0-9]+)\s*([a-z]*)", re.IGNORECASE)
_TIME: Final = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*([a-z]*)", re.IGNORECASE)
# Any number of more digits is out of every range; int() itself refuses to read more than 4300.
_MOST_DIGITS: Final = 20


def format_size(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def format_seconds(seconds: float) -> str:
    if seconds >= 3600 and seconds % 3600 == 0:
        return f"{seconds / 3600:.0f} h"
    milliseconds = round(seconds * 1000)
    if 0 < seconds < 1 and milliseconds / 1000 == seconds:
        return f"{milliseconds} ms"
    text = repr(seconds)
    if "e" in text:  # 5e-05, which no option accepts
        from decimal import Decimal  # seldom needed

        text = f"{Decimal(text):f}"
    return f"{text} s".replace(".0 ", " ")


def _whole(text: str) -> int:
    return int(text[: _MOST_DIGITS + 1])


class OptionType:
    """The type of an option. `none` is the word for None; None if the option must have a value.

    A subclass defines `parse_value`, `validate_value` and `format_value`, which never get None.
    """

    metavar = "TEXT"
    must = "must be text"

    def __init__(self, none: str | None = None) -> None:
        self.none = none

    def parse(self, text: str) -> Any:
        """The value of `text`; `validate` checks its bounds."""
        return None if text == self.none else self.parse_value(text.strip())

    def validate(self, value: Any) -> Any:
        """`value` as the configuration keeps it. Raises ValueError when it is of the wrong type or range."""
        return None if value is None and self.none is not None else self.validate_value(value)

    def from_toml(self, value: Any) -> Any:
        """`value` from a TOML file: strings as on the command line, the rest as in Python."""
        return self.parse(value) if isinstance(value, str) else self.validate(value)

    def format(self, value: Any) -> str:
        """`value` in a form that people read and that `parse` takes."""
        return self.none or "" if value is None else self.format_value(value)

    def parse_value(self, text: str) -> Any:
        return text

    def validate_value(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(self.must)
        return value

    def format_value(self, value: Any) -> str:
        return str(value)

    def _or_none(self, must: str) -> str:
        return f"{must}, or {self.none}" if self.none else must


class Integer(OptionType):
    metavar = "N"

    def __init__(self, low: int, high: int, none: str | None = None, metavar: str | None = None) -> None:
        super().__init__(none)
        self.low, self.high = low, high
        if metavar is not None:
            self.metavar = metavar
        self.must = self._or_none(f"must be a whole number between {low} and {high}")

    def parse_value(self, text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            raise ValueError(self.must)
        return _whole(text)

    def validate_value(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(self.must)
        if not self.low <= value <= self.high:
            raise ValueError(self._or_none(self._range()))
        return int(value)

    def _range(self) -> str:
        return f"must be between {self.low} and {self.high}"


class Workers(Integer):
    """A number of processes; `auto` is one for each usable CPU."""

    metavar = "N|auto"

    def __init__(self, low: int, high: int) -> None:
        super().__init__(low, high)
        self.must += ", or auto"

    def parse_value(self, text: str) -> int:
        return self.validate_value(text) if text == "auto" else super().parse_value(text)

    def validate_value(self, value: Any) -> int:
        return min(usable_cpus(), self.high) if value == "auto" else super().validate_value(value)


class IntegerOrAuto(Integer):
    """A number, or the word `auto`, which the configuration keeps."""

    def __init__(self, low: int, high: int, none: str | None = None, metavar: str = "N") -> None:
        super().__init__(low, high, none, f"{metavar}|auto")

    def parse_value(self, text: str) -> int | str:  # type: ignore[override]
        return text if text == "auto" else super().parse_value(text)

    def validate_value(self, value: Any) -> int | str:  # type: ignore[override]
        return "auto" if value == "auto" else super().validate_value(value)

    def _or_none(self, must: str) -> str:
        return f"{must}, auto or {self.none}" if self.none else f"{must}, or auto"


class Size(Integer):
    metavar = "SIZE"

    def parse_value(self, text: str) -> int:
        match = _SIZE.fullmatch(text)
        if match is None or match[2].lower() not in _SIZE_UNITS:
            raise ValueError("must be a size, such as 65536, 64KiB or 1MiB")
        return _whole(match[1]) * _SIZE_UNITS[match[2].lower()]

    def validate_value(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number of bytes between {self.low} and {self.high}")
        return super().validate_value(value)

    def format_value(self, value: int) -> str:
        return format_size(value)

    def _range(self) -> str:
        return f"must be between {format_size(self.low)} and {format_size(self.high)}"


class Seconds(OptionType):
    metavar = "TIME"

    def __init__(self, low: float, high: float, none: str | None = None) -> None:
        super().__init__(none)
        self.low, self.high = low, high
        self.must = self._or_none("must be a time, such as 30, 2s, 500ms or 5m")

    def parse_value(self, text: str) -> float:
        match = _TIME.fullmatch(text)
        if match is None or match[2].lower() not in _TIME_UNITS:
            raise ValueError(self.must)
        # Divided, not multiplied: 0.2 and 200ms are then the same float.
        number, unit = float(match[1]), match[2].lower()
        return number / 1000 if unit == "ms" else number * _TIME_UNITS[unit]

    def validate_value(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(self._or_none("must be a number of seconds"))
        if not self.low <= value <= self.high:
            least = format_seconds(self.low) if self.low else "0"
            raise ValueError(self._or_none(f"must be between {least} and {format_seconds(self.high)}"))
        return float(value)

    def format_value(self, value: float) -> str:
        return format_seconds(value)


class Flag(OptionType):
    metavar = ""
    must = "must be true or false"

    def parse_value(self, text: str) -> bool:
        words = {"1": True, "true": True, "yes": True, "on": True}
        words |= {"0": False, "false": False, "no": False, "off": False}
        if text.lower() not in words:
            raise ValueError(self.must)
        return words[text.lower()]

    def validate_value(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(self.must)
        return value

    def format_value(self, value: bool) -> str:
        return "true" if value else "false"


class Choice(OptionType):
    def __init__(self, *choices: str) -> None:
        super().__init__()
        self.choices = choices
        self.metavar = "|".join(choices)
        self.must = f"must be {', '.join(choices[:-1])} or {choices[-1]}"

    def validate_value(self, value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in self.choices:
            raise ValueError(self.must)
        return value.lower()


class Text(OptionType):
    """Text whose rules are functions: `validate` for a Python value, `parse` and `format` for its text form.

    `optional` allows None in Python although there is no word for it: a path may have any name.
    """

    def __init__(
        self,
        metavar: str,
        validate: Callable[[Any], Any],
        *,
        parse: Callable[[str], Any] = str,
        format: Callable[[Any], str] = str,
        none: str | None = None,
        optional: bool = False,
    ) -> None:
        super().__init__(none)
        self.metavar = metavar
        self._validate, self._parse, self._format = validate, parse, format
        self._optional = optional or none is not None

    def parse(self, text: str) -> Any:
        return None if text == self.none else self._parse(text)

    def validate(self, value: Any) -> Any:
        return None if value is None and self._optional else self._validate(value)

    def format_value(self, value: Any) -> str:
        return self._format(value)
