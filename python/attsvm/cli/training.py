"""``attsvm train FILE.npz``, and the options of training."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm._arrays import Float64Array
from attsvm._validation import as_nonnegative_int
from attsvm.cli.output import outcomes_in_words, say_facts, tokens_in_words, watched, write_arrays
from attsvm.cli.parsing import Parser, integer, number, number_or_name, refuse_unused
from attsvm.cli.problems import FIRST_TOKENS, output_of_run, read_problem
from attsvm.cli.svms import OF_RULES, SVM_OF_TRAINING, comparison
from attsvm.data import AttentionData, load
from attsvm.descent import Run, StepRule, train
from attsvm.descent.blocks import PARAMETERS, STARTS, WITH_HEAD, as_blocks, with_head
from attsvm.descent.step_rule import STEP_SIZE
from attsvm.studies.study import LOSSES
from attsvm.svm import SVMSolution
from attsvm.svm.norms import as_svm_norm
from attsvm.theory import classify, optimal_tokens, scores
from attsvm.theory.classification import selects_best
from attsvm.theory.svm_of_training import SVMS, kind_of_svm, norm_of_training

_OUTCOMES = {
    "global": "global: every selected token has the largest score",
    "local": "local: the selected tokens outscore their SVM-neighbours",
    "neither": "neither: a selected token does not outscore its SVM-neighbours",
}
_OUTCOME_IS_OPEN = "local or neither, which the SVM decides"
_QUICK_CONSTRAINTS = 10_000
"""Constraints n(T-1) up to which `train` also solves the SVM of the selected tokens."""
DRAWN_GRAPHS = 12
_OF_W_P = ("Wp", "W+p")
"""Parameters of the logits X W p."""
OF_TEXTS: Mapping[str, Any] = MappingProxyType(
    {
        **{"unit": "character", "context": 16, "vocabulary": None, "most": None},
        **{"held_out": 0.1, "graphs": None},
    }
)
"""Options that only texts have, and their defaults."""


def add_train_options(parser: Parser) -> None:
    """Add the options of ``attsvm train``."""
    source = parser.add_mutually_exclusive_group(required=True).add_argument
    source("file", type=Path, nargs="?", metavar="FILE.npz", help="the problem")
    source("--text", type=Path, metavar="FILE", help="a UTF-8 text")
    add = parser.add_argument
    add(
        "--parameter",
        choices=(*PARAMETERS, *WITH_HEAD),
        help="logits X W z, X p, X K Q' z, X W p with the p of --prompt (Wp) or with p trained too "
        "(W+p), or the third with diagonal K and Q; with v+ the head too (default: W, with v+ "
        "without a value). Queries z, where the file has none, are the first tokens of the inputs",
    )
    value = "the linear head v: a .npy file, or numbers separated by commas"
    add("--value", type=_numbers, metavar="V", help=value)
    prompt = "the fixed p of the logits X W p, given as V is"
    add("--prompt", type=_numbers, metavar="P", help=prompt)
    test = "other inputs, on which loss and accuracy are recorded, with the head of the problem"
    add("--test", type=Path, metavar="FILE.npz", help=test)
    start = "start of attention (default: zero; uniform for K and Q, and for W beside p)"
    add("--init", choices=STARTS, help=start)
    drawn = "of a start or of mini-batches that are drawn (default: 0)"
    add("--seed", type=integer, metavar="N", help=drawn)
    rules = "step rule; StepRule in the documentation says more (default: ngd, normalised steps)"
    add("--rule", choices=_core.step_rules, default="ngd", help=rules)
    norm = "of the steps of ngd, gd and mirror descent: fro, max, l1, spec, nuc, or p > 1 of l_p"
    add("--norm", type=number_or_name, help=f"norm {norm}")
    add("--momentum", type=number, metavar="B", help="of [0, 1), of steps")
    add("--decay", type=number, metavar="D", help="step k has size LR / k^D")
    add("--weight-decay", type=number, metavar="L", help="decoupled: W is scaled by 1 - LR L")
    add("--batch-size", type=integer, metavar="M", help="inputs of a mini-batch (default: all)")
    add("--lr", type=number, help=f"step size (default: {STEP_SIZE})")
    add("--steps", type=integer, default=1000)
    add("--loss", choices=(*LOSSES, "log"), help="(default: logistic; of text always log)")
    add("--record-every", type=integer, metavar="K", help="record the run every K steps")
    usual = {name: f" (default: {value})" for name, value in OF_TEXTS.items()}
    add = parser.add_argument_group("text").add_argument
    add("--unit", choices=("character", "word"), help=f"what a token is{usual['unit']}")
    add("--context", type=integer, help=f"tokens of a context{usual['context']}")
    add("--vocabulary", type=integer, metavar="K", help="most frequent tokens kept (default: all)")
    add("--most", type=integer, metavar="N", help="contexts at most (default: all)")
    held_out = f"fraction of the contexts, the last ones, to predict only{usual['held_out']}"
    add("--held-out", type=number, metavar="SHARE", help=held_out)
    graphs = f"draw the graphs of the {DRAWN_GRAPHS} most frequent last tokens there"
    add("--graphs", type=Path, metavar="DIR", help=graphs)


def _numbers(word: str) -> NDArray[Any]:
    """Read a .npy file, or numbers separated by commas."""
    try:
        if word.lower().endswith(".npy"):
            return np.asarray(np.load(word, allow_pickle=False))
        return np.array([float(each) for each in word.split(",")])
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{word}: {error.strerror}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected a .npy file or numbers separated by commas, got {word!r} ({error})"
        ) from None


def _given(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return the options of these names that are given."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def options_of_training(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `train` that problems and texts share."""
    return {
        **{name: getattr(arguments, name) for name in ("lr", "steps", "record_every")},
        "rule": StepRule(arguments.rule, **_given(arguments, OF_RULES)),
        "rng": arguments.seed,
        "num_threads": arguments.threads,
        "progress": not arguments.quiet,
    }


def settle_seed(arguments: argparse.Namespace, drawn: bool, where: str) -> None:
    """Set the seed of what is drawn, by default 0; refuse one `where` nothing is."""
    if not drawn:
        refuse_unused(arguments, ["seed"], where)
    elif arguments.seed is None:
        arguments.seed = 0
    else:
        as_nonnegative_int("seed", arguments.seed)


def seed_in_words(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the seed, where something is drawn."""
    return {} if arguments.seed is None else {"seed": str(arguments.seed)}


def train_on_problem(arguments: argparse.Namespace) -> None:
    """Train on one problem, and compare with the SVM of the selected tokens."""
    refuse_unused(arguments, (*OF_TEXTS, "format"), "without --text")
    data = read_problem(arguments)
    if arguments.value is not None:
        data = data.with_value(arguments.value)
    parameter = arguments.parameter or "W"
    if data.value is None:
        parameter = with_head(parameter)
    if as_blocks(parameter).kind.queries != "prompt":
        refuse_unused(arguments, ["prompt"], f"with --parameter {parameter}")
    elif arguments.prompt is None:
        raise ValueError(
            f"--prompt: needed for --parameter {parameter}: the p of the logits X W p, a .npy file "
            "or numbers separated by commas"
        )
    drawn = as_blocks(parameter).draws(arguments.init) or arguments.batch_size is not None
    settle_seed(arguments, drawn, f"where the start of {parameter} is not drawn")
    chosen = seed_in_words(arguments)
    if as_blocks(parameter).lacks_queries(data):
        data = data.with_first_queries()
        chosen["queries"] = FIRST_TOKENS
    if data.value is None:
        chosen["head"] = "v is trained too, as there is no value"
    options = {
        "parameter": parameter,
        **{name: getattr(arguments, name) for name in ("loss", "init", "prompt")},
        "test": None if arguments.test is None else _test(arguments.test, data, parameter),
        **options_of_training(arguments),
    }
    out = output_of_run(arguments, parameter, data, options)
    result = train(data, **options)
    write_arrays(out, arrays_of_run(arguments, result))
    ties = "" if result.direction.any() else ", the first of each input, as all weights are equal"
    facts = {
        "problem": f"n={data.n} T={data.T} d={data.d}",
        **chosen,
        **result.facts(),
        "selected tokens": tokens_in_words(result.selected) + ties,
    }
    if data.value is not None:
        facts["optimal tokens"] = tokens_in_words(optimal_tokens(data))
    with watched("solving", arguments.quiet):
        svm = _quick_svm(data, result, arguments.threads)
    if svm is None:
        constraints = (data.lengths - 1).sum()
        command = shlex.join(["attsvm", "svm", str(arguments.file), "--run", str(out)])
        facts["SVM"] = f"not solved, as it has {constraints} constraints: {command}"
        gamma = scores(data if result.v is None else data.with_value(result.v))
        is_global = selects_best(gamma, result.selected).all()
        facts["outcome"] = _OUTCOMES["global"] if is_global else _OUTCOME_IS_OPEN
    else:
        facts |= _comparison(data, result, svm, _direction(arguments, result))
    say_facts({**facts, "written": str(out)})


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
    return test.with_first_queries() if as_blocks(parameter).lacks_queries(test) else test


def arrays_of_run(arguments: argparse.Namespace, result: Run) -> dict[str, Any]:
    """Return what is written of a run."""
    return {
        **_given(arguments, ("lr", "init", "seed", *OF_RULES)),
        "parameter": "+".join(np.atleast_1d(result.parameter)),
        **{name: getattr(result, name) for name in ("rule", "steps", "loss")},
        **({} if result.W is None else {"W": result.W}),
        **result.parameters,
        **({} if arguments.prompt is None else {"prompt": arguments.prompt}),
        **({"Wp": _direction(arguments, result)} if result.attention_parameter in _OF_W_P else {}),
        **{name: getattr(result, name) for name in ("attention", "log_attention", "selected")},
        **{f"history_{key}": array for key, array in result.history.items()},
    }


def _direction(arguments: argparse.Namespace, result: Run) -> Float64Array:
    """Return W, p or W p, which the SVM of the selected tokens is compared with."""
    p = arguments.prompt
    return result.direction if p is None else np.asarray(result.direction @ p)


def _quick_svm(data: AttentionData, result: Run, threads: int | None) -> SVMSolution | None:
    """Solve the SVM of the selected tokens, unless it may take long."""
    if (data.lengths - 1).sum() > _QUICK_CONSTRAINTS:
        return None
    norm = norm_of_training(result.parameter, result.step_rule)
    solve = SVMS[kind_of_svm(result.parameter)]
    return solve(data, result.selected, norm=norm, num_threads=threads)


def _comparison(
    data: AttentionData, result: Run, solution: SVMSolution, direction: Float64Array
) -> dict[str, str]:
    """Compare what was trained with the SVM of the tokens it selected."""
    norm = norm_of_training(result.parameter, result.step_rule)
    name = SVM_OF_TRAINING[kind_of_svm(result.parameter)]
    facts = {"SVM": f"{name}, {as_svm_norm('norm', norm).text} norm: {solution.status}"}
    facts |= comparison(data, direction, result.selected, norm, solution, "with its SVM")
    outcome = classify(data, result, solution=solution)
    facts["outcome"] = _OUTCOMES[str(outcome)]
    if outcome != "global":
        facts["inputs"] = outcomes_in_words(outcome.inputs)
    return facts
