"""Inputs that share tokens, and sequences with an output at every position."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest

import attsvm
import attsvm.theory
from attsvm import AttentionData
from attsvm.functional import loss_and_grad


def random_sequences(seed, n=3, T=5, d=4, batch=(), **settings):
    rng = np.random.default_rng(seed)
    return AttentionData.per_position(
        rng.standard_normal((*batch, n, T, d)),
        rng.choice([-1.0, 1.0], (*batch, n, T)),
        value=rng.standard_normal((*batch, d)),
        **settings,
    )


def written_out(data):
    """The same problem with a copy of its tokens for every input."""
    return AttentionData(
        data.own_tokens, data.labels, queries=data.queries, value=data.value, lengths=data.lengths
    )


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


SHARED = {
    "swapped": swapped(),
    "used twice": swapped(n=3),
    "batch": swapped((2,), n=3),
    "causal": random_sequences(12, n=2, T=3, d=5),
}


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


best = attsvm.optimal_tokens
CALLS = {
    "att_svm": lambda data: [
        attsvm.att_svm(data, best(data), norm=norm) for norm in ("fro", "nuc")
    ],
    "certified_cosine": lambda data: attsvm.certified_cosine(
        trained(data), data, best(data), attsvm.att_svm(data, best(data))
    ),
    "certified_cosine_gap": lambda data: attsvm.theory.certified_cosine_gap(
        matrix(data), data, best(data), data.valid.astype(float)
    ),
    "classify": lambda data: attsvm.classify(data, trained(data)),
    "decompose": lambda data: attsvm.decompose(matrix(data), data),
    "every_choice": lambda data: attsvm.theory.every_choice(data),
    "finite_part": lambda data: attsvm.finite_part(data, of_attention(data)),
    "first_step_separates": lambda data: [
        attsvm.first_step_separates(data, selected=selected, head=two_classes(data))
        for selected in (best(data), np.zeros(data.labels.shape, int))
    ],
    "general_svm": lambda data: attsvm.general_svm(data, of_attention(data)),
    "in_separation_cone": lambda data: [
        attsvm.in_separation_cone(matrix(data), data, attsvm.theory.optimal_tokens(data), epsilon)
        for epsilon in (0.0, 0.1, 1.0)
    ],
    "is_locally_optimal": lambda data: attsvm.is_locally_optimal(
        data, best(data), attsvm.att_svm(data, best(data))
    ),
    "label_svm": lambda data: attsvm.label_svm(data, best(data)),
    "locally_optimal_choices": lambda data: [
        attsvm.locally_optimal_choices(data, parameter=parameter) for parameter in ("W", "p")
    ],
    "loss_and_grad": lambda data: loss_and_grad(data, {"W": matrix(data)}),
    "margins": lambda data: attsvm.theory.margins(matrix(data), data, best(data)),
    "nuclear_suboptimality": lambda data: [
        attsvm.nuclear_suboptimality(
            W, data, best(data), attsvm.att_svm(data, best(data), norm="nuc")
        )
        for W in (matrix(data), trained(data).W)
    ],
    "optimal_tokens": attsvm.optimal_tokens,
    "prompt_svm": lambda data: attsvm.prompt_svm(data, best(data)),
    "regularization_path": lambda data: attsvm.regularization_path(data, [1.0, 10.0], starts=2),
    "scores": attsvm.scores,
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
        names = [f.name for f in dataclasses.fields(result) if f.name != "trained"]
        result = {
            name: getattr(result, name) for name in (*names, "direction") if hasattr(result, name)
        }
    if not isinstance(result, dict):
        return {path: result}
    found = {}
    for name, value in result.items():
        found.update(numbers(value, f"{path}.{name}"))
    return found


def test_every_function_of_attention_data_is_tried_with_shared_sequences():
    assert set(CALLS) == set(taking_attention_data())


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in CALLS for kind in SHARED if (name, kind) not in NOT_IN_BATCHES],
)
def test_shared_sequences_give_what_copies_of_them_give(name, kind):
    data = SHARED[kind]
    ours, theirs = (numbers(CALLS[name](each)) for each in (data, written_out(data)))
    assert ours.keys() == theirs.keys()
    for path, expected in theirs.items():
        if np.asarray(expected).dtype.kind in "fc":
            np.testing.assert_allclose(ours[path], expected, rtol=1e-9, atol=1e-12, err_msg=path)
        else:
            np.testing.assert_array_equal(ours[path], expected, err_msg=path)


def test_every_position_is_an_input():
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((2, 3, 4))
    labels = [[1, -1, 1], [-1, -1, 1]]
    data = AttentionData.per_position(tokens, labels, lengths=[3, 2])
    assert data.n == 5
    assert data.sequence.tolist() == [0, 0, 0, 1, 1]
    assert data.lengths.tolist() == [1, 2, 3, 1, 2]
    assert data.labels.tolist() == [1, -1, 1, -1, -1]
    assert np.array_equal(data.queries, np.concatenate([tokens[0], tokens[1, :2]]))
    assert np.shares_memory(data.tokens, tokens)
    full = AttentionData.per_position(tokens, [1, -1], lengths=[3, 2], causal=False)
    assert full.lengths.tolist() == [3, 3, 3, 2, 2]
    assert full.labels.tolist() == [1, 1, 1, -1, -1]


@pytest.mark.parametrize("batch", [(), (2,), (20,)])
@pytest.mark.parametrize("parameter", ["W", "KQ", "p"])
@pytest.mark.parametrize("causal", [True, False])
def test_shared_tokens_are_trained_as_copies_are(batch, parameter, causal):
    data = random_sequences(2, batch=batch, causal=causal)
    copies = written_out(data)
    settings = {"parameter": parameter, "steps": 200, "rng": 3, "lr": 0.02}
    shared, apart = attsvm.train(data, **settings), attsvm.train(copies, **settings)
    assert np.array_equal(shared.direction, apart.direction)
    assert np.array_equal(shared.log_attention, apart.log_attention)
    assert all(np.array_equal(shared.history[k], apart.history[k]) for k in shared.history)
    at = {"p": np.ones((*batch, 4))} if parameter == "p" else {"W": np.ones((*batch, 4, 4))}
    for ours, theirs in zip(
        loss_and_grad(data, at)[1].values(), loss_and_grad(copies, at)[1].values(), strict=True
    ):
        assert np.array_equal(ours, theirs)


def test_shared_tokens_in_many_dimensions_are_reduced_to_their_span():
    data = random_sequences(4, n=1, T=4, d=100)
    shared = attsvm.train(data, steps=2000)
    assert shared.trained.problem.tokens.shape == (1, 1, 4, 4)
    apart = attsvm.train(written_out(data), steps=2000)
    np.testing.assert_allclose(shared.W, apart.W, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [1, 2])
def test_e24_causal_attention_goes_to_the_svm_of_its_positions(seed, n):
    """Normalised descent on the sum of position losses, beside the SVM of the tokens it selects."""
    data = random_sequences(10 * seed + n, n=n, T=5, d=16)
    run = attsvm.train(data, steps=20000)
    solution = attsvm.att_svm(data, run.selected)
    assert solution.status == "optimal"
    assert attsvm.cosine(run.W, solution.W) > 0.99
    first = np.flatnonzero(data.lengths == 1)  # a first position has nothing to choose from
    assert (run.selected[first] == 0).all()


def test_a_problem_of_a_batch_keeps_its_sequences(tmp_path):
    data = random_sequences(6, batch=(3,))
    problem = data.problem(1)
    assert np.array_equal(problem.sequence, data.sequence)
    assert np.array_equal(problem.own_tokens, data.own_tokens[1])
    attsvm.save(tmp_path / "sequences.npz", data)
    again = attsvm.load(tmp_path / "sequences.npz")
    assert np.array_equal(again.sequence, data.sequence)
    assert np.array_equal(again.tokens, data.tokens)
    assert "sequences=3" in repr(again)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: AttentionData(np.ones((2, 3, 1)), [1, 1, 1], sequence=[0, 2, 1]),
            ValueError,
            r"sequence: expected 0..1, got 2 at",
        ),
        (
            lambda: AttentionData(np.ones((2, 3, 1)), [1, 1], sequence=[0, 0, 1]),
            ValueError,
            r"labels: expected shape \(n,\) = \(3,\)",
        ),
        (
            lambda: AttentionData(np.ones((2, 3, 1)), [1], sequence=[0.0]),
            TypeError,
            "sequence: expected integers",
        ),
        (
            lambda: AttentionData.per_position(np.ones((2, 3, 1)), [1]),
            ValueError,
            "labels: expected shape",
        ),
        (
            lambda: AttentionData.per_position(
                np.ones((2, 1, 3, 1)), np.ones((2, 1)), lengths=[[1], [2]]
            ),
            ValueError,
            "lengths: expected the same ones",
        ),
    ],
)
def test_sequences_that_do_not_fit_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
