"""SVMs in other norms than Frobenius and nuclear: certificates, independent solvers, formulas."""

from __future__ import annotations

import numpy as np
import plain_svm
import pytest

import attsvm
from attsvm import (
    AttentionData,
    att_svm,
    diagonal_svm,
    general_svm,
    label_svm,
    prompt_svm,
)
from attsvm.svm import solvers
from attsvm.svm.norms import as_svm_norm
from attsvm.svm.svm_problem import attention_problem

NORMS = ("max", "l1", "spec", "cut", 1.1, 1.5, 3.0, 10.0)
every_norm = pytest.mark.parametrize("norm", NORMS)


def random_problem(rng, n, T, d, lengths=None):
    data = AttentionData(
        rng.standard_normal((n, T, d)),
        np.ones(n),
        queries=rng.standard_normal((n, d)),
        lengths=lengths,
    )
    return data, rng.integers(0, T if lengths is None else np.min(lengths), n)


def plain_rows(data, selected):
    queries = None if data.queries is None else data.queries.astype(float)
    return plain_svm.attention_rows(data.tokens.astype(float), queries, selected, data.lengths)


def assert_certified(data, selected, solution, norm, tolerance=1e-9):
    """Gap and residuals of one problem, from W and the multipliers and nothing else."""
    made_small = as_svm_norm("norm", norm)
    rows = plain_rows(data, selected)
    token = np.arange(data.T)
    others = (token < data.lengths[:, np.newaxis]) & (token != np.asarray(selected)[:, np.newaxis])
    W = solution.p[:, np.newaxis] if solution.variable == "p" else solution.W
    margins, dual = rows @ W.ravel(), solution.dual[others]
    G = (dual @ rows).reshape(W.shape)
    size = float(made_small.values(W))
    assert solution.norm == pytest.approx(size, rel=1e-12)
    assert solution.margins[others] == pytest.approx(margins, rel=1e-9, abs=1e-9)
    assert np.isposinf(solution.margins[~others]).all()
    assert not solution.dual[~others].any()
    assert margins.min() == pytest.approx(1, abs=1e-9)
    assert dual.min() >= 0
    assert float(made_small.dual_values(G)) <= 1 + 1e-12
    assert size - dual.sum() <= tolerance * size
    assert max(solution.gap, solution.kkt) <= tolerance


def check_random_problem(rng, norm):
    """Status and norm are those of a program that attsvm does not use."""
    n, T, d = rng.integers(2, 6), rng.integers(2, 5), rng.integers(2, 6)
    lengths = rng.integers(2, T + 1, n) if rng.random() < 0.3 else None
    data, selected = random_problem(rng, n, T, d, lengths)
    solution = att_svm(data, selected, norm=norm)
    rows = plain_rows(data, selected)
    assert solution.feasible == plain_svm.feasible(rows, np.ones(len(rows)))
    if solution.feasible:
        assert_certified(data, selected, solution, norm)
        expected = plain_svm.smallest_norm(rows, d, norm)
        assert solution.norm == pytest.approx(expected, rel=1e-6)
    else:
        assert (solution.W, solution.unique, solution.norm) == (None, None, np.inf)
        assert np.abs(solution.certificate[data.valid] @ np.ones(data.valid.sum()) - 1) < 1e-9
    return solution.feasible


@every_norm
def test_answers_are_those_of_independent_solvers(norm):
    rng = np.random.default_rng(int(10 * float(norm)) if not isinstance(norm, str) else len(norm))
    assert sum(check_random_problem(rng, norm) for _ in range(8)) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("norm", [*NORMS, 1.05, 1.75, 20.0])
def test_a_thousand_answers_are_those_of_independent_solvers(norm):
    rng = np.random.default_rng(100)
    found = [check_random_problem(rng, norm) for _ in range(1000)]
    assert 300 < sum(found) < 1000


@pytest.mark.slow
@pytest.mark.parametrize("norm", [*NORMS, 1.05, 1.75, 5.0, 20.0])
@pytest.mark.parametrize("size", [(6, 8, 10), (20, 10, 20), (3, 6, 30)])
def test_published_sizes_are_certified(norm, size):
    data = attsvm.datasets.unit_sphere(*size, batch=100 if size[0] < 20 else 10, rng=1)
    selected = np.random.default_rng(2).integers(0, size[1], data.labels.shape)
    solution = att_svm(data, selected, norm=norm)
    if norm == "cut" and size[2] > 16:
        assert (solution.status == "bounded").all()
        return
    assert (solution.status == "optimal").all()
    assert max(solution.gap.max(), solution.kkt.max()) <= 1e-9
    for b, problem in enumerate(data.problems()):
        if b < 3:
            one = att_svm(problem, selected[b], norm=norm)
            assert_certified(problem, selected[b], one, norm)
            assert np.array_equal(one.W, solution.W[b])


@pytest.mark.parametrize("norm", ["max", "l1"])
def test_interior_points_lose_no_digits_near_the_end(norm):
    """Directions that are differences of whole multipliers left 5 of these to four doubles."""
    data = attsvm.datasets.unit_sphere(10, 10, 20, batch=100, rng=2)
    problem = attention_problem(data, attsvm.optimal_tokens(data))
    result, _ = as_svm_norm("norm", norm).solvers["native"](problem, None)
    assert (result["status"] == 0).all()
    assert result["gap"].max() <= 1e-13
    assert result["iterations"].max() <= 20


def test_one_sample_that_decides_alone_leaves_the_rest_of_w_free():
    """In the spectral norm A*(λ) then has rank one, and most of W is fixed by nothing."""
    data = attsvm.datasets.unit_sphere(6, 8, 10, batch=100, rng=1)
    selected = np.random.default_rng(2).integers(0, 8, data.labels.shape)[22]
    problem = list(data.problems())[22]
    solution = att_svm(problem, selected, norm="spec")
    assert_certified(problem, selected, solution, "spec")
    assert solution.unique is False
    assert (solution.dual.max(axis=1) > 1e-9).sum() == 1


def test_a_face_that_float64_does_not_settle_is_solved_in_twice_its_precision():
    data = attsvm.datasets.unit_sphere(8, 4, 9, batch=250, rng=113).take([18])
    selected = np.random.default_rng(13).integers(0, 4, (250, 8))[18]
    problem = next(data.problems())
    assert_certified(problem, selected, att_svm(problem, selected, norm="spec"), "spec")


@pytest.mark.parametrize("p", [1.001, 1.02, 50.0, 200.0, 1e4, 1e6])
def test_the_number_of_steps_does_not_depend_on_p(p):
    data = attsvm.datasets.unit_sphere(6, 8, 10, batch=20, rng=1)
    selected = attsvm.optimal_tokens(data)
    result, _ = as_svm_norm("norm", p).solvers["native"](attention_problem(data, selected), None)
    assert (result["status"] == 0).all()
    assert result["iterations"].max() <= 30
    for problem, chosen in zip(data.problems(), selected, strict=True):
        assert_certified(problem, chosen, att_svm(problem, chosen, norm=p), p, tolerance=1e-11)


def test_two_norms_of_large_p_have_nearly_the_same_margin():
    """|W|_max <= |W|_p <= 100^(1/p) |W|_max for the 100 entries of W."""
    data = attsvm.datasets.unit_sphere(6, 8, 10, rng=1)
    selected = attsvm.optimal_tokens(data)
    largest = att_svm(data, selected, norm="max").norm
    for p in (1e3, 1e5, 1e8):
        assert (
            largest * (1 - 1e-12)
            <= att_svm(data, selected, norm=p).norm
            <= 100 ** (1 / p) * largest
        )


@pytest.mark.parametrize("norm", [*NORMS, 1.001, 300.0, 1e6])
def test_one_constraint_gives_the_inverse_of_its_dual_norm(norm):
    """D'Wz >= 1: N(W) = 1 / N*(D z')."""
    data = AttentionData([[[3.0, 1.0], [1.0, 0.0]]], [1], queries=[[1.0, 2.0]])
    solution = att_svm(data, [0], norm=norm)
    row = np.outer([2.0, 1.0], [1.0, 2.0])
    size = float(as_svm_norm("norm", norm).dual_values(row))
    assert solution.norm == pytest.approx(1 / size, rel=1e-13)
    assert solution.dual == pytest.approx(np.array([[0.0, 1 / size]]))
    assert_certified(data, [0], solution, norm)


@every_norm
def test_answers_do_not_depend_on_the_number_of_threads(norm):
    rng = np.random.default_rng(5)
    data, selected = random_problem(rng, 4, 4, 3)
    several, choices = data.repeated(3), np.tile(selected, (3, 1))
    for problem, chosen in ((data, selected), (several, choices)):
        one, *others = (att_svm(problem, chosen, norm=norm, num_threads=k) for k in (1, 2, 3))
        for other in others:
            assert one.left.tobytes() == other.left.tobytes()
            assert one.dual.tobytes() == other.dual.tobytes()


def test_no_thread_at_all_is_refused():
    data, selected = random_problem(np.random.default_rng(6), 2, 3, 3)
    calls = [(att_svm, {"solver": solver}) for solver in ("native", "osqp", "active-set")]
    calls += [(solve, {}) for solve in (prompt_svm, label_svm, general_svm, diagonal_svm)]
    for solve, options in calls:
        choice = np.eye(3)[selected] if solve is general_svm else selected
        with pytest.raises(ValueError, match="num_threads: expected a positive integer, got 0"):
            solve(data, choice, num_threads=0, **options)


@every_norm
def test_the_norm_does_not_depend_on_units(norm):
    """Tokens times c: the norm over c, and the same direction where it is unique."""
    rng = np.random.default_rng(4)
    data, selected = random_problem(rng, 3, 4, 4)
    plain = att_svm(data, selected, norm=norm)
    for c in (1e-6, 1e8):
        scaled = AttentionData(c * data.tokens, data.labels, queries=data.queries)
        solution = att_svm(scaled, selected, norm=norm)
        assert solution.norm == pytest.approx(plain.norm / c, rel=1e-9)
        if plain.unique:
            assert pytest.approx(plain.W / c, rel=1e-6, abs=1e-7 * plain.norm / c) == solution.W


@every_norm
def test_repeated_tokens_and_queries_change_nothing(norm):
    rng = np.random.default_rng(5)
    data, selected = random_problem(rng, 3, 4, 5)
    expected = att_svm(data, selected, norm=norm)
    tokens = np.concatenate([data.tokens, data.tokens[:, :1], data.tokens[:, ::-1]], axis=1)
    tokens = tokens[:, [t for t in range(9) if t != 4]]
    twice = AttentionData(
        np.concatenate([tokens, tokens[:2]]), np.ones(5), queries=data.queries[[0, 1, 2, 0, 1]]
    )
    # The selected token itself must not be repeated.
    clean = twice.tokens.copy()
    for i, t in enumerate(selected[[0, 1, 2, 0, 1]]):
        same = (clean[i] == clean[i, t]).all(axis=1)
        same[t] = False
        clean[i, same] = clean[i, (t + 1) % 4]
    twice = AttentionData(clean, np.ones(5), queries=twice.queries)
    solution = att_svm(twice, selected[[0, 1, 2, 0, 1]], norm=norm)
    assert solution.norm == pytest.approx(expected.norm, rel=1e-10)
    assert solution.gap <= 1e-9


@every_norm
def test_an_infeasible_choice_is_proved_so(norm):
    """The mean of two tokens cannot stand above both of them."""
    data = AttentionData([[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]], [1], queries=[[1.0, -1.0]])
    solution = att_svm(data, [1], norm=norm)
    assert solution.status == "infeasible"
    assert solution.certificate == pytest.approx(np.array([[0.5, 0.0, 0.5]]))


@every_norm
def test_sets_of_tokens_are_kept_equal(norm):
    rng = np.random.default_rng(6)
    data, _ = random_problem(rng, 3, 4, 5)
    attention = np.array([[0.5, 0.5, 0, 0], [0, 0, 1.0, 0], [0.2, 0.5, 0.3, 0]])
    solution = general_svm(data, attention, norm=norm)
    rows, rhs, equality = [], [], []
    for i, a in enumerate((0, 2, 1)):
        for t in range(4):
            if t != a:
                rows.append(np.kron(data.tokens[i, a] - data.tokens[i, t], data.queries[i]))
                equality.append(attention[i, t] > 0)
                rhs.append(0.0 if attention[i, t] > 0 else 1.0)
    rows, rhs, equality = np.array(rows), np.array(rhs), np.array(equality)
    expected = plain_svm.smallest_norm(rows, 5, norm, rhs, equality)
    assert solution.norm == pytest.approx(expected, rel=1e-6)
    assert max(solution.gap, solution.kkt) <= 1e-9
    values = rows @ solution.W.ravel()
    assert np.abs(values[equality]).max() <= 1e-9
    assert values[~equality].min() >= 1 - 1e-9
    assert solution.dual[attention == 0].min() >= 0


@every_norm
def test_prompts_have_every_norm(norm):
    rng = np.random.default_rng(7)
    data = AttentionData(rng.standard_normal((2, 3, 6)), [1, 1])
    solution = prompt_svm(data, [0, 2], norm=norm)
    rows = plain_rows(data, [0, 2])
    if norm == "spec":  # of a vector: its Euclidean norm
        assert np.array_equal(solution.p, prompt_svm(data, [0, 2]).p)
        return
    expected = plain_svm.smallest_norm(rows, 6, norm)
    assert solution.norm == pytest.approx(expected, rel=1e-6)
    assert_certified(data, [0, 2], solution, norm)


@every_norm
def test_margins_that_are_not_required_may_be_zero(norm):
    rng = np.random.default_rng(8)
    data = AttentionData(rng.standard_normal((3, 3, 6)), [1, 1, 1])
    required = np.array([True, False, True])
    solution = prompt_svm(data, [0, 2, 1], required=required, norm=norm)
    assert max(solution.gap, solution.kkt) <= 1e-9
    rhs = plain_svm.required_margins(data.tokens, required)
    if norm != "spec":
        expected = plain_svm.smallest_norm(plain_rows(data, [0, 2, 1]), 6, norm, rhs)
        assert solution.norm == pytest.approx(expected, rel=1e-6)


@every_norm
def test_more_coordinates_than_samples(norm):
    """W in the max, l1 and l_p norm has no low rank, and its factors more rows than samples."""
    rng = np.random.default_rng(9)
    data, selected = random_problem(rng, 2, 3, 7)
    solution = att_svm(data, selected, norm=norm)
    assert_certified(data, selected, solution, norm)
    assert pytest.approx(solution.left.T @ solution.right, abs=1e-15) == solution.W


@pytest.mark.parametrize("norm", ["max", "l1", "spec", 50.0])
def test_many_constraints_are_solved_with_those_that_matter(norm):
    """Of 599 constraints with 16 and with 400 coordinates, on any number of threads."""
    rng = np.random.default_rng(4)
    tokens = rng.standard_normal((60, 11, 16))
    tokens[:, 0] += rng.choice([-2.0, 2.0], 16)
    prompts = AttentionData(tokens, np.ones(60), lengths=np.append(np.full(59, 11), 10))
    chosen = np.zeros(60, dtype=int)
    if norm != "spec":  # of a vector, which is the Frobenius norm
        assert_certified(prompts, chosen, prompt_svm(prompts, chosen, norm=norm), norm, 1e-12)
    data = attsvm.datasets.unit_sphere(40, 16, 20, rng=0)
    selected = attsvm.optimal_tokens(data)
    one, two = (att_svm(data, selected, norm=norm, num_threads=k) for k in (1, 2))
    assert_certified(data, selected, one, norm, 1e-12)
    assert one.left.tobytes() == two.left.tobytes()
    assert one.dual.tobytes() == two.dual.tobytes()
    opposite = AttentionData(np.concatenate([tokens, -tokens]), np.ones(120))
    assert prompt_svm(opposite, np.zeros(120, dtype=int), norm=norm).status == "infeasible"


@pytest.mark.parametrize(("norm", "least"), [(3.0, 1e-4), (50.0, 1e-4), ("max", 1e-3)])
def test_many_constraints_that_nearly_contradict_each_other(norm, least):
    """The first coordinate of every difference is small, the others are of either sign."""
    rng = np.random.default_rng(0)
    differences = rng.standard_normal((500, 8))
    differences[:, 0] = least * (1 + rng.random(500))
    data = AttentionData(np.stack([differences, 0 * differences], 1), np.ones(500))
    chosen = np.zeros(500, dtype=int)
    assert_certified(data, chosen, prompt_svm(data, chosen, norm=norm), norm)


@pytest.mark.parametrize("norm", [1.01, 3.0, 50.0])
def test_norms_of_any_p_bear_inputs_of_very_different_sizes(norm):
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((8, 5, 6))
    tokens[:, 0] += 3
    sizes = 10.0 ** rng.integers(-140, 141, (8, 1, 1))
    solution = prompt_svm(
        AttentionData(tokens * sizes, np.ones(8)), np.zeros(8, dtype=int), norm=norm
    )
    assert (solution.status, solution.solver) == ("optimal", "native")
    margins = np.einsum("ntd,d->nt", (tokens[:, :1] - tokens[:, 1:]) * sizes, solution.p)
    assert margins.min() == pytest.approx(1, abs=1e-9)
    assert solution.gap <= 1e-9


def test_equalities_are_among_many_constraints():
    rng = np.random.default_rng(6)
    data, _ = random_problem(rng, 24, 14, 24)
    attention = np.zeros((24, 14))
    attention[:, :2] = 0.5
    for norm in ("max", "l1", 50.0):
        solution = general_svm(data, attention, norm=norm)
        scores = np.einsum("ntd,de,ne->nt", data.tokens, solution.W, data.queries)
        assert np.ptp(scores[:, :2], axis=1) == pytest.approx(np.zeros(24), abs=1e-8)
        assert (scores[:, 1:2] - scores[:, 2:]).min() == pytest.approx(1, abs=1e-8)
        assert (solution.status, solution.gap <= 1e-9) == ("optimal", True)


def test_many_solutions_are_told_from_one():
    """W_11 + W_12 >= 1 has all (t, 1-t) in the l1 norm and one W in the others."""
    data = AttentionData([[[2.0, 0.0], [1.0, 0.0]]], [1], queries=[[1.0, 1.0]])
    found = {norm: att_svm(data, [0], norm=norm).unique for norm in ("fro", "l1", 3.0)}
    assert found == {"fro": True, "l1": False, 3.0: True}
    # In the max norm, the row that has no constraint is free up to the bound; so in the spectral.
    assert [att_svm(data, [0], norm=norm).unique for norm in ("max", "spec")] == [False, False]
    # And so with many constraints on the first coordinate.
    many = AttentionData([[[2.0, 0.0], [1.0 - k / 300, 0.0]] for k in range(300)], np.ones(300))
    assert prompt_svm(many, np.zeros(300, dtype=int), norm="max").unique is False
    line = AttentionData([[[2.0], [1.0]]], [1], queries=[[1.0]])
    assert all(att_svm(line, [0], norm=norm).unique for norm in ("max", "l1", "spec", 1.5))


def problems_of_small_integers(seed, count):
    """Tokens and queries that have many ties; those that nothing separates are left out."""
    rng = np.random.default_rng(seed)
    while count > 0:
        n, T, d, most = (
            rng.integers(1, 5),
            rng.integers(2, 5),
            rng.integers(1, 5),
            rng.integers(1, 4),
        )
        tokens = rng.integers(-most, most + 1, (n, T, d)).astype(float)
        queries = rng.integers(-most, most + 1, (n, d)).astype(float)
        data, selected = AttentionData(tokens, np.ones(n), queries=queries), rng.integers(0, T, n)
        if att_svm(data, selected).feasible:
            yield data, selected
            count -= 1


@pytest.mark.parametrize("norm", ["max", "l1"])
def test_other_solutions_are_those_of_a_linear_program(norm):
    rng = np.random.default_rng(1)
    found = []
    for data, selected in problems_of_small_integers(2, 150):
        rows = plain_rows(data, selected)
        spread = plain_svm.spread_of_solutions(rows, norm, rng.standard_normal(rows.shape[1]))
        found.append(att_svm(data, selected, norm=norm).unique)
        assert found[-1] is (spread < 1e-6)
        assert not 1e-6 < spread < 1e-4
    assert 30 < sum(found) < 120


@pytest.mark.parametrize("norm", ["max", "l1", "spec", "nuc"])
def test_copies_of_constraints_leave_other_solutions_as_they_are(norm):
    decided = []
    for data, selected in problems_of_small_integers(3, 40):
        alone, twice = (
            att_svm(
                AttentionData(
                    np.repeat(data.tokens, copies, axis=0),
                    np.ones(copies * data.n),
                    queries=np.repeat(data.queries, copies, axis=0),
                ),
                np.repeat(selected, copies),
                norm=norm,
            ).unique
            for copies in (1, 3)
        )
        assert alone is twice
        decided.append(alone is not None)
    assert sum(decided) >= 38
    # Also of more constraints than are chosen to be solved with at first
    one = AttentionData([[[2.0, 0.0], [1.0, 0.0]]], [1], queries=[[1.0, 1.0]])
    for copies in (1, 2, 300):
        tokens, queries = (np.repeat(array, copies, axis=0) for array in (one.tokens, one.queries))
        many = AttentionData(tokens, np.ones(copies), queries=queries)
        solution = att_svm(many, np.zeros(copies, dtype=int), norm=norm)
        assert solution.unique is (norm == "nuc")


@pytest.mark.parametrize(("norm", "tied"), [("max", 0.0), ("l1", 1.0)])
def test_what_is_nearly_tied_is_not_taken_for_tied(norm, tied):
    """p_1 + c p_2 >= 1: for c = 0 a small p_2 changes nothing in the max norm, for c = 1 in l1."""
    for off, unique in ((0.0, False), (1e-10, None), (1e-4, True)):
        data = AttentionData([[[1.0, abs(tied - off)], [0.0, 0.0]]], [1])
        assert prompt_svm(data, [0], norm=norm).unique is unique


def test_nothing_to_separate_gives_zero():
    data = AttentionData([[[1.0, 2.0]]], [1], queries=[[1.0, 0.0]])
    for norm in NORMS:
        solution = att_svm(data, [0], norm=norm)
        assert (solution.norm, solution.unique, solution.solver) == (0.0, True, "none")
        assert not solution.W.any()


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch):
    data = attsvm.datasets.unit_sphere(4, 4, 6, batch=6, rng=3)
    selected = np.zeros((6, 4), dtype=int)
    for norm in NORMS:
        found = []
        for threads in (1, 2):
            monkeypatch.setattr(solvers, "thread_count", lambda _, threads=threads: threads)
            found.append(att_svm(data, selected, norm=norm).W)
        assert np.array_equal(*found)


def test_graphs_have_every_norm():
    """Equalities in a component; the Frobenius solution of the same graph is not smaller."""
    rng = np.random.default_rng(11)
    E = rng.standard_normal((4, 6))
    data = attsvm.NextTokenData(E, [[1, 0], [2, 0], [1, 2, 0], [2, 1, 3, 0]], [1, 2, 1, 2])
    frobenius = attsvm.graph_svm(data).W
    for norm in (*NORMS, "nuc"):
        solution = attsvm.graph_svm(data, norm=norm)
        size = as_svm_norm("norm", norm).values
        assert solution.norm == pytest.approx(float(size(solution.W)), rel=1e-12)
        assert solution.norm <= float(size(frobenius)) * (1 + 1e-9)
        assert max(solution.gap, solution.kkt) <= (1e-8 if norm == "nuc" else 1e-9)
        strict = np.isfinite(solution.margins) & (solution.margins > 0.5)
        assert solution.margins[strict].min() >= 1 - 1e-9


def test_norms_that_are_none_are_refused():
    data = AttentionData([[[1.0], [0.0]]], [1], queries=[[1.0]])
    for bad, error in (
        ("l3", ValueError),
        (1.0, ValueError),
        (np.inf, ValueError),
        (None, TypeError),
    ):
        with pytest.raises(error, match="norm: expected"):
            att_svm(data, [0], norm=bad)
    with pytest.raises(ValueError, match="solver: expected one of 'auto', 'native'"):
        att_svm(data, [0], norm="max", solver="osqp")
    with pytest.raises(ValueError, match="start: expected None"):
        att_svm(data, [0], norm="max", start=[[0.0, 1.0]])
