"""Command line: ``attsvm study | report | train | svm | reproduce | info``."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from attsvm import _core, plots
from attsvm._geometries import Norm as NormLike
from attsvm._validation import as_float_in
from attsvm._version import __version__
from attsvm.data import AttentionData, load
from attsvm.data.whole_file import whole_file, write_whole
from attsvm.datasets import text
from attsvm.descent import Run, StepRule, train
from attsvm.descent.blocks import STARTS, as_blocks
from attsvm.extras import dependencies
from attsvm.plots.published_figures import published_files
from attsvm.progress import bar, inside
from attsvm.studies import Study, report, run
from attsvm.studies.declarations import built_in, declared, read_toml, read_toml_file
from attsvm.studies.environment import environment, version
from attsvm.studies.expectations import expectations
from attsvm.studies.measurements import PARAMETERS
from attsvm.studies.reproduce.figure import Settings
from attsvm.studies.reproduce.registry import FIGURES, matching
from attsvm.studies.reproduce.runner import listing, reproduce, summary
from attsvm.studies.store import FORMATS, RESULTS, TABLE, open_results
from attsvm.studies.study import LOSSES, OverrideError, fitting_parameter
from attsvm.studies.summary import tabulate, terminal_report
from attsvm.svm import (
    SolverError,
    SVMSolution,
    att_svm,
    diagonal_svm,
    graph_svm,
    label_svm,
    prompt_svm,
)
from attsvm.svm.norms import NORMS, as_svm_norm
from attsvm.theory import (
    classify,
    cosine,
    cyclic_subspace,
    optimal_tokens,
    predict_next,
    scores,
    token_priority_graphs,
)
from attsvm.theory.composition import composition, loss_of_composition
from attsvm.theory.svm_of_training import SVMS, kind_of_svm, norm_of_training

_FAILURES = (SolverError, FloatingPointError)
"""Right input, but no answer: not certified, or an overflow."""
_OUTCOMES = {
    "global": "global: every selected token has the largest score",
    "local": "local: the selected tokens outscore their SVM-neighbours",
    "neither": "neither: a selected token does not outscore its SVM-neighbours",
}
_OUTCOME_IS_OPEN = "local or neither, which the SVM decides"
_SOLUTION = (
    *("W", "p", "v", "status", "norm", "margins", "dual", "support"),
    *("certificate", "gap", "kkt", "solver", "unique"),
)
"""Fields of an SVMSolution that are written, where they are not None."""
_SVMS: Mapping[str, Callable[..., SVMSolution]] = {
    "att": att_svm,
    "prompt": prompt_svm,
    "diagonal": diagonal_svm,
    "label": label_svm,
}
_SVM_OF_TRAINING = {"W": "att", "p": "prompt", "diagonal KQ": "diagonal"}
_DRAWN_GRAPHS = 12
_QUICK_CONSTRAINTS = 10_000
"""Constraints n(T-1) up to which `train` also solves the SVM of the selected tokens."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``attsvm``; by default those of the process.

    Returns
    -------
    int
        Exit status: 0 done; 1 no answer, because it could not be certified or overflowed, or
        figures that are not as published; 2 wrong usage or input; 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(words)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _complain(f"warning: {message}")
            status: int | None = arguments.command(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        _complain("stopped")
        if arguments.resumable:
            again = shlex.join(["attsvm", *(word for word in words if word != "--overwrite")])
            _say(f"Finished cells are kept. To continue: {again}", sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError, MemoryError, *_FAILURES) as error:
        if arguments.traceback:
            raise
        _complain(f"error: {_one_line(error)}")
        return 1 if isinstance(error, _FAILURES) else 2
    return status or 0


def _say(line: str, stream: TextIO | None = None) -> None:
    """Print text, with escapes for control characters and for what the encoding lacks."""
    stream = sys.stdout if stream is None else stream
    if stream is None:  # closed before the program began
        return
    visible = "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in line
    )
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(visible.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _complain(message: str) -> None:
    if sys.stderr is not None:
        _say(f"attsvm: {message}", sys.stderr)


def _say_facts(facts: Mapping[str, Any]) -> None:
    width = max(map(len, facts))
    _say("\n".join(f"{name:<{width}}   {fact}" for name, fact in facts.items()))


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


class _Help(argparse.HelpFormatter):
    """Help that shows the defaults."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        hidden = action.default in (None, False, argparse.SUPPRESS) or action.default == []
        hidden = hidden or "(default: " in (action.help or "")
        return action.help if hidden else f"{action.help or ''} (default: %(default)s)".lstrip()


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"attsvm: error: {message} (see '{self.prog} --help')\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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

    def command(name: str, run: Any, short: str, text: str, *parents: _Parser) -> _Parser:
        added: _Parser = commands.add_parser(name, parents=parents, help=short, description=text)
        added.set_defaults(command=run)
        return added

    running, one_problem, drawing = (_Parser(add_help=False) for _ in range(3))
    group = running.add_argument_group("running")
    group.add_argument("--threads", type=int, metavar="N", help="(default: all that are allowed)")
    group.add_argument("--quiet", action="store_true", help="show no progress")
    drawing.add_argument(
        "--format",
        type=_formats,
        metavar="FORMATS",
        default="png",
        help=f"formats of figures: some of {', '.join(FORMATS)} with commas between",
    )
    add = one_problem.add_argument
    add("--index", type=int, metavar="B", help="which problem, if the file holds a batch")
    add("--overwrite", action="store_true", help="replace the results of an earlier run")
    add(
        "--out",
        type=Path,
        metavar="RESULT.npz",
        help="(default: FILE-SETTINGS.npz in the working directory)",
    )
    _add_study_options(
        command(
            "study",
            _study,
            "train and measure many problems",
            "Train and measure many problems, keep every result, and draw a figure. A study is "
            "declared in a TOML file; some come with attsvm. Run again, it resumes.",
            running,
            drawing,
        )
    )
    reporting = command(
        "report",
        _report,
        "write the results of a study as one HTML file",
        "Write the results of a study, finished or not, as one HTML file that needs no network: "
        "tables, interactive figures, settings, and how to run it again.",
    ).add_argument
    printed = f"also write the figure for print, beside the report, in some of {', '.join(FORMATS)}"
    reporting("--format", type=_formats, metavar="FORMATS", help=printed)
    reporting("store", type=Path, metavar="STORE", help="directory of the study, such as out/NAME")
    reporting(
        "--out", type=Path, metavar="FILE.html", help="(default: report.html in the directory)"
    )
    _add_train_options(
        command(
            "train",
            lambda given: (_train_on_problem if given.text is None else _train_on_text)(given),
            "train attention on one problem",
            "Train attention on the problem in an .npz file, or on the next tokens of a text. The "
            "file holds the arrays tokens (n, T, d) and labels (n,) of -1 and 1, and optionally "
            "queries (n, d), a value head (d,) and lengths (n,).",
            running,
            drawing,
            one_problem,
        )
    )
    _add_svm_options(
        command(
            "svm",
            _svm,
            "solve the SVM of one problem",
            "Solve the support vector machine (SVM) that separates selected tokens from the "
            "others, for the problem in an .npz file, and write the certified solution.",
            running,
            one_problem,
        )
    )
    reproducing = command(
        "reproduce",
        _reproduce,
        "recompute a published figure and compare its numbers",
        "Recompute a figure of the papers, draw it, and compare its numbers with what was "
        "published or is known. The exit status is 1 if one is outside its tolerance.",
        running,
        drawing,
    )
    which = reproducing.add_mutually_exclusive_group(required=True).add_argument
    figure = "the figure, as --list names it, or all of a paper by its arXiv number"
    which("name", nargs="?", metavar="NAME", help=figure)
    which("--all", action="store_true", help="every figure, one after the other")
    listed = "list the figures by paper, and where their numbers are from"
    which("--list", action="store_true", help=listed)
    reproducing.add_argument("--quick", action="store_true", help="fewer runs")
    out = Path("out/reproduce")
    where = "directory of NAME.json and of the figure, such as NAME.png"
    reproducing.add_argument("--out", type=Path, metavar="DIR", default=out, help=where)
    about = "show versions, instruction set and threads"
    command("info", _info, about, f"{about.capitalize()}.")
    return parser


def _add_study_options(parser: _Parser) -> None:
    parser.set_defaults(resumable=True)
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
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the study, such as problems=50 or d=2,5,10",
    )
    add = parser.add_argument_group("results").add_argument
    add("--out", type=Path, metavar="DIR", help="directory of the results (default: out/NAME)")
    afresh = "remove the study that is in the directory and start afresh"
    add("--overwrite", action="store_true", help=afresh)
    add = parser.add_argument_group("cluster").add_mutually_exclusive_group().add_argument
    add("--scheduler", metavar="ADDRESS", help="run on the Dask cluster of this scheduler")
    add("--workers", type=int, metavar="N", help="run on N processes of this computer, by Dask")


def _add_train_options(parser: _Parser) -> None:
    source = parser.add_mutually_exclusive_group(required=True).add_argument
    source("file", type=Path, nargs="?", metavar="FILE.npz", help="the problem")
    source("--text", type=Path, metavar="FILE", help="a UTF-8 text")
    add = parser.add_argument
    add(
        "--parameter",
        choices=PARAMETERS,
        help="logits X W z, X p, X K Q' z, X W p, or the third with diagonal K and Q; with v+ the "
        "head too (default: W, or p without queries; with v+ without a value). W without queries "
        "takes the first token of each input",
    )
    value = "the linear head v: a .npy file, or numbers separated by commas"
    add("--value", type=_numbers, metavar="V", help=value)
    test = "other inputs, on which loss and accuracy are recorded, with the head of the problem"
    add("--test", type=Path, metavar="FILE.npz", help=test)
    start = "start of the attention parameters (default: zero, or uniform for K and Q)"
    add("--init", choices=STARTS, help=start)
    add("--seed", type=int, metavar="N", help="of a start or mini-batches that are drawn")
    rules = "step rule; see StepRule in the documentation (default: ngd, normalised steps)"
    add("--rule", choices=_core.step_rules, default="ngd", help=rules)
    add("--lr", type=float, default=0.1, help="step size")
    add("--steps", type=int, default=1000)
    add("--loss", choices=(*LOSSES, "log"), help="(default: logistic; of text always log)")
    add("--record-every", type=int, metavar="K", help="record the run every K steps")
    add = parser.add_argument_group("text").add_argument
    add("--unit", choices=("character", "word"), default="character", help="what a token is")
    add("--context", type=int, default=16, help="tokens of a context")
    add("--vocabulary", type=int, metavar="K", help="most frequent tokens kept (default: all)")
    add("--most", type=int, metavar="N", help="contexts at most (default: all)")
    held_out = "fraction of the contexts, the last ones, to predict only"
    add("--held-out", type=float, default=0.1, metavar="SHARE", help=held_out)
    graphs = f"draw the graphs of the {_DRAWN_GRAPHS} most frequent last tokens there"
    add("--graphs", type=Path, metavar="DIR", help=graphs)


def _add_svm_options(parser: _Parser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.npz", help="the problem")
    add = parser.add_mutually_exclusive_group().add_argument
    run = "results of attsvm train: separate the tokens that it selected, and compare"
    suppressed = argparse.SUPPRESS  # the default is that of --selected
    add("--run", type=Path, metavar="RUN.npz", dest="selected", default=suppressed, help=run)
    add(
        "--selected",
        type=_selected,
        metavar="TOKENS",
        default="optimal",
        help="a token of every input, counted from 0, such as 1,0,2; RUN.npz, those that a run of "
        "attsvm train selected; or 'optimal', those of the largest score",
    )
    separated = "separate tokens by W, by p or by diagonal W, or labels by v (default: that of "
    parser.add_argument(
        "--problem", choices=tuple(_SVMS), help=f"{separated}the parameter of the run, or att)"
    )
    norms = f"norm of W, p or v: {', '.join(NORMS)}, or p > 1 of the l_p norm"
    parser.add_argument(
        "--norm",
        type=_norm,
        metavar="NORM",
        help=f"{norms} (default: that of the steps of the run, or fro, of diagonal W l1)",
    )


def _formats(word: str) -> tuple[str, ...]:
    """Read formats of figures, separated by commas."""
    formats = tuple(dict.fromkeys(each.strip().lower() for each in word.split(",")))
    for each in formats:
        if each not in FORMATS:
            raise argparse.ArgumentTypeError(
                f"expected some of {', '.join(FORMATS)} with commas between them, got {word!r}"
            )
    return formats


def _norm(word: str) -> NormLike:
    """Return the name of a norm, or the number p of an l_p norm."""
    try:
        norm: NormLike = word if word in NORMS else float(word)
        as_svm_norm("norm", norm)
    except ValueError:
        names = ", ".join(NORMS)
        raise argparse.ArgumentTypeError(
            f"expected {names} or a number p > 1, got {word!r}"
        ) from None
    return norm


def _override(word: str) -> tuple[str, Any, str]:
    """Parse ``field=value``, ``field=value,value``, ``field=[value, value]`` or ``field={...}``.

    Returns the field, its value (as TOML reads it, or else text) and the word itself.
    """
    field, equals, value = word.partition("=")
    field = field.strip()
    if not equals or not field or not value:
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE, got {word!r}")
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


def _numbers(word: str) -> NDArray[Any]:
    """Read a .npy file, or numbers separated by commas."""
    try:
        if word.lower().endswith(".npy"):
            return np.asarray(np.load(word, allow_pickle=False))
        return np.array([float(each) for each in word.split(",")])
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(
            f"expected a .npy file or numbers separated by commas, got {word!r} ({error})"
        ) from None


def _selected(word: str) -> str | Path | tuple[int, ...]:
    if word == "optimal":
        return word
    if word.lower().endswith(".npz"):
        return Path(word)
    try:
        return tuple(int(each) for each in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected integers separated by commas, an .npz file or 'optimal', got {word!r}"
        ) from None


def _study(arguments: argparse.Namespace) -> None:
    if arguments.list:
        _say_facts({name: Study.load(name).title for name in built_in()})
        return
    if arguments.print and not arguments.set and not arguments.study.lower().endswith(".npz"):
        _say(read_toml_file(declared(arguments.study)).removesuffix("\n"))
        return
    declaration = _declaration(arguments)
    if arguments.print:
        _say(declaration.toml.removesuffix("\n"))
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
    written = [write_whole(out / TABLE, table.csv().encode())] if table.measures else []
    on_terminal = sys.stdout is not None and getattr(sys.stdout, "isatty", bool)()
    width = min(shutil.get_terminal_size().columns, 100) if on_terminal else 100
    sentences = expectations(declaration, results)
    _say(terminal_report(declaration, table, sentences, width, broken=on_terminal))
    if plots.drawable(results) and _can_draw("the figure"):
        written += _write_figure(out / "figure", plots.study(results), arguments.format)
    kept = f"every run in {out / RESULTS}"
    _say(f"Written: {', '.join(map(str, written))}; {kept}" if written else f"Written: {kept}")
    _say(f"Interactive figures: {shlex.join(['attsvm', 'report', str(out)])}")


def _write_figure(path: Path, figure: Any, formats: Sequence[str]) -> list[Path]:
    """Write a figure in these formats; each has the path with its suffix."""
    files = plots.encoded(figure, formats)
    return [write_whole(path.with_name(f"{path.name}.{k}"), x) for k, x in files.items()]


def _report(arguments: argparse.Namespace) -> None:
    written = [report(arguments.store, arguments.out)]
    if arguments.format and _can_draw("the figure"):
        figure = plots.study(open_results(arguments.store, verify=False))
        written += _write_figure(written[0].with_name("figure"), figure, arguments.format)
    _say(f"Written: {', '.join(map(str, written))}")


def _declaration(arguments: argparse.Namespace) -> Study:
    """Return the study with the changes of --set; their errors name them as they were typed."""
    try:
        return Study.load(arguments.study, {field: value for field, value, _ in arguments.set})
    except OverrideError as error:
        words = {field: f"--set {shlex.quote(word)}" for field, _, word in arguments.set}
        blamed = " ".join(words[field] for field in error.fields)
        raise ValueError(f"{blamed}: {error.reason}") from error


def _training(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `train` that problems and texts share."""
    return {
        **{name: getattr(arguments, name) for name in ("rule", "lr", "steps", "record_every")},
        "num_threads": arguments.threads,
        "progress": not arguments.quiet,
    }


def _train_on_problem(arguments: argparse.Namespace) -> None:
    data = _problem(arguments)
    if arguments.value is not None:
        data = data.with_value(arguments.value)
    parameter = arguments.parameter or fitting_parameter(
        data.value is not None, data.queries is not None
    )
    chosen = {}
    if _lacks_queries(data, parameter):
        data = data.with_first_queries()
        chosen["queries"] = "the first token of each input, as the file has none"
    if data.value is None:
        parameter = f"v+{parameter.removeprefix('v+')}"
        chosen["head"] = "v is trained too, as there is no value"
    out = _output(arguments, _settings(arguments, parameter))
    result = train(
        data,
        parameter=parameter,
        loss=arguments.loss,
        init=arguments.init,
        rng=arguments.seed,
        test=None if arguments.test is None else _test(arguments.test, data, parameter),
        **_training(arguments),
    )
    _write_arrays(out, {"lr": arguments.lr, **_of_run(result)})
    facts = {
        "problem": f"n={data.n} T={data.T} d={data.d}",
        **chosen,
        **result.facts(),
        "selected tokens": _tokens(result.selected),
    }
    if data.value is not None:
        facts["optimal tokens"] = _tokens(optimal_tokens(data))
    with _watched("SVM", arguments.quiet):
        svm = _quick_svm(data, result, arguments.threads)
    if svm is None:
        constraints = (data.lengths - 1).sum()
        command = shlex.join(["attsvm", "svm", str(arguments.file), "--run", str(out)])
        facts["SVM"] = f"not solved, as it has {constraints} constraints: {command}"
        facts["outcome"] = _OUTCOMES["global"] if _is_global(data, result) else _OUTCOME_IS_OPEN
    else:
        facts |= _comparison(data, result, svm)
    _say_facts({**facts, "written": str(out)})


def _test(path: Path, data: AttentionData, parameter: str) -> AttentionData:
    """Read other inputs for the head of `data`."""
    test = load(path)
    if not isinstance(test, AttentionData) or test.batch is not None:
        got = f"a batch of {test.batch}" if isinstance(test, AttentionData) else "next tokens"
        raise ValueError(f"--test: {path}: expected one problem of tokens and labels, got {got}")
    if test.d != data.d:
        raise ValueError(f"--test: {path}: expected tokens of dimension {data.d}, got {test.d}")
    if data.value is not None:
        test = test.with_value(data.value)
    return test.with_first_queries() if _lacks_queries(test, parameter) else test


def _lacks_queries(data: AttentionData, parameter: str) -> bool:
    """Return whether logits of this parameter take queries that the data have not."""
    return data.queries is None and as_blocks(parameter).kind.queries == "data"


def _of_run(result: Run) -> dict[str, Any]:
    """Return what is written of a run."""
    return {
        "parameter": "+".join(np.atleast_1d(result.parameter)),
        **{name: getattr(result, name) for name in ("rule", "steps", "loss")},
        **({} if result.W is None else {"W": result.W}),
        **result.parameters,
        **({"Wp": result.direction} if result.attention_parameter == "W+p" else {}),
        **{name: getattr(result, name) for name in ("attention", "log_attention", "selected")},
        **{f"history_{key}": array for key, array in result.history.items()},
    }


def _quick_svm(data: AttentionData, result: Run, threads: int | None) -> SVMSolution | None:
    """Solve the SVM of the selected tokens, unless it may take long."""
    if (data.lengths - 1).sum() > _QUICK_CONSTRAINTS:
        return None
    norm = norm_of_training(result.parameter, result.step_rule)
    solve = SVMS[kind_of_svm(result.parameter)]
    return solve(data, result.selected, norm=norm, num_threads=threads)


def _comparison(data: AttentionData, result: Run, solution: SVMSolution) -> dict[str, str]:
    """Compare the trained parameter with the SVM of the tokens it selected."""
    norm = as_svm_norm("norm", norm_of_training(result.parameter, result.step_rule))
    name = _SVM_OF_TRAINING[kind_of_svm(result.parameter)]
    facts = {"SVM": f"{name}, {norm.text} norm: {solution.status}"}
    direction = solution.p if result.variable == "p" else solution.W
    if direction is not None and direction.any() and result.direction.any():
        facts["cosine with its SVM"] = f"{cosine(result.direction, direction):.6f}"
    outcome = classify(data, result, solution=solution)
    facts["outcome"] = _OUTCOMES[str(outcome)]
    if outcome != "global":
        facts["inputs"] = _tokens(outcome.inputs)
    return facts


def _is_global(data: AttentionData, result: Run) -> bool:
    """Return whether every selected token has the largest score."""
    gamma = scores(data if result.v is None else data.with_value(result.v))
    chosen = np.take_along_axis(gamma, result.selected[:, np.newaxis], axis=1)
    return bool((chosen >= gamma).all())


def _train_on_text(arguments: argparse.Namespace) -> None:
    for name, expected in (
        *(("parameter", "W"), ("loss", "log"), ("index", None)),
        *(("value", None), ("init", None), ("seed", None), ("test", None)),
    ):
        value = getattr(arguments, name)
        if value not in (None, expected):
            raise ValueError(f"--{name}: expected {expected or 'none'} for text, got {value}")
    out = _output(arguments, _settings(arguments, "W"))
    data = text(
        arguments.text,
        **{name: getattr(arguments, name) for name in ("unit", "context", "vocabulary", "most")},
    )
    share = as_float_in("held_out", arguments.held_out, 0, 1, ends="[)")
    early = np.arange(data.n) < max(1, round(data.n * (1 - share)))
    seen = data.subset(early)
    graphs = token_priority_graphs(seen)
    with _watched("Graph-SVM", arguments.quiet):
        solution = graph_svm(seen)
    if solution.W is None:
        raise ValueError("data: expected embeddings with a feasible Graph-SVM, got infeasible")
    space = cyclic_subspace(seen)
    composed = composition(space)
    finite = space.lift(composed)
    points = solution if solution.norm > 0 else None
    result = train(seen, reference=points, **_training(arguments))
    W = result.direction
    svm = {"vocabulary": data.vocabulary, "svm": solution.W, "finite_part": finite}
    _write_arrays(out, {"lr": arguments.lr, **_of_run(result), **svm})
    components = [len(each) for graph in graphs.values() for each in graph.components]
    loss = result.history["loss"][-1]
    facts = {
        "text": f"{arguments.text}: {data.K} different {arguments.unit}s, {data.n} contexts of "
        f"{data.T} with their label",
        "graphs": f"{len(graphs)} last tokens, "
        f"{sum(len(graph.edges) for graph in graphs.values())} priorities, "
        f"{len(components)} components, the largest of {max(components, default=0)}",
        "Graph-SVM": f"norm {solution.norm:.9g}, duality gap {solution.gap:.1e} (relative), KKT "
        f"residual {solution.kkt:.1e}",
        "training": f"W from zero, {result.steps} steps of {result.rule}, lr {arguments.lr:g}, "
        f"{seen.n} contexts",
        "loss": f"{loss:.6g}, {loss - loss_of_composition(space, composed):.3e} above its infimum",
        "norm of W": f"{result.history['norm'][-1]:.6g}",
    }
    inside = space.project(W)
    for name, part in (("cosine with Graph-SVM", W), ("without its finite part", W - inside)):
        if points is not None and part.any():
            facts[name] = f"{cosine(part, solution.W):.6f}"
    away = np.linalg.norm(inside - finite)
    facts["finite part"] = f"norm {np.linalg.norm(finite):.6g}, that of W {away:.3g} away"
    rest = {} if early.all() else {"held out": data.subset(~early)}
    for name, contexts in {"training": seen, **rest}.items():
        prediction = predict_next(contexts, W, training=seen, solution=solution)
        facts[f"automaton, {name}"] = (
            f"same next token as the layer in {100 * prediction.agreement:.2f} % of "
            f"{prediction.ids.size} contexts, attention {prediction.distance:.3g} apart"
        )
    _say_facts({**facts, "written": str(out)})
    if arguments.graphs is not None:
        arguments.graphs.mkdir(parents=True, exist_ok=True)
        frequency = np.bincount(seen.last, minlength=seen.K)
        frequent = np.argsort(-frequency, kind="stable")[:_DRAWN_GRAPHS].tolist()
        for k in frequent if _can_draw("a graph") else ():
            if k in graphs:
                figure = plots.token_priority_graph(graphs[k], seen.vocabulary)
                _write_figure(arguments.graphs / f"last-{k}", figure, arguments.format)


def _svm(arguments: argparse.Namespace) -> None:
    data = _problem(arguments)
    of_run: tuple[str, NormLike] = "att", "fro"
    trained: dict[str, Any] = {}
    if isinstance(arguments.selected, Path):
        trained, of_run = _read_run(arguments.selected)
        selected = trained["selected"]
    elif arguments.selected == "optimal":
        if data.value is None:
            raise ValueError(
                "--selected: needed for a problem without a value: a token of every input, such as "
                "1,0,2, or the results of attsvm train"
            )
        selected = optimal_tokens(data)
    else:
        selected = np.array(arguments.selected)
    name = arguments.problem or of_run[0]
    usual = {"diagonal": "l1", of_run[0]: of_run[1]}.get(name, "fro")
    chosen = usual if arguments.norm is None else arguments.norm
    norm = as_svm_norm("--norm", chosen)
    named = () if norm.name == "fro" else (norm.name,)
    out = _output(arguments, (name, *named, "svm"))
    with _watched("SVM", arguments.quiet):
        solution = _SVMS[name](data, selected, norm=chosen, num_threads=arguments.threads)
    members = {name: getattr(solution, name) for name in _SOLUTION}
    _write_arrays(
        out, {"selected": selected, **{k: x for k, x in members.items() if x is not None}}
    )
    facts = {
        "problem": f"n={data.n} T={data.T} d={data.d}",
        "selected tokens": _tokens(selected),
        "SVM": f"{name}, {norm.text} norm",
        "status": solution.status,
    }
    if solution.support is None:
        facts["residual of the proof"] = f"{solution.kkt:.1e}"
    else:
        constraints = data.n if solution.variable == "v" else int((data.lengths - 1).sum())
        facts |= {
            "norm": f"{solution.norm:.9g}",
            "active constraints": f"{solution.support.sum()} of {constraints}",
            "duality gap": f"{solution.gap:.1e} (relative)",
            "KKT residual": f"{solution.kkt:.1e}",
        }
        if not norm.strictly_convex:
            facts["unique"] = {True: "yes", False: "no", None: "not decided"}[solution.unique]
        of_prompt = "Wp" if "Wp" in trained else "p"
        direction = trained.get(of_prompt if solution.variable == "p" else solution.variable)
        if direction is not None and direction.any():
            against = getattr(solution, solution.variable)
            facts["cosine of the run"] = f"{cosine(direction, against):.6f}"
    _say_facts({**facts, "solver": solution.solver, "written": str(out)})


@contextmanager
def _watched(label: str, quiet: bool) -> Iterator[None]:
    """Show on a terminal what one long computation is at."""
    with bar(1, label, False if quiet else None) as advance, inside(advance):
        yield


def _read_run(path: Path) -> tuple[dict[str, Any], tuple[str, NormLike]]:
    """Read the arrays that `attsvm train` wrote, and what SVM and norm belong to the run."""
    try:
        with np.load(path, allow_pickle=False) as file:
            known = ("W", "p", "v", "Wp")
            names = ("selected", *(name for name in known if name in file.files))
            parameter, rule = (str(file[name]) for name in ("parameter", "rule"))
            norm = norm_of_training(parameter, StepRule(rule))
            of_run = _SVM_OF_TRAINING[kind_of_svm(parameter)], norm
            return {name: file[name] for name in names}, of_run
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ValueError(f"--selected: {path}: expected the results of attsvm train") from error


def _reproduce(arguments: argparse.Namespace) -> int:
    if arguments.list:
        _say(listing(FIGURES))
        return 0
    figures = FIGURES if arguments.all else matching(arguments.name)
    settings = Settings(arguments.quick, arguments.threads, progress=not arguments.quiet)
    drawn = partial(published_files, formats=arguments.format)
    render = drawn if _can_draw("a figure") else None
    results = []
    for figure in figures:
        result = reproduce(figure, arguments.out, settings, render)
        results.append(result)
        if arguments.traceback and result.error is not None:
            raise result.error
        _say(f"{result.text}\nWritten: {', '.join(map(str, result.written))}\n")
    if len(results) > 1:
        _say(summary(results))
    failed = [result.figure.name for result in results if not result.passed]
    if failed:
        _complain(f"not as expected: {', '.join(failed)}")
    return 1 if failed else 0


def _can_draw(what: str) -> bool:
    """Import matplotlib, or warn that it is not installed."""
    try:
        plots.require_matplotlib()
    except ImportError as error:
        _complain(f"{what} is not drawn: {error}")
        return False
    return True


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
    _say_facts(facts)


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


def _settings(arguments: argparse.Namespace, parameter: str) -> tuple[str, ...]:
    """Return the settings of a training run, for the name of its file."""
    loss = () if arguments.loss is None else (arguments.loss,)
    return ("run", parameter, arguments.rule, f"lr{arguments.lr:g}", str(arguments.steps), *loss)


def _output(arguments: argparse.Namespace, settings: tuple[str, ...]) -> Path:
    """Return the file for the results: that of --out, or one in the working directory."""
    source = getattr(arguments, "text", None) or arguments.file
    index = () if arguments.index is None else (str(arguments.index),)
    out: Path = arguments.out or Path(f"{'-'.join((source.stem, *index, *settings))}.npz")
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"--out: {out} is the problem itself")
    if out.is_file() and not arguments.overwrite:
        raise FileExistsError(f"{out} exists: --overwrite replaces it, --out chooses another file")
    return out


def _write_arrays(out: Path, arrays: dict[str, Any]) -> None:
    with whole_file(out) as file:
        np.savez(file, **arrays)


def _tokens(selected: Any) -> str:
    shown = " ".join(map(str, selected[:20]))
    return shown if len(selected) <= 20 else f"{shown} ... ({len(selected)} in all)"
