"""Warnings of estimators, among them that for data that no hard margin separates."""

from __future__ import annotations

import warnings
from typing import Any
from uuid import uuid4

from sklearn.base import BaseEstimator

_GIVEN: set[tuple[str, str]] = set()
"""Warnings that clones gave: the name of all clones of an estimator, and the message."""


class NotSeparableWarning(UserWarning):
    """No hard margin exists; the estimator has the soft margin that its documentation names."""


class OneWarningOfClones(BaseEstimator):
    """Estimator whose clones, such as a search fits on every fold, give a warning once."""

    def __sklearn_clone__(self) -> Any:
        clone = super().__sklearn_clone__()
        clone._clone_of = self.__dict__.setdefault("_clones", uuid4().hex)
        return clone

    def _take_clones(self) -> str | None:
        """Return the name of all clones to a clone that is fitted for the first time."""
        name: str | None = self.__dict__.pop("_clone_of", None)
        return name


def warn_once(clones: str | None, message: str, kind: type[UserWarning] = UserWarning) -> None:
    """Warn, to be called from what `fit` calls, unless another one of these clones has."""
    if (clones, message) not in _GIVEN:
        warnings.warn(message, kind, stacklevel=4)
    if clones is not None:
        _GIVEN.add((clones, message))


def warn_not_separable(clones: str | None, what: str) -> None:
    """Warn that a soft margin takes the place of the hard one; to be called from `fit`."""
    warn_once(
        clones,
        f"{what} cannot be separated: no hard margin exists, and a soft margin takes its place, "
        "with C = 10 over the mean square length of what is separated; set C to choose another",
        NotSeparableWarning,
    )
