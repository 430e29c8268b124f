"""Transformers of samples in rows, applied to the tokens of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_array, check_is_fitted

from attsvm._arrays import BoolArray
from attsvm.data import AttentionData
from attsvm.data.attention_data import require_padded
from attsvm.sklearn.attention import as_tokens


class TokenTransformer(TransformerMixin, BaseEstimator):
    """Apply a transformer of samples in rows, such as a scaler or PCA, to every token.

    Parameters
    ----------
    transformer : estimator
        Fitted on the (n T, d) tokens of all sequences; it is cloned.

    Attributes
    ----------
    transformer_ : estimator
        The fitted one.
    n_features_in_ : int
        d.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from attsvm.sklearn import AttentionSVM, TokenTransformer
    >>> X = np.random.default_rng(0).standard_normal((6, 4, 8))
    >>> y = [0, 1, 0, 1, 1, 0]
    >>> make_pipeline(TokenTransformer(StandardScaler()), AttentionSVM()).fit(X, y).score(X, y)
    1.0
    """

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def fit(self, X: Any, y: Any = None, *, lengths: Any = None) -> TokenTransformer:
        """Fit the transformer on all tokens.

        Parameters
        ----------
        X : array_like, shape (n, T, d)
        y : array_like, shape (n,), optional
            A transformer that needs labels is given that of its sequence with each token.
        lengths : array_like of int, shape (n,), optional
            Number of valid tokens of each sequence; padding is left out.

        Returns
        -------
        TokenTransformer
            The fitted estimator, `self`.
        """
        X, valid = _tokens(X, lengths)
        labels = None if y is None else np.asarray(y)[np.nonzero(valid)[0]]
        self.transformer_ = clone(self.transformer).fit(X[valid], labels)
        self.n_features_in_ = X.shape[2]
        return self

    def transform(self, X: Any, *, lengths: Any = None) -> NDArray[Any]:
        """Transform every token, to (n, T, coordinates of the transformer), zero at padding."""
        check_is_fitted(self)
        X, valid = _tokens(X, lengths)
        rows = np.asarray(self.transformer_.transform(X[valid]))
        transformed = np.zeros((*valid.shape, rows.shape[1]), dtype=rows.dtype)
        transformed[valid] = rows
        return transformed

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


def _tokens(X: Any, lengths: Any) -> tuple[NDArray[Any], BoolArray]:
    """Return the tokens (n, T, d), and which of them are no padding (n, T)."""
    require_padded("X", X)
    X = as_tokens(check_array(X, ensure_2d=False, allow_nd=True))
    return X, AttentionData(X, np.ones(len(X)), lengths=lengths).valid
