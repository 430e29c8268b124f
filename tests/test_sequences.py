"""Inputs that share tokens, and sequences with an output at every position."""

from __future__ import annotations

import numpy as np
import pytest

import attsvm
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
        data.tokens_per_input,
        data.labels,
        queries=data.queries,
        value=data.value,
        lengths=data.lengths,
    )


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
    assert shared.trained.coordinates.token_basis.shape == (1, 4, 100)
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
    assert np.array_equal(problem.own_tokens, data.tokens_per_input[1])
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
