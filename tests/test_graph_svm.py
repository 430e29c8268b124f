"""Graph-SVM: components are level, priorities have margins."""

from __future__ import annotations

import numpy as np
import plain_svm
import pytest
from active_set import smallest_exactly
from hypothesis import given, settings
from hypothesis import strategies as st

from attsvm import NextTokenData, SolverError, general_svm, graph_svm, train
from attsvm.datasets import next_token, text
from attsvm.theory import cyclic_subspace

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=30)
EMBEDDINGS = ["random", "orthonormal", "equicorrelated"]


def closure(data: NextTokenData, k: int, edges=None) -> np.ndarray:
    """(K, K) bool: whether there is a way from i to j in the graph of k."""
    way = np.zeros((data.K, data.K), dtype=bool)
    for i in range(data.n):
        x = data.contexts[i, : data.lengths[i]]
        if data.last[i] != k:
            continue
        if edges is not None:
            for y, j in edges[i]:
                way[y, j] = True
        elif data.labels[i] in x:
            way[data.labels[i], x[x != data.labels[i]]] = True
    for m in range(data.K):
        way |= way[:, m : m + 1] & way[m : m + 1]
    return way


def all_pairs(data: NextTokenData, edges=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, right-hand sides and equalities of every pair of tokens with a way between them."""
    E = data.embeddings
    rows, rhs, equality = [], [], []
    for k in range(data.K):
        way = closure(data, k, edges)
        for i in range(data.K):
            for j in range(data.K):
                mutual = way[i, j] and way[j, i]
                if i != j and way[i, j] and (not mutual or i < j):
                    rows.append(np.kron(E[i] - E[j], E[k]))
                    rhs.append(0.0 if mutual else 1.0)
                    equality.append(mutual)
    return np.array(rows), np.array(rhs), np.array(equality, dtype=bool)


def textbook(data: NextTokenData, edges=None) -> np.ndarray:
    """W of all pairs, by a conic solver."""
    rows, rhs, equality = all_pairs(data, edges)
    if not rhs.any():
        return np.zeros((data.d, data.d))
    return plain_svm.smallest(rows, rhs, equality).reshape(data.d, data.d)


@FEW
@given(
    seed=SEEDS,
    embedding=st.sampled_from(EMBEDDINGS),
    kind=st.sampled_from(["cyclic", "acyclic"]),
    sizes=st.sampled_from([(6, 4, 6, 8), (4, 6, 8, 8), (8, 3, 4, 6)]),
)
def test_edges_say_what_all_pairs_say(seed, embedding, kind, sizes):
    """P4-8: the per-edge Graph-SVM is the one of all pairs; an independent solver agrees.

    A conic solver finds the smallest norm to about 1e-13, and so W to its root.
    """
    data = next_token(*sizes, kind=kind, embedding=embedding, rng=seed)
    solution = graph_svm(data)
    rows, rhs, equality = all_pairs(data)
    of_pairs = smallest_exactly(rows, rhs, equality).w.reshape(data.d, data.d)
    assert pytest.approx(of_pairs, abs=1e-9) == solution.W
    assert pytest.approx(textbook(data), abs=1e-6) == solution.W
    assert solution.norm == pytest.approx(np.linalg.norm(textbook(data)), rel=1e-10)


@FEW
@given(seed=SEEDS, embedding=st.sampled_from(EMBEDDINGS))
def test_margins_duals_and_support_are_those_of_the_labels_constraints(seed, embedding):
    data = next_token(6, 4, 6, 8, kind="cyclic", embedding=embedding, rng=seed)
    solution = graph_svm(data)
    E, W = data.embeddings, solution.W
    built = np.zeros_like(W)
    for i in range(data.n):
        for t in range(data.T):
            x, y, k = data.contexts[i, t], data.labels[i], data.last[i]
            if x == y:
                assert solution.margins[i, t] == np.inf
                assert solution.dual[i, t] == 0
                assert not solution.support[i, t]
                continue
            margin = (E[y] - E[x]) @ W @ E[k]
            assert solution.margins[i, t] == pytest.approx(margin, abs=1e-12)
            way = closure(data, k)
            assert solution.support[i, t] == (way[x, y] or margin < 1 + 1e-6)
            if not way[x, y]:
                assert solution.dual[i, t] >= 0
            built += solution.dual[i, t] * np.outer(E[y] - E[x], E[k])
    assert built == pytest.approx(W, abs=1e-10)
    assert solution.gap <= 1e-10
    assert solution.kkt <= 1e-10


@pytest.mark.parametrize("d", [3, 5, 40])
def test_equal_embeddings_cannot_be_told_apart(d):
    """The label must beat a token with its own embedding, in more dimensions than tokens too."""
    for seed in range(10):
        E = np.random.default_rng(seed).standard_normal((3, d))
        E[1] = E[0]
        solution = graph_svm(NextTokenData(E, [[0, 1, 2]], [0]))
        assert solution.status == "infeasible"
        assert solution.certificate.tolist() == [[0.0, 1.0, 0.0]]


def test_dependent_embeddings_are_decided_by_the_data_as_given():
    """e_1 - e_2 = 2 (e_3 - e_4), exactly, and the priorities 1 > 2 and 4 > 3 for one last token."""
    for seed in range(10):
        E = np.round(64 * np.random.default_rng(seed).standard_normal((5, 9)))
        E[1] = E[2] + 2 * (E[3] - E[4])
        solution = graph_svm(NextTokenData(E, [[1, 2, 0], [4, 3, 0]], [1, 4]))
        assert solution.status == "infeasible"
        assert solution.gap <= 2.3e-16


def test_one_priority_by_hand():
    """w_1 - w_2 = 1 for last token 0: W = (e_1 - e_2) e_0' / 2 of orthonormal embeddings."""
    data = NextTokenData(np.eye(3), [[1, 2, 0], [1, 0]], [1, 1], lengths=None)
    expected = np.zeros((3, 3))
    expected[:, 0] = [-1 / 3, 2 / 3, -1 / 3]
    assert pytest.approx(expected, abs=1e-15) == graph_svm(data).W


def test_a_component_counts_as_one_coordinate():
    """{1, 2} before 0: 2u + w = 0 and u - w = 1."""
    data = NextTokenData(np.eye(3), [[1, 2, 0], [1, 2, 0]], [1, 2])
    solution = graph_svm(data)
    assert solution.W[:, 0] == pytest.approx(np.array([-2 / 3, 1 / 3, 1 / 3]), abs=1e-15)
    assert solution.norm == pytest.approx(np.sqrt(2 / 3))


def test_without_strict_priorities_it_is_zero():
    data = NextTokenData(np.eye(2), [[1, 0], [1, 0]], [1, 0])
    solution = graph_svm(data)
    assert not solution.W.any()
    assert (solution.norm, solution.status, solution.solver) == (0.0, "optimal", "none")
    single = graph_svm(NextTokenData(np.eye(2), [[1, 1]], [1]))
    assert not single.W.any()
    assert not graph_svm(NextTokenData(np.ones((2, 1)), [[1, 1]], [1])).W.any()


def test_zero_and_huge_embeddings():
    """Zero embeddings have no margins, which is proved; rows of size 1e310 are no numbers."""
    random = np.random.default_rng(0).normal(size=(3, 2))
    batch = np.stack([random, np.zeros((3, 2))])
    solution = graph_svm(NextTokenData(batch, [[[0, 1]], [[0, 1]]], [[0], [0]]))
    assert list(solution.status) == ["optimal", "infeasible"]
    assert graph_svm(NextTokenData(np.zeros((3, 2)), [[0, 1]], [0])).status == "infeasible"
    for huge in (1e155 * random, 1e300 * np.eye(3)):
        with pytest.raises(SolverError, match=r"1 constraints: .* beyond what float64 holds"):
            graph_svm(NextTokenData(huge, [[0, 1]], [0]))
    tied = graph_svm(NextTokenData(1e155 * random, [[1, 0], [1, 0]], [0, 1]))
    assert not tied.W.any()
    assert tied.margins[[0, 1], [0, 1]].tolist() == [0, 0]


@FEW
@given(seed=SEEDS)
def test_it_is_orthogonal_to_the_cyclic_subspace(seed):
    """P4-8."""
    for embedding in EMBEDDINGS:
        data = next_token(6, 4, 6, 8, kind="cyclic", embedding=embedding, rng=seed)
        solution = graph_svm(data)
        basis = cyclic_subspace(data).basis
        assert np.abs(np.tensordot(basis, solution.W)).max() <= 1e-10


@FEW
@given(seed=SEEDS, T=st.integers(1, 5))
def test_with_fewer_tokens_than_dimensions_the_spectral_solution_is_not_the_only_one(seed, T):
    data = next_token(6, T, 6, 8, kind="acyclic", embedding="random", rng=seed)
    solution = graph_svm(data, norm="spec")
    assert solution.unique is (solution.norm == 0)
    assert solution.W is not None
    outside = np.linalg.svd(data.embeddings)[2][6:]
    other = solution.W + 0.5 * solution.norm * np.outer(*outside)
    assert np.linalg.norm(other, 2) == pytest.approx(solution.norm, rel=1e-12)
    values = [data.embeddings @ W @ data.embeddings.T for W in (solution.W, other)]
    assert np.abs(values[0] - values[1]).max() <= 1e-12 * (1 + solution.norm)


def test_columns_and_the_joint_problem_agree(monkeypatch):
    data = next_token(10, 6, 8, 12, embedding="orthonormal", batch=30, rng=0)
    by_columns = graph_svm(data)
    monkeypatch.setitem(vars(data), "orthonormal", False)
    jointly = graph_svm(data)
    assert pytest.approx(jointly.W, abs=1e-10) == by_columns.W
    assert by_columns.norm == pytest.approx(jointly.norm, rel=1e-11)
    assert by_columns.margins == pytest.approx(jointly.margins, abs=1e-10)
    assert (by_columns.support == jointly.support).all()


@pytest.mark.parametrize("embedding", ["random", "orthonormal"])
def test_a_batch_is_its_problems(embedding):
    data = next_token(6, 4, 6, 8, embedding=embedding, batch=6, rng=1)
    together = graph_svm(data)
    for b, problem in enumerate(data.problems()):
        alone = graph_svm(problem)
        assert together.W[b] == pytest.approx(alone.W, abs=1e-12)
        assert together.norm[b] == pytest.approx(alone.norm, rel=1e-12)
        np.testing.assert_array_equal(together.support[b], alone.support)
    one_table = NextTokenData(data.embeddings[0], data.contexts, data.labels)
    shared = graph_svm(one_table)
    assert shared.W[2] == pytest.approx(graph_svm(one_table.problem(2)).W, abs=1e-12)


def test_padding_repeats_and_labels_outside_change_nothing():
    rng = np.random.default_rng(0)
    E = rng.standard_normal((5, 5))
    plain = NextTokenData(E, [[1, 2, 0], [3, 4, 0], [2, 1, 4]], [1, 4, 2])
    padded = NextTokenData(
        E,
        [[1, 2, 2, 0], [1, 2, 0, 3], [3, 4, 0, 1], [2, 1, 4, 4], [2, 1, 1, 4]],
        [1, 1, 4, 2, 3],
        lengths=[4, 3, 3, 3, 4],
    )
    one, other = graph_svm(plain), graph_svm(padded)
    assert pytest.approx(other.W, abs=1e-12) == one.W
    assert np.isinf(other.margins[4]).all()
    assert np.isinf(other.margins[3, 3])


def test_priorities_of_a_line_that_cannot_be_met_are_infeasible():
    """Embeddings -1, 0, 1 on the line: 0 cannot be before both."""
    E = [[-1.0], [0.0], [1.0]]
    assert pytest.approx(1.0) == graph_svm(NextTokenData(E, [[0, 1, 2]], [2])).W
    solution = graph_svm(NextTokenData(E, [[0, 1, 2]], [1]))
    assert solution.status == "infeasible"
    assert solution.W is None
    differences = np.array([[1.0], [0.0], [-1.0]])  # of the label with every token
    assert abs(float(solution.certificate[0] @ differences[:, 0])) <= 1e-12
    assert solution.certificate.sum() == pytest.approx(1.0)


def selected_edges(data: NextTokenData, attention, least=1e-2, ignored=9e-3):
    """Edges of the pseudo-graph as the published code makes them: from each selected id."""
    edges = []
    for x, s in zip(data.contexts, attention, strict=True):
        selected = {int(j) for j, a in zip(x, s, strict=True) if a > least}
        out = {int(j) for j, a in zip(x, s, strict=True) if ignored < a <= least}
        others = {int(j) for j in x} - out
        edges.append([(i, j) for i in selected for j in others if i != j])
    return edges


@FEW
@given(seed=SEEDS)
def test_the_local_machine_is_that_of_the_published_edges(seed):
    rng = np.random.default_rng(seed)
    data = next_token(6, 4, 6, 8, rng=rng)
    attention = rng.dirichlet(np.full(4, 0.2), size=6)
    solution = graph_svm(data, attention=attention)
    W = textbook(data, selected_edges(data, attention))
    assert pytest.approx(W, abs=1e-6) == solution.W
    assert solution.norm == pytest.approx(np.linalg.norm(W), rel=1e-10)


def test_where_attention_is_on_the_labels_the_local_machine_is_the_global_one():
    data = next_token(4, 6, 8, 8, kind="acyclic", batch=5, rng=0)
    attention = data.label_scores
    one, other = graph_svm(data), graph_svm(data, attention=attention)
    assert pytest.approx(other.W, abs=1e-12) == one.W
    run = train(data, lr=0.1, steps=2000)
    assert pytest.approx(one.W, abs=1e-12) == graph_svm(data, attention=run).W


def test_different_last_tokens_leave_the_general_machine():
    """Where every context has a query of its own, components are the selected sets."""
    data = next_token(1, 5, 8, 8, rng=3)
    attention = np.array([[0.5, 0.45, 0.05, 0.0, 0.0]])
    general = general_svm(data.as_attention(), attention, threshold=1e-2)
    assert pytest.approx(general.W, abs=1e-10) == graph_svm(data, attention=attention).W


def test_repeated_tokens_count_together():
    data = NextTokenData(np.eye(3), [[1, 1, 2, 0]], [2])
    weights = [[0.006, 0.006, 0.988, 0.0]]
    solution = graph_svm(data, attention=weights)
    assert solution.W[1, 0] == pytest.approx(solution.W[2, 0], abs=1e-15)
    left_out = graph_svm(data, attention=[[0.0047, 0.0047, 0.9906, 0.0]])
    assert not left_out.W[1].any()
    assert graph_svm(data, attention=[[0.001, 0.001, 0.998, 0.0]]).W[1, 0] < 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"norm": "l3"}, ValueError, r"^norm: expected one of 'fro', .*, got 'l3'"),
        ({"attention": [[1.0]]}, ValueError, r"^attention: expected shape \(n, T\) = \(2, 3\)"),
        ({"attention": np.full((2, 3), 1.0)}, ValueError, r"^attention: expected weights that sum"),
        (
            {"attention": np.full((2, 3), 1 / 3), "threshold": 0.5},
            ValueError,
            r"^threshold: expected a weight above it in every context",
        ),
        (
            {"attention": np.full((2, 3), 1 / 3), "ignored": 0.5},
            ValueError,
            r"^ignored: expected 0 <= ignored <= threshold < 1, got 0.5 and 0.01",
        ),
    ],
)
def test_what_is_wrong_is_named(options, error, message):
    with pytest.raises(error, match=message):
        graph_svm(next_token(2, 3, 4, 4, rng=0), **options)
    with pytest.raises(TypeError, match=r"^data: expected NextTokenData"):
        graph_svm(next_token(2, 3, 4, 4, rng=0).as_attention())


def test_text_has_a_certified_solution():
    """All of Hamlet's question: components, margins of many last tokens, one certificate."""
    source = """To be, or not to be, that is the question: Whether 'tis nobler in the mind to
    suffer the slings and arrows of outrageous fortune, or to take arms against a sea of troubles
    and by opposing end them. To die, to sleep, no more; and by a sleep to say we end the heartache
    and the thousand natural shocks that flesh is heir to."""
    data = text(source, context=24)
    solution = graph_svm(data)
    assert solution.gap <= 1e-12
    assert solution.kkt <= 1e-12
    rows, rhs, equality = all_pairs(data)
    values = rows @ solution.W.ravel()
    assert np.abs(values[equality]).max() <= 1e-12
    assert (values[~equality] >= rhs[~equality] - 1e-12).all()
    space = cyclic_subspace(data)
    assert space.dimension > 50
    assert np.abs(space.project(solution.W)).max() <= 1e-12


@pytest.mark.parametrize("norm", ["fro", "max", "l1", "spec", "nuc"])
def test_a_path_between_tokens_of_one_ulp_is_not_called_infeasible(norm):
    """2 over 1 over 0, after 1: W e_1 = (2/eps, 2/eps + 1), the last digit of which is extended."""
    contexts, labels = [[2, 1], [0, 1]], [2, 1]
    eps = np.finfo(float).eps
    for first, answer in ((1 + eps, "optimal"), (1.0, "infeasible"), (2.0, "optimal")):
        data = NextTokenData(np.array([[1.0, 0.0], [0.0, 1.0], [first, 0.0]]), contexts, labels)
        solution = graph_svm(data, norm=norm)
        assert solution.status == answer
        if first == 1 + eps:
            assert max(solution.gap, solution.kkt) <= 1e-9
            of_last = solution.left.reshape(-1, 2, 2)[:, 1]
            assert of_last[:, 0].sum() == pytest.approx(2 / eps, rel=1e-12)
            assert (of_last[:, 1] - of_last[:, 0]).sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("norm", ["fro", "max"])
def test_in_a_batch_only_what_rounding_might_decide_has_every_edge(norm):
    rng = np.random.default_rng(0)
    tables = rng.standard_normal((3, 4, 3)) * 10.0 ** rng.integers(-3, 4, (3, 4, 1))
    tables[1] = rng.standard_normal((4, 3))
    tables[2, 1] = tables[2, 0]
    contexts = [[0, 1, 2, 3], [1, 2, 3, 3], [2, 1, 0, 3]]
    data = NextTokenData(tables, [contexts] * 3, [[0, 1, 2]] * 3)
    together = graph_svm(data, norm=norm)
    for b in range(3):
        alone = graph_svm(data.problem(b), norm=norm)
        assert together.status[b] == alone.status
        assert together.norm[b] == pytest.approx(alone.norm, rel=1e-9)
        if alone.W is not None:
            assert together.W[b] == pytest.approx(alone.W, rel=1e-6, abs=1e-9 * alone.norm)
            assert together.dual[b] == pytest.approx(alone.dual, rel=1e-6, abs=1e-6)
