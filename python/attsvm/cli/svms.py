"""``attsvm svm``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from attsvm._arrays import Float64Array, IndexArray
from attsvm._geometries import Norm as NormLike
from attsvm.cli.output import say_facts, tokens_in_words, watched, write_arrays
from attsvm.cli.parsing import Parser, number_or_name
from attsvm.cli.problems import FIRST_TOKENS, name_of_list, output_file, read_problem
from attsvm.data import AttentionData
from attsvm.data.attention_data import as_selected
from attsvm.descent import StepRule
from attsvm.descent.evaluation import evaluate
from attsvm.svm import SVMSolution, label_svm
from attsvm.svm.norms import NORMS, as_svm_norm
from attsvm.svm.solvers import EXTENDED
from attsvm.theory import cosine, margin_ratio, optimal_tokens
from attsvm.theory.svm_of_training import SVMS, kind_of_svm, norm_of_training
from attsvm.threads import thread_count

_SOLUTION = (
    *("W", "p", "v", "status", "norm", "margins", "dual", "support"),
    *("certificate", "gap", "kkt", "solver", "unique"),
)
"""Fields of an SVMSolution that are written, where they are not None."""
SVM_OF_TRAINING = {"W": "att", "p": "prompt", "diagonal KQ": "diagonal"}
"""Names of the SVMs of `attsvm.theory.svm_of_training`."""
_SVMS: Mapping[str, Callable[..., SVMSolution]] = {
    **{name: SVMS[kind] for kind, name in SVM_OF_TRAINING.items()},
    "label": label_svm,
}

OF_RULES = ("norm", "momentum", "decay", "weight_decay", "batch_size")
"""Settings of a step rule that `attsvm train` takes, and writes where they are given."""
_WITH_QUERIES = ("att", "diagonal")
"""SVMs of the logits X W z."""


def add_svm_options(parser: Parser) -> None:
    """Add the options of ``attsvm svm``."""
    parser.add_argument("file", type=Path, metavar="FILE.npz", help="the problem")
    add = parser.add_mutually_exclusive_group().add_argument
    run = "results of attsvm train: separate the tokens that it selected, and compare"
    add("--run", type=Path, metavar="RUN.npz", dest="selected", help=run)
    add(
        "--selected",
        type=_selected,
        metavar="TOKENS",
        help="a token of every input, counted from 0, such as 1,0,2; RUN.npz, those that a run of "
        "attsvm train selected; or 'optimal', those of the largest score (default: optimal)",
    )
    separated = "separate tokens by W, by p or by diagonal W, or labels by v (default: that of "
    parser.add_argument(
        "--problem",
        choices=tuple(_SVMS),
        help=f"{separated}the parameter of the run, or att). Queries z of att and diagonal, where "
        "the file has none, are the first tokens of the inputs",
    )
    norms = f"norm of W, p or v: {', '.join(NORMS)}, or p > 1 of the l_p norm"
    parser.add_argument(
        "--norm",
        type=_norm,
        metavar="NORM",
        help=f"{norms} (default: that of the steps of the run, or fro, of diagonal W l1)",
    )


def _norm(word: str) -> NormLike:
    """Return the name of a norm, or the number p of an l_p norm."""
    norm = number_or_name(word)
    try:
        as_svm_norm("norm", norm)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("norm: ")) from None
    return norm


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


def run_svm(arguments: argparse.Namespace) -> None:
    """Solve one SVM, and compare it with the run whose tokens it separates."""
    data = read_problem(arguments)
    of_run: tuple[str, NormLike] = "att", "fro"
    trained: dict[str, Any] = {}
    chosen_queries = {}
    if isinstance(arguments.selected, Path):
        trained, of_run = _read_run(arguments.selected)
        selected = _selected_by(arguments.selected, trained, data)
    elif arguments.selected in (None, "optimal"):
        if data.value is None:
            wanted = "a token of every input, such as 1,0,2, or the results of attsvm train"
            raise ValueError(
                f"--selected: needed for a problem without a value: {wanted}"
                if arguments.selected is None
                else f"--selected: expected {wanted}, as without a value no score is largest; got "
                "'optimal'"
            )
        selected = optimal_tokens(data)
    else:
        selected = as_selected("selected", arguments.selected, data)
    name = arguments.problem or of_run[0]
    if data.queries is None and name in _WITH_QUERIES:
        data = data.with_first_queries()
        chosen_queries["queries"] = FIRST_TOKENS
    usual = {"diagonal": "l1", of_run[0]: of_run[1]}.get(name, "fro")
    chosen = usual if arguments.norm is None else arguments.norm
    norm = as_svm_norm("--norm", chosen)
    named = () if norm.name == "fro" else (norm.name,)
    run = arguments.selected if isinstance(arguments.selected, Path) else None
    listed = isinstance(arguments.selected, tuple)
    tokens = ("tokens", name_of_list(arguments.selected)) if listed else ()
    thread_count(arguments.threads)
    out = output_file(arguments, (name, *named, "svm", *tokens), run)
    with watched("solving", arguments.quiet):
        solution = _SVMS[name](data, selected, norm=chosen, num_threads=arguments.threads)
    parts = ("left", "right") if solution.solver == EXTENDED else ()
    members = {name: getattr(solution, name) for name in (*_SOLUTION, *parts)}
    write_arrays(out, {"selected": selected, **{k: x for k, x in members.items() if x is not None}})
    facts = {
        "problem": f"n={data.n} T={data.T} d={data.d}",
        **chosen_queries,
        "selected tokens": tokens_in_words(selected),
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
        if direction is not None:
            compared = comparison(data, direction, selected, chosen, solution, "of the run")
            if name == "diagonal" != of_run[0]:  # a W that is not diagonal may have a larger margin
                compared.pop("margin ratio of the run", None)
            facts |= compared
    say_facts({**facts, "solver": solution.solver, "written": str(out)})


def comparison(
    data: AttentionData,
    direction: Float64Array,
    selected: IndexArray,
    norm: NormLike,
    solution: SVMSolution,
    whose: str,
) -> dict[str, str]:
    """Compare what was trained with an SVM: by margins too, where that may have many solutions."""
    if not (solution.feasible and solution.direction.any() and direction.any()):
        return {}
    facts = {f"cosine {whose}": f"{cosine(direction, solution.direction):.6f}"}
    if solution.variable != "v" and not as_svm_norm("norm", norm).strictly_convex:
        ratio = margin_ratio(data, direction, selected, norm, solution=solution)
        facts[f"margin ratio {whose}"] = f"{ratio:.6f}"
    return facts


def _read_run(path: Path) -> tuple[dict[str, Any], tuple[str, NormLike]]:
    """Read arrays that `attsvm train` wrote, and the SVM and norm of the run."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("one array")
        with loaded as file:
            known = ("W", "p", "v", "Wp")
            names = ("selected", "log_attention", *(name for name in known if name in file.files))
            parameter, rule = (str(file[name]) for name in ("parameter", "rule"))
            settings = {name: file[name].item() for name in OF_RULES if name in file.files}
            norm = norm_of_training(parameter, StepRule(rule, **settings))
            of_run = SVM_OF_TRAINING[kind_of_svm(parameter)], norm
            return {name: file[name] for name in names}, of_run
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path}: expected the results of attsvm train") from error


def _selected_by(path: Path, trained: Mapping[str, Any], data: AttentionData) -> IndexArray:
    """Return the tokens of a run; refuse one on other sizes, tokens or queries than these."""
    sizes = len(trained["selected"]), trained.get("W", trained.get("p", data.tokens)).shape[-1]
    if sizes != (data.n, data.d):
        raise ValueError(
            f"{path}: expected a run on n={data.n} d={data.d}, got n={sizes[0]} d={sizes[1]}"
        )
    selected = as_selected(f"{path}: selected", trained["selected"], data)
    prompt = trained.get("Wp", trained.get("p"))
    if prompt is None:
        data = data if data.queries is not None else data.with_first_queries()
        directions = np.asarray(data.queries) @ trained["W"].T
    else:
        directions = np.broadcast_to(prompt, (data.n, data.d))
    again = evaluate(data, directions, np.zeros(data.d), "logistic").log_attention
    largest = float(np.abs(directions).sum(axis=-1).max()) * float(np.abs(data.tokens).max())
    same = trained["log_attention"].shape == again.shape
    if not (same and np.allclose(again, trained["log_attention"], 0, 1e-6 + 1e-12 * largest)):
        raise ValueError(
            f"{path}: expected a run on the tokens and queries of the problem, got one on others"
        )
    return selected
