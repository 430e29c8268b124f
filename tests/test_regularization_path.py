"""Regularisation paths (papers 1 and 2; A2, A7, A8, B3, E8, E11) and what is said about them."""

from __future__ import annotations

import clarabel
import mpmath
import numpy as np
import plain_attention
import plain_svm
import pytest
import scipy.sparse
from scipy.optimize import minimize, minimize_scalar

import attsvm
from attsvm import AttentionData, ConvergenceWarning, regularization_path
from attsvm.heads import LinearScores, Penalised, ReLU


def trajectory(toys, name):
    """One of the trajectory figures, and the best token of each input."""
    toy = toys[name]
    tokens = np.array(toy["X"])
    data = AttentionData(tokens, [1.0, 1.0], queries=toy["Z"], value=toy["v"])
    return data, np.argmax(tokens @ toy["v"], axis=1)


def nuclear_svm(data, selected):
    """argmin |W|_* with margins of at least 1: [[A, W], [W', B]] >= 0, least tr A + tr B."""
    d = data.d
    rows = plain_svm.attention_rows(data.tokens, data.queries, selected)
    pairs = [(i, j) for j in range(2 * d) for i in range(j + 1)]
    place = {pair: k for k, pair in enumerate(pairs)}
    of_W = [place[a, d + b] for a in range(d) for b in range(d)]
    margins = np.zeros((len(rows), len(pairs)))
    margins[:, of_W] = rows / np.sqrt(2.0)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
    solution = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix((len(pairs), len(pairs))),
        np.array([1.0 if i == j else 0.0 for i, j in pairs]),
        scipy.sparse.csc_matrix(np.vstack([-margins, -np.eye(len(pairs))])),
        np.concatenate([-np.ones(len(rows)), np.zeros(len(pairs))]),
        [clarabel.NonnegativeConeT(len(rows)), clarabel.PSDTriangleConeT(2 * d)],
        settings,
    ).solve()
    assert str(solution.status) == "Solved"
    return np.array(solution.x)[of_W].reshape(d, d) / np.sqrt(2.0)


def frobenius_svm(data, selected):
    rows = plain_svm.attention_rows(data.tokens, data.queries, selected)
    return plain_svm.smallest(rows, np.ones(len(rows))).reshape(data.d, data.d)


MATCHED = {
    ("vis1", "W"): {20: (0.981, 1e-3), 80: (0.9992, 1e-4), 320: (0.99995, 1e-5)},
    ("vis2", "W"): {20: (0.99933, 1e-5), 80: (1.0, 1e-5), 320: (1.0, 1e-5)},
    ("vis1", "KQ"): {20: (0.976, 1e-3), 80: (0.9990, 1e-4), 320: (0.99994, 1e-5)},
    ("vis2", "KQ"): {20: (0.99979, 1e-5), 80: (0.99998, 1e-5), 320: (1.0, 1e-5)},
}
"""Cosine of a path with its own machine at each radius, and the digits it is given to."""

CROSS = {"vis1": 0.890, "vis2": 0.936}


@pytest.mark.parametrize(("name", "parameter"), MATCHED)
def test_e11_paths_reach_the_machine_of_their_norm(toys, name, parameter):
    data, best = trajectory(toys, name)
    machines = {"fro": frobenius_svm(data, best), "nuc": nuclear_svm(data, best)}
    own, other = ("fro", "nuc") if parameter == "W" else ("nuc", "fro")
    path = regularization_path(data, [5, 20, 80, 320], parameter=parameter, reference=machines)
    for radius, (cosine, tolerance) in MATCHED[name, parameter].items():
        assert path.cosines[own][path.radii == radius] == pytest.approx(cosine, abs=tolerance)
    assert path.cosines[other][-1] == pytest.approx(CROSS[name], abs=1e-3)
    assert path.residual.max() < 1e-8
    assert path.converged.all()
    assert (path.selected[1:] == best).all()
    assert path.norm == pytest.approx(path.radii)


def test_machines_of_vis1_are_the_published_ones(toys):
    """What the paths of the first figure are compared with."""
    data, best = trajectory(toys, "vis1")
    assert frobenius_svm(data, best) == pytest.approx(
        np.array([[2.8537, -2.7029], [5.3712, 5.5805]]), abs=1e-4
    )
    assert nuclear_svm(data, best) == pytest.approx(
        np.array([[0.4867, 0.4693], [7.0055, 6.7544]]), abs=1e-4
    )


@pytest.mark.parametrize("radius", [320.0, 5000.0])
@pytest.mark.parametrize("parameter", ["W", "KQ"])
def test_residual_in_many_digits(toys, parameter, radius):
    """The projected gradient of the loss itself at the returned point, in 3000 digits."""
    data, _ = trajectory(toys, "vis1")
    path = regularization_path(data, [radius], parameter=parameter)
    with mpmath.workdps(3000):
        plain = plain_attention.Problem.of(data.tokens, data.labels, data.value, data.queries)
        if parameter == "W":
            x = plain_attention.exact(path.W[0]).ravel()
            gradient = plain_attention.gradient(plain, x.reshape(2, 2), "logistic").ravel()
        else:
            K, Q = plain_attention.exact(path.K[0]), plain_attention.exact(path.Q[0])
            G = plain_attention.gradient(plain, K @ Q.T, "logistic")
            x = np.concatenate([K.ravel(), Q.ravel()])
            gradient = np.concatenate([(G @ Q).ravel(), (G.T @ K).ravel()])
        along = (gradient @ x) / (x @ x)
        projected = gradient - along * x
        residual = plain_attention.norm(projected) / plain_attention.norm(gradient)
        W = plain_attention.exact(path.W[0])
        excess = plain_attention.loss_value(plain, W, "logistic")
        excess -= plain_attention.least_loss(plain, "logistic")
        assert residual < 1e-8
        # Both are rounding at this point; they agree as far as a float64 point can tell.
        assert abs(residual - path.residual[0]) < 1e-11
        assert path.multiplier[0] == pytest.approx(float(-along / excess), rel=1e-9)
        assert path.log_excess[0] == pytest.approx(float(mpmath.log(excess)), rel=1e-12)


def test_residual_of_a_point_that_is_not_stationary(toys):
    """One step from a given start is far from the end, is said to be, and is measured right."""
    data, _ = trajectory(toys, "vis1")
    with pytest.warns(ConvergenceWarning, match="1 of 1 radii did not converge"):
        path = regularization_path(data, [80.0], max_iter=1, starts=0)
    assert path.converged.tolist() == [False]
    with mpmath.workdps(300):
        plain = plain_attention.Problem.of(data.tokens, data.labels, data.value, data.queries)
        W = plain_attention.exact(path.W[0])
        gradient = plain_attention.gradient(plain, W, "logistic")
        projected = gradient - (gradient * W).sum() / (W * W).sum() * W
        residual = float(plain_attention.norm(projected) / plain_attention.norm(gradient))
    assert path.residual[0] == pytest.approx(residual, rel=1e-8)
    assert path.residual[0] > 1e-9


def single_input():
    data = AttentionData([[[-0.1, 1.0], [1.0, 0.0], [0.0, 0.0]]], [1.0])
    return data, LinearScores([[1.0, 0.9, 0.0]])


def test_a2_path_of_p_reaches_the_prompt_svm():
    data, head = single_input()
    machine = attsvm.prompt_svm(data, np.array([0]))
    path = regularization_path(data, [10, 20, 30], parameter="p", head=head, reference=machine)
    assert path.cosines[""] == pytest.approx([0.9996, 0.99994, 0.99999], abs=5e-5)
    assert path.residual.max() < 1e-8
    assert path.cosine(machine.p) == pytest.approx(path.cosines[""], abs=1e-15)


@pytest.mark.parametrize("radius", [1.0, 10.0, 60.0])
def test_p_of_the_toys_is_the_global_minimiser(toys, radius):
    """No direction of a fine grid on the circle, or point of one within, is better."""
    several = np.array(toys["multi_input_X"])
    cases = [
        single_input(),
        (AttentionData(several[..., :2], np.ones(3)), LinearScores(several[..., 2])),
    ]
    angles = np.linspace(0, 2 * np.pi, 20001)
    for data, head in cases:
        path = regularization_path(data, [radius], parameter="p", head=head)
        for share in (1.0, 0.7, 0.3):
            p = share * radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            logits = np.einsum("ntd,gd->gnt", data.tokens, p)
            s = np.exp(logits - logits.max(axis=2, keepdims=True))
            s /= s.sum(axis=2, keepdims=True)
            best = head.scores.max(axis=1, keepdims=True)
            short = np.sum(s * (best - head.scores), axis=2)
            excess = np.log1p(np.expm1(short) / (1 + np.exp(best[:, 0]))).mean(axis=1)
            assert path.log_excess[0] <= np.log(excess.min()) + 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_small_ball_against_another_optimiser(seed):
    """SciPy's SLSQP on the loss itself, from twenty starts."""
    data = attsvm.datasets.unit_sphere(3, 4, 2, rng=seed)
    radius = 6.0
    path = regularization_path(data, [radius])

    scores = data.labels[:, np.newaxis] * (data.tokens @ data.value)

    def loss(w):
        logits = np.einsum("ntd,de,ne->nt", data.tokens, w.reshape(2, 2), data.queries)
        s = np.exp(logits - logits.max(axis=1, keepdims=True))
        s /= s.sum(axis=1, keepdims=True)
        margin = np.sum(s * scores, axis=1, keepdims=True)
        slope = -s * (scores - margin) / (1 + np.exp(margin)) / data.n
        gradient = np.einsum("nt,ntd,ne->de", slope, data.tokens, data.queries)
        return np.log1p(np.exp(-margin)).mean(), gradient.ravel()

    ball = {"type": "ineq", "fun": lambda w: radius**2 - w @ w, "jac": lambda w: -2 * w}
    rng = np.random.default_rng(seed)
    found = [
        minimize(
            loss,
            rng.standard_normal(4),
            jac=True,
            constraints=[ball],
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        for _ in range(20)
    ]
    inside = [one.fun for one in found if one.x @ one.x <= radius**2 * (1 + 1e-8)]
    assert path.loss_value[0] == pytest.approx(min(inside), abs=1e-8)


THIRD = {"tight": [0.5, 1.0], "slack": [0.5, 1.5]}


def joint(case):
    tokens = [[[0, 0], [1, 1]], [[0, 0], [1, -1]], [[0, 0], THIRD[case]]]
    return AttentionData(tokens, [1, -1, 1])


def slopes(path):
    return path.p[:, 1] / path.p[:, 0]


def test_e8_joint_path_where_every_input_supports_the_label_margin():
    path = regularization_path(
        joint("tight"), {"v": 5e4, "p": [5.0, 10.0, 15.0]}, parameter=("v", "p"),
        reference={"v": [0.0, 1.0], "p": [4.0, 1.0]},
    )  # fmt: skip
    assert slopes(path) == pytest.approx([0.2792, 0.2662, 0.2430], abs=5e-5)
    assert path.cosines["v"] == pytest.approx([0.999988, 1, 1], abs=1e-6)
    assert path.residual.max() < 1e-8
    assert path.norm == pytest.approx(path.radii)
    assert path.cosines["p"] == pytest.approx(path.cosine([4.0, 1.0], "p"))


def test_e8_joint_path_where_an_input_does_not_is_relaxed():
    for r in (50.0, 5e4):
        path = regularization_path(
            joint("slack"), [[r, 5.0], [r, 10.0], [r, 15.0]], parameter=("v", "p")
        )
        assert np.abs(slopes(path)).max() < 1e-6
        assert path.residual.max() < 1e-8
    path = regularization_path(joint("slack"), {"v": 5, "p": [5.0, 10, 15]}, parameter=("v", "p"))
    assert slopes(path) == pytest.approx([0.097, 0.127, 0.149], abs=5e-4)
    assert path.residual.max() < 1e-8


def test_joint_point_is_the_best_of_a_grid():
    """Both vectors on their circles; the loss by its textbook formula."""
    data = joint("tight")
    r, R = 5.0, 10.0
    path = regularization_path(data, [[r, R]], parameter=("p", "v"))
    angles = np.linspace(0, 2 * np.pi, 1501)
    unit = np.stack([np.cos(angles), np.sin(angles)])
    s = 1 / (1 + np.exp(-R * data.tokens[:, 1] @ unit))  # of token 1, token 0 being zero
    score = data.labels[:, np.newaxis] * (r * data.tokens[:, 1] @ unit)
    loss = np.log1p(np.exp(-s[:, :, np.newaxis] * score[:, np.newaxis])).mean(axis=0)
    assert np.exp(path.log_excess[0]) <= loss.min()
    i, j = np.unravel_index(loss.argmin(), loss.shape)
    assert path.p[0] == pytest.approx(R * unit[:, i], abs=0.1)
    assert path.v[0] == pytest.approx(r * unit[:, j], abs=0.1)


@pytest.mark.parametrize("parameter", ["p", "W", "KQ"])
def test_multiplier_is_the_rate_at_which_the_path_falls(local_convergence, parameter):
    """dF/dR is -μ R, and for K and Q, whose bound is on half their square, -μ."""
    data = local_convergence.problem(1)
    h = 1e-4
    path = regularization_path(data, [20 - h, 20, 20 + h], parameter=parameter, tol=1e-11)
    rate = (path.log_excess[2] - path.log_excess[0]) / (2 * h)
    by_radius = path.multiplier[1] * (1.0 if parameter == "KQ" else 20.0)
    assert -rate == pytest.approx(by_radius, rel=1e-6)


@pytest.mark.parametrize("loss", ["logistic", "exponential", "correlation"])
def test_published_problems_converge_to_their_machines(local_convergence, loss):
    """Far out: the cosine gap of both paths falls with the square of the radius."""
    data = local_convergence.problem(0)
    best = attsvm.optimal_tokens(data)
    machine = attsvm.att_svm(data, best)
    path = regularization_path(data, [80, 320, 1280, 5120], loss=loss, reference=machine, starts=3)
    assert path.residual.max() < 1e-8
    assert (path.selected == best).all()
    gaps = 1 - path.cosines[""]
    assert gaps[1:3] / gaps[2:] == pytest.approx(16.0, rel=0.5)


def test_factors_are_balanced_and_bound_the_nuclear_norm(local_convergence):
    path = regularization_path(local_convergence.problem(2), [5.0, 40.0], parameter="KQ")
    square = np.sum(path.K**2, axis=(1, 2)), np.sum(path.Q**2, axis=(1, 2))
    assert square[0] == pytest.approx(path.radii)
    assert square[1] == pytest.approx(path.radii)
    assert np.linalg.norm(path.W, "nuc", axis=(1, 2)) == pytest.approx(path.radii)
    assert pytest.approx(path.K @ np.swapaxes(path.Q, 1, 2)) == path.W
    assert path.K.shape == (2, 10, 10)


def test_few_columns_bound_the_rank(local_convergence):
    data = local_convergence.problem(2)
    path = regularization_path(data, [40.0], parameter="KQ", inner=1)
    free = regularization_path(data, [40.0], parameter="KQ")
    assert path.K.shape == path.Q.shape == (1, 10, 1)
    assert path.log_excess[0] > free.log_excess[0]
    assert np.linalg.matrix_rank(free.W[0], rtol=1e-6) > 1


def test_span_reduction_changes_nothing():
    """In 40 dimensions the 12 tokens and 3 queries of a problem lie as in their spans."""
    small = attsvm.datasets.unit_sphere(3, 4, 4, rng=7)
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((40, 4)))[0].T
    large = AttentionData(
        small.tokens @ turn, small.labels, queries=small.queries @ turn, value=small.value @ turn
    )
    for parameter in ("W", "KQ", "p"):
        paths = [
            regularization_path(data, [10, 60], parameter=parameter) for data in (small, large)
        ]
        assert paths[1].log_excess == pytest.approx(paths[0].log_excess, rel=1e-12)
        assert paths[1].attention == pytest.approx(paths[0].attention, abs=1e-7)
        if parameter != "p":
            assert pytest.approx(turn.T @ paths[0].W @ turn, abs=1e-5) == paths[1].W


def test_padding_is_not_seen(local_convergence):
    data = local_convergence.problem(0)
    lengths = [8, 5, 3, 2, 8, 1]
    wild = data.tokens.copy()
    for i, length in enumerate(lengths):
        wild[i, length:] = 1e3
    paths = [
        regularization_path(
            AttentionData(
                tokens, data.labels, queries=data.queries, value=data.value, lengths=lengths
            ),
            [10.0, 100.0],
        )
        for tokens in (data.tokens, wild)
    ]
    assert paths[0].log_excess == pytest.approx(paths[1].log_excess, rel=1e-12)
    for path in paths:
        assert path.converged.all()
        assert not path.attention[:, 3, 2:].any()
        assert path.attention.sum(axis=2) == pytest.approx(1.0)


def opposed(second):
    """Two inputs that want the two ends of one line: a compromise is best."""
    return AttentionData([[[1.0], [0.0]], [[0.0], [1.0]]], [1, 1]), LinearScores(
        [[5.0, 0.0], [second, 0.0]]
    )


def test_interior_minimiser_is_found_and_said_to_be():
    data, head = opposed(6.0)

    def loss(p):
        s = 1 / (1 + np.exp(-p))
        return np.mean(np.log1p(np.exp([-5 * s, -6 * (1 - s)])))

    p = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}).x
    path = regularization_path(data, [0.1 * abs(p), 10, 1000], parameter="p", head=head)
    assert path.interior.tolist() == [False, True, True]
    assert path.p[1:] == pytest.approx(p, abs=1e-7)
    assert path.norm[1:] == pytest.approx(abs(p), abs=1e-7)
    assert path.multiplier[1:].tolist() == [0.0, 0.0]
    assert path.multiplier[0] > 0
    assert path.converged.all()
    assert path.residual.max() < 1e-8


def test_minimiser_at_zero():
    data, head = opposed(5.0)
    path = regularization_path(data, [1, 2.0], parameter="p", head=head, reference=[1.0])
    assert path.p == pytest.approx(0.0, abs=1e-8)
    assert path.interior.all()
    assert path.residual.max() < 1e-8


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("parameter", ["W", "KQ", "p"])
def test_infeasible_choices_have_minimisers_all_the_same(seed, parameter):
    """In two dimensions six inputs cannot all have their best token."""
    data = attsvm.datasets.unit_sphere(6, 5, 2, rng=seed)
    path = regularization_path(data, [5, 80, 1280], parameter=parameter)
    assert path.residual.max() < 1e-8
    assert path.converged.all()
    assert (path.multiplier >= 0).all()
    assert (np.diff(path.log_excess) <= 1e-12).all()
    assert (path.norm <= path.radii * (1 + 1e-12)).all()
    assert np.isfinite(path.log_excess).all()


def test_constant_loss_has_nothing_to_gain():
    data = AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1.0], queries=[[1.0, 2.0]], value=[1.0, 1.0])
    for parameter in ("W", "KQ", "p"):
        path = regularization_path(data, [1.0, 2.0], parameter=parameter)
        assert path.log_excess.tolist() == [-np.inf, -np.inf]
        assert path.loss_value == pytest.approx(np.log1p(np.exp(-1)))
        assert not path.norm.any()
        assert path.converged.all()
        assert path.attention == pytest.approx(0.5)
        assert path.cosine(np.ones((2, 2) if parameter != "p" else 2)).tolist() == [0.0, 0.0]


def test_equal_tokens_have_nothing_to_gain_with_any_head():
    data = AttentionData(np.ones((2, 3, 2)), [1.0, -1.0])
    path = regularization_path(data, [1.0], parameter="p", head=Penalised([1.0, 2.0], 0.5))
    margin = 3.0 - 0.5 * 2.0
    assert path.loss_value[0] == pytest.approx(np.log1p(np.exp([-margin, margin])).mean())
    assert path.converged.all()


def test_results_repeat_and_starts_are_taken(local_convergence):
    data = local_convergence.problem(3)
    first, second = (regularization_path(data, [3.0, 9.0]) for _ in range(2))
    assert np.array_equal(first.W, second.W)
    again = regularization_path(data, [9.0], init=first.W[1], starts=0)
    assert again.log_excess[0] <= first.log_excess[1] + 1e-12
    path = regularization_path(data, [3.0, 9.0], parameter="KQ", inner=12)
    K, Q = path.K[1], path.Q[1]
    again = regularization_path(
        data, [9.0], parameter="KQ", inner=12, init={"K": K, "Q": Q}, starts=0
    )
    assert again.log_excess[0] <= path.log_excess[1] + 1e-12
    assert "2 radii from 3 to 9, 2 converged" in repr(path)


def test_inputs_that_share_tokens_are_as_if_they_had_their_own():
    rng = np.random.default_rng(3)
    tokens = rng.standard_normal((2, 4, 3))
    labels = rng.choice([-1.0, 1.0], (2, 4))
    shared = AttentionData.per_position(tokens, labels, value=rng.standard_normal(3))
    own = AttentionData(
        tokens[shared.sequence],
        shared.labels,
        queries=shared.queries,
        value=shared.value,
        lengths=shared.lengths,
    )
    for parameter in ("W", "p"):
        paths = [
            regularization_path(data, [3.0, 20.0], parameter=parameter) for data in (shared, own)
        ]
        assert paths[0].log_excess == pytest.approx(paths[1].log_excess, rel=1e-12)
        assert paths[0].attention.shape == (2, 8, 4)


def sparsemax(scores):
    """Projection on the simplex."""
    ordered = np.sort(scores)[::-1]
    tops = (np.cumsum(ordered) - 1) / np.arange(1, len(scores) + 1)
    return np.maximum(scores - tops[np.flatnonzero(ordered > tops)[-1]], 0.0)


@pytest.mark.parametrize(("penalty", "tokens"), [(0.05, 1), (0.3, 3), (1.0, 4)])
def test_penalised_head_attends_as_sparsemax(penalty, tokens):
    """One input of orthonormal tokens: v'o - λ|o|² is largest at the projection of v / 2λ.

    Where that is one token the path is followed down to slopes of 1e-158. Where it is a mixture,
    the loss is within rounding of its infimum at R = 40, and the path says so.
    """
    scores = np.array([0.7, 0.4, -0.1, 0.3, -0.5])
    expected = sparsemax(scores / (2 * penalty))
    assert np.count_nonzero(expected) == tokens
    data = AttentionData(np.eye(5)[np.newaxis], [1.0])
    head = Penalised(scores, penalty)
    path = regularization_path(data, [3, 6, 12], parameter="p", head=head)
    assert path.residual.max() < 1e-8
    assert path.converged.all()
    assert (np.diff(path.log_excess) <= 1e-12).all()
    radii = [10, 20, 40, 80, 160, 320]
    if tokens == 1:
        path = regularization_path(data, radii, parameter="p", head=head)
        assert path.residual.max() < 1e-8
        assert path.multiplier[-1] < 1e-150
    else:
        with pytest.warns(ConvergenceWarning):
            path = regularization_path(data, radii, parameter="p", head=head)
        assert not path.converged[-1]
    assert path.attention[-1, 0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("parameter", ["p", "W", "KQ"])
def test_relu_head_of_active_units_is_a_linear_head(local_convergence, parameter):
    """Units that are active on every token add up to a linear head and a constant."""
    data = local_convergence.problem(0)
    wide = np.concatenate([data.tokens, np.full((*data.tokens.shape[:2], 1), 1.0)], axis=2)
    queries = np.concatenate([data.queries, np.zeros((data.n, 1))], axis=1)
    lifted = np.append(data.value, 0.0)
    hidden = np.stack([lifted, 0 * lifted], axis=1)
    hidden[-1] = 3.0  # far above any v'x, and taken away again by the second unit
    linear = AttentionData(wide, data.labels, queries=queries, value=lifted)
    radii = [3.0, 12.0]
    expected = regularization_path(linear, radii, parameter=parameter)
    got = regularization_path(linear, radii, parameter=parameter, head=ReLU(hidden, [1.0, -1.0]))
    assert got.residual.max() < 1e-8
    assert got.loss_value == pytest.approx(expected.loss_value, rel=1e-12)
    assert np.exp(got.log_excess) == pytest.approx(expected.loss_value, rel=1e-12)
    assert got.attention == pytest.approx(expected.attention, abs=1e-7)


def test_relu_head_selects_the_best_token_and_its_machine():
    """Mixing hurts where every token has a unit of its own and one weighs most."""
    data = AttentionData([[[1.0, 0.2, 0.0], [0.0, 1.0, 0.3], [0.1, 0.0, 1.0]]], [1.0])
    head = ReLU(np.eye(3), [2.0, 1.0, 0.5])
    machine = attsvm.prompt_svm(data, np.array([0]))
    path = regularization_path(data, [5, 20, 80], parameter="p", head=head, reference=machine.p)
    assert path.residual.max() < 1e-8
    assert (path.selected == 0).all()
    gaps = 1 - path.cosines[""]
    assert (gaps[1:] < gaps[:-1]).all()
    assert gaps[-1] < 1e-3


ONE = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
BATCH = attsvm.datasets.unit_sphere(3, 4, 5, batch=2, rng=0)
BARE = AttentionData(ONE.tokens, ONE.labels)
LOUD = AttentionData(ONE.tokens, ONE.labels, queries=ONE.queries, value=1e4 * ONE.value)
# Exact norms: tokens of 1000, queries of 1.
AXES = np.eye(5)[[[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 0]]]
LONG = AttentionData(1e3 * AXES, ONE.labels, queries=np.eye(5)[:3], value=1e-3 * ONE.value)
HUGE = AttentionData(
    1e200 * AXES, ONE.labels, queries=1e200 * np.eye(5)[:3], value=1e-200 * ONE.value
)
JOINT = {"parameter": ("v", "p"), "radii": [[1.0, 1.0]]}


def test_the_largest_radius_is_that_of_unit_tokens_and_queries():
    with pytest.warns(ConvergenceWarning):
        path = regularization_path(ONE, [1e50], starts=0)
    assert not path.converged[0]
    assert np.linalg.norm(path.W[0]) == pytest.approx(1e50)


BAD = [
    ("data", {"data": "problem.npz"}, TypeError, "data: expected AttentionData, got str"),
    ("batch", {"data": BATCH}, ValueError, "data: expected one problem, got a batch of 2"),
    ("queries", {"data": BARE}, ValueError, "queries: needed for W"),
    ("value", {"data": BARE, "parameter": "p"}, ValueError, "value: needed for the linear head"),
    ("loud", {"data": LOUD}, ValueError, "value: expected token scores up to 300"),
    ("radii order", {"radii": [2.0, 1.0]}, ValueError, "radii: expected them increasing"),
    ("radii equal", {"radii": [2.0, 2.0]}, ValueError, "radii: expected them increasing"),
    ("radii zero", {"radii": [0.0, 2.0]}, ValueError, "radii: expected positive numbers, got 0"),
    *(
        (
            f"radii {r}",
            {"radii": [1.0, r]},
            ValueError,
            f"radii: expected numbers from 1e-50 to 1e+50, got {r} at [1]",
        )
        for r in (1e51, 1e300)
    ),
    ("radii small", {"radii": [1e-300]}, ValueError, "radii: expected numbers from 1e-50 to 1e+50"),
    (
        "logits",
        {"data": LONG, "radii": [1e48]},
        ValueError,
        "radii: expected logits |x_it| R |z_i| of at most 1e+50, got 1e+51 at [0]",
    ),
    (
        "logits of huge tokens",
        {"data": HUGE, "radii": [1.0]},
        ValueError,
        "radii: expected logits |x_it| R |z_i| of at most 1e+50, got inf at [0]",
    ),
    *(
        (
            f"{what} of v and p",
            {**JOINT, "data": LONG, "radii": radii},
            ValueError,
            "radii: expected scores |x_it| r and logits |x_it| R of at most 1e+50, got 1e+51 at "
            f"[0, {place}]",
        )
        for what, radii, place in (("scores", [[1e48, 1]], 0), ("logits", [[1, 1e48]], 1))
    ),
    ("radii nan", {"radii": [np.nan]}, ValueError, "radii: expected finite numbers"),
    ("radii none", {"radii": []}, ValueError, "radii: expected shape (N,) without an empty"),
    ("radii scalar", {"radii": 3.0}, ValueError, "radii: expected shape (N,)"),
    ("radii dict", {"radii": {"v": 1, "p": 1}}, TypeError, "radii: expected an array, got a dict"),
    ("radii pairs", {**JOINT, "radii": [1.0, 2.0]}, ValueError, "radii: expected shape (N, 2)"),
    ("radii threes", {**JOINT, "radii": [[1.0, 2, 3]]}, ValueError, "radii: expected shape (N, 2)"),
    ("radii key", {**JOINT, "radii": {"v": 1.0}}, ValueError, "radii: expected the keys"),
    (
        "radii lengths",
        {**JOINT, "radii": {"v": [1.0, 2.0], "p": [1.0, 2, 3]}},
        ValueError,
        "radii: expected equally many",
    ),
    ("radii fall", {**JOINT, "radii": [[1.0, 2], [2, 1]]}, ValueError, "radii: expected them inc"),
    ("parameter", {"parameter": "V"}, ValueError, "parameter: expected one of"),
    ("pair", {"parameter": ("v", "W")}, ValueError, "parameter: expected ('v', 'p') for a tuple"),
    ("loss", {"loss": "hinge"}, ValueError, "loss: expected one of"),
    ("joint loss", {**JOINT, "loss": "correlation"}, ValueError, "loss: expected 'logistic' or"),
    ("head", {"head": "linear"}, TypeError, "head: expected None, LinearScores"),
    ("relu shape", {"head": ReLU(np.ones((4, 2)))}, ValueError, "head: expected shape (d, m)"),
    ("value shape", {"head": Penalised(np.ones(4), 1.0)}, ValueError, "head: expected shape (d,)"),
    (
        "relu loss",
        {"head": ReLU(np.ones((5, 2))), "loss": "correlation"},
        ValueError,
        "loss: expected 'logistic' or 'exponential' with a ReLU head",
    ),
    ("loud relu", {"head": ReLU(np.full((5, 2), 1e3))}, ValueError, "head: expected token scores"),
    ("head shape", {"head": LinearScores(np.ones((3, 5)))}, ValueError, "head: expected shape"),
    (
        "joint head",
        {**JOINT, "head": LinearScores(np.ones((3, 4)))},
        ValueError,
        "head: expected None where v is varied",
    ),
    ("inner", {"inner": 3}, ValueError, "inner: expected None where K and Q are not"),
    ("inner zero", {"parameter": "KQ", "inner": 0}, ValueError, "inner: expected a positive"),
    ("init shape", {"init": np.ones(5)}, ValueError, "init: expected shape (d, d)"),
    ("init nan", {"init": np.full((5, 5), np.nan)}, ValueError, "init: expected finite"),
    ("init KQ", {"parameter": "KQ", "init": np.ones((5, 5))}, TypeError, "init: expected a dict"),
    ("init key", {**JOINT, "init": {"v": np.ones(5)}}, ValueError, "init: expected the keys"),
    (
        "init v",
        {**JOINT, "init": {"v": np.ones(4), "p": np.ones(5)}},
        ValueError,
        "init['v']: expected shape",
    ),
    ("starts", {"starts": -1}, ValueError, "starts: expected a non-negative integer"),
    ("tol", {"tol": 0.0}, ValueError, "tol: expected a positive number"),
    ("max_iter", {"max_iter": 0}, ValueError, "max_iter: expected a positive integer"),
    ("rng", {"rng": -1}, ValueError, "rng: expected None, a non-negative integer"),
    ("reference zero", {"reference": np.zeros((5, 5))}, ValueError, "reference: expected a dir"),
    ("reference shape", {"reference": np.ones(5)}, ValueError, "reference: expected shape"),
    ("named", {"reference": {"mm": np.ones((4, 5))}}, ValueError, "reference['mm']: "),
    ("joint ref", {**JOINT, "reference": np.ones(5)}, ValueError, "reference: expected the keys"),
]


@pytest.mark.parametrize(
    ("changes", "error", "start"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_bad_input_names_the_argument(changes, error, start):
    arguments = {"data": ONE, "radii": [1.0, 2.0], **changes}
    with pytest.raises(error) as caught:
        regularization_path(**arguments)
    assert str(caught.value).startswith(start)


def test_cosine_with_a_block_the_path_does_not_have():
    path = regularization_path(ONE, [1.0])
    with pytest.raises(ValueError, match="block: expected one of 'W', got 'p'"):
        path.cosine(np.ones(5), "p")


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_losses_without_a_path_are_refused(loss):
    data = AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]], value=[1.0, 0.0])
    with pytest.raises(ValueError, match=r"^loss: expected one of 'logistic', 'exponential', "):
        regularization_path(data, [1.0], loss=loss)
