"""HardMarginSVC: the exact hyperplane between two classes, as a scikit-learn estimator."""

from __future__ import annotations

import pickle
import warnings

import joblib
import numpy as np
import plain_svm
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsOneClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import estimator_checks_generator

from attsvm import _core
from attsvm.sklearn import AttentionSVM, HardMarginSVC, NotSeparableWarning
from attsvm.svm import SolverError
from attsvm.threads import processors

quiet = pytest.mark.filterwarnings("ignore::attsvm.sklearn.NotSeparableWarning")


@quiet
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(*case, id=f"C={C}-{case[1].func.__name__}")
        for C in (np.inf, 1.0, 1e3)
        for case in estimator_checks_generator(HardMarginSVC(C=C))
    ],
)
def test_scikit_learn_checks_pass(estimator, check):
    check(estimator)


def separable(rng, n, d, gap=0.1):
    """Samples off a random hyperplane, which is far from 0."""
    normal = rng.standard_normal(d)
    normal /= np.linalg.norm(normal)
    X = rng.standard_normal((n, d))
    sign = rng.permutation(np.where(np.arange(n) % 2, 1.0, -1.0))
    X += ((gap + np.abs(X @ normal)) * sign - X @ normal)[:, np.newaxis] * normal
    return X + 5 * rng.standard_normal(d), sign


def pairs(X, sign):
    """Rows (x_i - x_j) / 2 of every sample i of sign + and j of sign -."""
    above, below = X[sign > 0], X[sign < 0]
    return ((above[:, np.newaxis] - below) / 2).reshape(-1, X.shape[1])


@pytest.mark.parametrize(
    ("X", "y", "w", "b"),
    [
        ([[-1.0], [3.0]], [-1, 1], [0.5], -0.5),
        ([[0.0, 0.0], [1.0, 1.0], [3.0, 1.0]], [-1, -1, 1], [1.0, 0.0], -2.0),
        # the nearest point of (0, 0)-(1, 3) to (4, 0) is (0.4, 1.2)
        ([[0.0, 0.0], [1.0, 3.0], [4.0, 0.0]], [-1, -1, 1], [0.5, -1 / 6], -1.0),
        # the first reference, (3, 0), is on the margin without being a support vector of its own
        ([[3.0, -2.0], [-5.0, -3.0], [-5.0, 4.0], [3.0, 0.0]], [1, -1, -1, 1], [0.25, 0.0], 0.25),
        ([[-1.0, -5], [-2, -5], [4, 5], [-5, 5]], [1, 1, -1, -1], [0.0, -0.2], 0.0),
        ([[2.0, 7.0]] * 3 + [[2.0, 3.0]], [1, 1, 1, -1], [0.0, 0.5], -2.5),
    ],
)
def test_closed_forms(X, y, w, b):
    model = HardMarginSVC().fit(X, y)
    assert model.coef_[0] == pytest.approx(w, abs=1e-14)
    assert model.intercept_ == pytest.approx([b], abs=1e-14)
    assert model.margin_ == pytest.approx(1 / np.linalg.norm(w), rel=1e-14)
    assert model.separable_
    assert model.certificate_ is None
    assert not model.slack_.any()
    assert np.inf == model.C_


@quiet
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("power", [-460, -200, 200, 455])
def test_samples_of_another_scale_have_the_same_hyperplane(power, apart, intercept):
    rng = np.random.default_rng(8)
    X, y = separable(rng, 12, 4)
    y = y if apart else rng.permutation(y)
    model, scaled = (
        HardMarginSVC(fit_intercept=intercept).fit(X * scale, y) for scale in (1.0, 2.0**power)
    )
    assert scaled.coef_ * 2.0**power == pytest.approx(model.coef_, rel=1e-9)
    assert scaled.intercept_ == pytest.approx(model.intercept_, rel=1e-9)
    assert scaled.margin_ / 2.0**power == pytest.approx(model.margin_, rel=1e-9)
    assert scaled.separable_ == model.separable_
    assert scaled.slack_ == pytest.approx(model.slack_, rel=1e-9, abs=1e-12)
    assert scaled.support_.tolist() == model.support_.tolist()
    multipliers = scaled.dual_coef_ * 2.0**power * 2.0**power
    assert multipliers == pytest.approx(model.dual_coef_, rel=1e-9)
    assert max(scaled.gap_, scaled.kkt_) < 1e-9
    assert scaled.predict(X * 2.0**power).tolist() == model.predict(X).tolist()


@pytest.mark.parametrize("C", [np.inf, 1.0])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_samples_whose_squares_leave_float64_are_refused(scale, intercept, C):
    X, y = separable(np.random.default_rng(8), 12, 4)
    with pytest.raises(ValueError, match=r"^X: expected samples .*1e-140 and 1e\+140.* got .*e"):
        HardMarginSVC(C=C, fit_intercept=intercept).fit(X * scale, y)


def test_a_small_penalty_leaves_a_large_margin():
    X, y = np.array([[-1.0], [1.0]]), [-1, 1]
    # Both slacks are 1 within rounding: w = C Σ y_i x_i.
    model = HardMarginSVC(C=1e-250).fit(X, y)
    assert model.coef_[0, 0] == pytest.approx(2e-250, rel=1e-12, abs=0)
    assert model.margin_ == pytest.approx(0.5e250, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_a_conic_solver(seed):
    rng = np.random.default_rng(seed)
    X, sign = separable(rng, [4, 10, 30, 30, 50, 50][seed], [1, 2, 3, 40, 4, 10][seed])
    model = HardMarginSVC().fit(X, sign)
    rows = pairs(X, sign)
    expected = plain_svm.smallest(rows, np.ones(len(rows)))
    assert np.linalg.norm(model.coef_[0] - expected) < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("n", "d"), [(12, 2), (200, 5), (60, 90)])
def test_optimality_conditions_hold(n, d, intercept, offset):
    """By the textbook formulas on the samples themselves; rounding grows with their size."""
    rng = np.random.default_rng([n, intercept])
    X, sign = separable(rng, n, d)
    X -= X.mean(axis=0)
    if intercept:
        X += offset
    else:
        X *= sign[:, np.newaxis] * np.sign(X @ np.ones(d))[:, np.newaxis]
    model = HardMarginSVC(fit_intercept=intercept).fit(X, sign)
    w, b = model.coef_[0], model.intercept_[0]
    rounding = 1e-12 * (1 + np.abs(X).max() * np.linalg.norm(w))
    values = sign * (X @ w + b)
    assert values.min() >= 1 - rounding
    assert values[model.support_] == pytest.approx(1, abs=rounding)
    assert (sign[model.support_] * model.dual_coef_[0] > 0).all()
    assert model.dual_coef_ @ X[model.support_] == pytest.approx(
        model.coef_, abs=rounding * np.abs(model.dual_coef_).sum()
    )
    if intercept:
        assert abs(model.dual_coef_.sum()) < 1e-12 * np.abs(model.dual_coef_).sum()
    else:
        assert b == 0
    assert max(model.gap_, model.kkt_) < 1e-9
    # no direction does better: the dual value bounds the margin of all
    dual_value = np.abs(model.dual_coef_).sum() - (w @ w) / 2
    assert dual_value == pytest.approx((w @ w) / 2, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_margin_is_at_least_that_of_libsvm_and_liblinear(seed):
    """Both are looser: they end at a tolerance of their own, so that ours is above, but near."""
    rng = np.random.default_rng(seed)
    X, sign = separable(rng, 80, [2, 4, 10, 100][seed], gap=0.3)
    model = HardMarginSVC().fit(X, sign)
    for peer in (
        SVC(kernel="linear", C=1e10, tol=1e-8),
        LinearSVC(C=1e6, tol=1e-8, max_iter=10**6, intercept_scaling=100.0, random_state=0),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer.fit(X, sign)
        along = X @ peer.coef_[0]
        reached = (along[sign > 0].min() - along[sign < 0].max()) / 2
        margin = reached / np.linalg.norm(peer.coef_)
        assert margin <= model.margin_ * (1 + 1e-12)
        assert margin > model.margin_ * (1 - 1e-2)


@quiet
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 12),
    d=st.integers(1, 5),
    C=st.sampled_from([np.inf, 1.0]),
)
def test_intercept_moves_with_the_samples(seed, n, d, C):
    """Samples and shift are small integers, so that the shift is exact."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-3, 4, (n, d)).astype(float)
    y = rng.permutation(np.arange(n) % 2)
    shift = rng.integers(-8, 9, d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotSeparableWarning)
        here, there = (HardMarginSVC(C=C).fit(Z, y) for Z in (X, X + shift))
    assert here.separable_ == there.separable_
    size = 1 + np.abs(here.coef_).max()
    assert there.coef_ == pytest.approx(here.coef_, abs=1e-9 * size)
    moved = here.intercept_ - here.coef_ @ shift
    assert there.intercept_ == pytest.approx(moved, abs=1e-8 * size)


def warnings_of(fit, *data):
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        fit(*data)
    return [warning.category for warning in given]


def test_a_search_warns_once_and_every_fit_of_an_estimator():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((40, 3)), rng.choice(["no", "yes"], 40)
    steps = make_pipeline(StandardScaler(), HardMarginSVC())
    search = GridSearchCV(steps, {"hardmarginsvc__fit_intercept": [True, False]}, cv=3)
    for fit in (search.fit, HardMarginSVC().fit, clone(HardMarginSVC()).fit):
        assert warnings_of(fit, *data) == warnings_of(fit, *data) == [NotSeparableWarning]
    assert warnings_of(search.best_estimator_.fit, *data) == [NotSeparableWarning]
    of_worker = pickle.loads(pickle.dumps(clone(search.estimator)))
    first = pickle.loads(pickle.dumps(clone(search.estimator)))
    assert warnings_of(first.fit, *data) == [NotSeparableWarning]
    assert warnings_of(of_worker.fit, *data) == []


@pytest.mark.parametrize("module", ["", __name__])
def test_a_warning_that_a_filter_ignored_is_still_to_be_given(module):
    data, model = ([[0.0], [1.0], [2.0]], [0, 1, 0]), HardMarginSVC()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the CLASSES", UserWarning, module)
        clone(model).fit(*data)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "the classes", UserWarning, "another module")
        clone(model).fit(*data)
        clone(model).fit(*data)
    assert len(given) == 1


def test_a_clone_has_the_hash_of_its_estimator_which_cloning_leaves_as_it_was():
    for model in (HardMarginSVC(C=2.0), AttentionSVM()):
        before = joblib.hash(model)
        copied = clone(model)
        assert joblib.hash(model) == joblib.hash(copied) == before
        assert vars(pickle.loads(pickle.dumps(copied))) == vars(copied) != vars(model)


@pytest.mark.parametrize("intercept", [True, False])
def test_inseparable_classes_are_proved_to_be(intercept):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)) + 2, rng.choice(["no", "yes"], 40)
    model = HardMarginSVC(fit_intercept=intercept)
    with pytest.warns(NotSeparableWarning, match=r"^the classes cannot be separated"):
        model.fit(X, y)
    assert model.separable_ is False
    proof, sign = model.certificate_, np.where(y == "yes", 1.0, -1.0)
    assert (proof >= 0).all()
    assert proof.sum() == pytest.approx(1)
    assert (proof * sign) @ X == pytest.approx(0, abs=1e-12)
    if intercept:
        assert proof @ sign == pytest.approx(0, abs=1e-12)
    centred = X - X.mean(axis=0) if intercept else X
    assert pytest.approx(10 / np.mean(np.sum(centred**2, axis=1))) == model.C_
    softer = HardMarginSVC(C=model.C_, fit_intercept=intercept).fit(X, y)
    assert softer.coef_ == pytest.approx(model.coef_)
    assert softer.separable_ is None


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_soft_margin_meets_its_optimality_conditions(C):
    """w = Σ λ_i y_i x_i, Σ λ_i y_i = 0 and λ_i = C ξ_i, ξ_i = max(0, 1 - y_i f(x_i))."""
    rng = np.random.default_rng(1)
    X, sign = rng.standard_normal((50, 4)) + 1, rng.choice([-1.0, 1.0], 50)
    model = HardMarginSVC(C=C).fit(X, sign)
    slack = np.maximum(0, 1 - sign * model.decision_function(X))
    assert model.slack_ == pytest.approx(slack, abs=1e-11)
    assert (C * slack * sign) @ X == pytest.approx(model.coef_[0], rel=1e-9, abs=1e-9 * C)
    assert slack @ sign == pytest.approx(0, abs=1e-11)


def test_soft_margin_without_intercept_is_that_of_liblinear():
    """Which is the looser one: what is minimised is less here."""
    rng = np.random.default_rng(2)
    X, sign = rng.standard_normal((60, 3)), rng.choice([-1.0, 1.0], 60)
    model = HardMarginSVC(C=2.0, fit_intercept=False).fit(X, sign)
    peer = LinearSVC(C=1.0, fit_intercept=False, tol=1e-12, max_iter=10**6, random_state=0)
    assert model.coef_ == pytest.approx(peer.fit(X, sign).coef_, rel=1e-4)

    def objective(w):
        return w @ w / 2 + np.sum(np.maximum(0, 1 - sign * (X @ w)) ** 2)

    assert objective(model.coef_[0]) <= objective(peer.coef_[0]) * (1 + 1e-15)


def test_several_classes_go_one_against_one():
    X, y = load_iris(return_X_y=True)
    model = OneVsOneClassifier(HardMarginSVC(C=1.0)).fit(X, y)
    assert model.score(X, y) > 0.97
    with pytest.raises(ValueError, match=r"Only binary classification.*OneVsRestClassifier"):
        HardMarginSVC().fit(X, y)


def test_sparse_samples_have_the_hyperplane_of_dense_ones():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((30, 6))
    X[np.abs(X) < 0.5] = 0.0
    X[:, 2] = 0.0  # a column that is empty
    sign = np.sign(X @ [1.0, -2.0, 0.0, 0.5, 1.5, 1.0])
    X, sign = X[sign != 0], sign[sign != 0]
    for C in (np.inf, 1.0):
        dense = HardMarginSVC(C=C).fit(X, sign)
        for form in (scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_array):
            model = HardMarginSVC(C=C).fit(form(X), sign)
            np.testing.assert_allclose(model.coef_, dense.coef_, rtol=1e-12, atol=1e-14)
            assert model.support_.tolist() == dense.support_.tolist()
            np.testing.assert_array_equal(model.support_vectors_.toarray(), X[model.support_])
            np.testing.assert_allclose(
                model.decision_function(form(X)), dense.decision_function(X), rtol=1e-12
            )


def test_text_goes_through_a_pipeline():
    texts = ["red fish", "blue sky", "red fire", "blue sea", "green tree", "green leaf"]
    labels = ["warm", "cold", "warm", "cold", "cold", "cold"]
    model = make_pipeline(TfidfVectorizer(), HardMarginSVC()).fit(texts, labels)
    assert model.score(texts, labels) == 1.0
    assert not sum(model[-1].n_support_) > len(texts)


def test_support_vectors_are_listed_and_counted_by_class():
    X, sign = separable(np.random.default_rng(5), 25, 3)
    model = HardMarginSVC().fit(X, sign)
    np.testing.assert_array_equal(model.support_vectors_, X[model.support_])
    assert model.n_support_.tolist() == [
        (sign[model.support_] < 0).sum(), (sign[model.support_] > 0).sum()
    ]  # fmt: skip
    np.testing.assert_allclose(model.dual_coef_ @ model.support_vectors_, model.coef_, rtol=1e-9)


def test_a_weight_multiplies_the_penalty_of_its_sample():
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((24, 3)), np.where(rng.random(24) > 0.5, 1, -1)
    weight = rng.integers(0, 3, 24)
    model = HardMarginSVC(C=0.7).fit(X, y, sample_weight=weight)
    repeated = HardMarginSVC(C=0.7).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(model.coef_, repeated.coef_, rtol=1e-8)
    np.testing.assert_allclose(model.intercept_, repeated.intercept_, rtol=1e-7)
    assert not model.slack_[weight == 0].any()
    assert not np.isin(model.support_, np.flatnonzero(weight == 0)).any()
    reference = LinearSVC(C=0.35, fit_intercept=False, tol=1e-10, max_iter=10**6)
    reference.fit(X, y, sample_weight=weight)
    plain = HardMarginSVC(C=0.7, fit_intercept=False).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(plain.coef_, reference.coef_, atol=1e-6)
    with pytest.raises(ValueError, match=r"^sample_weight: expected no negative weight, got -1"):
        HardMarginSVC().fit(X, y, sample_weight=np.where(weight == 0, -1.0, 1.0))


def test_clone_pickle_pipeline_and_grid_search():
    rng = np.random.default_rng(3)
    X, sign = separable(rng, 40, 3)
    model = HardMarginSVC().fit(X, sign)
    assert clone(model).get_params() == model.get_params()
    again = pickle.loads(pickle.dumps(model))
    assert again.decision_function(X).tolist() == model.decision_function(X).tolist()
    pipe = make_pipeline(StandardScaler(), HardMarginSVC())
    assert pipe.fit(X, sign).score(X, sign) == 1.0
    assert cross_val_score(pipe, X, sign, cv=4).mean() > 0.8
    grid = GridSearchCV(pipe, {"hardmarginsvc__C": [1e-3, np.inf]}, cv=4).fit(X, sign)
    assert set(grid.best_params_) == {"hardmarginsvc__C"}


@pytest.mark.parametrize(
    ("C", "error"),
    [
        (0, ValueError),
        (1e-300, ValueError),
        (-1.0, ValueError),
        (np.nan, ValueError),
        ("1", TypeError),
    ],
)
def test_bad_penalty_is_named(C, error):
    with pytest.raises(error, match=r"^C: expected a number of at least 1e-280, or inf, got"):
        HardMarginSVC(C=C).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize("wrap", [lambda rows: rows, list])
def test_masked_arrays_are_refused_not_their_values_used(wrap):
    plain, masked = np.eye(2), wrap(np.ma.array(np.eye(2), mask=[[0, 0], [1, 0]]))
    model = HardMarginSVC().fit(plain, [0, 1])
    for call in (lambda: HardMarginSVC().fit(masked, [0, 1]), lambda: model.predict(masked)):
        with pytest.raises(TypeError, match=r"^X: expected a plain array, got a masked array$"):
            call()
    with pytest.raises(TypeError, match=r"^y: expected a plain array, got a masked array$"):
        HardMarginSVC().fit(plain, np.ma.array([0, 1], mask=[1, 0]))


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"^y: expected two classes, got one class"):
        HardMarginSVC().fit([[0.0], [1.0]], [1, 1])


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_slack_too_dear_for_float64_is_an_error_that_names_C(fit_intercept):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 2)), rng.integers(0, 2, 30)
    with pytest.raises(SolverError, match=r"C = 1e\+120: .* take a smaller C"):
        HardMarginSVC(C=1e120, fit_intercept=fit_intercept).fit(X, y)
    dear, dearer = (HardMarginSVC(C=C, fit_intercept=fit_intercept).fit(X, y) for C in (1e20, 1e60))
    assert dearer.coef_ == pytest.approx(dear.coef_, rel=1e-12)
    assert dearer.intercept_ == pytest.approx(dear.intercept_, rel=1e-12)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("large", "small"), [(1.7e18, 1.0), (1e12, 1e-12), (1e6, 1e-6)])
def test_separable_data_of_badly_scaled_columns_is_never_called_not_separable(
    fit_intercept, large, small
):
    """Unix times in ns beside a column of the label: solved, or an error, but no proof of none."""
    y = np.repeat([-1, 1], 10)
    times = large * (1 + 1e-4 * np.random.default_rng(0).standard_normal(20))
    try:
        model = HardMarginSVC(fit_intercept=fit_intercept).fit(np.c_[times, small * y], y)
    except SolverError:
        return
    assert model.separable_
    assert (model.predict(np.c_[times, small * y]) == y).all()


@pytest.mark.parametrize(
    ("model", "X"),
    [
        (HardMarginSVC(), np.eye(4)),
        (AttentionSVM(selection="trained", steps=3), np.eye(8).reshape(4, 2, 8)),
    ],
    ids=["HardMarginSVC", "AttentionSVM"],
)
def test_n_jobs_are_the_threads_of_the_core(model, X, monkeypatch):
    asked = []

    def spy(function):
        return lambda **given: asked.append(given["threads"]) or function(**given)

    for name in ("smallest_frobenius", "descend"):
        monkeypatch.setattr(_core, name, spy(getattr(_core, name)))
    for n_jobs, threads in ((3, 3), (-1, processors()), (-1000, 1)):
        asked.clear()
        clone(model).set_params(n_jobs=n_jobs).fit(X, [0, 1, 0, 1])
        assert set(asked) == {threads}
    for n_jobs, error in ((0, ValueError), (5000, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match=r"^n_jobs: expected "):
            clone(model).set_params(n_jobs=n_jobs).fit(X, [0, 1, 0, 1])
