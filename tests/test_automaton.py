"""The automaton: what next-token attention retrieves and composes in the limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attsvm import (
    NextTokenData,
    finite_part,
    graph_svm,
    predict_next,
    token_priority_graphs,
    train,
)
from attsvm.datasets import next_token, text

SEEDS = st.integers(0, 2**32 - 1)


def test_the_component_of_highest_priority_is_composed_by_the_finite_part():
    """Last token 0: {1, 2} before 3; 1 follows three times as often as 2."""
    data = NextTokenData(np.eye(4), [[1, 2, 3, 0]] * 4, [1, 1, 1, 2])
    held_out = NextTokenData(np.eye(4), [[3, 1, 2, 0], [3, 3, 2, 0], [3, 1, 1, 0]], [0, 0, 0])
    prediction = predict_next(held_out, finite_part(data), training=data)
    expected = [[0, 0.75, 0.25, 0], [0, 0, 1, 0], [0, 0.5, 0.5, 0]]
    assert prediction.attention == pytest.approx(np.array(expected), abs=1e-14)
    assert prediction.ids.tolist() == [1, 2, 1]
    assert prediction.determined.all()
    table = [[0, 0.75, 0.25, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
    assert prediction.probabilities.toarray() == pytest.approx(np.array(table), abs=1e-14)


@settings(max_examples=40)
@given(seed=SEEDS, embedding=st.sampled_from(["random", "orthonormal"]))
def test_the_label_is_in_the_component_that_is_retrieved(seed, embedding):
    """And nothing else of the context is: the graphs alone say what is retrieved in training."""
    data = next_token(8, 4, 6, 8, embedding=embedding, rng=seed)
    prediction = predict_next(data, finite_part(data))
    assert prediction.determined.all()
    for k, graph in token_priority_graphs(data).items():
        component_of = {int(j): c for c, tokens in enumerate(graph.components) for j in tokens}
        for i in np.flatnonzero(data.last == k):
            component = component_of.get(int(data.labels[i]), -1)
            inside = [component_of.get(int(j), -1) == component for j in data.contexts[i]]
            np.testing.assert_array_equal(prediction.attention[i] > 0, inside)


def test_a_long_trained_layer_is_the_automaton():
    data = next_token(6, 4, 6, 8, kind="cyclic", batch=10, rng=0)
    run = train(data, rule="gd", lr=1.0, steps=50_000)
    for problem, W in zip(data.problems(), run.W, strict=True):
        prediction = predict_next(problem, W)
        assert prediction.distance < 2e-3
        limit = predict_next(problem, finite_part(problem) + 1e3 * graph_svm(problem).W)
        assert limit.distance <= 1e-12
        assert limit.agreement == 1
        of_limit = predict_next(problem, finite_part(problem))
        assert limit.attention == pytest.approx(of_limit.attention, abs=1e-12)
        assert prediction.attention == pytest.approx(of_limit.attention, abs=2e-3)


def test_where_priorities_do_not_decide_the_svm_does():
    """1 before 2 and 3 before 4 before 5 in the graph of 0, and nothing between 1 and 3."""
    E = np.eye(6)
    data = NextTokenData(E, [[1, 2, 2, 0], [3, 4, 4, 0], [4, 5, 4, 0]], [1, 3, 4])
    both = NextTokenData(E, [[1, 3, 4, 0], [2, 4, 2, 0], [1, 1, 0, 4]], [0, 0, 0])
    solution = graph_svm(data)
    prediction = predict_next(both, np.zeros((6, 6)), training=data, solution=solution)
    assert prediction.determined.tolist() == [False, False, False]
    assert solution.W[3, 0] > solution.W[1, 0] + 0.1
    best = [max(row, key=lambda j: solution.W[j, 0]) for row in both.contexts[:2].tolist()]
    assert prediction.ids[:2].tolist() == best
    new = prediction.attention[2]  # the graph of 4 has no edges: all tokens count alike
    assert new == pytest.approx(np.full(4, 0.25))
    assert prediction.ids[2] == 1


def test_padding_is_neither_retrieved_nor_predicted():
    data = NextTokenData(np.eye(4), [[1, 2, 0, 3], [1, 2, 3, 0]], [2, 1], lengths=[3, 4])
    prediction = predict_next(data, finite_part(data))
    assert prediction.attention[0, 3] == prediction.layer_attention[0, 3] == 0
    assert prediction.attention.sum(axis=1) == pytest.approx(np.ones(2))


def test_text_is_predicted_by_the_automaton_as_by_the_layer():
    source = "the cat sat on the mat and the dog sat on the cat and the mat sat on the dog " * 4
    data = text(source, unit="word", context=8)
    early = np.arange(data.n) < data.n // 2
    training, held_out = data.subset(early), data.subset(~early)
    run = train(training, rule="gd", lr=1.0, steps=20_000)
    prediction = predict_next(held_out, run, training=training)
    assert prediction.agreement > 0.95
    assert prediction.distance < 0.02
    assert repr(prediction).startswith(f"Prediction({held_out.n} contexts, agreement=")


def test_a_text_of_one_letter_determines_nothing():
    data = text("a" * 40, context=4)
    prediction = predict_next(data, np.zeros((1, 1)))
    assert not prediction.determined.any()
    assert prediction.agreement == 1


def test_what_does_not_fit_is_refused():
    data = next_token(2, 3, 4, 4, rng=0)
    with pytest.raises(ValueError, match=r"^W: expected shape \(d, d\) = \(4, 4\), got \(3, 3\)"):
        predict_next(data, np.eye(3))
    with pytest.raises(ValueError, match=r"^data: expected one problem"):
        predict_next(next_token(2, 3, 4, 4, batch=2, rng=0), np.eye(4))
    with pytest.raises(ValueError, match=r"^training.embeddings: expected shape"):
        predict_next(data, np.eye(4), training=next_token(2, 3, 5, 4, rng=0))
    with pytest.raises(ValueError, match=r"^W: expected finite logits X W e_k, got"):
        predict_next(data, np.full((4, 4), 1e308))
    line = NextTokenData([[-1.0], [0.0], [1.0]], [[0, 1, 2]], [1])
    with pytest.raises(ValueError, match=r"^solution: expected a feasible Graph-SVM, got none"):
        predict_next(line, [[1.0]])
    run = train(data, parameter="p", steps=2)
    with pytest.raises(ValueError, match=r"^W: expected a run of W or of K and Q, got one of p"):
        predict_next(data, run)


@pytest.mark.parametrize(("T", "embedding"), [(2, "random"), (4, "random"), (4, "orthonormal")])
def test_a_graph_svm_of_other_data_is_refused(T, embedding):
    data, other = (next_token(5, T, 6, 8, embedding=embedding, rng=seed) for seed in (0, 1))
    solution, W = graph_svm(data), finite_part(data)
    same = NextTokenData(data.embeddings.copy(), data.contexts, data.labels)
    assert (predict_next(same, W, solution=solution).ids == predict_next(data, W).ids).all()
    with pytest.raises(ValueError, match=r"^solution: expected that of `data`, got one with other"):
        predict_next(other, W, solution=solution)
    with pytest.raises(ValueError, match=r"^solution: expected that of `training`, got one with"):
        predict_next(data, W, training=other, solution=solution)
    with pytest.raises(ValueError, match=r"^solution.margins: expected shape of data"):
        predict_next(data.subset(np.arange(5) < 4), W, solution=solution)
