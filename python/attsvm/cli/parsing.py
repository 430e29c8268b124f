"""Parsers of the command line, and of the words that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from attsvm._validation import nearest
from attsvm.data.whole_file import is_written_as_is
from attsvm.studies.store import FORMATS

_Number = TypeVar("_Number", int, float)


class _Help(argparse.HelpFormatter):
    """Help that shows the defaults."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        hidden = action.default in (None, False, argparse.SUPPRESS) or action.default == []
        hidden = hidden or "(default: " in (action.help or "")
        return action.help if hidden else f"{action.help or ''} (default: %(default)s)".lstrip()


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one line."""

    fields: Collection[str] = ()  # that --set changes

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse what this parser, be it that of a command, does not know."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            field = unknown[0].split("=")[0].removeprefix("--").replace("-", "_")
            hint = f"; --set {field}=VALUE changes a field of the study" * (field in self.fields)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is no choice, in the words of the package."""
        if action.choices is not None and value not in action.choices:
            known = list(action.choices)
            raise argparse.ArgumentError(
                action, f"expected one of {', '.join(known)}, got {value!r}{nearest(value, known)}"
            )

    def error(self, message: str) -> NoReturn:
        """Print the message, and end with status 2."""
        message = message.removeprefix("argument ")
        self.exit(2, f"attsvm: error: {message} (see '{self.prog} --help')\n")


def option_of(name: str) -> str:
    """Return the option of an argument of this name."""
    return f"--{name.replace('_', '-')}"


def refuse_unused(arguments: argparse.Namespace, names: Iterable[str], where: str) -> None:
    """Raise `ValueError` at the first of these options that is given, `where` nothing uses it."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value is not False:
            plain = isinstance(value, int | float | str | Path) and value is not True
            got = f", got {value}" if plain else ""
            raise ValueError(f"{option_of(name)}: expected none {where}{got}")


def _parser_of(kind: Callable[[str], _Number], what: str) -> Callable[[str], _Number]:
    def read(word: str) -> _Number:
        try:
            return kind(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {what}, got {word!r}") from None

    return read


integer = _parser_of(int, "an integer")
number = _parser_of(float, "a number")


def file_of_results(suffix: str) -> Callable[[str], Path]:
    """Return a parser of the path of a file: it has this suffix, or gets it if it has none."""

    def read(word: str) -> Path:
        path = Path(word)
        if path.suffix.lower() == suffix or is_written_as_is(path):  # a directory is refused later
            return path
        if path.suffix or not path.name or word.endswith(("/", ".")):
            raise argparse.ArgumentTypeError(f"expected the path of a {suffix} file, got {word!r}")
        return path.with_suffix(suffix)

    return read


def number_or_name(word: str) -> float | str:
    """Read a number, or else a name."""
    try:
        return float(word)
    except ValueError:
        return word


def as_formats(word: str) -> tuple[str, ...]:
    """Read formats of figures, separated by commas."""
    formats = tuple(dict.fromkeys(each.strip().lower() for each in word.split(",")))
    for each in formats:
        if each not in FORMATS:
            raise argparse.ArgumentTypeError(
                f"expected some of {', '.join(FORMATS)} with commas between them, got {word!r}"
            )
    return formats
