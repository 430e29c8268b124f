"""The command line: ``attsvm study | report | train | svm | reproduce | info``."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from attsvm import plots
from attsvm._version import __version__
from attsvm.data import AttentionData, load
from attsvm.data.whole_file import whole_file, write_whole
from attsvm.datasets import text
from attsvm.descent import Run, train
from attsvm.extras import dependencies
from attsvm.studies import Study, report, run
from attsvm.studies.declarations import built_in, declared
from attsvm.studies.environment import environment, version
from attsvm.studies.expectations import expectations
from attsvm.studies.next_tokens import NextTokenStudy, study_next_tokens
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.registry import FIGURES, matching
from attsvm.studies.reproduce.runner import Render, listing, reproduce, summary
from attsvm.studies.store import FIGURE, RESULTS, TABLE
from attsvm.studies.study import OverrideError
from attsvm.studies.summary import tabulate, terminal_report
from attsvm.svm import SolverError, SVMSolution, att_svm, label_svm, prompt_svm
from attsvm.theory import classify, cosine, optimal_tokens

__all__ = ["main"]

_FAILURES = (SolverError, FloatingPointError)
"""Right input, but no answer: not certified, or an overflow."""
_OUTCOMES = {
    "global": "global: every selected token has the largest score",
    "local": "local: the selected tokens outscore their SVM-neighbours",
    "neither": "neither: a selected token does not outscore its SVM-neighbours",
}
_RUN_SETTINGS = ("parameter", "rule", "steps", "loss")
_SOLUTION = (
    *("W", "p", "v", "status", "norm", "margins", "dual", "support"),
    *("certificate", "gap", "kkt", "solver"),
)
"""What is written of an SVMSolution, where it is there."""
_DRAWN_GRAPHS = 12
_QUICK_CONSTRAINTS = 1000
"""Constraints n(T-1) up to which an SVM is solved in about a second, unasked."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``attsvm``; by default those of the process.

    Returns
    -------
    int
        Exit status: 0 done; 1 no answer, for it could not be certified or overflowed, or not the
        published numbers; 2 wrong usage or input; 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal lacks, as in a title, must not lose what was computed.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(words)
    try:
        status: int | None = arguments.command(arguments)
        print(end="", flush=True)
    except KeyboardInterrupt:
        print("attsvm: stopped", file=sys.stderr)
        if arguments.resumable:
            again = shlex.join(["attsvm", *(word for word in words if word != "--overwrite")])
            print(f"Finished cells are kept. To go on: {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError, *_FAILURES) as error:
        if arguments.traceback:
            raise
        print(f"attsvm: error: {_one_line(error)}", file=sys.stderr)
        return 1 if isinstance(error, _FAILURES) else 2
    return status or 0


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"attsvm: error: {message} (see '{self.prog} --help')\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="attsvm",
        description="Attention trained by gradient descent, and the support vector machine it "
        "converges to.",
    )
    parser.add_argument("--version", action="version", version=f"attsvm {__version__}")
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the program an error arose"
    )
    parser.set_defaults(resumable=False)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    running = _running()
    _add_study(commands, running)
    _add_report(commands)
    _add_train(commands, running)
    _add_svm(commands)
    _add_reproduce(commands, running)
    info = commands.add_parser(
        "info", help="versions, instruction set, threads", description="Say what runs here."
    )
    info.set_defaults(command=_info)
    return parser


def _running() -> argparse.ArgumentParser:
    """Options of every command that computes for long: the parent of their parsers."""
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("running")
    group.add_argument(
        "--threads", type=int, metavar="N", help="threads (default: all that are allowed)"
    )
    group.add_argument("--quiet", action="store_true", help="show no progress")
    return parent


def _add_study(commands: Any, running: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "study",
        parents=[running],
        help="ask a question of many problems",
        description="Ask a question of many problems, keep every answer, and draw a figure. A "
        "study is a TOML file; some come with attsvm. Run again, it goes on where it stopped.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "study",
        nargs="?",
        metavar="STUDY",
        help="FILE.toml, the name of a study (see --list), or your problems in FILE.npz",
    )
    what.add_argument("--list", action="store_true", help="say which studies come with attsvm")
    parser.add_argument(
        "--print", action="store_true", help="print the study as TOML, to copy and change"
    )
    parser.add_argument(
        "--set",
        type=_override,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the study, such as problems=50 or d=2,5,10",
    )
    output = parser.add_argument_group("results")
    output.add_argument(
        "--out", type=Path, metavar="DIR", help="directory of the results (default: out/NAME)"
    )
    output.add_argument(
        "--overwrite",
        action="store_true",
        help="remove the study that is in the directory and start afresh",
    )
    where = parser.add_argument_group("cluster").add_mutually_exclusive_group()
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="run on the Dask cluster of this scheduler"
    )
    where.add_argument(
        "--workers", type=int, metavar="N", help="run on N processes of this machine, by Dask"
    )
    parser.set_defaults(command=_study, resumable=True)


def _add_report(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="write the results of a study as one HTML file",
        description="Write the results of a study, finished or not, as one HTML file that needs no "
        "network: tables, figures to zoom and hover, settings, and how to run it again.",
    )
    parser.add_argument(
        "store", type=Path, metavar="STORE", help="the directory of the study, such as out/NAME"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.html", help="(default: report.html in the directory)"
    )
    parser.set_defaults(command=_report)


def _add_train(commands: Any, running: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "train",
        parents=[running],
        help="train attention on one problem",
        description="Train attention on the problem in an .npz file (arrays tokens and labels; "
        "queries, value, lengths), or on the next tokens of a text, and write what came out.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", type=Path, nargs="?", metavar="FILE.npz", help="the problem")
    source.add_argument("--text", type=Path, metavar="FILE", help="a UTF-8 text")
    _add_index(parser)
    parser.add_argument(
        "--parameter",
        choices=("W", "p"),
        default="W",
        help="logits X W z or X p (default: %(default)s)",
    )
    parser.add_argument(
        "--rule",
        choices=("gd", "ngd", "polyak"),
        default="ngd",
        help="gradient descent, normalised, or with Polyak's step (default: %(default)s)",
    )
    parser.add_argument("--lr", type=float, default=0.1, help="step size (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="steps (default: %(default)s)")
    parser.add_argument(
        "--loss",
        choices=("logistic", "exponential", "correlation", "log"),
        help="(default: logistic; of text always log)",
    )
    parser.add_argument(
        "--record-every", type=int, metavar="K", help="record the run every K steps"
    )
    parser.add_argument(
        "--out", type=Path, metavar="RESULT.npz", help="(default: FILE-run.npz beside FILE)"
    )
    text = parser.add_argument_group("text")
    text.add_argument(
        "--unit",
        choices=("character", "word"),
        default="character",
        help="what a token is (default: %(default)s)",
    )
    text.add_argument(
        "--context", type=int, default=16, help="tokens of a context (default: %(default)s)"
    )
    text.add_argument(
        "--vocabulary", type=int, metavar="K", help="most frequent tokens kept (default: all)"
    )
    text.add_argument("--most", type=int, metavar="N", help="contexts at most (default: all)")
    text.add_argument(
        "--held-out",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="of the contexts, the last ones, to predict only (default: %(default)s)",
    )
    text.add_argument(
        "--graphs",
        type=Path,
        metavar="DIR",
        help=f"draw the graphs of the {_DRAWN_GRAPHS} most frequent last tokens there",
    )
    parser.set_defaults(command=_train)


def _add_svm(commands: Any) -> None:
    parser = commands.add_parser(
        "svm",
        help="solve the support vector machine of one problem",
        description="Solve the support vector machine that separates selected tokens from the "
        "others, for the problem in an .npz file, and write the certified solution.",
    )
    _add_problem(parser)
    parser.add_argument(
        "--selected",
        type=_selected,
        metavar="LIST",
        default="optimal",
        help="a token of every input, counted from 0, such as 1,0,2; or 'optimal', the ones of the "
        "largest score (default: %(default)s)",
    )
    parser.add_argument(
        "--problem",
        choices=("att", "prompt", "label"),
        default="att",
        help="separate tokens by W, tokens by p, or labels by v (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="RESULT.npz", help="(default: FILE-PROBLEM-svm.npz beside FILE)"
    )
    parser.set_defaults(command=_svm)


def _add_reproduce(commands: Any, running: argparse.ArgumentParser) -> None:
    parser = commands.add_parser(
        "reproduce",
        parents=[running],
        help="compute a published figure anew and compare its numbers",
        description="Compute a figure of the papers anew, draw it, and compare its numbers with "
        "what was published or is known. The exit status is 1 if one is outside its tolerance.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="the figure, as --list names it, or all of a paper by its arXiv number",
    )
    which.add_argument("--all", action="store_true", help="every figure, one after the other")
    which.add_argument(
        "--list", action="store_true", help="the figures by paper, and where their numbers are from"
    )
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("out/reproduce"),
        help="receives NAME.json and NAME.png (default: %(default)s)",
    )
    parser.set_defaults(command=_reproduce)


def _add_problem(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.npz", help="the problem")
    _add_index(parser)


def _add_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--index", type=int, metavar="B", help="which problem, if the file holds a batch"
    )


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers separated by commas, got {text!r}"
        ) from None


def _override(text: str) -> tuple[str, Any, str]:
    """``field=value`` or ``field=value,value``: numbers where they are such, otherwise text.

    The field, its value, and the word itself.
    """
    field, equals, value = text.partition("=")
    if not equals or not field or not value:
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE, got {text!r}")
    field = field.strip()
    if field in ("name", "title", "data"):
        return field, value, text
    values = [_number(word.strip()) for word in value.split(",")]
    return field, values if "," in value else values[0], text


def _number(word: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _selected(text: str) -> str | tuple[int, ...]:
    return text if text == "optimal" else _sizes(text)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _study(arguments: argparse.Namespace) -> None:
    if arguments.list:
        _print_facts({name: Study.load(name).title for name in built_in()})
        return
    if arguments.print and not arguments.set and not arguments.study.endswith(".npz"):
        print(declared(arguments.study).read_text(encoding="utf-8"), end="")
        return
    declaration = _declaration(arguments)
    if arguments.print:
        print(declaration.toml, end="")
        return
    out = arguments.out or Path("out") / declaration.name
    results = run(
        declaration,
        out,
        overwrite=arguments.overwrite,
        scheduler=arguments.scheduler,
        workers=arguments.workers,
        num_threads=arguments.threads,
        progress=False if arguments.quiet else None,
    )
    table = tabulate(declaration, results)
    terminal = shutil.get_terminal_size().columns if getattr(sys.stdout, "isatty", bool)() else None
    width = min(terminal or 100, 100)
    sentences = expectations(declaration, results)
    print(terminal_report(declaration, table, sentences, width, broken=terminal is not None))
    written = []
    if table.measures:
        written.append(write_whole(out / TABLE, table.csv().encode()))
    if plots.drawable(table):
        try:
            figure = plots.png(plots.study(results))
            written.append(write_whole(out / FIGURE, figure))
        except ImportError as error:
            print(f"attsvm: {FIGURE} is not drawn: {error}", file=sys.stderr)
    kept = f"every run in {out / RESULTS}"
    print(f"Written: {', '.join(map(str, written))}; {kept}" if written else f"Written: {kept}")
    print(f"To zoom and hover: {shlex.join(['attsvm', 'report', str(out)])}")


def _declaration(arguments: argparse.Namespace) -> Study:
    """The study with the changes of --set; errors of these name them as they were typed."""
    try:
        return Study.load(arguments.study, {field: value for field, value, _ in arguments.set})
    except OverrideError as error:
        words = {field: f"--set {shlex.quote(word)}" for field, _, word in arguments.set}
        blamed = " ".join(words[field] for field in error.fields)
        raise ValueError(f"{blamed}: {error.reason}") from error


def _report(arguments: argparse.Namespace) -> None:
    print(f"Written: {report(arguments.store, arguments.out)}")


def _train(arguments: argparse.Namespace) -> None:
    if arguments.text is not None:
        _train_on_text(arguments)
    else:
        _train_on_problem(arguments)


def _train_on_problem(arguments: argparse.Namespace) -> None:
    data = _problem(arguments)
    out = _output(arguments, "run")
    result = train(
        data,
        parameter=arguments.parameter,
        rule=arguments.rule,
        lr=arguments.lr,
        steps=arguments.steps,
        loss=arguments.loss,
        record_every=arguments.record_every,
        num_threads=arguments.threads,
        progress=not arguments.quiet,
    )
    _write_arrays(out, {"lr": arguments.lr, **_of_run(result)})
    facts = {
        "problem": f"n={data.n} T={data.T} d={data.d}",
        "training": f"{result.parameter} from zero, {result.steps} steps of {result.rule}, "
        f"lr {arguments.lr:g}, {result.loss} loss",
        "selected tokens": _tokens(result.selected),
        "optimal tokens": _tokens(optimal_tokens(data)),
        "loss gap": f"{result.history['loss_gap'][-1]:.3e}",
        f"norm of {result.parameter}": f"{result.history['norm'][-1]:.6g}",
        **_comparison(data, result),
        "written": str(out),
    }
    _print_facts(facts)


def _of_run(result: Run) -> dict[str, Any]:
    """What is written of a run."""
    return {
        **{name: getattr(result, name) for name in _RUN_SETTINGS},
        str(result.parameter): result.direction,
        "attention": result.attention,
        "log_attention": result.log_attention,
        "selected": result.selected,
        **{f"history_{key}": array for key, array in result.history.items()},
    }


def _train_on_text(arguments: argparse.Namespace) -> None:
    if arguments.parameter != "W":
        raise ValueError("--parameter: expected W for text, got p")
    if arguments.loss not in (None, "log"):
        raise ValueError(f"--loss: expected log for text, got {arguments.loss}")
    if arguments.index is not None:
        raise ValueError("--index: expected none for text, which is a single problem")
    out = _output(arguments, "run")
    data = text(
        arguments.text,
        unit=arguments.unit,
        context=arguments.context,
        vocabulary=arguments.vocabulary,
        most=arguments.most,
    )
    study = study_next_tokens(
        data,
        held_out=arguments.held_out,
        rule=arguments.rule,
        lr=arguments.lr,
        steps=arguments.steps,
        record_every=arguments.record_every,
        num_threads=arguments.threads,
        progress=not arguments.quiet,
    )
    result, solution = study.run, study.solution
    _write_arrays(
        out,
        {
            "lr": arguments.lr,
            **_of_run(result),
            "vocabulary": data.vocabulary,
            "svm": solution.W,
            "finite_part": study.finite,
        },
    )
    components = [len(one) for graph in study.graphs.values() for one in graph.components]
    facts = {
        "text": f"{arguments.text}: {data.K} different {arguments.unit}s, {data.n} contexts of "
        f"{data.T} with their label",
        "graphs": f"{len(study.graphs)} last tokens, "
        f"{sum(len(graph.edges) for graph in study.graphs.values())} priorities, "
        f"{len(components)} components, the largest of {max(components, default=0)}",
        "Graph-SVM": f"norm {solution.norm:.9g}, duality gap {solution.gap:.1e} (relative), KKT "
        f"residual {solution.kkt:.1e}",
        "training": f"W from zero, {result.steps} steps of {result.rule}, lr {arguments.lr:g}, "
        f"{study.training.n} contexts",
        "loss": f"{result.history['loss'][-1]:.6g}, {study.loss_gap:.3e} above its infimum",
        "norm of W": f"{result.history['norm'][-1]:.6g}",
    }
    names = {"W": "cosine with Graph-SVM", "outside": "without its finite part"}
    facts |= {names[name]: f"{found:.6f}" for name, found in study.cosines.items()}
    facts["finite part"] = (
        f"norm {np.linalg.norm(study.finite):.6g}, that of W {study.finite_distance:.3g} away"
    )
    for name, prediction in study.predictions.items():
        facts[f"automaton, {name}"] = (
            f"same next token as the layer in {100 * prediction.agreement:.2f} % of "
            f"{prediction.ids.size} contexts, attention {prediction.distance:.3g} apart"
        )
    _print_facts({**facts, "written": str(out)})
    if arguments.graphs is not None:
        _draw_graphs(study, arguments.graphs)


def _draw_graphs(study: NextTokenStudy, directory: Path) -> None:
    """One figure for each of the most frequent last tokens."""
    directory.mkdir(parents=True, exist_ok=True)
    frequency = np.bincount(study.training.last, minlength=study.training.K)
    frequent = np.argsort(-frequency, kind="stable")[:_DRAWN_GRAPHS]
    for k in (int(k) for k in frequent if int(k) in study.graphs):
        figure = plots.token_priority_graph(study.graphs[k], study.training.vocabulary)
        with whole_file(directory / f"last-{k}.png") as file:
            file.write(plots.png(figure))


def _comparison(data: AttentionData, result: Run) -> dict[str, str]:
    """The trained parameter beside the SVM of the tokens it selected."""
    constraints = (data.lengths - 1).sum()
    if constraints > _QUICK_CONSTRAINTS:
        return {"SVM": f"not solved, as it has {constraints} constraints (attsvm svm solves it)"}
    solve = att_svm if result.parameter == "W" else prompt_svm
    solution = solve(data, result.selected)
    direction = solution.W if result.parameter == "W" else solution.p
    facts = {}
    if direction is None:
        facts["SVM"] = "infeasible for the selected tokens"
    elif direction.any() and result.direction.any():
        facts["cosine with its SVM"] = f"{cosine(result.direction, direction):.6f}"
    facts["outcome"] = _OUTCOMES[str(classify(data, result, solution=solution))]
    return facts


def _svm(arguments: argparse.Namespace) -> None:
    data = _problem(arguments)
    out = _output(arguments, f"{arguments.problem}-svm")
    machines: dict[str, Callable[..., SVMSolution]] = {
        "att": att_svm,
        "prompt": prompt_svm,
        "label": label_svm,
    }
    solve = machines[arguments.problem]
    if arguments.selected == "optimal":
        if data.value is None:
            raise ValueError(
                "--selected: expected a token of every input, such as 1,0,2, for a problem without "
                "a value; got 'optimal'"
            )
        selected = optimal_tokens(data)
    else:
        selected = np.array(arguments.selected)
    solution = solve(data, selected)
    members = {name: getattr(solution, name) for name in _SOLUTION}
    _write_arrays(
        out, {"selected": selected, **{k: x for k, x in members.items() if x is not None}}
    )
    facts = {
        "problem": f"n={data.n} T={data.T} d={data.d}",
        "selected tokens": _tokens(selected),
        "status": solution.status,
    }
    if solution.support is None:
        facts["residual of the proof"] = f"{solution.kkt:.1e}"
    else:
        facts |= {
            "norm": f"{solution.norm:.9g}",
            "active constraints": f"{solution.support.sum()} of {_constraints(data, solution)}",
            "duality gap": f"{solution.gap:.1e} (relative)",
            "KKT residual": f"{solution.kkt:.1e}",
        }
    _print_facts({**facts, "solver": solution.solver, "written": str(out)})


def _constraints(data: AttentionData, solution: SVMSolution) -> int:
    return data.n if solution.variable == "v" else int((data.lengths - 1).sum())


def _write_arrays(out: Path, arrays: dict[str, Any]) -> None:
    with whole_file(out) as file:
        np.savez(file, **arrays)


def _reproduce(arguments: argparse.Namespace) -> int:
    if arguments.list:
        print(listing(FIGURES))
        return 0
    figures = FIGURES if arguments.all else matching(arguments.name)
    settings = Settings(arguments.quick, arguments.threads, progress=not arguments.quiet)
    render = _render()
    results = []
    for figure in figures:
        result = reproduce(figure, arguments.out, settings, render)
        results.append(result)
        if arguments.traceback and result.error is not None:
            raise result.error
        print(result.text)
        print(f"Written: {', '.join(map(str, result.written))}", end="\n\n", flush=True)
    if len(results) > 1:
        print(summary(results))
    failed = [result.figure.name for result in results if not result.passed]
    if failed:
        print(f"attsvm: not as expected: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _render() -> Render | None:
    """Draws a figure as a PNG file; None, said once, where there is no matplotlib."""
    try:
        plots.require_matplotlib()
    except ImportError as error:
        print(f"attsvm: no figure is drawn: {error}", file=sys.stderr)
        return None

    def render(figure: Figure, outcome: Outcome) -> bytes:
        return plots.png(plots.published(figure, outcome))

    return render


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
    _print_facts(facts)


def _problem(arguments: argparse.Namespace) -> AttentionData:
    data = load(arguments.file)
    if not isinstance(data, AttentionData):
        raise ValueError(f"{arguments.file}: expected tokens and labels, got next-token data")
    if data.batch is None:
        if arguments.index is not None:
            raise ValueError(f"--index: {arguments.file} holds a single problem")
        return data
    if arguments.index is None or not 0 <= arguments.index < data.batch:
        raise ValueError(
            f"--index: {arguments.file} holds a batch of problems, expected one of "
            f"0..{data.batch - 1}, got {'none' if arguments.index is None else arguments.index}"
        )
    return data.problem(arguments.index)


def _output(arguments: argparse.Namespace, kind: str) -> Path:
    file: Path = arguments.file or arguments.text
    out: Path = arguments.out or file.with_name(f"{file.stem}-{kind}.npz")
    if out.exists() and out.samefile(file):
        raise ValueError(f"--out: {out} is the problem itself")
    return out


def _tokens(selected: Any) -> str:
    shown = " ".join(map(str, selected[:20]))
    return shown if len(selected) <= 20 else f"{shown} ... ({len(selected)} in all)"


def _print_facts(facts: dict[str, Any]) -> None:
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}   {fact}")
