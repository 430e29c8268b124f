"""Parsers of the command line, and of the words that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NoReturn

from attsvm._validation import nearest
from attsvm.studies.store import FORMATS


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


def integer(word: str) -> int:
    """Read an integer."""
    try:
        return int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected an integer, got {word!r}") from None


def number(word: str) -> float:
    """Read a number."""
    try:
        return float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {word!r}") from None


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
