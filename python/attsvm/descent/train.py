"""Training attention by gradient descent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from attsvm import _core
from attsvm.data import AttentionData
from attsvm.data.attention_data import as_data
from attsvm.data.checks import (
    ArrayLike,
    as_choice,
    as_generator,
    as_index_array,
    as_nonnegative_int,
    as_positive_float,
    as_positive_int,
)
from attsvm.descent.problem import (
    LOSSES,
    PARAMETERS,
    CoreProblem,
    Factored,
    Parameter,
    matrix_norms,
)
from attsvm.descent.run import Run, Trained
from attsvm.heads import LinearScores
from attsvm.progress import bar
from attsvm.threads import thread_count

__all__ = ["train"]

RULES = ("gd", "ngd", "polyak")
BLOCKS = {"p": ("p",), "W": ("W",), "KQ": ("K", "Q")}

_POLYAK_FACTOR = 2.0


def train(
    data: AttentionData,
    *,
    parameter: str = "W",
    rule: str = "ngd",
    lr: float | Mapping[str, float] = 0.1,
    steps: int = 1000,
    loss: str = "logistic",
    head: LinearScores | None = None,
    init: ArrayLike | str | Mapping[str, ArrayLike | str] | None = None,
    record_every: int | Sequence[int] | None = None,
    reference: ArrayLike | Factored | Mapping[str, ArrayLike | Factored] | None = None,
    dtype: DTypeLike | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    rng: int | np.random.Generator | None = None,
    inner: int | None = None,
) -> Run:
    """Train attention with a fixed linear head by gradient descent.

    Minimises the mean of l(Y_i v'X_i' softmax(a_i)) with logits a_i = X_i W z_i, X_i K Q' z_i or
    X_i p. The gradient is computed without cancellation, and normalised steps keep their direction
    long after every softmax has rounded to one token: no epsilon stands anywhere. Where the
    gradient is exactly zero the iterate stays.

    Parameters
    ----------
    data : AttentionData
        One problem, or a batch of B of them, each trained by itself.
    parameter : {"W", "KQ", "p"}
        What is trained: logits X W z, X K Q' z (both factors together), or X p.
    rule : {"ngd", "gd", "polyak"}
        The step is ``lr * gradient / |gradient|``, ``lr * gradient``, or
        ``(loss - infimum) / (2 |gradient|**2) * gradient``, which takes no `lr`. K and Q are
        normalised separately.
    lr : float or dict
        Rate, positive; a dict gives one for each block: ``"W"``, ``"p"``, or ``"K"`` and ``"Q"``.
    steps : int
        Number of updates.
    loss : {"logistic", "exponential", "correlation"}
        l(m) = log(1 + e^-m), e^-m, or -m.
    head : LinearScores, optional
        A linear head given by its token scores; by default the scores of ``data.value``.
    init : array_like, "uniform" or dict, optional
        Start, shape of the parameter with or without the batch axis; zero by default. "uniform"
        draws every entry from U(-1/sqrt(d), 1/sqrt(d)), and is the default for K and Q, which
        cannot leave zero. Of K and Q, both are given: ``{"K": ..., "Q": ...}``.
    record_every : int or increasing sequence of int, optional
        Steps between records (the last step is always recorded), or the steps to record. By
        default about a hundred records.
    reference : array_like, SVMSolution, or dict of them, optional
        Directions whose cosine with the iterate is recorded, arrays with or without the batch axis.
        A solution is used by its factors, without forming W.
    dtype : float32 or float64, optional
        How tokens are stored; by default as in `data`. All arithmetic is in float64.
    num_threads : int, optional
        Threads; by default what OpenMP and the container allow. Results do not depend on it.
    progress : bool
        Show progress when standard error is a terminal.
    rng : int or numpy.random.Generator, optional
        For ``init="uniform"``.
    inner : int, optional
        Number m of columns of K and Q when they are drawn; d by default.

    Returns
    -------
    Run

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be; the message names it.
    FloatingPointError
        The iterates overflowed.
    KeyboardInterrupt
        Within a second of Ctrl-C.

    References
    ----------
    Tarzanagh et al., "Max-Margin Token Selection in Attention Mechanism", 2023, section 2 (p);
    "Transformers as Support Vector Machines", 2023, section 2 (W).
    """
    as_data(data)
    as_choice("parameter", parameter, PARAMETERS)
    as_choice("rule", rule, RULES)
    as_choice("loss", loss, LOSSES)
    steps = as_nonnegative_int("steps", steps)
    rates = _rates(lr, parameter)
    record = _recorded_steps(record_every, steps)
    generator = as_generator("rng", rng)
    threads = thread_count(num_threads)

    problem = CoreProblem.of(
        data, parameter, head, loss, dtype=dtype, threads=threads, passes=steps + 1
    )
    start = _start(problem, init, generator, inner)
    names, directions, beside = _references(problem, start, reference)

    with bar(steps, "steps", None if progress else False) as advance:
        shown = 0

        def report(share: float) -> None:
            nonlocal shown
            done = int(share * steps)
            advance(done - shown)
            shown = done

        result = _core.descend(
            **problem.core_arguments,
            first=start.first,
            second=start.second,
            outside=start.outside,
            references=directions,
            references_outside=beside,
            loss=loss,
            rule=rule,
            rate=rates[BLOCKS[parameter][0]],
            second_rate=rates[BLOCKS[parameter][-1]],
            polyak_factor=_POLYAK_FACTOR,
            steps=steps,
            record=record,
            threads=threads,
            report=report,
        )
    _require_finite(result, record, rule)

    def unbatch(array: NDArray[Any]) -> NDArray[Any]:
        return array if problem.batched else array[0]

    history: dict[str, NDArray[Any]] = {"step": record}
    history["loss"] = unbatch(result["loss"])
    history["loss_gap"] = unbatch(result["loss_gap"])
    history["norm"] = unbatch(result["norm"])
    history["log_grad_norm"] = unbatch(result["log_grad_norm"])
    history["grad_norm"] = np.exp(history["log_grad_norm"])
    history["max_attention"] = unbatch(result["max_attention"])
    for r, name in enumerate(names):
        behind = f":{name}" if name else ""
        history[f"cosine_gap{behind}"] = unbatch(result["cosine_gap"][:, r])
        history[f"cosine{behind}"] = 1.0 - history[f"cosine_gap{behind}"]
    return Run(
        parameter=parameter,
        rule=rule,
        loss=loss,
        lr=rates,
        steps=steps,
        trained=Trained(
            problem, Parameter(result["first"], result["second"], start.rest, start.outside)
        ),
        attention=unbatch(result["attention"]),
        log_attention=unbatch(result["log_attention"]),
        selected=unbatch(result["selected"]),
        history=history,
    )


def _by_block(name: str, value: Mapping[str, Any], parameter: str) -> Mapping[str, Any]:
    """`value`, if it has the blocks of `parameter` as its keys."""
    if set(value) != set(BLOCKS[parameter]):
        wanted = " and ".join(repr(block) for block in BLOCKS[parameter])
        raise ValueError(f"{name}: expected the key {wanted}, got {sorted(map(str, value))}")
    return value


def _rates(lr: float | Mapping[str, float], parameter: str) -> dict[str, float]:
    if isinstance(lr, Mapping):
        named = _by_block("lr", lr, parameter)
        return {block: as_positive_float(f"lr[{block!r}]", named[block]) for block in named}
    return dict.fromkeys(BLOCKS[parameter], as_positive_float("lr", lr))


def _recorded_steps(record_every: int | Sequence[int] | None, steps: int) -> NDArray[np.int64]:
    if record_every is None:
        record_every = max(1, steps // 100)
    if np.ndim(record_every) == 0:
        every = as_positive_int("record_every", record_every)  # type: ignore[arg-type]
        regular = np.arange(0, steps + 1, every, dtype=np.int64)
        return regular if regular[-1] == steps else np.append(regular, np.int64(steps))
    record = as_index_array("record_every", record_every, "(R,)", ndim=1)
    if record[0] < 0 or record[-1] > steps or np.any(np.diff(record) <= 0):
        raise ValueError(
            f"record_every: expected increasing steps in 0..{steps} (steps), got {record.tolist()}"
        )
    return record


def _start(
    problem: CoreProblem, init: Any, generator: np.random.Generator, inner: int | None
) -> Parameter:
    if isinstance(init, str):
        as_choice("init", init, ("uniform",))
    elif isinstance(init, Mapping):
        init = _by_block("init", init, problem.parameter)
    if problem.parameter == "KQ":
        return _factored_start(problem, init, generator, inner)
    if inner is not None:
        raise ValueError(f"inner: expected None where K and Q are not trained, got {inner!r}")
    if init is None:
        return problem.zero()
    if isinstance(init, Mapping):
        init = init[problem.parameter]
    if isinstance(init, str):
        reach = 1.0 / np.sqrt(problem.dimensions[0])
        init = generator.uniform(-reach, reach, problem.parameter_shape)
    return problem.as_parameter("init", init)


def _factored_start(
    problem: CoreProblem, init: Any, generator: np.random.Generator, inner: int | None
) -> Parameter:
    if isinstance(init, Mapping):
        if inner is not None:
            raise ValueError(f"inner: expected None where K and Q are given, got {inner!r}")
        return problem.as_factors("init", init["K"], init["Q"])
    if init is not None and not isinstance(init, str):
        raise TypeError(f"init: expected a dict with 'K' and 'Q', got {type(init).__name__}")
    d, e = problem.dimensions
    m = d if inner is None else as_positive_int("inner", inner)
    lead = problem.tokens.shape[:1] if problem.batched else ()
    reach = 1.0 / np.sqrt(d)
    K, Q = (generator.uniform(-reach, reach, (*lead, size, m)) for size in (d, e))
    return problem.as_factors("init", K, Q)


def _references(
    problem: CoreProblem,
    start: Parameter,
    reference: ArrayLike | Factored | Mapping[str, ArrayLike | Factored] | None,
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Names, unit directions (B, R, r, k), and their parts outside the spans (B, R, 2).

    Of a part outside, the core needs the components along and across that of the start, which the
    iterate keeps. A single reference has the empty name.
    """
    B = problem.tokens.shape[0]
    r, k = problem.queries.shape[2], problem.tokens.shape[3]
    named: Mapping[str, ArrayLike | Factored] = {}
    if reference is not None:
        named = reference if isinstance(reference, Mapping) else {"": reference}
    directions = np.empty((B, len(named), r, k))
    beside = np.zeros((B, len(named), 2))
    for j, (name, given) in enumerate(named.items()):
        argument = f"reference[{name!r}]" if name else "reference"
        split = problem.as_parameter(argument, given)
        size = np.hypot(matrix_norms(split.first), split.outside)
        if not size.all():
            raise ValueError(f"{argument}: expected a direction, got zero")
        directions[:, j] = split.first / size[:, np.newaxis, np.newaxis]
        along = np.zeros(B)
        across = split.outside
        if start.rest is not None and split.rest is not None:
            moved = start.outside > 0
            unit = start.rest / np.where(moved, start.outside, 1.0)[:, np.newaxis, np.newaxis]
            along = np.sum(unit * split.rest, axis=(1, 2))
            across = matrix_norms(split.rest - along[:, np.newaxis, np.newaxis] * unit)
        beside[:, j] = np.stack([along, across], axis=1) / size[:, np.newaxis]
    return [str(name) for name in named], directions, beside


def _require_finite(result: _core.DescentResult, record: NDArray[np.int64], rule: str) -> None:
    ends = np.all(
        [np.isfinite(result[part]).all(axis=(1, 2)) for part in ("first", "second", "attention")],
        axis=0,
    )
    along = np.isfinite(result["loss"]) & np.isfinite(result["norm"])
    if ends.all() and along.all():
        return
    b = int(np.argmin(ends & along.all(axis=1)))
    lost = np.flatnonzero(~along[b])
    when = f"by step {record[lost[0]]}" if lost.size else "after the last recorded step"
    advice = (
        "Polyak steps grow without bound where an input attends to a token that is not its best"
        if rule == "polyak"
        else "a smaller lr may help"
    )
    raise FloatingPointError(f"train: problem {b} overflowed {when} ({advice})")
