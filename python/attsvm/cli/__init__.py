"""Command line: ``attsvm study | report | train | svm | reproduce | info``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from attsvm._version import __version__
from attsvm.cli.figures import add_reproduce_options, run_reproduce
from attsvm.cli.output import complain, say, say_facts
from attsvm.cli.parsing import (
    Parser,
    as_formats,
    file_of_results,
    integer,
    option_of,
    refuse_unused,
)
from attsvm.cli.studies import add_report_options, add_study_options, run_report, run_study
from attsvm.cli.svms import add_svm_options, run_svm
from attsvm.cli.texts import train_on_text
from attsvm.cli.training import add_train_options, train_on_problem
from attsvm.descent.step_rule import STEP_SIZE
from attsvm.extras import dependencies
from attsvm.studies.environment import environment, version
from attsvm.studies.store import FORMATS
from attsvm.svm import SolverError

_FAILURES = (SolverError, FloatingPointError)
"""Right input, but no answer: not certified, or an overflow."""
_WITHOUT_MEMORY = (MemoryError, SystemError)
"""Errors where memory runs out: in imports Python raises the second, without a reason."""
_OPTIONS = {"num_threads": "--threads", "rng": "--seed", "directory": "--out"}
"""Options of another name than the arguments in Python that they give."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of the words `argv` after ``attsvm``, by default those of the process.

    The exit status is 0: done; 1: no answer, because it could not be certified or overflowed, or
    figures that are not as published; 2: wrong usage or input; 130: stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = argparse.Namespace(resumable=False, traceback=False)
    try:
        arguments = _parser().parse_args(words)
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: complain(f"warning: {message}")
            status: int | None = arguments.command(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        complain("stopped")
        if arguments.resumable:
            again = shlex.join(["attsvm", *(word for word in words if word != "--overwrite")])
            say(f"Finished cells are kept. To continue: {again}", sys.stderr)
        # Python ends by SIGINT if the last `exec` of a text, as in `dataclass`, was interrupted.
        exec("")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError, *_WITHOUT_MEMORY, *_FAILURES) as error:
        if arguments.traceback:
            raise
        complain(f"error: {_one_line(error, words)}")
        return 1 if isinstance(error, _FAILURES) else 2
    return status or 0


def _one_line(error: BaseException, words: Sequence[str]) -> str:
    """Return the text of an error, with the option that was typed where it names an argument."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    name, *rest = " ".join(str(error).split()).split(": ", 1)
    option = _OPTIONS.get(name, option_of(name))
    typed = name in _OPTIONS or option in {word.split("=")[0] for word in words}
    return ": ".join([option if typed else name, *rest]) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="attsvm",
        description="Train attention by gradient methods, and compare it with the support vector "
        "machine (SVM) whose solution is the direction it converges to.",
    )
    parser.add_argument("--version", action="version", version=f"attsvm {__version__}")
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the program an error arose"
    )
    parser.set_defaults(resumable=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, short: str, text: str, *parents: Parser) -> Parser:
        added: Parser = commands.add_parser(name, parents=parents, help=short, description=text)
        added.set_defaults(command=run)
        return added

    running, one_problem, drawing = (Parser(add_help=False) for _ in range(3))
    group = running.add_argument_group("running")
    group.add_argument(
        "--threads", type=integer, metavar="N", help="(default: all that are allowed)"
    )
    group.add_argument("--quiet", action="store_true", help="show no progress")
    drawing.add_argument(
        "--format",
        type=as_formats,
        metavar="FORMATS",
        help=f"formats of figures: some of {', '.join(FORMATS)} with commas between (default: png)",
    )
    add = one_problem.add_argument
    add("--index", type=integer, metavar="B", help="which problem, if the file holds a batch")
    add("--overwrite", action="store_true", help="replace the results of an earlier run")
    add(
        "--out",
        type=file_of_results(".npz"),
        metavar="RESULT.npz",
        help="(default, in the working directory: FILE-SETTINGS.npz, "
        "of svm --run RUN-SETTINGS.npz)",
    )
    add_study_options(
        command(
            "study",
            run_study,
            "train and measure many problems",
            "Train and measure many problems, keep every result, and draw a figure. A study is "
            "declared in a TOML file; some come with attsvm. Run again, it resumes.",
            running,
            drawing,
        )
    )
    add_report_options(
        command(
            "report",
            run_report,
            "write the results of a study as one HTML file",
            "Write the results of a study, finished or not, as one HTML file that needs no "
            "network: tables, interactive figures, settings, and how to run it again.",
        )
    )
    add_train_options(
        command(
            "train",
            _train,
            "train attention on one problem",
            "Train attention on the problem in an .npz file, or on the next tokens of a text. The "
            "file holds the arrays tokens (n, T, d) and labels (n,) of -1 and 1, and optionally "
            "queries (n, d), a value head (d,) and lengths (n,).",
            running,
            drawing,
            one_problem,
        )
    )
    add_svm_options(
        command(
            "svm",
            run_svm,
            "solve the SVM of one problem",
            "Solve the support vector machine (SVM) that separates selected tokens from the "
            "others, for the problem in an .npz file, and write the certified solution.",
            running,
            one_problem,
        )
    )
    add_reproduce_options(
        command(
            "reproduce",
            run_reproduce,
            "recompute a published figure and compare its numbers",
            "Recompute a figure of the papers, draw it, and compare its numbers with what was "
            "published or is known. The exit status is 1 if one is outside its tolerance.",
            running,
            drawing,
        )
    )
    about = "show versions, instruction set and threads"
    command("info", _info, about, f"{about.capitalize()}.")
    return parser


def _train(arguments: argparse.Namespace) -> None:
    if arguments.rule == "polyak":
        refuse_unused(arguments, ["lr"], "with --rule polyak")
    elif arguments.lr is None:
        arguments.lr = STEP_SIZE
    (train_on_problem if arguments.text is None else train_on_text)(arguments)


def _info(arguments: argparse.Namespace) -> None:
    here = environment()
    threads = "OpenMP" if here["openmp"] else "built without OpenMP"
    facts = {
        "attsvm": __version__,
        "instruction set": f"{here['isa']} (available: {', '.join(here['isa_available'])})",
        "threads": f"{here['threads']} ({threads})",
        "platform": here["platform"],
        "python": here["python"],
    }
    for name, extras in dependencies().items():
        source = f" (comes with attsvm[{','.join(extras)}])" if extras else ""
        facts[name] = f"{version(name) or 'not installed'}{source}"
    say_facts(facts)
