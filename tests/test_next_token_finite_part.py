"""W^fin of next-token data, the cyclic subspace it lies in, and W as W^fin + R W^mm."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_attention import exact

from attsvm import NextTokenData, cosine, decompose, finite_part, graph_svm, train
from attsvm.datasets import next_token, text
from attsvm.functional import loss_and_grad
from attsvm.heads import LinearScores
from attsvm.theory import cyclic_subset, cyclic_subspace, optimal_loss

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=30)


def components(data: NextTokenData, k: int) -> list[list[int]]:
    """Components of several tokens in the graph of k, by Warshall's closure."""
    way = np.zeros((data.K, data.K), dtype=bool)
    for i in range(data.n):
        x = data.contexts[i, : data.lengths[i]]
        if data.last[i] == k and data.labels[i] in x:
            way[data.labels[i], x[x != data.labels[i]]] = True
    for m in range(data.K):
        way |= way[:, m : m + 1] & way[m : m + 1]
    mutual = way & way.T
    return [np.flatnonzero(row).tolist() for row in np.unique(mutual, axis=0) if row.sum() > 1]


def spanning(data: NextTokenData) -> np.ndarray:
    """(m, d, d) matrices (e_i - e_j) e_k' that span S_fin, by its definition."""
    E = data.embeddings
    matrices = [
        np.outer(E[one[0]] - E[j], E[k])
        for k in range(data.K)
        for one in components(data, k)
        for j in one[1:]
    ]
    return np.array(matrices).reshape(-1, data.d, data.d)


def reduced(data: NextTokenData) -> list[tuple[list[int], int, int]]:
    """Contexts of the cyclic sub-dataset by its definition: tokens, label, last token."""
    kept = []
    for i in range(data.n):
        x, y, k = data.contexts[i, : data.lengths[i]], data.labels[i], data.last[i]
        component = next((ids for ids in components(data, k) if y in ids), [y])
        tokens = [int(j) for j in x if j in component]
        if y in x and set(tokens) != {y}:
            kept.append((tokens, int(y), int(k)))
    return kept


def exact_finite_part(data: NextTokenData) -> tuple[mpmath.matrix, mpmath.mpf]:
    """W^fin and its loss by Newton's method on coefficients of the spanning matrices."""
    basis = [exact(one) for one in spanning(data)]
    E = exact(data.embeddings)
    contexts = reduced(data)
    m = len(basis)
    slopes = []  # e_j' B e_k of every spanning matrix
    for tokens, _, k in contexts:
        slopes.append([[E[j] @ (B @ E[k]) for B in basis] for j in tokens])
    x = mpmath.matrix(m, 1)
    for _ in range(60):
        gradient, hessian = mpmath.matrix(m, 1), mpmath.matrix(m, m)
        loss = mpmath.mpf(0)
        for (tokens, y, _), rows in zip(contexts, slopes, strict=True):
            logits = [mpmath.fdot(row, x) for row in rows]
            weights = [mpmath.exp(a) for a in logits]
            total = mpmath.fsum(weights)
            right = mpmath.fsum(w for w, j in zip(weights, tokens, strict=True) if j == y)
            loss += mpmath.log(total / right)
            mean = [mpmath.fdot(weights, [r[c] for r in rows]) / total for c in range(m)]
            label = rows[tokens.index(y)]
            for a in range(m):
                gradient[a] += mean[a] - label[a]
                for b in range(m):
                    second = mpmath.fdot(weights, [r[a] * r[b] for r in rows]) / total
                    hessian[a, b] += second - mean[a] * mean[b]
        step = mpmath.lu_solve(hessian, -gradient)
        x += step
        if mpmath.norm(step, mpmath.inf) < mpmath.mpf(10) ** -25:
            W = sum((x[a] * basis[a] for a in range(m)), 0 * basis[0])
            return W, loss / data.n
    raise AssertionError("the steps do not vanish")


@pytest.mark.parametrize("seed", range(10))
def test_newton_agrees_with_fifty_digits(seed):
    data = next_token(6, 4, 6, 8, kind="cyclic", rng=seed)
    with mpmath.workdps(50):
        W, loss = exact_finite_part(data)
        rounded = np.array(W, dtype=np.float64)
        assert float(loss) == pytest.approx(optimal_loss(data), rel=1e-12)
    assert np.abs(finite_part(data) - rounded).max() < 1e-12 * max(1, np.abs(rounded).max())


@pytest.mark.parametrize("seed", range(3))
def test_embeddings_that_depend_on_each_other_agree_too(seed):
    """K = 6 tokens in d = 4: differences inside components are not free."""
    data = next_token(6, 4, 6, 4, kind="cyclic", rng=seed)
    assert not cyclic_subspace(data).free
    with mpmath.workdps(50):
        W, _ = exact_finite_part(data)
        rounded = np.array(W, dtype=np.float64)
    assert np.abs(finite_part(data) - rounded).max() < 1e-11 * max(1, np.abs(rounded).max())


def test_embeddings_in_too_few_dimensions_have_a_minimiser_in_their_subspace():
    """K = 4 tokens in d = 2, every token before every other: S_fin is all matrices."""
    contexts = [[0, 1, 2, 3]] * 4
    data = NextTokenData(np.random.default_rng(0).standard_normal((4, 2)), contexts, [0, 1, 2, 3])
    space = cyclic_subspace(data)
    assert space.dimension == 2
    W = finite_part(data)
    gradient = loss_and_grad(
        data.as_attention(), {"W": W}, head=LinearScores(data.label_scores), loss="log"
    )[1]["W"]
    assert np.abs(gradient).max() <= 1e-14


@FEW
@given(seed=SEEDS, embedding=st.sampled_from(["random", "orthonormal", "equicorrelated"]))
def test_the_gradient_of_the_cyclic_loss_vanishes_there(seed, embedding):
    """And W^fin lies in S_fin: it is the minimiser of a convex function."""
    data = next_token(10, 4, 6, 8, kind="cyclic", embedding=embedding, rng=seed)
    W, space, small = finite_part(data), cyclic_subspace(data), cyclic_subset(data)
    assert pytest.approx(space.project(W), abs=1e-12 * np.abs(W).max()) == W
    loss, gradient = loss_and_grad(
        small.as_attention(), {"W": W}, head=LinearScores(small.label_scores), loss="log"
    )
    assert np.abs(gradient["W"]).max() <= 1e-12
    assert float(loss) * small.n / data.n == pytest.approx(optimal_loss(data), rel=1e-12)


@pytest.mark.parametrize(("n", "conflicts", "value"), [(6, 1, 0.2310), (6, 2, 0.4621)])
def test_conflicting_labels_leave_their_entropy(n, conflicts, value):
    """Two contexts of the same tokens with different labels: each loses ln 2, of n contexts."""
    contexts = [[2 * c, 2 * c + 1, 5] for c in range(conflicts) for _ in range(2)]
    labels = [2 * c + s for c in range(conflicts) for s in range(2)]
    contexts += [[4, 0, 1]] * (n - len(labels))
    labels += [4] * (n - len(labels))
    data = NextTokenData(np.eye(6), contexts, labels)
    assert optimal_loss(data) == pytest.approx(2 * conflicts * np.log(2) / n, rel=1e-15)
    assert optimal_loss(data) == pytest.approx(value, abs=5e-5)


def test_repeated_tokens_weigh_as_often_as_they_occur():
    """log(2 e^a + e^b) - log(2 e^a), and log(2 e^a + e^b) - b: balanced at b - a = ln 2."""
    data = NextTokenData(np.eye(3), [[1, 1, 2, 0]] * 2, [1, 2])
    W = finite_part(data)
    assert W[2, 0] - W[1, 0] == pytest.approx(np.log(2), rel=1e-14)
    assert optimal_loss(data) == pytest.approx(np.log(2), rel=1e-14)


@pytest.mark.parametrize("ratio", [1, 1000, 30_000])
def test_a_rare_label_is_followed_far(ratio):
    """One of ratio + 1 contexts has the other label: e^(a - b) = ratio."""
    data = NextTokenData(np.eye(3), [[1, 2, 0]] * (ratio + 1), [1] * ratio + [2])
    W = finite_part(data)
    assert W[1, 0] - W[2, 0] == pytest.approx(np.log(ratio), rel=1e-11, abs=1e-14)


def test_acyclic_data_has_no_finite_part():
    data = next_token(4, 6, 8, 8, kind="acyclic", rng=0)
    assert cyclic_subset(data) is None
    assert cyclic_subspace(data).dimension == 0
    assert not finite_part(data).any()
    assert optimal_loss(data) == 0
    assert not cyclic_subspace(data).project(np.ones((8, 8))).any()


@FEW
@given(seed=SEEDS, embedding=st.sampled_from(["random", "orthonormal", "equicorrelated"]))
def test_the_cyclic_subspace_is_the_span_of_its_definition(seed, embedding):
    data = next_token(8, 4, 6, 9, embedding=embedding, rng=seed)
    space, generators = cyclic_subspace(data), spanning(data)
    rows = generators.reshape(len(generators), 81)
    assert space.dimension == len(rows)
    basis = space.basis.reshape(space.dimension, 81)
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-13)
    W = np.random.default_rng(0).standard_normal((2, 9, 9))
    parts = space.project(W)
    expected = W.reshape(2, -1) @ np.linalg.pinv(rows) @ rows if len(rows) else 0 * parts
    assert parts.reshape(2, -1) == pytest.approx(np.reshape(expected, (2, -1)), abs=1e-11)


@FEW
@given(seed=SEEDS)
def test_the_cyclic_subset_is_that_of_its_definition(seed):
    rng = np.random.default_rng(seed)
    contexts = rng.integers(0, 5, (8, 4))
    labels = np.where(rng.random(8) < 0.1, rng.integers(0, 5, 8), contexts[:, 1])
    data = NextTokenData(np.eye(5), contexts, labels, lengths=rng.integers(2, 5, 8))
    small, expected = cyclic_subset(data), reduced(data)
    if small is None:
        assert expected == []
        return
    found = [
        (small.contexts[i, : small.lengths[i]].tolist(), int(small.labels[i]), int(small.last[i]))
        for i in range(small.n)
    ]
    assert found == expected


def test_a_batch_is_its_problems():
    data = next_token(6, 4, 6, 8, batch=5, rng=0)
    together, losses = finite_part(data), optimal_loss(data)
    for b, problem in enumerate(data.problems()):
        np.testing.assert_array_equal(together[b], finite_part(problem))
        assert losses[b] == optimal_loss(problem)


@FEW
@given(seed=SEEDS, radius=st.floats(1.0, 1e4))
def test_decompose_finds_what_a_matrix_was_made_of(seed, radius):
    data = next_token(6, 4, 6, 8, kind="cyclic", rng=seed)
    finite, direction = finite_part(data), graph_svm(data).W
    if direction.any():
        parts = decompose(finite + radius * direction, data)
        np.testing.assert_array_equal(parts.finite, finite)
        assert parts.radius == pytest.approx(radius, rel=1e-10)
        assert parts.cosine_gap <= 1e-20


def test_a_trained_layer_is_its_finite_part_and_a_multiple_of_the_svm():
    """P4's theorem: plain descent, whose distance to W^fin in S_fin falls like 1 / steps.

    Like every descent of exponential tails, it has a loss gap of |W^mm|² / steps.
    """
    data = next_token(6, 4, 6, 8, kind="cyclic", batch=15, rng=0)
    finite, solution = finite_part(data), graph_svm(data)
    distances = {}
    for steps in (1000, 100_000):
        run = train(data, rule="gd", lr=1.0, steps=steps)
        spaces = [cyclic_subspace(problem) for problem in data.problems()]
        parts = np.stack([s.project(W) for s, W in zip(spaces, run.W, strict=True)])
        distances[steps] = np.linalg.norm(parts - finite, axis=(1, 2)).mean()
        gap = run.history["loss"][:, -1] - optimal_loss(data)
        assert gap * steps == pytest.approx(solution.norm**2, rel=0.05)
    assert distances[1000] < 0.02
    assert distances[100_000] == pytest.approx(distances[1000] / 100, rel=0.2)
    parts = decompose(run, data, solution, finite=finite)
    assert parts.cosine.mean() > cosine(run.W, solution.W, axis=(-2, -1)).mean() > 0.98


def test_text_has_a_finite_part():
    source = "the cat and the dog and the bird and the cat and the cat saw the dog. " * 3
    data = text(source, unit="word", context=10)
    W = finite_part(data)
    small = cyclic_subset(data)
    gradient = loss_and_grad(
        small.as_attention(), {"W": W}, head=LinearScores(small.label_scores), loss="log"
    )[1]["W"]
    assert np.abs(gradient).max() <= 1e-13
    assert np.abs(np.sum(W * graph_svm(data).W)) <= 1e-10


def test_what_does_not_belong_is_refused():
    data = next_token(2, 3, 4, 4, batch=2, rng=0)
    with pytest.raises(TypeError, match=r"^attention: expected None for next-token data"):
        finite_part(data, np.full((2, 2, 3), 1 / 3))
    with pytest.raises(TypeError, match=r"^attention: expected None for next-token data"):
        decompose(np.ones((2, 4, 4)), data, attention=np.full((2, 2, 3), 1 / 3))
    with pytest.raises(TypeError, match=r"^attention: needed for data that is not next-token"):
        finite_part(data.as_attention())
    for function in (cyclic_subspace, cyclic_subset):
        with pytest.raises(ValueError, match=r"^data: expected one problem"):
            function(data)
    without = NextTokenData(np.eye(3), [[0, 1]], [2])
    with pytest.raises(ValueError, match=r"^data: expected every label in its context"):
        optimal_loss(without)
    assert not finite_part(without).any()
    with pytest.raises(ValueError, match=r"^W: expected shape \(\.\.\., d, d\)"):
        cyclic_subspace(without).project(np.ones((3, 2)))
