"""The server's options as click found them: on the command line, in the environment, or in the configuration file.

click finds the value with the highest precedence and says where it came from. Only that value is parsed, so a bad
variable does no harm beside a good argument.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final

import click
from click.core import ParameterSource

from ..config import VARIABLE_PREFIX, Option, ServerConfig, options
from ..errors import EX_CONFIG, EX_USAGE, ConfigError, FastechoError, show_value
from ._failure import CommandLineError

_PRECEDENCE: Final = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)
# Below this similarity a variable belongs to another program (FASTECHO_SERVICE_HOST, of Kubernetes).
_CLOSE: Final = 0.85


class GivenOptions:
    """The options that are not left at their defaults, each with its unparsed value and its source.

    Args:
        context: the context of `fastecho serve`, its parameters processed.
    """

    def __init__(self, context: click.Context) -> None:
        self._file = context.params["config"]
        self._sources: dict[str, ParameterSource] = {}
        self.raw: dict[str, Any] = {}
        for option in options():
            source = context.get_parameter_source(option.name)
            if source in _PRECEDENCE:
                value = context.params[option.name]
                if isinstance(value, tuple):  # an option that may be repeated; in the file it is one value
                    value = value[0] if source is ParameterSource.DEFAULT_MAP else "; ".join(value)
                self._sources[option.name], self.raw[option.name] = source, value

    def parse(self) -> ServerConfig:
        """The configuration that the options make together.

        Raises:
            CommandLineError: a value is invalid; the exit code is 2 for the command line, 78 for other sources.
        """
        unused = self._unused_transport()
        try:
            return ServerConfig(
                **{each.name: self._value(each) for each in options() if each.name in self.raw.keys() - unused}
            )
        except ConfigError as error:
            raise self.explain(error) from None

    def explain(self, error: ConfigError) -> FastechoError:
        """`error` with the option, and those it is compared with, spelled as in the source that gave the option."""
        # Where it was not given, its default does not go with an option that was.
        return self._error(_option(error.option), error.must) if error.option in self.raw else error

    def _value(self, option: Option) -> Any:
        raw = self.raw[option.name]
        if self._sources[option.name] is ParameterSource.DEFAULT_MAP:
            return option.from_toml(raw)
        return option.parse(raw) if isinstance(raw, str) else raw  # click has parsed a flag of the command line

    def _unused_transport(self) -> set[str]:
        """`unix`, or `host` and `port`: of both transports, that of the lower precedence is ignored."""
        tcp = [_option(name) for name in ("host", "port") if name in self.raw]
        if not tcp or "unix" not in self.raw:
            return set()
        first = min(tcp, key=self._rank)
        unix = _option("unix")
        if self._rank(first) == self._rank(unix):
            raise self._error(unix, f"listens instead of TCP, so {self._spelled(first, unix)} must not be given")
        return {"host", "port"} if self._rank(unix) < self._rank(first) else {"unix"}

    def _rank(self, option: Option) -> int:
        return _PRECEDENCE.index(self._sources[option.name])

    def _spelled(self, option: Option, beside: Option) -> str:
        """The name of `option` in the source that gave `beside`."""
        names = {ParameterSource.COMMANDLINE: option.flag, ParameterSource.ENVIRONMENT: option.variable}
        return names.get(self._sources[beside.name], option.name)

    def _error(self, option: Option, why: str) -> CommandLineError:
        raw, source, name = self.raw[option.name], self._sources[option.name], self._spelled(option, option)
        for other in options():
            if "_" in other.name:
                why = re.sub(rf"\b{other.name}\b", self._spelled(other, option), why)
        why = why.removeprefix(f"{raw}: ")  # the error of a fault begins with the fault
        if source is ParameterSource.COMMANDLINE:
            return CommandLineError(f"{name} {show_value(raw)}", why, EX_USAGE)
        if source is ParameterSource.DEFAULT_MAP:
            shown = str(raw).lower() if isinstance(raw, bool) else str(raw)
            shown = show_value(raw) if isinstance(raw, (str, list, dict)) else shown
            return CommandLineError(f"{self._file}: {name} {shown}", why, EX_CONFIG)
        if option.name == "port" and raw.startswith("tcp://"):
            why += " (Kubernetes sets it for a service named fastecho, unless enableServiceLinks is false)"
        return CommandLineError(f"{name}={show_value(raw)}", why, EX_CONFIG)


def _option(name: str) -> Option:
    return next(option for option in options() if option.name == name)


def misspelled_variables(environ: Mapping[str, str]) -> list[str]:
    """A warning for each variable whose name is almost that of an option.

    Other `FASTECHO_*` variables are ignored: they belong to the deployment.
    """
    prefix = f"{VARIABLE_PREFIX}_"
    known = ["CONFIG", *(option.name.upper() for option in options())]
    warnings = []
    for name in sorted(environ):
        bare = name.removeprefix(prefix)
        if bare != name and bare not in known:
            for close in difflib.get_close_matches(bare, known, 1, _CLOSE):
                warnings.append(f"{name} is no option and is not used; did you mean {prefix}{close}?")
    return warnings
