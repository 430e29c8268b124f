"""Results of a cell: draw its problems, train, measure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from attsvm._arrays import BoolArray
from attsvm.data import AttentionData
from attsvm.descent import Run, train
from attsvm.descent.blocks import as_blocks
from attsvm.descent.train import Recorded
from attsvm.progress import meanwhile
from attsvm.studies.measurements import MEASUREMENTS, Measured, Record
from attsvm.studies.problems import (
    draw,
    draw_test,
    filled,
    generator_of_steps,
    identity,
    start_of_factors,
)
from attsvm.studies.solved_svms import SolvedSVMs
from attsvm.studies.study import Cell, Study, norm_of_svm
from attsvm.svm import SolverError
from attsvm.theory.svm_of_training import kind_of_svm
from attsvm.threads import takes_threads

_MOST_PROBLEMS = 256
_LANES = 8
_MOST_NUMBERS_OF_LANE = 8192
"""Problems of at most so many token entries, in reduced coordinates, are trained in SIMD lanes, and
rounded otherwise than a single one: a batch of too few is filled."""
_MOST_NUMBERS = 2**22
_BYTES_OF_NUMBER = 128
"""Memory that training and measuring take for each number of W or tokens: at most ten copies are
made at a time, and four wait on a cluster."""


def batch_size(
    settings: Mapping[str, Any],
    names: Collection[str] = (),
    records: int = 1,
    memory: int | None = None,
) -> int:
    """Return the number of problems measured in one call: at most 256, and 32 MB of W or tokens.

    Measurements of these names may need W, or the attention, at so many `records`. What the call
    takes is at most `memory` bytes, if it is limited, or what one problem takes.
    """
    most = _MOST_NUMBERS * _BYTES_OF_NUMBER
    most = most if memory is None else min(most, memory)
    return max(1, min(_MOST_PROBLEMS, most // memory_of_problem(settings, names, records)))


def memory_of_problem(settings: Mapping[str, Any], names: Collection[str], records: int) -> int:
    """Return what training and measuring one problem take at most, in bytes."""
    n, T, d = (int(settings[size]) for size in ("n", "T", "d"))
    needs = _needs(names)
    iterates = records if needs - {"attention"} else 1
    tokens = max(d, records) if "attention" in needs else d
    return _BYTES_OF_NUMBER * max(iterates * d**2, n * T * tokens)


def _needs(names: Collection[str]) -> set[str]:
    """Return what measurements of these names need of every recorded step."""
    return {MEASUREMENTS[name].needs for name in names} - {""}


def measure_cell(
    study: Study,
    cell: Cell,
    problems: range,
    *,
    num_threads: int | None = None,
    done: Callable[[int], None] | None = None,
    solved: SolvedSVMs | None = None,
) -> Record:
    """Train and measure these problems of a cell of a study, as `measure` does."""
    return measure(
        cell,
        [each.name for each in study.measurements],
        study.recorded_steps,
        problems,
        data=None if study.file is None else study.file.take(problems),
        num_threads=num_threads,
        done=done,
        solved=solved,
    )


@takes_threads
def measure(
    cell: Cell,
    names: Sequence[str],
    record: Sequence[int],
    problems: range,
    *,
    data: AttentionData | None = None,
    num_threads: int | None = None,
    done: Callable[[int], None] | None = None,
    solved: SolvedSVMs | None = None,
) -> Record:
    """Train these problems of a cell, and make the measurements of these names.

    The results of a problem depend on nothing but the cell and its number: not on the other
    problems, the other measurements, or threads. Runs are recorded at the steps of `record`. `data`
    are the problems where they are not to be drawn; `done` is called after each batch with the
    number of its problems. SVMs that were `solved` for another cell are not solved again. Errors of
    training and of the SVMs name the cell.
    """
    settings, solved = cell.settings, SolvedSVMs() if solved is None else solved
    size, needs = batch_size(settings, names, len(record)), _needs(names)
    test = draw_test(settings) if "test" in needs else None
    batches = [problems[first : first + size] for first in range(0, len(problems), size)]
    drawn: dict[int, AttentionData] = {}
    trained: dict[int, Measured] = {}
    parts: list[Record] = []
    at = 0  # the batch that an error is of

    def draw_batch(k: int) -> None:
        if data is None:
            drawn[k] = draw(settings, batches[k])
        else:
            drawn[k] = data.take(np.array(batches[k]) - problems.start)

    def measure_batch(k: int) -> None:
        nonlocal at
        before, at, measured = at, k, trained.pop(k)
        part: Record = {}
        for name in names:
            part |= MEASUREMENTS[name].measure(measured)
        parts.append(part)
        if done is not None:
            done(len(batches[k]))
        at = before

    def beside_training(k: int) -> None:
        if k > 0:
            measure_batch(k - 1)
        if k + 1 < len(batches):
            draw_batch(k + 1)

    try:
        draw_batch(0)
        for k, batch in enumerate(batches):
            at = k
            with meanwhile(partial(beside_training, k)):
                trained[k] = _train(
                    settings, record, batch, drawn.pop(k), needs=needs, test=test, solved=solved
                )
        measure_batch(at)
    except (FloatingPointError, SolverError, ValueError) as error:
        where = f"{cell.name}, counted from problem {batches[at].start}"
        raise type(error)(f"{where}: {error}") from error
    return joined(parts)


def joined(records: Sequence[Record]) -> Record:
    """Return the record of all problems of these records, in order."""
    return {name: np.concatenate([each[name] for each in records]) for name in records[0]}


def _train(
    settings: Mapping[str, Any],
    record: Sequence[int],
    problems: range,
    data: AttentionData,
    *,
    needs: Collection[str],
    test: AttentionData | None,
    solved: SolvedSVMs,
) -> Measured:
    parameter = settings["parameter"]
    blocks = as_blocks(parameter)
    if blocks.lacks_queries(data):
        data = data.with_first_queries()
        test = None if test is None else test.with_first_queries()
    count = len(problems)
    in_lanes = data.n * data.T * min(data.d, data.n * data.T) <= _MOST_NUMBERS_OF_LANE
    trained = filled(data, _LANES) if in_lanes else data
    numbers = range(problems.start, problems.start + (trained.batch or 1))

    def fitted(run: Run) -> BoolArray:
        return run.evaluate(trained).margins > 0

    of_steps: dict[str, Recorded] = {
        "direction": blocks.direction,
        "attention": "attention",
        "fitted": fitted,
    }
    start = start_of_factors(settings, numbers, data.d) if blocks.kind.bilinear else None
    run = train(
        trained,
        parameter=parameter,
        rule=settings["step_rule"],
        lr=settings["lr"],
        steps=settings["steps"],
        loss=settings["loss"],
        init=start,
        rng=generator_of_steps(settings),
        record_every=record,
        record=[one for need, one in of_steps.items() if need in needs],
        test=test,
    )
    # Neither SVMs nor measurements see the problems that fill lanes.
    seen = {name: getattr(run, name)[:count] for name in ("attention", "log_attention", "selected")}
    history = {k: x if k == "step" else x[:count] for k, x in run.history.items()}
    v = None if run.v is None else run.v[:count]
    kept = replace(run, v=v, history=history, **seen)
    solve = partial(solved.solve, identity(settings), problems, data, kind_of_svm(parameter))
    norm, norms = norm_of_svm(settings), settings["norms"] or ()
    return Measured(data, kept, run.direction[:count], norm, norms, solve)
