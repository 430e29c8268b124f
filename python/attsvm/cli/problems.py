"""The problem of a command in a file, and the file of its results."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attsvm._validation import as_nonnegative_int, in_words, number_text
from attsvm.data import AttentionData, NextTokenData, load
from attsvm.data.whole_file import place_of_file
from attsvm.descent import train

FIRST_TOKENS = "the first token of each input, as the file has none"
"""Description of the queries that are taken where a file has none."""
_LONGEST_LIST = 40
"""Characters of a list of numbers up to which they stand in the name of a file."""
_NAMED = {
    **{"context": "context{}", "unit": "{}", "vocabulary": "vocabulary{}", "most": "most{}"},
    **{"held_out": "held-out{}", "init": "{}", "seed": "seed{}", "record_every": "every{}"},
    **{"norm": "norm{}", "momentum": "momentum{}", "decay": "decay{}"},
    **{"weight_decay": "weight-decay{}", "batch_size": "batch{}"},
}
"""How the name of a run has these options, where they are given."""


def read_problem(arguments: argparse.Namespace) -> AttentionData:
    """Read the problem of a command, of a batch that of --index."""
    data = load(arguments.file)
    if not isinstance(data, AttentionData):
        raise ValueError(f"{arguments.file}: expected tokens and labels, got next-token data")
    if data.batch is None:
        if arguments.index is not None:
            raise ValueError(
                f"--index: expected none, as {arguments.file} holds a single problem, got "
                f"{arguments.index}"
            )
        return data
    if arguments.index is None or not 0 <= arguments.index < data.batch:
        raise ValueError(
            f"--index: {arguments.file} holds a batch of problems, expected one of "
            f"0..{data.batch - 1}, got {'none' if arguments.index is None else arguments.index}"
        )
    return data.problem(arguments.index)


def name_of_run(arguments: argparse.Namespace, parameter: str) -> tuple[str, ...]:
    """Return the settings of a training run, for the name of its file."""
    given = {name: getattr(arguments, name) for name in _NAMED}
    lists = {name: getattr(arguments, name) for name in ("value", "prompt")}
    return (
        "run",
        parameter,
        arguments.rule,
        *(() if arguments.lr is None else (f"lr{number_text(arguments.lr)}",)),
        str(arguments.steps),
        *(() if arguments.loss is None else (arguments.loss,)),
        *(_NAMED[name].format(in_words(x)) for name, x in given.items() if x is not None),
        *(f"{k}-{name_of_list(x.ravel().tolist())}" for k, x in lists.items() if x is not None),
        *(() if arguments.test is None else (f"test-{arguments.test.stem}",)),
    )


def name_of_list(numbers: Iterable[float]) -> str:
    """Return numbers, or of many of them a digest, for the name of a file."""
    text = "-".join(map(number_text, numbers))
    short = len(text) <= _LONGEST_LIST
    return text if short else hashlib.sha256(text.encode()).hexdigest()[:12]


def output_of_run(
    arguments: argparse.Namespace,
    parameter: str,
    data: AttentionData | NextTokenData,
    options: Mapping[str, Any],
) -> Path:
    """Return the file for the results of a run with these `options` of `train`.

    What is wrong with an option is said before that the file exists.
    """
    as_nonnegative_int("steps", arguments.steps)
    try:
        return output_file(arguments, name_of_run(arguments, parameter))
    except FileExistsError:
        train(data, **{**options, "steps": 0, "progress": False})
        raise


def output_file(
    arguments: argparse.Namespace, settings: tuple[str, ...], run: Path | None = None
) -> Path:
    """Return the file for the results: that of --out, or one in the working directory.

    It is named after the run where the results are of one, else after the problem.
    """
    source = getattr(arguments, "text", None) or arguments.file
    index = () if arguments.index is None else (str(arguments.index),)
    of = (source.stem, *index) if run is None else (run.stem,)
    out: Path = arguments.out or Path(f"{'-'.join((*of, *settings))}.npz")
    place_of_file("--out", out)
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"--out: {out} is the problem itself")
    if out.is_file() and not arguments.overwrite:
        raise FileExistsError(f"{out} exists: --overwrite replaces it, --out chooses another file")
    return out
