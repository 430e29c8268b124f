"""``attsvm reproduce``."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from attsvm.cli.output import can_draw, complain, say
from attsvm.cli.parsing import Parser, refuse_unused
from attsvm.data.whole_file import place_of_directory
from attsvm.plots.published_figures import published_files
from attsvm.studies.reproduce.figure import Settings
from attsvm.studies.reproduce.runner import announcement, listing, reproduce, summary
from attsvm.threads import thread_count

_OUT = Path("out/reproduce")


def add_reproduce_options(parser: Parser) -> None:
    """Add the options of ``attsvm reproduce``."""
    which = parser.add_mutually_exclusive_group(required=True).add_argument
    figure = "the figure, as --list names it, or all of a paper by its arXiv number"
    which("name", nargs="?", metavar="NAME", help=figure)
    which("--all", action="store_true", help="every figure, one after the other")
    listed = "list the figures by paper, where their numbers are from, and how long they take"
    which("--list", action="store_true", help=listed)
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    where = f"directory of NAME.json and of the figure, such as NAME.png (default: {_OUT})"
    parser.add_argument("--out", type=Path, metavar="DIR", help=where)


def run_reproduce(arguments: argparse.Namespace) -> int:
    """Recompute figures; return 1 if one is not as published."""
    from attsvm.studies.reproduce.registry import FIGURES, matching  # which reads all of them

    if arguments.list:
        refuse_unused(arguments, ("quick", "out", "threads", "quiet", "format"), "with --list")
        say(listing(FIGURES))
        return 0
    figures = FIGURES if arguments.all else matching(arguments.name)
    thread_count(arguments.threads)
    settings = Settings(arguments.quick, arguments.threads, progress=not arguments.quiet)
    drawn = partial(published_files, formats=arguments.format or ("png",))
    render = drawn if can_draw("a figure") else None
    out = place_of_directory("directory", arguments.out or _OUT)
    say(f"{announcement(figures, arguments.quick)}\n")
    results = []
    for figure in figures:
        result = reproduce(figure, out, settings, render)
        results.append(result)
        if arguments.traceback and result.error is not None:
            raise result.error
        say(f"{result.text}\nWritten: {', '.join(map(str, result.written))}\n")
    if len(results) > 1:
        say(summary(results))
    failed = [result.figure.name for result in results if not result.passed]
    if failed:
        complain(f"not as expected: {', '.join(failed)}")
    return 1 if failed else 0
