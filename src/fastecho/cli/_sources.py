"""Where options come from: the command line, before the environment, before a file, before the defaults.

The value that counts is the one that is checked: a bad one in the environment does no harm under a good one
on the command line. An empty variable counts as one that is not set.
"""

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..config import Option, ServerConfig, options
from ..errors import EX_CONFIG, EX_USAGE, ConfigError, ConfigFileError, FastechoError, show_value
from ._failure import CommandLineError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_VARIABLE: Final = "FASTECHO_CONFIG"
_LARGEST_FILE: Final = 1 << 20
# Below this a name is somebody else's (FASTECHO_SERVICE_HOST, of Kubernetes), above it a slip of the pen.
_CLOSE: Final = 0.85


class Source:
    """A place that options come from, and how their names and values are spelled there."""

    exit_code = EX_CONFIG

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def spell(self, option: Option) -> str:
        raise NotImplementedError

    def value(self, option: Option) -> Any:
        return option.parse(self.given[option.name])

    def what(self, option: Option) -> str:
        return f"{self.spell(option)} {show_value(self.given[option.name])}"

    def error(self, option: Option, why: str) -> CommandLineError:
        for other in options():
            why = re.sub(rf"\b{other.name}\b", self.spell(other), why) if "_" in other.name else why
        why = why.removeprefix(f"{self.given[option.name]}: ")  # a fault's complaint begins with the fault
        return CommandLineError(self.what(option), why, self.exit_code)


class Arguments(Source):
    exit_code = EX_USAGE

    def __init__(self, given: Mapping[str, Any]) -> None:
        # An option that may be given again comes as a tuple, which is empty if it was not given at all.
        joined = {name: "; ".join(value) if isinstance(value, tuple) else value for name, value in given.items()}
        super().__init__({name: value for name, value in joined.items() if given[name] != ()})

    def spell(self, option: Option) -> str:
        return option.flag

    def value(self, option: Option) -> Any:
        # A flag of click's is a bool already.
        given = self.given[option.name]
        return option.parse(given) if isinstance(given, str) else given


class Environment(Source):
    def __init__(self, environ: Mapping[str, str]) -> None:
        given = {option.name: environ.get(option.variable, "") for option in options()}
        super().__init__({name: text for name, text in given.items() if text})

    def spell(self, option: Option) -> str:
        return option.variable

    def what(self, option: Option) -> str:
        return f"{self.spell(option)}={show_value(self.given[option.name])}"

    def error(self, option: Option, why: str) -> CommandLineError:
        if option.name == "port" and str(self.given["port"]).startswith("tcp://"):
            why += " (Kubernetes sets it for a service named fastecho, unless enableServiceLinks is false)"
        return super().error(option, why)


class File(Source):
    def __init__(self, path: str, named_by: str) -> None:
        super().__init__(_read(path, f"{named_by}{show_value(path)}"))
        self.path = path
        names = [option.name for option in options()]
        for key in self.given:
            if key not in names:
                close = difflib.get_close_matches(key.replace("-", "_"), names, 1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ConfigFileError(f"{path}: {show_value(key)}: no such option{hint}")

    def spell(self, option: Option) -> str:
        return option.name

    def value(self, option: Option) -> Any:
        return option.load(self.given[option.name])

    def what(self, option: Option) -> str:
        given = self.given[option.name]
        shown = show_value(given) if isinstance(given, (str, list, dict)) else str(given)
        return f"{self.path}: {option.name} {shown.lower() if isinstance(given, bool) else shown}"


@dataclass(frozen=True)
class Resolved:
    """A configuration, and where each option of it that is no default came from."""

    config: ServerConfig
    origins: Mapping[str, Source]

    def explain(self, error: ConfigError) -> FastechoError:
        """`error`, in the terms of whoever gave the option."""
        return _explain(error, self.origins)


def _explain(error: ConfigError, origins: Mapping[str, Source]) -> FastechoError:
    option = next(each for each in options() if each.name == error.option)
    # A default can be what does not go with something that was given.
    return origins[option.name].error(option, error.must) if option.name in origins else error


def resolve(arguments: Mapping[str, Any], environ: Mapping[str, str], path: str | None = None) -> Resolved:
    """The configuration that the sources make together.

    Args:
        arguments: what the command line gives: option names, and text, a tuple of texts or (flags) a bool.
        environ: the environment.
        path: the file of `--config`; without one, that of `FASTECHO_CONFIG`.

    Raises:
        CommandLineError: a value will not do; its exit code is 2 for the command line, 78 elsewhere.
        ConfigFileError: the file cannot be read, is not TOML, or has a key that is no option.
    """
    sources: list[Source] = [Arguments(arguments), Environment(environ)]
    if path is not None:
        sources.append(File(path, "--config "))
    elif environ.get(CONFIG_VARIABLE):
        sources.append(File(environ[CONFIG_VARIABLE], f"{CONFIG_VARIABLE}="))
    left_out = _other_transport(sources)
    origins: dict[str, Source] = {}
    values: dict[str, Any] = {}
    try:
        for option in options():
            source = next((each for each in sources if option.name in each.given), None)
            if source is not None and option.name not in left_out:
                origins[option.name] = source
                values[option.name] = source.value(option)
        return Resolved(ServerConfig(**values), origins)
    except ConfigError as error:
        raise _explain(error, origins) from None


def _other_transport(sources: Sequence[Source]) -> frozenset[str]:
    """The options of the transport that is not used: the first source that names one decides which."""
    tcp = frozenset({"host", "port"})
    for source in sources:
        beside = [option for option in options() if option.name in tcp and option.name in source.given]
        if "unix" not in source.given:
            if beside:
                return frozenset({"unix"})
            continue
        if beside:
            unix = next(option for option in options() if option.name == "unix")
            why = f"is there instead of TCP, so {source.spell(beside[0])} must not be given"
            raise source.error(unix, why)
        return tcp
    return frozenset()


def _read(path: str, what: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigFileError(f"{what}: cannot be read: {reason}") from None
    if len(content) > _LARGEST_FILE:
        raise ConfigFileError(f"{what}: must be a TOML file of at most 1 MiB")
    try:
        table: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{what}: is not UTF-8 text, at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigFileError(f"{what}: is not TOML: {error}") from None
    return table


def stray_variables(environ: Mapping[str, str]) -> list[str]:
    """A line for each `FASTECHO_*` variable that is no option but is spelled almost like one.

    Others are nobody's mistake: the name belongs to whoever deploys the program as well.
    """
    prefix = "FASTECHO_"
    known = ["CONFIG", *(option.name.upper() for option in options())]
    lines = []
    for name in sorted(environ):
        bare = name.removeprefix(prefix)
        if bare != name and bare not in known:
            for close in difflib.get_close_matches(bare, known, 1, _CLOSE):
                lines.append(f"{name} is no option and is not used; did you mean {prefix}{close}?")
    return lines
