"""A linear classifier of the largest margin, for samples in rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from attsvm._validation import require_unmasked
from attsvm.sklearn.largest_margin import separation
from attsvm.sklearn.not_separable import warn_not_separable
from attsvm.sklearn.slack import as_penalty


class HardMarginSVC(ClassifierMixin, BaseEstimator):
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
        is an intercept.

    Notes
    -----
    More classes: ``sklearn.multiclass.OneVsOneClassifier(HardMarginSVC())``.

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

    def __init__(self, *, C: float = np.inf, fit_intercept: bool = True) -> None:
        self.C = C
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any) -> HardMarginSVC:
        """Compute the hyperplane between the samples of two classes.

        Parameters
        ----------
        X : array_like, shape (n, d)
        y : array_like, shape (n,)
            Two different labels.

        Returns
        -------
        HardMarginSVC
            The fitted estimator, `self`.

        Raises
        ------
        TypeError
            Masked arrays, whose mask would be lost.
        ValueError
            Not two classes, a shape that does not fit, NaN or inf, samples of a size below 1e-140
            or above 1e140, or C below 1e-280.
        SolverError
            No answer could be certified.
        """
        C = as_penalty(self.C)
        for name, array in (("X", X), ("y", y)):
            require_unmasked(name, array)
        X, y = validate_data(self, X, y, dtype=np.float64)
        self.classes_, sign = two_classes(y)
        answer = separation(np.ascontiguousarray(X), sign, C, intercept=bool(self.fit_intercept))
        self.separable_ = answer.certificate is None if np.isinf(C) else None
        self.certificate_ = answer.certificate
        if answer.certificate is not None:
            warn_not_separable("the classes", answer.C)
        self.C_ = answer.C
        self.coef_ = answer.w[np.newaxis].copy()
        self.intercept_ = np.array([answer.plane.b])
        norm = float(linalg.norm(answer.w))
        self.margin_ = 1.0 / norm if norm > 0 else np.inf
        self.support_ = np.flatnonzero(answer.plane.dual > 0)
        self.dual_coef_ = (sign * answer.plane.dual)[np.newaxis, self.support_]
        self.slack_ = answer.slack
        self.gap_, self.kkt_ = answer.plane.gap, answer.plane.kkt
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Compute w'x + b of each sample.

        Parameters
        ----------
        X : array_like, shape (n, d)

        Returns
        -------
        ndarray, shape (n,)
            Positive for ``classes_[1]``.
        """
        check_is_fitted(self)
        require_unmasked("X", X)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        scores: NDArray[np.float64] = X @ self.coef_[0] + self.intercept_[0]
        return scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the label of each sample.

        Parameters
        ----------
        X : array_like, shape (n, d)

        Returns
        -------
        ndarray, shape (n,)
        """
        return predicted(self, self.decision_function(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def two_classes(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the two labels in y, and the sign of each: -1 for the first, +1 for the second."""
    check_classification_targets(y)
    kind = type_of_target(y)
    if kind != "binary":
        one_vs_one = " More classes: sklearn.multiclass.OneVsOneClassifier, for samples in rows."
        hint = one_vs_one if kind == "multiclass" else ""
        raise ValueError(
            f"Only binary classification is supported. The type of the target is {kind}.{hint}"
        )
    classes, place = np.unique(y, return_inverse=True)
    if classes.size < 2:
        raise ValueError(f"y: expected two classes, got one class: {classes.tolist()}")
    return classes, np.where(place == 1, 1.0, -1.0)


def predicted(model: Any, scores: NDArray[np.float64]) -> NDArray[Any]:
    """Return the second class of a fitted model for positive scores, and else the first."""
    labels: NDArray[Any] = model.classes_[(scores > 0).astype(np.intp)]
    return labels
