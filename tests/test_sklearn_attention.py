"""AttentionSVM: the limit of trained attention, as a scikit-learn estimator of 3-D tokens."""

from __future__ import annotations

import inspect
import pickle
import warnings

import numpy as np
import plain_svm
import pytest
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import attsvm
from attsvm import AttentionData
from attsvm.sklearn import AttentionSVM, NotSeparableWarning, TokenTransformer

quiet = pytest.mark.filterwarnings("ignore::attsvm.sklearn.NotSeparableWarning")


def problem(seed=0, n=6, T=4, d=8):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, T, d))
    return X, rng.permutation(np.where(np.arange(n) % 2, "yes", "no"))


def signs(y):
    return np.where(y == "yes", 1.0, -1.0)


# scikit-learn's checks give tables, samples in rows. They go to AttentionSVM twice: as they are,
# which it refuses, and through a pipeline that makes sequences of two tokens of them.


class OfTables(AttentionSVM):
    """Says that it takes tables; scikit-learn runs no check of fitting on what says it does not."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


TABLE = "the check fits a table, samples in rows; AttentionSVM takes tokens (n, T, d) and says so"
REFUSES_TABLES = dict.fromkeys(
    [
        "check_classifier_data_not_an_array",
        "check_classifiers_classes",
        "check_classifiers_train",
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_dtype_object",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_nan_inf",
        "check_estimators_overwrite_params",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit2d_1feature",
        "check_fit2d_predict1d",
        "check_fit_check_is_fitted",
        "check_fit_idempotent",
        "check_fit_score_takes_y",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
        "check_supervised_y_2d",
    ],
    TABLE,
)


def test_scikit_learn_checks_on_tables_fail_where_listed_and_nowhere_else():
    results = check_estimator(
        OfTables(), expected_failed_checks=REFUSES_TABLES, on_fail=None, on_skip=None
    )
    names = {
        status: {result["check_name"] for result in results if result["status"] == status}
        for status in ("failed", "passed", "xfail")
    }
    assert names["failed"] == set()
    assert names["passed"].isdisjoint(REFUSES_TABLES)
    assert names["xfail"] <= set(REFUSES_TABLES)
    assert sum(result["status"] == "passed" for result in results) > 20


def two_tokens(X):
    """Rows x as sequences of the tokens (x, 1) and 0."""
    token = np.hstack([X, np.ones((len(X), 1))])
    return np.stack([token, np.zeros_like(token)], axis=1)


OF_PIPELINES = dict.fromkeys(
    ("check_estimators_overwrite_params", "check_dont_overwrite_parameters"),
    "of Pipeline itself, which fits the steps it was given, and of no step",
)


def checks_of(parameter):
    """Estimator and check, those of `OF_PIPELINES` marked as expected failures."""
    pipeline = make_pipeline(
        FunctionTransformer(two_tokens, validate=True), AttentionSVM(parameter=parameter)
    )
    return list(
        estimator_checks_generator(pipeline, expected_failed_checks=OF_PIPELINES, mark="xfail")
    )


def name_of(value):
    """Of a check; of an estimator, the parameter of attention."""
    return value.func.__name__ if hasattr(value, "func") else value[-1].parameter


@quiet
@pytest.mark.parametrize(("estimator", "check"), [*checks_of("W"), *checks_of("p")], ids=name_of)
def test_scikit_learn_checks_pass_on_sequences_of_two_tokens(estimator, check):
    check(estimator)


def test_refuses_what_is_no_sequence_of_tokens():
    with pytest.raises(ValueError, match=r"^X: expected tokens of shape \(n, T, d\), got \(2, 3\)"):
        AttentionSVM().fit(np.ones((2, 3)), [0, 1])
    X, y = problem()
    model = AttentionSVM().fit(X, y)
    with pytest.raises(ValueError, match=r"^X: expected tokens of 8 coordinates, as in fit, got 7"):
        model.predict(X[..., :7])


# What is fitted


@pytest.mark.parametrize("norm", ["fro", "nuc"])
def test_matrix_is_the_attention_svm_of_the_selected_tokens(norm):
    X, y = problem()
    model = AttentionSVM(norm=norm).fit(X, y)
    data = AttentionData(X, signs(y), queries=X[:, 0])
    solution = attsvm.att_svm(data, model.selected_, norm=norm)
    assert model.coef_.tolist() == solution.W.tolist()
    assert model.margin_ == pytest.approx(1 / solution.norm)
    assert model.separable_
    assert model.support_.shape == (model.dual_coef_.size, 2)
    G = sum(
        weight * np.outer(X[i, model.selected_[i]] - X[i, t], X[i, 0])
        for (i, t), weight in zip(model.support_, model.dual_coef_, strict=True)
    )
    if norm == "fro":
        assert pytest.approx(G, abs=1e-13) == model.coef_
    else:
        assert np.linalg.norm(G, 2) == pytest.approx(1)
    assert (model.attention(X).argmax(axis=1) == model.selected_).all()


def test_prompt_and_head_are_those_of_their_machines():
    X, y = problem(1)
    model = AttentionSVM(parameter="p").fit(X, y)
    data = AttentionData(X, signs(y))
    assert model.coef_ == pytest.approx(attsvm.prompt_svm(data, model.selected_).p)
    head = attsvm.label_svm(data, model.selected_)
    assert model.value_ == pytest.approx(head.v)
    assert model.label_margin_ == pytest.approx(1 / head.norm)
    assert model.score(X, y) == 1.0


def test_tokens_found_in_turns_are_the_best_of_their_head():
    X, y = problem(2, n=10, T=5, d=12)
    model = AttentionSVM().fit(X, y)
    data = AttentionData(X, signs(y), value=model.value_)
    assert model.selected_.tolist() == attsvm.optimal_tokens(data).tolist()
    mean = attsvm.label_svm(AttentionData(X.mean(axis=1, keepdims=True), signs(y)), [0] * 10)
    assert model.label_margin_ > 1 / mean.norm


def test_given_head_chooses_the_tokens():
    X, y = problem(3)
    value = np.arange(8.0)
    model = AttentionSVM(value=value).fit(X, y)
    data = AttentionData(X, signs(y), value=value)
    assert model.selected_.tolist() == attsvm.optimal_tokens(data).tolist()
    assert model.value_.tolist() == value.tolist()
    best = attsvm.scores(data).max(axis=1).min()
    assert model.label_margin_ == pytest.approx(best / np.linalg.norm(value))


@pytest.mark.parametrize("value", [None, np.linspace(-1, 1, 8)], ids=["with v", "v given"])
@pytest.mark.parametrize("parameter", ["W", "p"])
def test_trained_selection_is_that_of_gradient_descent(parameter, value):
    X, y = problem(4)
    options = {"steps": 300, "lr": 0.05}
    model = AttentionSVM(
        parameter=parameter, selection="trained", value=value, train_options=options
    ).fit(X, y)
    data = AttentionData(X, signs(y), queries=X[:, 0], value=value)
    trained = parameter if value is not None else ("v", parameter)
    run = attsvm.train(data, parameter=trained, **options)
    assert model.selected_.tolist() == run.selected.tolist()
    assert model.run_.steps == 300
    direction = run.W if parameter == "W" else run.p
    assert attsvm.cosine(direction, model.coef_) > 0.5


def test_selected_tokens_may_be_given():
    X, y = problem(5)
    chosen = [3, 2, 1, 0, 1, 2]
    model = AttentionSVM().fit(X, y, selected=chosen)
    assert model.selected_.tolist() == chosen
    assert model.attention(X).argmax(axis=1).tolist() == chosen


@pytest.mark.parametrize("parameter", ["W", "p"])
def test_soft_margin_is_that_of_a_conic_solver(parameter):
    """min ½|W|² + ½ C Σ ξ² as one more coordinate √C ξ_r of each constraint r."""
    X, y = problem(6, n=4, T=4, d=2)
    C = 3.0
    model = AttentionSVM(parameter=parameter, C=C).fit(X, y)
    queries = X[:, 0] if parameter == "W" else None
    rows = plain_svm.attention_rows(X, queries, model.selected_)
    widened = np.hstack([rows, np.eye(len(rows)) / np.sqrt(C)])
    expected = plain_svm.smallest(widened, np.ones(len(rows)))[: rows.shape[1]]
    assert model.coef_.ravel() == pytest.approx(expected, abs=1e-7)
    assert model.C_ == C
    assert model.separable_ is None


@pytest.mark.parametrize("parameter", ["W", "p"])
def test_tokens_that_no_margin_separates(parameter):
    X, y = problem(7, n=12, T=5, d=2)
    chosen = np.zeros(12, dtype=int)
    model = AttentionSVM(parameter=parameter, value=[1.0, 0.0])
    with pytest.warns(NotSeparableWarning, match=r"^the selected tokens cannot be separated"):
        model.fit(X, y, selected=chosen)
    assert model.separable_ is False
    rows = plain_svm.attention_rows(X, X[:, 0] if parameter == "W" else None, chosen)
    proof = model.certificate_[:, 1:].ravel()
    assert (proof >= 0).all()
    assert proof.sum() == pytest.approx(1)
    assert proof @ rows == pytest.approx(0, abs=1e-12)
    assert pytest.approx(10 / np.mean(np.sum(rows**2, axis=1))) == model.C_
    assert max(model.gap_, model.kkt_) < 1e-9


def test_nuclear_norm_has_a_hard_margin_only():
    X, y = problem(7, n=12, T=5, d=2)
    with pytest.raises(ValueError, match=r"^norm: expected 'fro' where no hard margin exists"):
        AttentionSVM(norm="nuc", value=[1.0, 0.0]).fit(X, y)
    with pytest.raises(ValueError, match=r"^C: expected inf for the nuclear norm, got 1.0"):
        AttentionSVM(norm="nuc", C=1.0).fit(X, y)
    for norm in (None, "nuc"):
        model = AttentionSVM(parameter="KQ", norm=norm, value=[1.0, 0.0])
        with pytest.raises(ValueError, match=r"^parameter: expected 'W' where .*, got 'KQ'$"):
            model.fit(X, y)
        with pytest.raises(ValueError, match=r"^C: expected inf for 'KQ', whose norm is nuclear"):
            clone(model).set_params(C=1.0).fit(X, y)


def test_key_and_query_matrices_have_the_nuclear_norm():
    X, y = problem()
    model = AttentionSVM(parameter="KQ").fit(X, y)
    assert model.coef_.tolist() == AttentionSVM(norm="nuc").fit(X, y).coef_.tolist()
    trained = AttentionSVM(
        parameter="KQ", selection="trained", steps=50, lr=0.05, random_state=3
    ).fit(X, y)  # fmt: skip
    assert trained.run_.parameter == ("v", "KQ")
    again = clone(trained).fit(X, y)
    assert again.run_.K.tolist() == trained.run_.K.tolist()
    with pytest.raises(ValueError, match=r"^norm: expected 'nuc' for 'KQ', got 'fro'"):
        AttentionSVM(parameter="KQ", norm="fro").fit(X, y)


@quiet
def test_a_grid_searches_over_training():
    X, y = problem(n=12)
    grid = GridSearchCV(
        AttentionSVM(selection="trained"), {"steps": [1, 20], "rule": ["gd", "ngd"]}, cv=2
    ).fit(X, y)
    assert grid.best_estimator_.run_.steps == grid.best_params_["steps"]
    assert grid.best_estimator_.run_.rule == grid.best_params_["rule"]


@quiet
def test_parameters_without_effect_are_warned_of():
    X, y = problem(n=12)
    nothing = "^lr, steps: no effect, as nothing is trained unless selection='trained'$"
    with pytest.warns(UserWarning, match=nothing):
        AttentionSVM(steps=5, lr=0.2).fit(X, y)
    with pytest.warns(UserWarning, match="^train_options: no effect.* with `selected`$"):
        AttentionSVM(selection="trained", train_options={"steps": 5}).fit(
            X, y, selected=np.zeros(12, dtype=int)
        )
    with pytest.warns(UserWarning, match="^query: no effect"):
        AttentionSVM(parameter="p", query="last").fit(X, y)
    with pytest.warns(UserWarning, match="^steps: no effect") as given:
        GridSearchCV(AttentionSVM(), {"steps": [10, 20]}, cv=2).fit(X, y)
    assert len(given) == 1


@quiet
def test_several_classes_go_one_against_the_rest():
    X, _ = problem(n=9)
    y = np.arange(9) % 3
    assert OneVsRestClassifier(AttentionSVM()).fit(X, y).score(X, y) == 1.0
    with pytest.raises(ValueError, match=r"Only binary classification.*OneVsRestClassifier"):
        AttentionSVM().fit(X, y)


# Tokens in a pipeline


def test_tokens_are_transformed_as_rows():
    X, y = problem()
    lengths = np.array([4, 2, 3, 4, 1, 4])
    rows = np.concatenate([x[:length] for x, length in zip(X, lengths, strict=True)])
    model = TokenTransformer(PCA(3)).fit(X, lengths=lengths)
    transformed = model.transform(X, lengths=lengths)
    assert transformed.shape == (6, 4, 3)
    np.testing.assert_array_equal(transformed[1, :2], PCA(3).fit(rows).transform(X[1, :2]))
    assert not transformed[1, 2:].any()
    supervised = TokenTransformer(LinearDiscriminantAnalysis()).fit(X, y).transform(X)
    expected = LinearDiscriminantAnalysis().fit(X.reshape(24, 8), np.repeat(y, 4))
    np.testing.assert_array_equal(supervised.ravel(), expected.transform(X.reshape(24, 8)).ravel())


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (np.ones((3, 4)), r"^X: expected tokens of shape \(n, T, d\)"),
        (np.full((3, 4, 2), np.nan), "contains NaN"),
        (np.ma.ones((3, 4, 2)), "^X: "),
    ],
)
def test_what_is_no_sequence_of_tokens_is_refused_in_a_pipeline(X, match):
    with pytest.raises((TypeError, ValueError), match=match):
        TokenTransformer(StandardScaler()).fit(X)


# Prediction


def test_decision_is_the_head_of_the_attended_token():
    X, y = problem(8)
    model = AttentionSVM().fit(X, y)
    new = np.random.default_rng(0).standard_normal((5, 7, 8))
    logits = np.einsum("ntd,de,ne->nt", new, model.coef_, new[:, 0])
    expected = new[np.arange(5), logits.argmax(axis=1)] @ model.value_
    assert model.decision_function(new) == pytest.approx(expected)
    assert model.predict(new).tolist() == ["yes" if f > 0 else "no" for f in expected]


def test_temperature_softens_the_attention_down_to_none():
    X, y = problem(9)
    hard = AttentionSVM().fit(X, y)
    logits = np.einsum("ntd,de,ne->nt", X, hard.coef_, X[:, 0])
    for temperature in (0.3, 2.0):
        soft = AttentionSVM(temperature=temperature).fit(X, y)
        assert soft.attention(X) == pytest.approx(
            attsvm.functional.softmax(logits / temperature, axis=1)
        )
    assert AttentionSVM(temperature=1e-300).fit(X, y).attention(X).tolist() == (
        hard.attention(X).tolist()
    )
    with pytest.raises(ValueError, match=r"^temperature: expected a number >= 0"):
        AttentionSVM(temperature=-1.0).fit(X, y)


def test_padding_is_never_seen():
    X, y = problem(10)
    lengths = np.array([4, 3, 2, 4, 1, 3])
    model = AttentionSVM(query="last").fit(X, y, lengths=lengths)
    filled = X.copy()
    filled[np.arange(4) >= lengths[:, np.newaxis]] = 1e3
    again = AttentionSVM(query="last").fit(filled, y, lengths=lengths)
    assert again.coef_.tolist() == model.coef_.tolist()
    assert again.decision_function(filled, lengths=lengths).tolist() == (
        model.decision_function(X, lengths=lengths).tolist()
    )
    last = X[np.arange(6), lengths - 1]
    given = AttentionSVM().fit(X, y, queries=last, lengths=lengths)
    assert given.coef_.tolist() == model.coef_.tolist()


# scikit-learn's own machinery


def test_clone_and_pickle():
    X, y = problem(11)
    model = AttentionSVM(
        parameter="p", selection="trained", temperature=0.5, train_options={"steps": 5}
    ).fit(X, y)
    assert clone(model).get_params() == model.get_params()
    again = pickle.loads(pickle.dumps(model))
    assert again.decision_function(X).tolist() == model.decision_function(X).tolist()


@quiet
def test_pipeline_and_grid_search_of_tokens():
    rng = np.random.default_rng(12)
    n = 60
    y = rng.choice(["no", "yes"], n)
    X = 0.3 * rng.standard_normal((n, 4, 12))
    place = rng.integers(1, 4, n)  # one token of each sequence has the key e0, and the label in e1
    X[np.arange(n), place, 0] += 3.0
    X[np.arange(n), place, 1] += 3.0 * signs(y)
    pipe = make_pipeline(FunctionTransformer(lambda X: 2 * X), AttentionSVM(parameter="p"))
    assert (cross_val_predict(pipe, X, y, cv=3) == y).mean() > 0.9
    grid = GridSearchCV(AttentionSVM(), {"parameter": ["W", "p"], "C": [0.01, np.inf]}, cv=3)
    assert grid.fit(X, y).best_score_ > 0.9


def test_queries_are_routed_to_fit_and_score():
    X, y = problem(13, n=12, d=16)
    queries = np.random.default_rng(0).standard_normal((12, 16))
    with sklearn.config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotSeparableWarning)
        model = AttentionSVM().set_fit_request(queries=True).set_score_request(queries=True)
        grid = GridSearchCV(model, {"temperature": [0.0, 1.0]}, cv=2)
        grid.fit(X, y, queries=queries)
    alone = AttentionSVM(**grid.best_params_).fit(X, y, queries=queries)
    assert grid.best_estimator_.coef_.tolist() == alone.coef_.tolist()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("parameter", "Wp", ValueError),
        ("norm", "l1", ValueError),
        ("selection", "best", ValueError),
        ("query", "middle", ValueError),
        ("value", [1.0], ValueError),
        ("C", 0.0, ValueError),
        ("steps", -1, ValueError),
        ("steps", 2.0, TypeError),
        ("temperature", "cold", TypeError),
        ("train_options", [("steps", 5)], TypeError),
        ("train_options", "steps", TypeError),
        ("train_options", {3: 5}, ValueError),
    ],
)
def test_bad_parameters_are_named(name, value, error):
    X, y = problem()
    with pytest.raises(error, match=f"^{name}: "):
        AttentionSVM(**{name: value}).fit(X, y)


@pytest.mark.parametrize("selection", ["optimal", "trained"])
@pytest.mark.parametrize(
    "name", ["parameter", "data", "head", "inner", "prompt", "step", "C", "num_threads"]
)
def test_train_options_that_are_not_open_are_refused(name, selection):
    X, y = problem()
    model = AttentionSVM(selection=selection, train_options={"steps": 5, name: None})
    with pytest.raises(
        ValueError, match=rf"^train_options: expected arguments .* rule, lr, .*, got '{name}'$"
    ):
        model.fit(X, y)


def test_every_other_argument_of_train_is_open():
    X, y = problem()
    arguments = inspect.signature(attsvm.train).parameters
    closed = ("data", "parameter", "head", "inner", "prompt", "test", "num_threads")
    options = {name: each.default for name, each in arguments.items() if name not in closed}
    model = AttentionSVM(selection="trained", train_options={**options, "steps": 7}).fit(X, y)
    assert model.run_.steps == 7


def test_zero_query_has_no_margin_to_soften():
    X, y = problem(14)
    X[2, 0] = 0
    with pytest.raises(ValueError, match=r"^queries: expected no zero vector, got one at \[2\]"):
        AttentionSVM(C=1.0).fit(X, y)


def test_masked_arrays_are_refused_not_their_values_used():
    X = np.random.default_rng(0).standard_normal((4, 3, 2))
    model = AttentionSVM().fit(X, [0, 1, 0, 1])
    masked = np.ma.array(X, mask=X > 1)
    for call in (lambda: AttentionSVM().fit(masked, [0, 1, 0, 1]), lambda: model.predict(masked)):
        with pytest.raises(TypeError, match=r"^X: expected a plain array, got a masked array$"):
            call()


def test_sequences_of_different_lengths_are_to_be_padded():
    X, y = problem()
    ragged = [x[: 1 + i % 2] for i, x in enumerate(X)]
    for call in (
        lambda: AttentionSVM().fit(ragged, y),
        lambda: AttentionSVM().fit(X, y).predict(ragged),
        lambda: TokenTransformer(StandardScaler()).fit(ragged),
        lambda: AttentionSVM().fit([x.tolist() for x in ragged], y),
    ):
        with pytest.raises(
            ValueError, match=r"^X: expected sequences padded .*, got 1 to 2 tokens$"
        ):
            call()


@pytest.mark.parametrize("fit", [AttentionSVM().fit, TokenTransformer(StandardScaler()).fit])
def test_lists_of_what_has_no_length_or_is_sparse_are_refused(fit):
    with pytest.raises(ValueError, match=r"^X: expected tokens of shape \(n, T, d\), got \(2,\)$"):
        fit([np.array(1.0), np.array(2.0)], [0, 1])
    with pytest.raises(TypeError, match=r"^X: expected dense tokens .*, got a list of sparse ones"):
        fit([scipy.sparse.eye_array(2), scipy.sparse.eye_array(2)], [0, 1])
    with pytest.raises(TypeError, match=r"^X: .*, got a sparse matrix of shape \(2, 2\)$"):
        fit(scipy.sparse.eye_array(2), [0, 1])
    with pytest.raises(ValueError, match="onvert"):
        fit(["abc", "de"], [0, 1])
