"""A linear classifier of the largest margin, for samples in rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from attsvm._arrays import Float64Array
from attsvm._validation import as_bool, require_unmasked
from attsvm.sklearn.estimator_warnings import OneWarningOfClones, warn_not_separable
from attsvm.sklearn.largest_margin import separation
from attsvm.sklearn.slack import as_penalty
from attsvm.threads import core_threads, threads_of_jobs


class HardMarginSVC(ClassifierMixin, OneWarningOfClones):
    """Linear support vector machine with a hard margin, for two classes, solved exactly.

    min ½|w|² subject to y_i (w'x_i + b) >= 1. The intercept b is not penalised. The answer is
    certified by its duality gap and the residuals of the optimality conditions, both below 1e-9
    or the rounding of float64 where that is larger; a few hundred samples of any dimension, or
    many more where few of them come near the margin, are the size it is for.

    Parameters
    ----------
    C : float
        inf for the hard margin. A finite C allows violations ξ_i and adds ½ C Σ ξ_i² to the
        objective, as ``sklearn.svm.LinearSVC(C=C / 2, loss="squared_hinge")`` does, which penalises
        b too: the hard margin of samples with one more coordinate each, (n, d + n) numbers, solved
        and certified as such.
    fit_intercept : bool
        Whether b is free; otherwise it is 0.
    n_jobs : int, optional
        Threads of the C++ core, by default those of `attsvm.train`; -1 takes all processors.

    Attributes
    ----------
    classes_ : ndarray, shape (2,)
        Labels; the second one is y = +1.
    coef_ : ndarray, shape (1, d)
        w.
    intercept_ : ndarray, shape (1,)
        b.
    margin_ : float
        1 / |w|, the distance of the support vectors from the boundary; inf where w = 0.
    support_ : ndarray of int
        Samples with a multiplier λ_i > 0.
    support_vectors_ : ndarray or sparse matrix, shape (number of support vectors, d)
        Those samples.
    n_support_ : ndarray of int, shape (2,)
        Their number in each class.
    dual_coef_ : ndarray, shape (1, number of support vectors)
        y_i λ_i of them: w = Σ y_i λ_i x_i.
    slack_ : ndarray, shape (n,)
        ξ_i, all 0 for a hard margin.
    separable_ : bool or None
        Whether a hard margin exists; None with a finite C, which does not depend on it.
    certificate_ : ndarray, shape (n,), or None
        Where it does not: λ >= 0 of sum 1 with Σ λ_i y_i x_i = 0, and with an intercept
        Σ λ_i y_i = 0; no (w, b) can go with that.
    C_ : float
        The C that was used.
    gap_, kkt_ : float
        Relative duality gap, and the largest residual of the optimality conditions.
    n_features_in_ : int
        d.

    Warns
    -----
    NotSeparableWarning
        No hard margin exists. `separable_` is then False, and the classifier is the one of the soft
        margin with C = 10 / s², s² the mean square of the samples, from their mean where there
        is an intercept, weighted if there are weights. Of the clones of one estimator that are
        fitted, as by a search, one warns and not all.

    Notes
    -----
    More classes: ``sklearn.multiclass.OneVsRestClassifier(HardMarginSVC())`` or
    ``OneVsOneClassifier``.

    References
    ----------
    Boser, Guyon, Vapnik, "A training algorithm for optimal margin classifiers", 1992.

    Examples
    --------
    >>> from attsvm.sklearn import HardMarginSVC
    >>> model = HardMarginSVC().fit([[0.0, 0.0], [1.0, 1.0], [3.0, 1.0]], ["a", "a", "b"])
    >>> model.coef_, model.intercept_, model.support_
    (array([[1., 0.]]), array([-2.]), array([1, 2]))
    """

    def __init__(
        self, *, C: float = np.inf, fit_intercept: bool = True, n_jobs: int | None = None
    ) -> None:
        self.C = C
        self.fit_intercept = fit_intercept
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> HardMarginSVC:
        """Compute the hyperplane between the samples of two classes.

        Parameters
        ----------
        X : array_like or sparse matrix, shape (n, d)
            Of a sparse matrix, the columns that are not empty are made dense.
        y : array_like, shape (n,)
            Two different labels.
        sample_weight : array_like, shape (n,), optional
            Not negative; the slack of sample i costs C times its weight. A sample of weight 0 is
            left out; of the others a hard margin takes no account of the size.

        Returns
        -------
        HardMarginSVC
            The fitted estimator, `self`.

        Raises
        ------
        ValueError
            Also for samples of a size below 1e-140 or above 1e140, and C below 1e-280.
        """
        clones = self._take_clones()
        C = as_penalty(self.C)
        as_bool("fit_intercept", self.fit_intercept)
        threads = threads_of_jobs(self.n_jobs)
        for name, array in (("X", X), ("y", y)):
            require_unmasked(name, array)
        X, y = validate_data(self, X, y, dtype=np.float64, accept_sparse="csr")
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if weights.min() < 0:
            raise ValueError(f"sample_weight: expected no negative weight, got {weights.min()}")
        used = np.flatnonzero(weights)
        self.classes_, sign = two_classes(y[used])
        samples, columns = X[used], np.arange(X.shape[1])
        if sparse.issparse(X):
            columns = np.unique(samples.indices)
            samples = samples[:, columns].toarray()
        with core_threads(threads):
            answer = separation(
                np.ascontiguousarray(samples), sign, C,
                intercept=bool(self.fit_intercept), weights=weights[used],
            )  # fmt: skip
        self.separable_ = answer.certificate is None if np.isinf(C) else None

        def of_all_samples(values: Float64Array) -> Float64Array:
            padded = np.zeros(len(y))
            padded[used] = values
            return padded

        self.certificate_ = None
        if answer.certificate is not None:
            self.certificate_ = of_all_samples(answer.certificate)
            warn_not_separable(clones, "the classes")
        self.C_ = answer.C
        self.coef_ = np.zeros((1, self.n_features_in_))
        self.coef_[0, columns] = answer.w
        self.intercept_ = np.array([answer.plane.b])
        norm = float(linalg.norm(answer.w))
        self.margin_ = 1.0 / norm if norm > 0 else np.inf
        supports = answer.plane.dual > 0
        self.support_ = used[supports]
        self.support_vectors_ = X[self.support_]
        self.n_support_ = np.array([(sign[supports] < 0).sum(), (sign[supports] > 0).sum()])
        self.dual_coef_ = (sign * answer.plane.dual)[np.newaxis, supports]
        self.slack_ = of_all_samples(answer.slack)
        self.gap_, self.kkt_ = answer.plane.gap, answer.plane.kkt
        return self

    def decision_function(self, X: Any) -> Float64Array:
        """Compute w'x + b (n,) of samples (n, d), dense or sparse; positive for ``classes_[1]``."""
        check_is_fitted(self)
        require_unmasked("X", X)
        X = validate_data(self, X, dtype=np.float64, reset=False, accept_sparse="csr")
        return np.asarray(X @ self.coef_[0] + self.intercept_[0])

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the label (n,) of samples (n, d), dense or sparse."""
        return predicted(self, self.decision_function(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.sparse = True
        return tags


def two_classes(y: NDArray[Any]) -> tuple[NDArray[Any], Float64Array]:
    """Return the two labels in y, and the sign of each: -1 for the first, +1 for the second."""
    check_classification_targets(y)
    kind = type_of_target(y)
    if kind != "binary":
        rest = " More classes: wrap the estimator in sklearn.multiclass.OneVsRestClassifier."
        hint = rest if kind == "multiclass" else ""
        raise ValueError(
            f"Only binary classification is supported. The type of the target is {kind}.{hint}"
        )
    classes, place = np.unique(y, return_inverse=True)
    if classes.size < 2:
        raise ValueError(f"y: expected two classes, got one class: {classes.tolist()}")
    return classes, np.where(place == 1, 1.0, -1.0)


def predicted(model: Any, scores: Float64Array) -> NDArray[Any]:
    """Return the second class of a fitted model for positive scores, and else the first."""
    return np.asarray(model.classes_[(scores > 0).astype(np.intp)])
