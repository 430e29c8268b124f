"""The cut norm against every product of signs, and what it is to factors of W."""

from __future__ import annotations

from pathlib import Path

import clarabel
import numpy as np
import plain_svm
import pytest
from scipy import sparse

import attsvm
from attsvm import AttentionData, att_svm, margin_ratio
from attsvm.svm import cut_norm
from attsvm.svm.norms import NORMS, as_svm_norm
from attsvm.svm.solve import solve
from attsvm.svm.solvers import UNRESOLVED
from attsvm.svm.svm_problem import row_problem
from attsvm.theory import product_norm

CUT = NORMS["cut"]
DATA = Path(__file__).parent / "data"


def matrices(d, e):
    rng = np.random.default_rng(d + 10 * e)
    integers = rng.integers(-2, 3, (d, e)).astype(float)
    return np.array([rng.standard_normal((d, e)), integers, np.eye(d, e), np.ones((d, e))])


@pytest.mark.parametrize(("d", "e"), [(2, 2), (3, 4), (4, 3), (5, 5), (1, 4), (4, 1)])
def test_values_are_those_of_the_whole_linear_program(d, e):
    """Least Σ |c_k| with W = Σ c_k s_k t_k', by HiGHS over all s and t; and max s' W t."""
    W = matrices(d, e)
    everything = np.ones(d * e, dtype=bool)
    for one, value, dual in zip(W, CUT.values(W), CUT.dual_values(W), strict=True):
        expected = plain_svm.smallest_norm(np.eye(d * e), d, "cut", one.ravel(), everything)
        assert value == pytest.approx(expected, rel=1e-9)
        largest = np.abs(plain_svm.products_of_signs(d, e) @ one.ravel()).max()
        assert dual == pytest.approx(largest, rel=1e-13)


def test_a_product_with_a_coefficient_of_1e_8_that_no_other_can_stand_for_is_found():
    """Least Σ |c_k| with Σ c_k s_k t_k' = W: without it, the others span one dimension less."""
    with np.load(DATA / "l1_svm_of_cut_norm.npz") as file:
        W, *signs = file["W"], file["s"], file["t"]
    s, t = (2.0 * np.unpackbits(bits, axis=1, count=len(W)) - 1.0 for bits in signs)
    rows = np.einsum("kj,kl->jlk", s, t).reshape(1, W.size, -1)
    every = np.ones((1, W.size), dtype=bool)
    solution = solve("v", row_problem(rows, W.reshape(1, -1), every), batch=None, norm=NORMS["l1"])
    assert np.abs(rows[0] @ solution.v - W.ravel()).max() <= 1e-12
    lower = W.ravel() @ solution.dual / np.abs(solution.dual @ rows[0]).max()
    assert np.abs(solution.v).sum() == pytest.approx(lower, rel=1e-11)
    used = np.abs(solution.v)
    assert np.linalg.matrix_rank(rows[0][:, used > 0]) == W.size
    assert np.linalg.matrix_rank(rows[0][:, used > 1e-7]) == W.size - 1


@pytest.mark.parametrize("least", [1e-6, 1e-7, 1e-8])
def test_dependent_equalities_with_a_small_coefficient_are_solved(least):
    """16 equalities of rank 15, whose right-hand sides agree to their last digit only."""
    rng = np.random.default_rng(0)
    s, t = rng.choice([-1.0, 1.0], (2, 60, 4))
    t[:, 1] = s[:, 0] * t[:, 0] * s[:, 1]  # the products have equal entries (0, 0) and (1, 1),
    t[0, 1] *= -1  # but for the first
    size = rng.exponential(size=60)
    size[0] = least
    rows = np.einsum("kj,kl->jlk", s, t).reshape(1, 16, 60)
    W = rows[0] @ size
    problem = row_problem(rows, W[np.newaxis], np.ones((1, 16), dtype=bool))
    solution = solve("v", problem, batch=None, norm=NORMS["l1"])
    assert np.abs(rows[0] @ solution.v - W).max() <= 1e-12
    assert np.abs(solution.v[0]) == pytest.approx(least, abs=1e-13)
    lower = W @ solution.dual / np.abs(solution.dual @ rows[0]).max()
    assert np.abs(solution.v).sum() == pytest.approx(lower, rel=1e-11)


def test_values_that_are_known():
    """Rank one: max |a| max |b|. A Hadamard matrix H: <H, H>/|H|_(inf->1) below, its rank above."""
    a, b = np.random.default_rng(0).standard_normal((2, 6))
    assert CUT.values(np.outer(a, b)) == pytest.approx(np.abs(a).max() * np.abs(b).max())
    H = np.array([[1.0, 1.0], [1.0, -1.0]])
    assert CUT.values(H) == pytest.approx(2.0)
    assert CUT.dual_values(H) == pytest.approx(2.0)
    assert not CUT.values(np.zeros((3, 2, 2))).any()
    huge = 1e200 * H
    assert CUT.values(huge) == pytest.approx(2e200)


def test_sixteen_signs_are_enumerated_and_seventeen_refused():
    G = np.random.default_rng(1).standard_normal((16, 18))
    s = np.sign(np.random.default_rng(2).standard_normal((1000, 16)))
    assert (np.abs(s @ G).sum(axis=1) <= CUT.dual_values(G) * (1 + 1e-15)).all()
    for compute in (CUT.values, CUT.dual_values):
        with pytest.raises(ValueError, match="norm: expected at most 16 rows or columns for 'cut'"):
            compute(np.ones((17, 18)))


def padded(problem, d):
    """The same problem with coordinates that are zero: no norm of W changes."""
    wider = [(0, 0)] * 2 + [(0, d - problem.d)]
    return AttentionData(
        np.pad(problem.tokens, wider), problem.labels, queries=np.pad(problem.queries, wider[1:])
    )


def test_more_than_sixteen_signs_are_bounded():
    data = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
    selected = attsvm.optimal_tokens(data)
    exact = att_svm(data, selected, norm="cut")
    assert exact.status == "optimal"
    assert att_svm(padded(data, 16), selected, norm="cut").norm == pytest.approx(exact.norm)
    wide = padded(data, 17)
    bounded = att_svm(wide, selected, norm="cut")
    assert bounded.status == "bounded"
    assert bounded.feasible
    assert "bounded" in repr(bounded)
    lower = (1 - bounded.gap) * bounded.norm
    assert exact.norm / 1.783 <= lower <= exact.norm <= bounded.norm * (1 + 1e-12)
    assert bounded.margins.min() == pytest.approx(1, abs=1e-9)
    with pytest.raises(ValueError, match="norm: expected at most 16"):
        margin_ratio(wide, bounded, selected, "cut")
    with pytest.raises(ValueError, match=r"solution.status: expected optimal or infeasible, got"):
        attsvm.support_tokens(wide, bounded)


def test_a_wide_problem_of_its_own_dimension_is_bounded(monkeypatch):
    """17 coordinates that all count: what is found is what enumeration proves to be the least."""
    data = attsvm.datasets.unit_sphere(6, 8, 17, rng=0)
    bounded = att_svm(data, attsvm.optimal_tokens(data), norm="cut")
    assert bounded.status == "bounded"
    assert bounded.kkt <= 1e-9
    assert bounded.margins.min() == pytest.approx(1, abs=1e-9)
    monkeypatch.setattr(cut_norm, "MOST_SIGNS", 17)
    exact = att_svm(data, attsvm.optimal_tokens(data), norm="cut")
    assert exact.status == "optimal"
    assert exact.norm / 1.783 <= (1 - bounded.gap) * bounded.norm <= exact.norm
    assert bounded.norm == pytest.approx(exact.norm, rel=1e-9)


def test_programs_have_no_products_that_are_none(monkeypatch):
    counts = []

    def spied(problem, start):
        counts.append((problem.tokens.any(axis=(0, 1, 2)).sum(), problem.tokens.shape[-1]))
        return smallest_sum(problem, start)

    smallest_sum = cut_norm._smallest_sum
    monkeypatch.setattr(cut_norm, "_smallest_sum", spied)
    data = attsvm.datasets.unit_sphere(6, 8, 17, rng=0)
    att_svm(data, attsvm.optimal_tokens(data), norm="cut")
    assert len(counts) > 2
    assert all(used == columns for used, columns in counts)


def test_a_program_that_is_not_solved_is_an_error(monkeypatch):
    def unresolved(problem, start):
        result, names = smallest_sum(problem, start)
        return result | {"status": np.full_like(result["status"], UNRESOLVED)}, names

    smallest_sum = cut_norm._smallest_sum
    monkeypatch.setattr(cut_norm, "_smallest_sum", unresolved)
    data = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
    with pytest.raises(attsvm.SolverError, match="no certified cut-norm answer"):
        att_svm(data, attsvm.optimal_tokens(data), norm="cut")


@pytest.mark.slow  # takes a minute
def test_programs_of_many_products_are_solved():
    """In one of them a coefficient is 3.5e-7 where the others are 1e-4 and more."""
    data = attsvm.datasets.unit_sphere(30, 16, 32, rng=32)
    bounded = att_svm(data, attsvm.optimal_tokens(data), norm="cut")
    assert bounded.status == "bounded"
    assert bounded.kkt <= 1e-12
    assert bounded.norm < 0.99


def least_of_vectors(data, selected):
    """Least t with W = (<u_j, v_k>), |u_j|² = |v_k|² = t, that meets the constraints: Clarabel."""
    tokens = np.asarray(data.tokens)
    differences = tokens[np.arange(len(selected)), selected][:, None] - tokens
    rows = np.einsum("itj,ik->itjk", differences, data.queries)[differences.any(axis=2)]
    d, e = rows.shape[1:]
    places = [(i, j) for j in range(d + e) for i in range(j + 1)]  # of a symmetric matrix
    unit = np.zeros((d + e, 1 + len(places)))
    unit[:, 0] = 1.0
    unit[np.arange(d + e), [1 + places.index((j, j)) for j in range(d + e)]] = -1.0
    meet = np.zeros((len(rows), 1 + len(places)))
    for k, (i, j) in enumerate(places):
        if i < d <= j:
            meet[:, 1 + k] = -rows[:, i, j - d] / np.sqrt(2)
    cone = np.eye(1 + len(places))[1:]
    limits = sparse.csc_matrix(np.vstack([unit, meet, -cone]))
    right = np.concatenate([np.zeros(d + e), -np.ones(len(rows)), np.zeros(len(places))])
    cones = [
        clarabel.ZeroConeT(d + e),
        clarabel.NonnegativeConeT(len(rows)),
        clarabel.PSDTriangleConeT(d + e),
    ]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    size = np.eye(1, 1 + len(places))[0]
    none = sparse.csc_matrix((1 + len(places), 1 + len(places)))
    solution = clarabel.DefaultSolver(none, size, limits, right, cones, settings).solve()
    return solution.obj_val


@pytest.mark.parametrize(("n", "T", "d"), [(6, 8, 17), (12, 5, 20)])
def test_the_lower_bound_of_a_wide_problem_is_that_of_the_semidefinite_program(n, T, d):
    data = attsvm.datasets.unit_sphere(n, T, d, rng=1)
    selected = attsvm.optimal_tokens(data)
    bounded = att_svm(data, selected, norm="cut")
    lower = (1 - bounded.gap) * bounded.norm
    assert lower == pytest.approx(least_of_vectors(data, selected), rel=2e-5)


def test_equalities_given_twice_leave_the_bound_by_vectors():
    rng = np.random.default_rng(0)
    rows, columns = rng.standard_normal((2, 1, 12, 17))
    equality = np.arange(12)[np.newaxis] < 6
    bounds = []
    for times in (1, 2):
        parts = (np.concatenate([part] * times, axis=1) for part in (rows, equality, columns))
        tokens, equal, queries = parts
        problem = row_problem(tokens, np.ones(equal.shape), equal, queries)
        dual = cut_norm._dual_of_vectors(cut_norm._Rows.of(problem))
        bounds.append(np.sum(problem.rhs * dual))
    assert bounds[1] == pytest.approx(bounds[0], rel=2e-5)


def test_tokens_that_stand_far_from_zero_lose_no_digits():
    """Only differences of tokens count, and these are exact here."""
    rng = np.random.default_rng(4)
    tokens, queries = rng.integers(-4, 5, (4, 5, 6)), rng.integers(-4, 5, (4, 6))
    near = AttentionData(tokens.astype(float), np.ones(4), queries=queries.astype(float))
    far = AttentionData(tokens + 2.0**40, np.ones(4), queries=queries.astype(float))
    selected = [0, 1, 2, 3]
    expected = att_svm(near, selected, norm="cut")
    assert expected.feasible
    found = att_svm(far, selected, norm="cut")
    assert found.norm == pytest.approx(expected.norm, rel=1e-14)


def test_a_vector_has_the_max_norm():
    data = AttentionData(np.random.default_rng(5).standard_normal((2, 3, 20)), [1, 1])
    cut = attsvm.prompt_svm(data, [0, 2], norm="cut")
    assert np.array_equal(cut.p, attsvm.prompt_svm(data, [0, 2], norm="max").p)
    assert margin_ratio(data, cut, [0, 2], "cut") == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("norm", ["fro", "spec", "max"])
def test_no_factors_are_smaller_than_the_product_norm(norm):
    of_factors, of_product = as_svm_norm("norm", norm), as_svm_norm("norm", product_norm(norm))
    K, Q = np.random.default_rng(6).standard_normal((2, 5, 4, 3))
    columns = 3 if norm == "max" else 1
    pair = columns * of_factors.values(K) * of_factors.values(Q)
    assert (of_product.values(K @ np.swapaxes(Q, 1, 2)) <= pair * (1 + 1e-12)).all()


def test_factors_attain_the_product_norm():
    """Of the nuclear and spectral norm exactly; of the cut norm with many columns of signs."""
    W = np.random.default_rng(7).standard_normal((4, 4))
    U, s, Vt = np.linalg.svd(W)
    K, Q = U * np.sqrt(s), Vt.T * np.sqrt(s)
    fro, spec, largest = (NORMS[name].values for name in ("fro", "spec", "max"))
    assert fro(K) * fro(Q) == pytest.approx(NORMS[product_norm("fro")].values(W))
    assert spec(W) * spec(np.eye(4)) == pytest.approx(NORMS[product_norm("spec")].values(W))
    products = plain_svm.products_of_signs(4, 4)
    rng = np.random.default_rng(8)
    used = products[rng.choice(len(products), 5, replace=False)].reshape(-1, 4, 4)
    counts = np.array([5, 4, 3, 2, 1]) * 7
    K = np.repeat(used[:, :, 0], counts, axis=0).T  # s, up to the sign of its first product
    Q = np.repeat(used[:, 0] * used[:, :1, 0], counts, axis=0).T
    mean = np.einsum("k,kjc->jc", counts / counts.sum(), used)
    np.testing.assert_allclose(K @ Q.T / counts.sum(), mean, atol=1e-15)
    assert largest(K) * largest(Q) == 1.0
    assert NORMS["cut"].values(mean) <= 1.0 + 1e-12


def test_other_norms_have_no_product_norm_here():
    with pytest.raises(ValueError, match="norm: expected one of 'fro', 'max', 'spec', got 'l1'"):
        product_norm("l1")
    with pytest.raises(ValueError, match="norm: expected one of 'fro', 'max', 'spec', got 3"):
        product_norm(3)
