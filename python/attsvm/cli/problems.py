"""The problem of a command in a file, and the file of its results."""

from __future__ import annotations

import argparse
from pathlib import Path

from attsvm._validation import number_text
from attsvm.data import AttentionData, load
from attsvm.data.whole_file import place_of_file
from attsvm.descent.blocks import as_blocks

FIRST_TOKENS = "the first token of each input, as the file has none"
"""Description of the queries that are taken where a file has none."""


def read_problem(arguments: argparse.Namespace) -> AttentionData:
    """Read the problem of a command, of a batch that of --index."""
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


def lacks_queries(data: AttentionData, parameter: str) -> bool:
    """Return whether logits of this parameter take queries that the data have not."""
    return data.queries is None and as_blocks(parameter).kind.queries == "data"


def name_of_run(arguments: argparse.Namespace, parameter: str) -> tuple[str, ...]:
    """Return the settings of a training run, for the name of its file."""
    loss = () if arguments.loss is None else (arguments.loss,)
    return (
        "run",
        parameter,
        arguments.rule,
        *(() if arguments.lr is None else (f"lr{number_text(arguments.lr)}",)),
        str(arguments.steps),
        *loss,
    )


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
