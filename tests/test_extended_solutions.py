"""Solutions whose W float64 does not hold, "extended", through everything that takes solutions."""

from __future__ import annotations

import itertools
import pickle
from fractions import Fraction

import numpy as np
import pytest
from exact_margins import Exact, exact_rows

import attsvm
from attsvm import AttentionData, SolverError
from attsvm.cli import main
from attsvm.sklearn import AttentionSVM, HardMarginSVC
from attsvm.studies import Study, run
from attsvm.studies.solved_svms import SolvedSVMs
from attsvm.svm.solution import ARRAYS, joined
from attsvm.theory import local_optimality

KINDS = {
    "p": attsvm.prompt_svm,
    "W": attsvm.att_svm,
    "nuc": lambda data, selected: attsvm.att_svm(data, selected, norm="nuc"),
    "diagonal": lambda data, selected: attsvm.diagonal_svm(data, selected, norm="fro"),
}
NAMES = [name for name in ARRAYS if name != "right"]
EPS = np.finfo(np.float64).eps


def opposite(d):
    """Token 0 before -a and a - 1e-13 r, which asks for a W of norm 1e13."""
    a, r = np.random.default_rng(0).standard_normal((2, d))
    return AttentionData([[np.zeros(d), -a, a - 1e-13 * r]], [1], queries=np.ones((1, d)), value=-a)


def beside_a_usual_one(d, order=1):
    """A batch of `opposite` and a usual problem, whose margins of token 0 exist too."""
    usual = np.random.default_rng(1).standard_normal((1, 3, d))
    tokens = np.stack([usual, opposite(d).tokens])[::order]
    return AttentionData(tokens, np.ones((2, 1)), queries=np.ones((2, 1, d)))


def best_value(tokens):
    """A head with which token 0 of `opposite` has the largest score, by 1e-14."""
    a = -tokens[1]
    r = (a - tokens[2]) * 1e13
    across = r - (a @ r) / (a @ a) * a
    return across + 3e-14 * (r @ across) / (a @ a) * a


def exact(solution):
    """W = left' right, without rounding."""
    product = Exact(solution.left.T) @ Exact(solution.right)
    return Exact(product.integers.ravel(), product.exponent)


def rounding(solution, data):
    """How far rounding of W and of products may move a margin."""
    size = np.linalg.norm(data.tokens, axis=-1).max()
    size *= 1 if solution.variable == "p" else np.linalg.norm(data.queries)
    return 8 * EPS * np.linalg.norm(solution.direction) * size


@pytest.fixture(params=KINDS)
def solved(request):
    data = opposite(3)
    return data, KINDS[request.param](data, [0])


def is_diagonal(solution):
    return solution.variable == "W" and np.array_equal(solution.W, np.diag(np.diagonal(solution.W)))


def norm_of(solution):
    """The norm that was made small."""
    return "fro" if solution.unique else "nuc"


def smallest_diagonal(data, norm):
    """w of both margins 1, smallest of all, as fractions: one of two entries in l1."""
    rows = [row.fractions() for row in exact_rows(data.tokens, None, [0])]
    d = data.d

    def with_margins(columns):
        """Of least norm with other entries 0: B'(B B')^-1 1 for the columns B."""
        one, two = ([row[j] for j in columns] for row in rows)
        p, q, s = (
            sum(x * y for x, y in zip(u, v, strict=True))
            for u, v in ((one, one), (one, two), (two, two))
        )
        w = [Fraction(0)] * d
        for j, x, y in zip(columns, one, two, strict=True):
            w[j] = ((s - q) * x + (p - q) * y) / (p * s - q * q)
        return w

    if norm == "fro":
        return with_margins(range(d))
    some = (with_margins(columns) for columns in itertools.combinations(range(d), 2))
    return min(some, key=lambda w: sum(map(abs, w)))


@pytest.mark.parametrize("norm", ["fro", "l1"])
@pytest.mark.parametrize("d", [2, 3])
def test_a_diagonal_svm_has_the_rows_of_both_parts(d, norm):
    data = opposite(d)
    alone = attsvm.diagonal_svm(data, [0], norm=norm)
    batch = attsvm.diagonal_svm(beside_a_usual_one(d), [[0], [0]], norm=norm)
    assert alone.solver == "extended"
    assert batch.solver.tolist() == ["native", "extended"]
    w = [float(x) for x in smallest_diagonal(data, norm)]
    np.testing.assert_allclose(alone.W, np.diag(w), rtol=1e-13, atol=0)
    assert np.array_equal(alone.left[:d], alone.W)
    assert np.array_equal(alone.right, np.vstack([np.eye(d)] * 4))
    margins = (exact_rows(data.tokens, data.queries, [0]) @ exact(alone)).fractions()
    assert [float(x) for x in margins] == pytest.approx([1, 1], abs=1e-9)
    for name in ("left", "right", "W"):
        assert np.array_equal(getattr(batch, name)[1], getattr(alone, name))
    usual = attsvm.diagonal_svm(beside_a_usual_one(d).problem(0), [0], norm=norm)
    assert np.array_equal(batch.W[0], usual.W)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_with_and_without_extended_ones_are_joined(kind, order):
    data = beside_a_usual_one(3, order)
    parts = [KINDS[kind](data.subset(np.arange(2) == b), [[0]]) for b in range(2)]
    assert parts[0].left.shape != parts[1].left.shape
    joint, at_once = joined(parts), KINDS[kind](data, [[0], [0]])
    for name in NAMES:
        np.testing.assert_array_equal(getattr(joint, name), getattr(at_once, name))
    for b, part in enumerate(parts):
        assert np.array_equal(joint.direction[b], part.direction[0])


def test_an_infeasible_problem_of_a_joined_batch_has_no_entries():
    infeasible = AttentionData([[[[0.0, 0, 0], [1, 1, 1], [-1, -1, -1]]]], [[1]])
    parts = [attsvm.prompt_svm(data, [[0]]) for data in (infeasible, opposite(3).repeated(1))]
    joint = joined(parts)
    assert joint.status.tolist() == ["infeasible", "optimal"]
    for factor in (joint.left, joint.right):
        assert np.isnan(factor[0]).all()
        assert np.isfinite(factor[1]).all()


@pytest.mark.parametrize("kind", ["att", "prompt"])
def test_svms_of_studies_are_kept_beside_each_other(kind):
    data, store = beside_a_usual_one(3), SolvedSVMs()
    key = {"att": "W", "prompt": "p"}[kind]
    zeros = np.zeros((2, 1), dtype=np.int64)
    store.solve("mine", [0], data.subset(np.arange(2) == 0), key, zeros[:1], "fro")
    both = store.solve("mine", [0, 1], data, key, zeros, "fro")
    assert both.solver.tolist() == ["native", "extended"]
    assert np.array_equal(both.direction, KINDS[key](data, zeros).direction)


def test_a_study_measures_them(tmp_path):
    """The tokens of the largest scores, 0, ask for an extended p; those of training do not."""
    data = beside_a_usual_one(3)
    value = np.stack([data.tokens[0, 0, 0], best_value(data.tokens[1, 0])])
    data = AttentionData(data.tokens, np.ones((2, 1)), value=value)
    assert attsvm.optimal_tokens(data).tolist() == [[0], [0]]
    attsvm.save(tmp_path / "mine.npz", data)
    measure = ("selected", "cosine", "feasible", "all_support", "svm_optimal", "svm_selected")
    study = Study(data=str(tmp_path / "mine.npz"), parameter="p", steps=20, measure=measure)
    results = run(study, tmp_path / "out", progress=False).load()
    solutions = attsvm.prompt_svm(data, [[0], [0]])
    selected = results["selected"].values.reshape(2, 1)
    assert selected[1] != 0
    assert np.isfinite(results["cosine"]).all()
    for name in ("gap", "kkt"):
        measured = results[f"svm_optimal_{name}"].values.ravel()
        assert np.array_equal(measured, getattr(solutions, name))
    assert results["feasible"].values.all()
    assert results["all_support"].values.ravel()[1]


def test_every_choice_is_joined_from_parts(monkeypatch):
    data = opposite(3)
    at_once = attsvm.theory.every_choice(data, parameter="p").solution
    monkeypatch.setattr(local_optimality, "_NUMBERS_AT_ONCE", 1)
    in_parts = attsvm.theory.every_choice(data, parameter="p").solution
    assert in_parts.solver[0] == "extended"
    for name in NAMES:
        np.testing.assert_array_equal(getattr(in_parts, name), getattr(at_once, name))
    for token in range(3):
        alone = attsvm.prompt_svm(data, [token])
        assert in_parts.status[token] == alone.status
        if alone.feasible:
            assert np.array_equal(in_parts.p[token], alone.p)


def test_margins_of_the_direction_are_those_of_float64(solved):
    data, solution = solved
    margins = attsvm.theory.margins(solution, data, [0])
    most = rounding(solution, data)
    assert most < 0.1
    assert solution.margins[0, 1:] == pytest.approx([1, 1], abs=1e-9)
    assert margins[0, 1:] == pytest.approx([1, 1], abs=most)
    ratio = attsvm.margin_ratio(data, solution, [0], norm_of(solution), solution=solution)
    assert ratio == pytest.approx(1, abs=most)
    bound = attsvm.certified_margin_ratio(data, solution, [0], norm_of(solution), dual=solution)
    if not is_diagonal(solution):
        assert bound == pytest.approx(1, abs=most)
    assert attsvm.in_separation_cone(solution, data, [0], 0.0)
    assert attsvm.support_tokens(data, solution).tolist() == [[False, True, True]]


def test_suboptimality_in_the_nuclear_norm():
    data = opposite(3)
    nuc, fro = (attsvm.att_svm(data, [0], norm=norm) for norm in ("nuc", "fro"))
    for W in (nuc, fro):  # of rank 1, and so the same
        short = attsvm.nuclear_suboptimality(W, data, [0], nuc)
        assert short == pytest.approx(0, abs=rounding(W, data))


def test_cosines_and_ranks(solved):
    data, solution = solved
    own = solution.direction
    w, z = np.array([float(x) for x in smallest_diagonal(data, "fro")]), data.queries[0]
    if solution.variable == "p":
        truth = w
    else:
        truth = np.diag(w) if is_diagonal(solution) else np.outer(w, z / (z @ z))
    assert attsvm.cosine(own, truth) == 1
    assert attsvm.theory.cosine_gap(own, truth) <= 1e-26
    assert solution.norm == pytest.approx(np.linalg.norm(truth), rel=1e-12)
    assert attsvm.in_cone(solution, solution, mu=1e-15, radius=1e13)
    assert attsvm.in_cone(own, solution, mu=1e-15, radius=1e13)
    assert not attsvm.in_cone(-own, solution, mu=1e-15, radius=1e13)
    if not is_diagonal(solution):
        cosine = attsvm.certified_cosine(solution, data, [0], solution)
        assert cosine == pytest.approx(1, abs=2 * rounding(solution, data))
        assert attsvm.theory.certified_cosine_gap(solution, data, [0], solution) <= 2e-2
        assert attsvm.rank(solution) == 1
        assert attsvm.effective_rank(solution) == pytest.approx(1)
    else:
        assert attsvm.rank(solution) == attsvm.rank(solution.W)


def test_runs_are_compared_with_them(solved):
    data, solution = solved
    run = attsvm.train(
        data, parameter=solution.variable, init=20 * solution.direction, steps=2, lr=1e-6,
        rule="gd", reference=solution, record_every=1,
    )  # fmt: skip
    assert run.selected.tolist() == [0]
    assert run.history["cosine"] == pytest.approx([1, 1, 1], abs=1e-15)
    kind = attsvm.classify(data, run, solution=solution)
    locally = attsvm.is_locally_optimal(data, [0], solution)
    assert kind == ("local" if locally else "neither")
    with_best = data.with_value(best_value(data.tokens[0]))
    assert attsvm.is_locally_optimal(with_best, [0], solution)
    assert attsvm.classify(with_best, run, solution=solution) == "global"


def test_they_are_kept_and_shown(solved, tmp_path):
    _, solution = solved
    copy = pickle.loads(pickle.dumps(solution))
    np.savez(tmp_path / "solution.npz", left=solution.left, right=solution.right)
    with np.load(tmp_path / "solution.npz") as file:
        for name in ("left", "right"):
            assert np.array_equal(file[name], getattr(solution, name))
    for name in ARRAYS:
        assert np.array_equal(getattr(copy, name), getattr(solution, name)), name
    assert np.array_equal(copy.direction, solution.direction)
    assert repr(copy) == repr(solution)
    assert "extended" in solution._repr_html_()
    margins, multipliers = solution.plot().axes
    assert max(multipliers.lines[1].get_ydata()) == solution.dual.max()
    assert margins.has_data()


def test_the_command_writes_both_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = opposite(3)
    attsvm.save("mine.npz", data)
    for name, solve in (("prompt", attsvm.prompt_svm), ("att", attsvm.att_svm)):
        out = f"{name}.npz"
        assert main(["svm", "mine.npz", "--problem", name, "--selected", "0", "--out", out]) == 0
        solution = solve(data, [0])
        with np.load(out) as file:
            assert file["solver"] == "extended"
            for part in ("left", "right", "margins", solution.variable):
                assert np.array_equal(file[part], getattr(solution, part))


@pytest.mark.parametrize("parameter", ["W", "KQ", "p"])
def test_an_estimator_has_no_certified_coef_of_them(parameter):
    """gap_ and kkt_ would be those of two parts, of which coef_ is one."""
    X = np.concatenate([opposite(3).tokens, np.ones((1, 3, 3))])
    X[1, 1:] = 0.0
    model = AttentionSVM(parameter=parameter, value=np.ones(3))
    with pytest.raises(SolverError, match=r"^no weights in float64 have the margins"):
        model.fit(X, [1, 0], queries=np.eye(3)[:2], selected=[0, 0])


def test_an_estimator_of_samples_has_no_certified_coef_of_them():
    rows = -opposite(3).tokens[0, 1:]
    X = np.concatenate([rows, -rows[:1]])
    with pytest.raises(SolverError, match=r"^no weights in float64 have the margins of 3 samples"):
        HardMarginSVC(fit_intercept=False).fit(X, [1, 1, 0])
