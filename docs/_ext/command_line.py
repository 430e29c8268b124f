"""The page of the command line: what every `--help` says."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import generated

from attsvm.cli import _parser


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of its commands, before each their parent."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from commands(command)


def write_page(app: Any) -> None:
    os.environ["COLUMNS"] = "88"
    lines = ["# Command line", ""]
    for parser in commands(_parser()):
        lines += [f"## {parser.prog}", ""] if " " in parser.prog else []
        lines += ["```text", parser.format_help().rstrip(), "```", ""]
    generated.write(Path(app.srcdir) / "api" / "command-line.md", lines)


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
