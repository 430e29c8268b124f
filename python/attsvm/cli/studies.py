"""``attsvm study`` and ``attsvm report``."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from attsvm import plots
from attsvm.cli.output import can_draw, say, say_facts, write_figure
from attsvm.cli.parsing import Parser, as_formats, file_of_results, integer, refuse_unused
from attsvm.data.whole_file import place_of_file, write_whole
from attsvm.progress import ctrl_c_held_back, meanwhile
from attsvm.studies import Study, report
from attsvm.studies.chunked_arrays import StoredResults
from attsvm.studies.declarations import built_in, declared, read_toml, read_toml_file
from attsvm.studies.engine import measure_cells
from attsvm.studies.expectations import expectations
from attsvm.studies.store import FORMATS, RESULTS, TABLE, open_results
from attsvm.studies.study import FIELDS, OverrideError
from attsvm.studies.summary import describe, tabulate, terminal_report

_OF_RUNS = ("out", "overwrite", "scheduler", "workers", "threads", "quiet", "format")
"""Options of ``attsvm study`` for what is computed."""
_UNDRAWN = "where nothing is drawn: no outcomes or means of several problems, nor histories of few"


def add_study_options(parser: Parser) -> None:
    """Add the options of ``attsvm study``."""
    parser.set_defaults(resumable=True)
    parser.fields = FIELDS
    what = parser.add_mutually_exclusive_group(required=True).add_argument
    what(
        "study",
        nargs="?",
        metavar="STUDY",
        help="FILE.toml, the name of a study (see --list), or your problems in FILE.npz",
    )
    what("--list", action="store_true", help="list the studies that come with attsvm")
    parser.add_argument(
        "--print", action="store_true", help="print the study as TOML, to copy and change"
    )
    parser.add_argument(
        "--set",
        type=_override,
        action="append",
        metavar="FIELD=VALUE",
        help="change a field of the study, such as problems=50 or d=2,5,10; lr= takes back what "
        "the file says of lr",
    )
    add = parser.add_argument_group("results").add_argument
    add("--out", type=Path, metavar="DIR", help="directory of the results (default: out/NAME)")
    afresh = "remove the study that is in the directory and start afresh"
    add("--overwrite", action="store_true", help=afresh)
    add = parser.add_argument_group("cluster").add_mutually_exclusive_group().add_argument
    add("--scheduler", metavar="ADDRESS", help="run on the Dask cluster of this scheduler")
    add("--workers", type=integer, metavar="N", help="run on N processes of this computer, by Dask")


def _override(word: str) -> tuple[str, Any, str]:
    """Parse ``field=value``, ``field=value,value``, ``field=[value, value]`` or ``field={...}``.

    Returns the field, its value (as TOML reads it, else text, None where it is empty) and the word.
    """
    field, equals, value = word.partition("=")
    field = field.strip()
    if not equals or not field:
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE, got {word!r}")
    if not value:
        return field, None, word
    if field in ("name", "title", "data"):
        return field, value, word
    values = [_toml_or_text(each.strip()) for each in value.split(",")]
    if value.startswith(("[", "{")):
        return field, _toml_or_text(value), word
    return field, values if "," in value else values[0], word


def _toml_or_text(word: str) -> Any:
    try:
        return read_toml(f"value = {word}")["value"]
    except ValueError:
        return word


def add_report_options(parser: Parser) -> None:
    """Add the options of ``attsvm report``."""
    add = parser.add_argument
    printed = f"also write the figure for print, beside the report, in some of {', '.join(FORMATS)}"
    add("--format", type=as_formats, metavar="FORMATS", help=printed)
    add("store", type=Path, metavar="STORE", help="directory of the study, such as out/NAME")
    default = "(default: report.html in the directory)"
    add("--out", type=file_of_results(".html"), metavar="FILE.html", help=default)


def run_study(arguments: argparse.Namespace) -> None:
    """Run a study, print its table and write its figure, or list or print declarations."""
    if arguments.list:
        refuse_unused(arguments, ("print", "set", *_OF_RUNS), "with --list")
        files = built_in().items()
        say_facts({name: read_toml(read_toml_file(path))["title"] for name, path in files})
        return
    if arguments.print:
        refuse_unused(arguments, _OF_RUNS, "with --print")
    if arguments.print and not arguments.set and not arguments.study.lower().endswith(".npz"):
        say(read_toml_file(declared(arguments.study)).removesuffix("\n"))
        return
    declaration = _declaration(arguments)
    if arguments.print:
        say(declaration.toml.removesuffix("\n"))
        return
    if not plots.drawable(declaration):
        refuse_unused(arguments, ["format"], _UNDRAWN)
    out = arguments.out or Path("out") / declaration.name
    with meanwhile(_import_for_table_and_figure):
        measure_cells(
            declaration,
            out,
            overwrite=arguments.overwrite,
            scheduler=arguments.scheduler,
            workers=arguments.workers,
            num_threads=arguments.threads,
            progress=False if arguments.quiet else None,
        )
    results = StoredResults(out / RESULTS)
    table = tabulate(declaration, results)
    written = [write_whole(out / TABLE, table.csv().encode())] if table.measures else []
    on_terminal = sys.stdout is not None and getattr(sys.stdout, "isatty", bool)()
    width = min(shutil.get_terminal_size().columns, 100) if on_terminal else 100
    sentences = expectations(declaration, results, table)
    say(terminal_report(declaration, table, sentences, width, broken=on_terminal))
    if plots.drawable(table, results=results) and can_draw("the figure"):
        figure = plots.study(table, describe(declaration), results=results)
        written += write_figure(out / "figure", figure, arguments.format)
    kept = f"every run in {out / RESULTS}"
    say(f"Written: {', '.join(map(str, written))}; {kept}" if written else f"Written: {kept}")
    say(f"Interactive figures: {shlex.join(['attsvm', 'report', str(out)])}")


def _import_for_table_and_figure() -> None:
    """Import what takes long and is needed in the end."""
    with ctrl_c_held_back():
        import_module("scipy.special")
        with suppress(ImportError):  # which is said once there is something to draw
            plots.require_matplotlib()
            for name in ("figure", "backends.backend_agg"):
                import_module(f"matplotlib.{name}")


def run_report(arguments: argparse.Namespace) -> None:
    """Write the report of a study, and its figure for print."""
    if arguments.out is not None:
        place_of_file("--out", arguments.out)
    results = open_results(arguments.store, verify=False) if arguments.format else None
    table = None if results is None else tabulate(results)
    if table is not None and not plots.drawable(table, results=results):
        refuse_unused(arguments, ["format"], _UNDRAWN)
    written = [report(arguments.store, arguments.out)]
    if table is not None and can_draw("the figure"):
        figure = plots.study(table, results=results)
        written += write_figure(written[0].with_name("figure"), figure, arguments.format)
    say(f"Written: {', '.join(map(str, written))}")


def _declaration(arguments: argparse.Namespace) -> Study:
    """Return the study with the changes of --set; their errors name them as they were typed."""
    changes = arguments.set or []
    try:
        return Study.load(arguments.study, {field: value for field, value, _ in changes})
    except OverrideError as error:
        words = {field: f"--set {shlex.quote(word)}" for field, _, word in changes}
        blamed = " ".join(words[field] for field in error.fields)
        raise ValueError(f"{blamed}: {error.reason}") from error
