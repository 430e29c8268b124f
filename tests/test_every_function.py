"""Properties of every public function of attention data, values by their signatures.

Inputs that share sequences give what copies of their tokens give, and a batch of one problem gives
what the problem gives, with a batch axis.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect

import numpy as np
import pytest

import attsvm
import attsvm.functional
import attsvm.theory
from attsvm import AttentionData, _core


def swapped(batch=(), n=2):
    """Inputs whose order is not that of the sequences; with padding, and one used twice."""
    rng = np.random.default_rng(11)
    sequence = [1, 0, 1][:n]
    return AttentionData(
        rng.standard_normal((*batch, 2, 3, 5)),
        rng.choice([-1.0, 1.0], (*batch, n)),
        queries=rng.standard_normal((*batch, n, 5)),
        value=rng.standard_normal((*batch, 5)),
        lengths=np.broadcast_to([3, 2, 3][:n], (*batch, n)),
        sequence=sequence,
    )


def causal():
    rng = np.random.default_rng(12)
    return AttentionData.per_position(
        rng.standard_normal((2, 3, 5)), [[1, -1, 1], [-1, 1, 1]], value=rng.standard_normal(5)
    )


SHARED = {
    "swapped": swapped(),
    "used twice": swapped(n=3),
    "batch": swapped((2,), n=3),
    "causal": causal(),
}


def with_copied_tokens(data):
    return AttentionData(
        data.tokens_per_input,
        data.labels,
        queries=data.queries,
        value=data.value,
        lengths=data.lengths,
    )


def matrix(data):
    """A W with no special direction."""
    lead = () if data.batch is None else (data.batch,)
    return np.random.default_rng(13).standard_normal((*lead, data.d, data.d))


def trained(data, **settings):
    return attsvm.train(data, steps=60, rng=0, **settings)


def of_attention(data):
    """Softmax weights with several selected tokens."""
    return trained(data).attention


def two_classes(data):
    return attsvm.heads.LinearScores(np.where(data.valid, attsvm.scores(data), 0.0))


def best(data):
    return attsvm.optimal_tokens(data)


CALLS = {
    "att_svm": lambda data: [
        attsvm.att_svm(data, best(data), norm=norm) for norm in ("fro", "nuc", "max", "spec", 3.0)
    ],
    "certified_cosine": lambda data: attsvm.certified_cosine(
        trained(data), data, best(data), attsvm.att_svm(data, best(data))
    ),
    "certified_cosine_gap": lambda data: attsvm.theory.certified_cosine_gap(
        matrix(data), data, best(data), data.valid.astype(float)
    ),
    "certified_margin_ratio": lambda data: [
        attsvm.certified_margin_ratio(data, trained(data), best(data), norm)
        for norm in ("fro", "max")
    ],
    "classify": lambda data: attsvm.classify(data, trained(data)),
    "decompose": lambda data: attsvm.decompose(matrix(data), data),
    "every_choice": lambda data: attsvm.theory.every_choice(data),
    "finite_part": lambda data: attsvm.finite_part(data, of_attention(data)),
    "first_step_separates": lambda data: [
        attsvm.first_step_separates(data, selected=selected, head=two_classes(data))
        for selected in (best(data), np.zeros(data.labels.shape, int))
    ],
    "frank_wolfe_gap": lambda data: [
        attsvm.theory.frank_wolfe_gap(data, matrix(data), 0.5, norm) for norm in ("max", "spec")
    ],
    "general_svm": lambda data: attsvm.general_svm(data, of_attention(data)),
    "in_separation_cone": lambda data: [
        attsvm.in_separation_cone(matrix(data), data, attsvm.theory.optimal_tokens(data), epsilon)
        for epsilon in (0.0, 0.1, 1.0)
    ],
    "is_locally_optimal": lambda data: attsvm.is_locally_optimal(
        data, best(data), attsvm.att_svm(data, best(data))
    ),
    "diagonal_svm": lambda data: attsvm.diagonal_svm(data, best(data)),
    "label_svm": lambda data: attsvm.label_svm(data, best(data)),
    "locally_optimal_choices": lambda data: [
        attsvm.locally_optimal_choices(data, parameter=parameter) for parameter in ("W", "p")
    ],
    "loss_and_grad": lambda data: attsvm.functional.loss_and_grad(data, {"W": matrix(data)}),
    "margin_ratio": lambda data: [
        attsvm.margin_ratio(data, matrix(data), best(data), norm) for norm in ("l1", "spec", 1.5)
    ],
    "margin_ratios": lambda data: [
        attsvm.margin_ratios(data, trained(data, parameter=name, record=name), ("max", 3.0))
        for name in ("W", "p")
    ],
    "margins": lambda data: attsvm.theory.margins(matrix(data), data, best(data)),
    "nuclear_suboptimality": lambda data: [
        attsvm.nuclear_suboptimality(
            W, data, best(data), attsvm.att_svm(data, best(data), norm="nuc")
        )
        for W in (matrix(data), trained(data).W)
    ],
    "optimal_tokens": best,
    "prompt_svm": lambda data: attsvm.prompt_svm(data, best(data)),
    "regularization_path": lambda data: attsvm.regularization_path(data, [1.0, 10.0], starts=2),
    "scores": lambda data: attsvm.scores(data),
    "support_tokens": lambda data: attsvm.support_tokens(data, attsvm.att_svm(data, best(data))),
    "train": lambda data: [
        trained(data, parameter=parameter, reference=matrix(data) if parameter == "W" else None)
        for parameter in ("W", "KQ", "p")
    ],
}
NOT_IN_BATCHES = [
    (name, "batch") for name in ("every_choice", "locally_optimal_choices", "regularization_path")
]


def taking_attention_data():
    """Names of all public functions with an argument of AttentionData, but the writer of files."""
    for module in (attsvm, attsvm.theory, attsvm.functional):
        for name in module.__all__:
            item = getattr(module, name)
            if inspect.isfunction(item) and name != "save":
                annotations = (
                    str(p.annotation) for p in inspect.signature(item).parameters.values()
                )
                if any("AttentionData" in annotation for annotation in annotations):
                    yield name


def numbers(result, path=""):
    """Every array, number and text of a result, by its path."""
    if isinstance(result, list | tuple):
        result = dict(enumerate(result))
    elif dataclasses.is_dataclass(result):
        names = {f.name for f in dataclasses.fields(result)} - {"trained", "left", "right"}
        matrices = [name for name in ("W", "p", "v") if hasattr(result, name)]
        result = {name: getattr(result, name) for name in sorted({*names, *matrices})}
    if not isinstance(result, dict):
        return {path: result}
    values = {}
    for name, value in result.items():
        values.update(numbers(value, f"{path}.{name}"))
    return values


def assert_equal(path, result, expected, rtol=1e-9, atol=1e-12):
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(result, expected, rtol=rtol, atol=atol, err_msg=path)
    else:
        np.testing.assert_array_equal(result, expected, err_msg=path)


def test_every_function_of_attention_data_is_tried():
    assert set(CALLS) == set(taking_attention_data())


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in CALLS for kind in SHARED if (name, kind) not in NOT_IN_BATCHES],
)
def test_shared_sequences_give_what_copies_of_them_give(name, kind):
    data = SHARED[kind]
    results, expected = (numbers(CALLS[name](d)) for d in (data, with_copied_tokens(data)))
    assert results.keys() == expected.keys()
    for path, value in expected.items():
        assert_equal(path, results[path], value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in CALLS
        for kind in ("used twice", "causal")
        if (name, "batch") not in NOT_IN_BATCHES
    ],
)
def test_a_batch_of_one_problem_gives_what_the_problem_gives(name, kind):
    data = SHARED[kind]
    results, expected = (numbers(CALLS[name](d)) for d in (data.batched(), data))
    assert results.keys() == expected.keys()
    for path, value in expected.items():
        result = results[path]
        if path.split(".")[-1] in ("solver", "gap", "kkt"):
            continue
        if value is None:  # of an infeasible problem, where a batch has NaN
            assert result is None or not np.nan_to_num(result).any(), path
        elif np.shape(result) == np.shape(value):  # not of the problems: step numbers, settings
            assert_equal(path, result, value)
        else:
            assert len(result) == 1, path
            assert_equal(path, result[0], value, rtol=1e-7, atol=1e-9)


THREADED = (
    *("certify_frobenius", "smallest_frobenius", "smallest_nuclear", "smallest_in_norm"),
    *("row_bases", "row_coordinates", "token_scores"),
    *("loss_and_gradient", "descend", "descend_by_ids"),
)
OF_NEXT_TOKENS = {
    "graph_svm": lambda data: [attsvm.graph_svm(data, norm=norm) for norm in ("fro", "max")],
    "predict_next": lambda data: attsvm.predict_next(data, matrix(data)),
    "decompose": lambda data: attsvm.decompose(matrix(data), data),
    "finite_part": lambda data: attsvm.finite_part(data),
    "cyclic_subspace": lambda data: attsvm.theory.cyclic_subspace(data),
    "optimal_loss": lambda data: attsvm.theory.optimal_loss(data),
    "rank": lambda data: attsvm.rank(attsvm.graph_svm(data)),
    "effective_rank": lambda data: attsvm.effective_rank(attsvm.graph_svm(data)),
    "train": lambda data: trained(data),
}


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        pytest.param(name, calls, id=f"{name}-{of}")
        for of, calls in (("tokens", CALLS), ("next tokens", OF_NEXT_TOKENS))
        for name in calls
    ],
)
def test_every_function_takes_the_number_of_its_threads(name, calls, monkeypatch):
    """Whatever it asks of the core is on as many threads as it was given."""
    asked = []

    def spy(function):
        return lambda **given: asked.append(given["threads"]) or function(**given)

    for each in THREADED:
        monkeypatch.setattr(_core, each, spy(getattr(_core, each)))
    monkeypatch.setattr(_core, "default_threads", lambda: 1)
    for module in (attsvm, attsvm.theory, attsvm.functional):
        for each in module.__all__:
            public = getattr(module, each)
            if inspect.isfunction(public) and "num_threads" in inspect.signature(public).parameters:
                monkeypatch.setattr(module, each, functools.partial(public, num_threads=3))
    data = SHARED["swapped"]
    calls[name](data if calls is CALLS else attsvm.datasets.next_token(3, 4, 5, 9, rng=0))
    assert set(asked) <= {3}
