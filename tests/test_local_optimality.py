"""Locally optimal choices of tokens, and what runs are classified as.

The toy is the single-input figure of "Max-Margin Token Selection in Attention Mechanism": a token
has a key in the first two coordinates and its score in the third, which attention does not see.
"""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from unittest.mock import ANY

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import (
    AttentionData,
    certified_margin_ratio,
    classify,
    is_locally_optimal,
    margin_ratio,
    optimal_tokens,
    scores,
    support_tokens,
    train,
)
from attsvm.datasets import unit_sphere
from attsvm.descent import Run
from attsvm.svm import SVMSolution, att_svm, prompt_svm

SEEDS = st.integers(0, 2**32 - 1)
KEYS = [[-0.1, 1.0], [1.0, 0.0], [0.0, 0.0]]


def toy(third_score: float) -> AttentionData:
    """Tokens (key, score) with scores 1, 0.9 and `third_score`, which the value reads."""
    tokens = [[[*key, score] for key, score in zip(KEYS, (1.0, 0.9, third_score), strict=True)]]
    return AttentionData(tokens, [1], value=[0.0, 0.0, 1.0])


def toy_solution(selected: int) -> object:
    """The p-SVM of the keys: for token 0 p = (-0.1, 1, 0) / 1.01, for token 1 p = (1, 0, 0)."""
    return prompt_svm(AttentionData([[[*key, 0.0] for key in KEYS]], [1]), [selected])


def stated(margins: object, status: object = "optimal") -> SVMSolution:
    """A solution of which only the margins are known."""
    solution = object.__new__(SVMSolution)
    known = {"margins": np.asarray(margins, dtype=np.float64), "status": status}
    vars(solution).update(known, left=SimpleNamespace(shape=(ANY,)))
    return solution


def random_margins(
    data: AttentionData, selected: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Margins of about half of the tokens active, inf at the selected ones and at padding."""
    margins = np.where(rng.random(data.valid.shape) < 0.5, 1.0, 1 + rng.random(data.valid.shape))
    margins[~data.valid] = np.inf
    np.put_along_axis(margins, selected[..., np.newaxis], np.inf, axis=-1)
    return margins


def test_only_support_indices_count():
    """The one neighbour of token 1 is token 2: token 0 may score more, token 2 must score less."""
    solution = toy_solution(1)
    np.testing.assert_allclose(solution.p, [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(solution.margins, [[1.1, np.inf, 1]], rtol=1e-12)
    assert is_locally_optimal(toy(0.0), [1], solution) is True
    assert is_locally_optimal(toy(0.9), [1], solution) is False
    assert is_locally_optimal(toy(0.95), [1], solution) is False


def test_the_global_choice_is_locally_optimal():
    solution = toy_solution(0)
    np.testing.assert_allclose(solution.p, np.array([-0.1, 1.0, 0.0]) / 1.01, rtol=1e-10)
    for third_score in (0.0, 0.9):
        assert is_locally_optimal(toy(third_score), [0], solution) is True


def test_a_choice_without_support_indices_is_locally_optimal():
    data = AttentionData([[[1.0], [2.0]], [[1.0], [5.0]]], [1, 1], value=[1.0], lengths=[1, 2])
    assert is_locally_optimal(data, [0, 0], stated([[np.inf, np.inf], [np.inf, 1.5]])) is True
    assert is_locally_optimal(data, [0, 0], stated([[np.inf, np.inf], [np.inf, 1.0]])) is False


def test_an_infeasible_choice_is_not_locally_optimal():
    """No p separates the middle of three points on a line."""
    data = AttentionData([[[-1.0], [0.0], [1.0]]], [1], value=[1.0])
    solution = prompt_svm(data, [1])
    assert solution.status == "infeasible"
    assert is_locally_optimal(data, [1], solution) is False


def test_a_constraint_within_the_tolerance_is_active():
    data = AttentionData([[[1.0], [2.0]]], [1], value=[1.0])
    for margin, locally_optimal in ((1 + 0.9e-4, False), (1 + 1.1e-4, True)):
        assert is_locally_optimal(data, [0], stated([[np.inf, margin]])) is locally_optimal
    assert is_locally_optimal(data, [0], stated([[np.inf, 1.05]]), tolerance=0.1) is False


@given(seed=SEEDS)
def test_globally_optimal_choices_are_locally_optimal_whatever_the_margins(seed):
    rng = np.random.default_rng(seed)
    data = unit_sphere(3, 4, 5, batch=4, rng=rng)
    selected = optimal_tokens(data)
    solution = stated(random_margins(data, selected, rng), np.full(4, "optimal"))
    np.testing.assert_array_equal(is_locally_optimal(data, selected, solution), np.ones(4, bool))


@given(seed=SEEDS)
def test_local_optimality_is_what_its_definition_says(seed):
    rng = np.random.default_rng(seed)
    B, n, T = 3, *rng.integers(1, 4, size=2)
    lengths = rng.integers(1, T, size=(B, n), endpoint=True)
    drawn = unit_sphere(n, T, 3, batch=B, rng=rng)
    data = AttentionData(drawn.tokens, drawn.labels, value=drawn.value, lengths=lengths)
    selected = rng.integers(0, lengths)
    margins = random_margins(data, selected, rng)
    status = rng.choice(["optimal", "optimal", "infeasible"], size=B)
    margins[status == "infeasible"] = np.nan
    result = is_locally_optimal(data, selected, stated(margins, status))
    assert result.shape == (B,)
    assert result.dtype == np.bool_
    gamma = scores(data)
    for b, problem in enumerate(data.problems()):
        expected = status[b] == "optimal" and all(
            gamma[b, i, selected[b, i]] > gamma[b, i, t]
            for i in range(n)
            for t in range(lengths[b, i])
            if margins[b, i, t] < 1 + 1e-4
        )
        assert result[b] == expected
        alone = is_locally_optimal(problem, selected[b], stated(margins[b], status[b]))
        assert alone is expected


@given(seed=SEEDS)
def test_local_optimality_follows_a_permutation_of_the_tokens(seed):
    rng = np.random.default_rng(seed)
    data = unit_sphere(2, 4, 3, rng=rng)
    selected = rng.integers(0, 4, size=2)
    margins = random_margins(data, selected, rng)
    order = rng.permutation(4)
    moved = AttentionData(data.tokens[:, order], data.labels, value=data.value)
    back = np.argsort(order)
    first = is_locally_optimal(data, selected, stated(margins))
    second = is_locally_optimal(moved, back[selected], stated(margins[:, order]))
    assert first is second


@given(seed=SEEDS, scale=st.floats(1e-6, 1e6))
def test_local_optimality_does_not_depend_on_the_size_of_the_value(seed, scale):
    rng = np.random.default_rng(seed)
    data = unit_sphere(2, 4, 3, rng=rng)
    selected = rng.integers(0, 4, size=2)
    solution = stated(random_margins(data, selected, rng))
    scaled = AttentionData(data.tokens, data.labels, value=scale * data.value)
    assert is_locally_optimal(scaled, selected, solution) is is_locally_optimal(
        data, selected, solution
    )


@pytest.mark.parametrize(
    ("selected", "solution", "message"),
    [
        ([0, 0, 0], stated(np.ones((2, 3))), r"^selected: expected shape \(n,\) = \(2,\)"),
        ([0, 3], stated(np.ones((2, 3))), r"^selected: expected 0\.\.2, got 3 at"),
        (
            [0, 1],
            stated(np.ones((2, 4))),
            r"^solution\.margins: expected shape \(n, T\) = \(2, 3\)",
        ),
        ([0, 1], stated(np.ones((2, 3))), r"^solution: expected the SVM of"),
        ([0, 1], stated(np.ones((2, 3)), "solved"), r"^solution\.status: expected optimal or"),
        ([0, 1], stated(np.ones((2, 3)), ["optimal"]), r"^solution\.status: expected shape \(\)"),
    ],
)
def test_what_does_not_belong_together_is_refused(selected, solution, message):
    data = unit_sphere(2, 3, 4, rng=0)
    with pytest.raises(ValueError, match=message):
        is_locally_optimal(data, selected, solution)


def chosen(selected: object, parameter: str = "p") -> Run:
    """A run of which only the end is known."""
    known = {"parameter": parameter, "v": None, "selected": np.asarray(selected)}
    known["trained"] = SimpleNamespace(parameter_shape=(ANY, ANY))
    known["attention"] = SimpleNamespace(shape=ANY)
    return object.__new__(type("Chosen", (Run,), known))


@pytest.mark.parametrize(
    ("third_score", "token", "kind"),
    [(0.0, 0, "global"), (0.0, 1, "local"), (0.9, 0, "global"), (0.9, 1, "neither")],
)
def test_classification_of_the_toy(third_score, token, kind):
    assert classify(toy(third_score), chosen([token]), solution=toy_solution(token)) == kind


def test_a_run_of_the_prompt_is_classified_by_the_prompt_svm():
    """On the line only the end points can be selected; the left one is worse than its neighbour."""
    data = AttentionData([[[-1.0], [0.0], [1.0]]], [1], value=[1.0])
    for start, kind in ((1.0, "global"), (-40.0, "neither")):
        run = train(data, parameter="p", init=[start], steps=5)
        assert classify(data, run) == kind
    assert classify(data, chosen([1])) == "neither"  # infeasible


def test_selecting_any_of_several_best_tokens_is_global():
    data = AttentionData([[[1.0, 0.0], [1.0, 2.0], [0.0, 1.0]]], [1], value=[1.0, 0.0])
    for token, kind in enumerate(["global", "global", "neither"]):
        assert classify(data, chosen([token])) == kind


def test_classification_says_of_every_input_what_the_definition_says():
    data = unit_sphere(4, 5, 3, batch=30, rng=0)
    run = train(data, steps=500)
    kinds = classify(data, run)
    for b, problem in enumerate(data.problems()):
        solution = att_svm(problem, run.selected[b])
        for i, token in enumerate(run.selected[b]):
            score = problem.labels[i] * problem.tokens[i] @ problem.value
            active = (
                [] if solution.margins is None else np.flatnonzero(solution.margins[i] < 1.0001)
            )
            expected = "neither"
            if score[token] == score.max():
                expected = "global"
            elif solution.feasible and all(score[token] > score[t] for t in active):
                expected = "local"
            assert kinds.inputs[b, i] == kinds[b].inputs[i] == expected, (b, i)
        assert classify(problem, chosen(run.selected[b], "W")) == kinds[b]
    assert set(kinds.inputs.ravel()) == {"global", "local", "neither"}
    assert kinds.counts == {kind: (kinds == kind).sum() for kind in kinds.counts}
    assert sum(kinds.counts.values()) == 30


def test_parts_and_pickles_of_a_classification_keep_what_the_inputs_did():
    data = unit_sphere(4, 5, 3, batch=6, rng=0)
    kinds = classify(data, train(data, steps=100))
    for part, inputs in ((kinds[2:4], kinds.inputs[2:4]), (kinds[1], kinds.inputs[1])):
        for same in (part, pickle.loads(pickle.dumps(part))):
            assert np.array_equal(same, part)
            assert np.array_equal(same.inputs, inputs)
    assert type(kinds == "global") is np.ndarray
    assert isinstance(kinds[0], str)


def test_the_published_problems_end_at_local_optima(local_convergence):
    """Global in 70 % and local (global included) in 98 % of the published runs."""
    run = train(local_convergence, steps=2000)
    solution = att_svm(local_convergence, run.selected)
    kinds = classify(local_convergence, run, solution=solution)
    np.testing.assert_array_equal(classify(local_convergence, run), kinds)
    is_global = (run.selected == optimal_tokens(local_convergence)).all(axis=1)
    np.testing.assert_array_equal(kinds == "global", is_global)
    assert 0.5 <= is_global.mean() <= 0.9
    assert (kinds != "neither").mean() >= 0.95
    for b in range(3):
        problem = local_convergence.problem(b)
        assert classify(problem, chosen(run.selected[b], "W")) == kinds[b]


@pytest.mark.parametrize(
    ("options", "svm"),
    [
        ({"parameter": "KQ", "rng": 0}, att_svm),
        ({"parameter": "Wp", "prompt": np.ones(3)}, prompt_svm),
        ({"parameter": "v+W", "init": {"v": np.full(3, 0.1)}}, att_svm),
        ({"parameter": ("v", "p"), "init": {"v": np.full(3, 0.1)}}, prompt_svm),
    ],
    ids=lambda value: str(value["parameter"]) if isinstance(value, dict) else "",
)
def test_a_run_of_any_parameter_is_classified(options, svm):
    """By the SVM of its selected tokens, and by the final v where v was trained."""
    data = unit_sphere(3, 4, 3, batch=30, rng=3)
    run = train(data, steps=300, **options)
    scored = data if run.v is None else data.with_value(run.v)
    gamma = scores(scored)
    best = np.take_along_axis(gamma, run.selected[..., np.newaxis], axis=-1)[..., 0]
    is_global = (best == gamma.max(axis=-1)).all(axis=-1)
    is_local = is_locally_optimal(scored, run.selected, svm(data, run.selected))
    expected = np.where(is_global, "global", np.where(is_local, "local", "neither"))
    kinds = classify(data, run)
    assert kinds.tolist() == expected.tolist()
    assert len(set(kinds)) > 1


@pytest.mark.parametrize(
    ("rule", "lr", "norm", "ratio"),
    [("sign", 0.01, "max", 0.986), ("coordinate", 0.1, "l1", 0.956), ("ngd", 0.1, "fro", 0.993)],
)
def test_optimisers_come_to_local_optima_of_their_own_norm(
    local_convergence, rule, lr, norm, ratio
):
    """All but one of the 50 choices are locally optimal there, fewer in other norms."""
    data = local_convergence
    run = train(data, rule=rule, lr=lr, steps=10_000)
    share = {n: is_locally_optimal(data, run.selected, norm=n).mean() for n in ("fro", "max", "l1")}
    assert share[norm] >= 0.98
    assert share[norm] == max(share.values())
    reached = margin_ratio(data, run, run.selected, norm)
    assert np.median(reached) == pytest.approx(ratio, abs=0.002)
    certified = certified_margin_ratio(data, run, run.selected, norm)
    assert (certified <= reached + 1e-12).all()
    assert np.median(certified) >= 0.98 * np.median(reached)
    kinds = classify(data, run, norm=norm)
    assert np.mean(kinds == "neither") == pytest.approx(1 - share[norm])


def test_runs_that_have_no_classification_are_refused():
    data = unit_sphere(2, 3, 4, rng=0)
    with pytest.raises(ValueError, match=r"^run\.selected: expected shape \(n,\) = \(2,\), got"):
        classify(data, chosen([0, 0, 0]))
    for T, d, message in ((4, 4, r"run\.attention: expected shape \(n, T\) = \(2, 3\), got \(2, 4"),
                          (3, 5, "run: expected one of tokens of dimension 4, got 5")):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{message}"):
            classify(data, train(unit_sphere(2, T, d, rng=0), parameter="p", steps=1))


def test_a_solution_in_another_norm_is_refused_where_the_norm_is_given():
    data = unit_sphere(2, 3, 4, rng=0)
    run = train(data, steps=50)
    euclidean, largest = (att_svm(data, run.selected, norm=norm) for norm in ("fro", "max"))
    for judge, judged in ((classify, run), (is_locally_optimal, run.selected)):
        assert judge(data, judged, solution=largest) == judge(data, judged, norm="max")
        assert judge(data, judged, solution=largest, norm="max") == judge(data, judged, norm="max")
        with pytest.raises(
            ValueError, match=r"^solution: expected that in the norm 'max', got one"
        ):
            judge(data, judged, solution=euclidean, norm="max")


def test_support_tokens_of_other_data_are_refused():
    data = unit_sphere(2, 3, 4, rng=0)
    line = AttentionData([[[-1.0], [0.0], [1.0]]], [1])
    with pytest.raises(
        ValueError, match=r"^solution: expected one of tokens of dimension 4, got 5"
    ):
        support_tokens(data, prompt_svm(unit_sphere(2, 3, 5, rng=0), [0, 0]))
    with pytest.raises(ValueError, match=r"^solution\.certificate: expected shape \(n, T\) = \(2,"):
        support_tokens(data, prompt_svm(line, [1]))
