"""Training attention by gradient descent."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from attsvm import _core
from attsvm._arrays import ArrayLike, Float64Array, FloatArray, IndexArray
from attsvm._geometries import Norm, as_geometry, as_norm, listed
from attsvm._linalg import LowRank, euclidean_norm
from attsvm._validation import (
    as_bool,
    as_choice,
    as_generator,
    as_index_array,
    as_nonnegative_float,
    as_nonnegative_int,
    as_positive_int,
    number_text,
    read_array,
    require_direction,
    require_names,
)
from attsvm.data import AttentionData, NextTokenData
from attsvm.data.attention_data import as_data
from attsvm.descent.blocks import Blocks, as_blocks
from attsvm.descent.by_ids import TrainedByIds, descend_by_ids, is_trained_by_ids
from attsvm.descent.evaluation import evaluated
from attsvm.descent.log_schedule import counted
from attsvm.descent.next_tokens import next_token_problem, require_realizable
from attsvm.descent.problem import CoreProblem, Parameter, Trained, as_batch
from attsvm.descent.references import (
    Factored,
    Reference,
    factors_of,
    name_in_call,
    named_references,
)
from attsvm.descent.run import Run
from attsvm.descent.step_rule import StepRule, as_step_rule
from attsvm.heads import Head, require_largest_score
from attsvm.progress import bar, reporter
from attsvm.threads import thread_count

Values: TypeAlias = "ArrayLike | Mapping[str, ArrayLike]"
Recorded: TypeAlias = "str | Callable[[Run], Values]"

_MOST_RECORDS = 10**8
_MOST_NUMBERS = 2**33
# The core's series
_SERIES = ("loss", "loss_gap", "norm", "log_grad_norm", "max_attention")
_SERIES_WITH_HEAD = (*_SERIES[:3], "norm:v", *_SERIES[3:])


def train(
    data: AttentionData | NextTokenData,
    *,
    parameter: str | Sequence[str] = "W",
    rule: str | StepRule = "ngd",
    lr: float | Mapping[str, float] | None = None,
    steps: int = 1000,
    loss: str | None = None,
    head: Head | None = None,
    init: ArrayLike | str | Mapping[str, ArrayLike | str] | None = None,
    record_every: int | Sequence[int] | IndexArray | None = None,
    reference: Reference | Mapping[str, Reference] | None = None,
    dtype: DTypeLike | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    rng: int | np.random.Generator | None = None,
    inner: int | None = None,
    prompt: ArrayLike | None = None,
    ridge: float = 0.0,
    certify: bool | Norm | Sequence[Norm] = False,
    record: Recorded | Sequence[Recorded] = (),
    test: AttentionData | None = None,
) -> Run:
    """Train attention, and if wanted its linear head, by gradient descent.

    Minimises the mean of l(Y_i h(X_i' softmax(a_i))) with logits a_i = X_i W z_i, X_i K Q' z_i, X_i
    W p or X_i p, and a head h(o) = v'o or one of `attsvm.heads`: the models of "Max-Margin Token
    Selection" and "Transformers as Support Vector Machines". The gradient is computed without
    cancellation, and normalised steps keep their direction long after every softmax has rounded to
    one token: no epsilon stands anywhere. Where the gradient of a block is zero, the block stays. A
    gradient counts as zero if its norm is at most (n + T + 16) 2^-53 times the size of the terms
    that it sums, (1/n) Σ_i |l'_i| |z_i| max_t |x_it| Σ_t |c_it| with c_i the gradient of the margin
    in the logits: if these terms cancel, what is left is only their rounding.

    Parameters
    ----------
    data : AttentionData or NextTokenData
        One problem, or a batch of B of them, each trained by itself. Of next-token data the keys
        are the embeddings of the context and the query is that of its last token.
    parameter : {"W", "p", "KQ", "Wp", "W+p", "diagonal KQ"}, or a pair of one of them and "v"
        What is trained: logits X W z, X p, X K Q' z (both factors together), X W p with p the
        `prompt`, or with p trained too, or X (k ∘ q ∘ z) with vectors k and q; in a pair such as
        ``("v", "p")``, or ``"v+p"``, the head v'o is trained too, all blocks moving at the same
        time.
    rule : str or StepRule
        The step is ``lr * gradient / |gradient|`` ("ngd"), ``lr * gradient`` ("gd"), or
        ``(loss - infimum) / (2 |gradient|**2) * gradient`` ("polyak"), which takes no `lr`. Blocks
        are normalised separately. The infimum is that of the data with a fixed linear head, and 0
        where v is trained; with other heads it is not known, and "polyak" is refused. Steepest
        descent in other norms is "sign", "coordinate" and "spectral"; "signum", "muon", "lion",
        "adam" and "adamw" are optimisers with running means; "mirror" is mirror descent, "flow"
        gradient flow, integrated. `StepRule` has all of them with their settings: norms, decaying
        rates, momentum, weight decay, mini-batches and more.
    lr : float or dict, optional
        Rate, positive, by default 0.1; a dict gives one for each block: ``"W"``, ``"p"``, ``"K"``
        and ``"Q"``, ``"k"`` and ``"q"``, and ``"v"`` where it is trained.
    steps : int
        Number of updates.
    loss : {"logistic", "exponential", "correlation", "log", "cross_entropy", "squared"}
        l(m) = log(1 + e^-m), e^-m, or -m of the margin m. "log" is -log(m), for a fixed linear head
        whose token scores are not negative: m is then the attention on the right tokens where
        these score 1 and the others 0. The last two are for a `Softmax` head: -log of the
        probability of the right class, and (1 - that probability)². By default "logistic", and
        "log" for next-token data.
    head : LinearScores, ReLU, Penalised or Softmax, optional
        A head that is not trained; by default the linear head ``data.value``. For next-token data
        by default the tied head ``Softmax(embeddings, labels)`` with the last two losses, and the
        attention on the label with the others.
    init : array_like, "uniform", "balanced", "unbalanced" or dict, optional
        Start, shape of the parameter with or without the batch axis; zero by default. "uniform"
        draws every entry from U(-1/sqrt(d), 1/sqrt(d)), and is the default for two factors, which
        cannot leave zero; p beside W starts at zero. "balanced" draws one array for both factors;
        "unbalanced" has the identity for K or W, or ones for k, and zero for the other. Gradient
        flow preserves K'K - Q'Q and k² - q²: from a balanced start no entry of k ∘ q changes its
        sign. Or both are given: ``{"K": ..., "Q": ...}``. Where v is trained a dict may give its
        start, by default ``data.value``, or zero.
    record_every : int or increasing sequence of int, optional
        Steps between records (the last step is always recorded), or the steps to record, such as
        those of `log_schedule`. By default about a hundred records.
    reference : array_like, SVMSolution, or dict of them, optional
        Directions whose cosine with the iterate is recorded, arrays with or without the batch axis.
        A solution is used by its factors, without forming W. Where v is trained, the directions
        named ``"v"`` or ``"v:..."`` are compared with v.
    dtype : float32 or float64, optional
        How tokens are stored; by default as in `data`. All arithmetic is in float64.
    num_threads : int, optional
        Threads; by default what OpenMP and the container allow. Results do not depend on it.
    progress : bool
        Show progress when standard error is a terminal.
    rng : int or numpy.random.Generator, optional
        For ``init="uniform"``, and the order of mini-batches.
    inner : int, optional
        Number m of columns of K and Q, or of W beside p, when they are drawn; d by default.
    prompt : array_like, shape ([B,] d), optional
        The fixed p of the logits X W p.
    ridge : float
        λ of a term λ|block|² that the blocks other than v have in what is minimised. The recorded
        losses are without it.
    certify : bool, norm, or sequence of norms
        Record lower bounds that need no SVM to be solved, from the weights of the softmax; see
        `Run.history`: on the cosine of W (or p) with the SVM of the tokens it selects, and of norms
        {"fro", "max", "l1", "spec", "nuc"} or p > 1 for l_p on the margin ratio in each of them.
        In the cut norm `certified_margin_ratio` does it, in a function that `record` is given.
    record : str, callable, or sequence of them
        What `Run.history` keeps of every recorded step besides: ``"attention"``, weights and their
        logarithms; a parameter by its name, ``"W"`` also where it is made of others; or what a
        function returns, under the function's name, or a dict that it returns, under its keys. It
        is called after training, with the `Run` that would have ended at that step. All recorded
        iterates are in memory at once. With "W" or "p" recorded, or "Wp" where both are trained,
        `margin_ratios` gives margin ratios in any norm along the run.
    test : AttentionData, optional
        Other inputs, as `Run.evaluate` takes them, on which the head is linear too. The history
        gets their ``"test_loss"`` and ``"test_accuracy"``, and ``"accuracy"`` of the training data.

    Returns
    -------
    Run

    Raises
    ------
    FloatingPointError
        The iterates overflowed, products of tiny tokens underflowed, or "flow" turns too fast to be
        integrated, as where some directions are at a minimum and others go on.
    KeyboardInterrupt
        Within a second of Ctrl-C.
    """
    blocks = as_blocks(parameter)
    step_rule = as_step_rule(rule)
    if loss is None:
        loss = "log" if isinstance(data, NextTokenData) else "logistic"
    as_choice("loss", loss, _core.losses)
    if not isinstance(data, NextTokenData):
        as_data(data)
    steps = counted(as_nonnegative_int("steps", steps))
    ridge = as_nonnegative_float("ridge", ridge)
    certified = _certified_norms(certify)
    call = _Call(
        blocks=blocks,
        step_rule=step_rule,
        loss=loss,
        lr=step_rule.rates(lr, blocks),
        steps=steps,
        record=_recorded_steps(record_every, steps),
        certified=certified,
        ridge=ridge,
        threads=thread_count(num_threads),
        progress=as_bool("progress", progress),
        rng=None if rng is None else as_generator("rng", rng),
        kept=_kept(record, blocks, [] if test is None else [_accuracy(data, test)]),
    )
    references = named_references(reference)
    if isinstance(data, NextTokenData):
        given = (head, init, dtype, inner, prompt, step_rule.batch_size)
        plain = all(x is None for x in given) and not (
            ridge or certified is not None or call.kept or not step_rule.moves_along_gradients
        )
        if is_trained_by_ids(data, blocks, loss, plain):
            require_realizable(data)
            return _run_by_ids(call, data, references)
        data, head = next_token_problem(data, loss, head)

    attention_init, value = _split_init(init, blocks)
    reduced = not (
        ridge
        or step_rule.weight_decay
        or step_rule.by_coordinate
        or (certified and _needs_whole_matrix(certified, blocks, attention_init))
    )
    problem = CoreProblem.of(
        data,
        blocks,
        head,
        loss,
        prompt=prompt,
        value=value,
        reduced=reduced,
        dtype=dtype,
        threads=call.threads,
        passes=steps + 1,
        batches=step_rule.batch_size is not None,
    )
    start = _start(problem, attention_init, call.rng, inner)
    if test is not None:
        evaluated("test", test, problem.trained(start), loss)
    if blocks.direction == "Wp" and reduced and step_rule.kind != "flow":
        problem, start = problem.from_start(start, steps + 1)
    return _run(call, problem, start, references)


class _Call(NamedTuple):
    """The checked arguments of `train` that are no part of the problem."""

    blocks: Blocks
    step_rule: StepRule
    loss: str
    lr: dict[str, float]
    steps: int
    record: IndexArray
    certified: Mapping[str, _core.Geometry] | None  # by name; None: nothing is certified
    ridge: float
    threads: int
    progress: bool
    rng: np.random.Generator | None
    kept: Mapping[str, Callable[[Run], Values] | None]

    def core_rule(self, n: int) -> _core.StepRule:
        """Return the step rule for data of n inputs."""
        return self.step_rule.to_core(self.blocks, self.lr, n, self.rng, self.ridge)

    def series(self, result: Mapping[str, Any]) -> dict[str, Float64Array]:
        """Return entries (B, R) of the history that every run has."""
        names = _SERIES_WITH_HEAD if self.blocks.head else _SERIES
        series = dict(zip(names, result["series"], strict=True))
        series["grad_norm"] = np.exp(series["log_grad_norm"])
        return series

    def run(
        self,
        result: Mapping[str, Any],
        trained: Trained | TrainedByIds,
        history: Mapping[str, NDArray[Any]],
    ) -> Run:
        """Make a `Run` of the core's result and of `history`, which have a batch axis."""
        parts = [*result["blocks"], result["attention"]]
        if self.blocks.head:
            parts.append(result["head"])
        _require_finite(parts, history, self.record, self.step_rule.kind)
        answer = trained.answer
        return Run(
            parameter=self.blocks.parameter,
            rule=self.step_rule.kind,
            step_rule=self.step_rule,
            loss=self.loss,
            lr=self.lr,
            steps=self.steps,
            trained=trained,
            v=answer(result["head"]) if self.blocks.head else None,
            attention=answer(result["attention"]),
            log_attention=answer(result["log_attention"]),
            selected=answer(result["selected"]),
            history={"step": self.record, **{name: answer(x) for name, x in history.items()}},
        )


def _run(
    call: _Call, problem: CoreProblem, start: Parameter, references: Mapping[str, Reference]
) -> Run:
    """Descend on tokens."""
    blocks = call.blocks
    rule = call.core_rule(problem.queries.shape[1])
    unbounded = blocks.head and _core.losses[call.loss].infimum == -np.inf
    gap_known = problem.head.linear and not unbounded
    if rule.needs_infimum and (call.ridge or not gap_known):
        raise ValueError(
            f"rule: expected 'gd' or 'ngd' where the infimum is not known, got "
            f"{call.step_rule.kind!r}"
        )
    compared = None
    if references:
        of_head = {k: x for k, x in references.items() if blocks.head and k.split(":")[0] == "v"}
        of_attention = {k: v for k, v in references.items() if k not in of_head}
        inside, beside = _references(problem, start, of_attention)
        of_v = _head_references(problem, of_head)
        compared = _core.References(inside=inside, outside=beside, head=of_v)
    functions = {name: one for name, one in call.kept.items() if one is not None}
    parameters = not call.kept.keys() <= {"attention"}
    with _progress(call.steps, call.progress) as report:
        result = _core.descend(
            problem=problem.to_core(),
            start=problem.to_core_parameters(start),
            references=compared,
            loss=_core.losses[call.loss],
            rule=rule,
            certify=call.certified is not None,
            certified_norms=list((call.certified or {}).values()),
            steps=call.steps,
            record=call.record,
            record_attention=bool(functions) or "attention" in call.kept,
            record_parameters=parameters,
            threads=call.threads,
            report=report,
        )
    require_largest_score("value", result["largest_score"], call.loss)
    history: dict[str, NDArray[Any]] = call.series(result)
    _require_products(problem.tokens, history["log_grad_norm"])

    if not gap_known:
        del history["loss_gap"]
    if references:
        history |= _cosines(of_attention, result["cosine_gap"])
        history |= _cosines(of_head, result["head_cosine_gap"])
    if rule.flows and blocks.kind.bilinear:
        history["balance_drift"] = result["balance_drift"]
    if call.certified is not None:
        history |= {name: result[name] for name in ("margin", "certified_cosine")}
        for r, name in enumerate(call.certified):
            history[f"certified_margin_ratio:{name}"] = result["certified_ratio"][:, r]
        history["settled"] = (result["top"] == result["selected"][:, np.newaxis]).all(axis=2)
    outside = start.rest, start.outside
    trained = problem.trained(Parameter(result["blocks"], *outside))
    if call.kept:
        ends = [
            trained._replace(
                parameter=Parameter([x[:, r] for x in result["recorded_blocks"]], *outside)
            )
            for r in range(len(call.record) if parameters else 0)
        ]
        names = [name for name in call.kept if name not in functions]
        history |= _recorded_arrays(names, result, ends)
    run = call.run(result, trained, history)
    if functions:
        run.history.update(_recorded_values(functions, run, result, ends))
    return run


def _run_by_ids(call: _Call, data: NextTokenData, references: Mapping[str, Reference]) -> Run:
    """Descend on a table of logits: no embedding is read in a step."""
    with _progress(call.steps, call.progress) as report:
        result, trained = descend_by_ids(
            data,
            call.core_rule(data.n),
            steps=call.steps,
            record=call.record,
            references=references,
            threads=call.threads,
            report=report,
        )
    history = call.series(result) | _cosines(references, result["cosine_gap"])
    return call.run(result, trained, history)


def _certified_norms(certify: bool | Norm | Sequence[Norm]) -> dict[str, _core.Geometry] | None:
    """Return the norms of certified margin ratios by name; None where nothing is certified."""
    if isinstance(certify, bool | np.bool_):
        return {} if certify else None
    norms = listed(certify)
    if "cut" in norms:
        raise ValueError(
            "certify: expected norms of steps, got 'cut'; a function that `record` is given can "
            "compute certified_margin_ratio(data, run, run.selected, 'cut')"
        )
    known = [as_norm("certify", norm) for norm in norms]
    return {
        norm if isinstance(norm, str) else number_text(norm): as_geometry("certify", norm)
        for norm in known
    }


def _needs_whole_matrix(certified: Mapping[str, _core.Geometry], blocks: Blocks, init: Any) -> bool:
    """Return whether a norm needs W itself: entries, or what a start may have outside of spans."""
    outside = init is not None or blocks.direction == "Wp"
    return any(g.by_coordinate or (outside and g.name != "fro") for g in certified.values())


def _kept(
    record: Recorded | Sequence[Recorded], blocks: Blocks, others: Sequence[Recorded]
) -> dict[str, Callable[[Run], Values] | None]:
    """Return what is recorded besides, by name: functions, and None for what has a name."""
    if callable(record) or isinstance(record, str) or not isinstance(record, Iterable):
        record = (record,)
    several = [*record, *others]
    if not several:
        return {}
    known = tuple(dict.fromkeys(("attention", blocks.direction, *blocks.names)))
    kept: dict[str, Callable[[Run], Values] | None] = {}
    for one in several:
        name = getattr(one, "__name__", None) if callable(one) else as_choice("record", one, known)
        if not isinstance(name, str) or name in kept:
            raise ValueError(f"record: expected functions with different names, got {several!r}")
        kept[name] = one if callable(one) else None
    return kept


def _accuracy(data: AttentionData | NextTokenData, test: AttentionData) -> Callable[[Run], Values]:
    """Return what records how the iterates do on the training data and on the test."""
    if isinstance(data, NextTokenData):
        raise ValueError("test: expected None for next-token data, got inputs")

    def accuracy(run: Run) -> dict[str, ArrayLike]:
        on_test = run.evaluate(test)
        return {
            "accuracy": run.evaluate(data).accuracy,
            "test_loss": on_test.loss,
            "test_accuracy": on_test.accuracy,
        }

    return accuracy


def _recorded_arrays(
    names: Iterable[str], result: Mapping[str, Any], ends: Sequence[Trained]
) -> dict[str, NDArray[Any]]:
    """Return attention and parameters of these names at every recorded step, (B, R, ...)."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in names:
        if name == "attention":
            arrays |= {each: result[f"recorded_{each}"] for each in ("attention", "log_attention")}
        elif name == "v":
            arrays[name] = result["recorded_head"]
        else:
            each = [
                end.dense() if name == end.blocks.direction else end.by_block()[name]
                for end in ends
            ]
            arrays[name] = np.stack(each, axis=1)
    return arrays


def _recorded_values(
    functions: Mapping[str, Callable[[Run], Values]],
    run: Run,
    result: Mapping[str, Any],
    ends: Sequence[Trained],
) -> dict[str, NDArray[Any]]:
    """Return what functions of a run make of those that end at the recorded steps."""
    lead = run.selected.shape[:-1]  # the batch axis stays in front
    values: dict[str, list[NDArray[Any]]] = defaultdict(list)
    for r, (step, end) in enumerate(zip(run.history["step"].tolist(), ends, strict=True)):
        log_attention = end.answer(result["recorded_log_attention"][:, r])
        at = replace(
            run,
            steps=step,
            trained=end,
            v=None if run.v is None else end.answer(result["recorded_head"][:, r]),
            attention=end.answer(result["recorded_attention"][:, r]),
            log_attention=log_attention,
            selected=np.argmax(log_attention, axis=-1),
            history={
                name: x[: r + 1] if name == "step" or not lead else x[:, : r + 1]
                for name, x in run.history.items()
            },
        )
        for name, function in functions.items():
            made = function(at)
            named = made if isinstance(made, Mapping) else {name: made}
            require_names(f"record: {name}", named)
            for key, value in named.items():
                values[key].append(read_array(f"record: {key}", value))
    clash = sorted(k for k, each in values.items() if k in run.history or len(each) > len(ends))
    if clash:
        raise ValueError(f"record: expected no name of the history, got {clash[0]!r}")
    for key, each in values.items():
        if len(each) < len(ends) or len({x.shape for x in each}) > 1:
            raise ValueError(f"record: expected {key!r} at every step in one shape")

    def stacked(series: list[NDArray[Any]]) -> NDArray[Any]:
        return np.stack(series, axis=int(lead != () and series[0].shape[:1] == lead))

    return {name: stacked(series) for name, series in values.items()}


def _progress(steps: int, shown: bool) -> AbstractContextManager[Callable[[float], None] | None]:
    """Make a bar, a function of the share of the steps that is done; or a note of another bar."""
    return _bar(steps) if shown else nullcontext(reporter(lambda: f"{steps} steps"))


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[float], None]]:
    with bar(steps, "steps") as advance:
        before = 0

        def report(share: float) -> None:
            nonlocal before
            done = int(share * steps)
            advance(done - before)
            before = done

        yield report


def _cosines(names: Iterable[str], gaps: Float64Array) -> dict[str, Float64Array]:
    """Return entries (B, R) of the history for the directions of these names, (B, names, R)."""
    history = {}
    for r, name in enumerate(names):
        behind = f":{name}" if name else ""
        history[f"cosine_gap{behind}"] = gaps[:, r]
        history[f"cosine{behind}"] = 1.0 - gaps[:, r]
    return history


def _split_init(init: Any, blocks: Blocks) -> tuple[Any, Any]:
    """Split a start into that of attention and that of v; both may be missing where v is."""
    if not (blocks.head and isinstance(init, Mapping) and "v" in init):
        return init, None
    others = {name: start for name, start in init.items() if name != "v"}
    return others or None, init["v"]


def _recorded_steps(
    record_every: int | Sequence[int] | IndexArray | None, steps: int
) -> IndexArray:
    if record_every is None or np.ndim(record_every) == 0:
        given: Any = max(1, steps // 100) if record_every is None else record_every
        every = as_positive_int("record_every", given)
        if every > steps:
            return np.array([0, steps] if steps else [0], dtype=np.int64)
        if steps // every > _MOST_RECORDS:
            raise ValueError(
                f"record_every: expected at most {_MOST_RECORDS} records, got {every} for {steps} "
                "steps"
            )
        regular = np.arange(0, steps + 1, every, dtype=np.int64)
        return regular if steps % every == 0 else np.append(regular, np.int64(steps))
    record = as_index_array("record_every", record_every, "(R,)", ndim=1)
    if record[0] < 0 or record[-1] > steps or np.any(np.diff(record) <= 0):
        raise ValueError(
            f"record_every: expected increasing steps in 0..{steps} (steps), got {record.tolist()}"
        )
    return record


def _start(
    problem: CoreProblem, init: Any, rng: np.random.Generator | None, inner: int | None
) -> Parameter:
    at = problem.coordinates
    blocks = replace(at.blocks, head=False) if at.blocks.head else at.blocks
    kind = blocks.kind
    if inner is not None and not blocks.has_inner:
        raise ValueError(f"inner: expected None where K and Q are not trained, got {inner!r}")
    if isinstance(init, Mapping):
        given = blocks.by_name("init", init)
        if inner is not None:
            raise ValueError(
                f"inner: expected None where {' and '.join(given)} are given, got {inner!r}"
            )
        return at.as_blocks("init", given)
    if init is None and not kind.bilinear:
        return problem.zero()
    if init is not None and not isinstance(init, str):
        if kind.form == "block":
            return at.as_parameter("init", init)
        names = " and ".join(map(repr, blocks.names))
        raise TypeError(f"init: expected a dict with {names}, got {type(init).__name__}")
    start = "uniform" if init is None else as_choice("init", init, blocks.starts)
    m = at.dimensions[0] if inner is None else as_positive_int("inner", inner)
    shapes = blocks.shapes(*at.dimensions, m)
    numbers = problem.tokens.shape[0] * sum(map(math.prod, shapes.values()))
    if inner is not None and numbers > _MOST_NUMBERS:
        raise ValueError(
            f"inner: expected K and Q of at most {_MOST_NUMBERS} numbers together, got {inner} "
            f"columns, {numbers} numbers"
        )
    lead = () if at.batch is None else (at.batch,)
    generator = as_generator("rng", rng)
    return at.as_blocks("init", blocks.draw_start(start, shapes, generator, lead))


def _references(
    problem: CoreProblem, start: Parameter, named: Mapping[str, Reference]
) -> tuple[Float64Array, Float64Array]:
    """Return unit directions (B, R, r, k), and their parts outside the spans (B, R, 2).

    Of a part outside, the core needs the components along and across that of the start, which the
    iterate keeps.
    """
    B = problem.tokens.shape[0]
    r, k = problem.queries.shape[2], problem.tokens.shape[3]
    directions = np.empty((B, len(named), r, k))
    beside = np.zeros((B, len(named), 2))
    for j, (name, given) in enumerate(named.items()):
        argument = name_in_call(name)
        split = problem.coordinates.as_parameter(argument, given, with_rest=start.rest is not None)
        (V,) = split.blocks
        size = np.hypot(euclidean_norm(V, (1, 2)), split.outside)
        require_direction(argument, size > 0)
        directions[:, j] = V / size[:, np.newaxis, np.newaxis]
        along = np.zeros(B)
        across = split.outside
        if start.rest is not None and split.rest is not None:
            moved = start.outside > 0
            unit = start.rest / np.where(moved, start.outside, 1.0)[:, np.newaxis, np.newaxis]
            along = np.sum(unit * split.rest, axis=(1, 2))
            across = euclidean_norm(split.rest - along[:, np.newaxis, np.newaxis] * unit, (1, 2))
        beside[:, j] = np.stack([along, across], axis=1) / size[:, np.newaxis]
    return directions, beside


def _head_references(problem: CoreProblem, named: Mapping[str, Reference]) -> Float64Array:
    """Return unit directions (B, R, d) to compare v with."""
    at, B = problem.coordinates, problem.tokens.shape[0]
    d = at.dimensions[0]
    directions = np.empty((B, len(named), d if at.blocks.head else 0))
    for j, (name, given) in enumerate(named.items()):
        argument = name_in_call(name)
        if isinstance(given, Factored):
            given = LowRank(*factors_of(argument, given)).dense()[..., 0]
        array = as_batch(argument, given, "(d,)", (d,), at.batch)
        size = euclidean_norm(array, -1)
        require_direction(argument, size > 0)
        directions[:, j] = array / size[..., np.newaxis]
    return directions


def _require_products(tokens: FloatArray, log_grad_norm: Float64Array) -> None:
    """Raise where a gradient is 0, or no number, as products of tiny tokens underflow."""
    if _core.all_finite([log_grad_norm]):
        return
    smallest = 1e-140
    for b in np.flatnonzero(~np.isfinite(log_grad_norm).all(axis=1)):
        size = np.abs(tokens[b]).max()
        if 0 < size < smallest:
            raise FloatingPointError(
                f"train: products of two tokens of problem {b} underflow, whose largest entry is "
                f"{size:.1e}; scale them"
            )


def _require_finite(
    parts: list[Float64Array],
    history: Mapping[str, NDArray[Any]],
    record: IndexArray,
    rule: str,
) -> None:
    series = [history["loss"], history["norm"]]
    if _core.all_finite(parts + series):
        return
    ends = np.all([np.isfinite(x).all(axis=tuple(range(1, x.ndim))) for x in parts], axis=0)
    along = np.isfinite(np.stack(series)).all(axis=0)
    b = int(np.argmin(ends & along.all(axis=1)))
    lost = np.flatnonzero(~along[b])
    when = f"by step {record[lost[0]]}" if lost.size else "after the last recorded step"
    if lost.size and record[lost[0]] == 0:
        advice = "its start is beyond float64; scale init or the tokens"
    elif rule == "polyak":
        advice = "Polyak steps grow without bound where an input attends to a token not its best"
    else:
        advice = "a smaller lr may help"
    raise FloatingPointError(f"train: problem {b} overflowed {when} ({advice})")
