"""Warnings of estimators, among them that for data that no hard margin separates."""

from __future__ import annotations

import copy
import sys
import warnings
from types import FrameType
from typing import Any, SupportsIndex
from uuid import uuid4
from weakref import WeakKeyDictionary

from sklearn.base import BaseEstimator

_GIVEN: set[tuple[str, str]] = set()
"""Warnings that clones gave: the name of all clones of an estimator, and the message."""
_NAMES: WeakKeyDictionary[BaseEstimator, str] = WeakKeyDictionary()
"""Names of all clones of an estimator."""


class NotSeparableWarning(UserWarning):
    """No hard margin exists; the estimator has the soft margin that its documentation names."""


class OneWarningOfClones(BaseEstimator):
    """Estimator whose clones, such as a search fits on every fold, give a warning once."""

    def __sklearn_clone__(self) -> Any:
        clone = super().__sklearn_clone__()
        clone._clone_of = _NAMES.setdefault(self, uuid4().hex)
        return clone

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Leave the name out of protocol 3, that of `joblib.hash`: a clone has the same hash."""
        if protocol == 3 and "_clone_of" in vars(self):
            unnamed = copy.copy(self)
            unnamed._take_clones()
            return unnamed.__reduce_ex__(protocol)
        return super().__reduce_ex__(protocol)

    def _take_clones(self) -> str | None:
        """Return the name of all clones to a clone that is fitted for the first time."""
        name: str | None = self.__dict__.pop("_clone_of", None)
        return name


def warn_once(clones: str | None, message: str, kind: type[UserWarning] = UserWarning) -> None:
    """Warn, to be called from what `fit` calls, unless another one of these clones has."""
    if (clones, message) in _GIVEN:
        return
    warnings.warn(message, kind, stacklevel=4)
    if clones is not None and not _is_ignored(message, kind, sys._getframe(3)):
        _GIVEN.add((clones, message))


def _is_ignored(message: str, kind: type[Warning], caller: FrameType) -> bool:
    """Return whether the first filter that fits this warning of a caller ignores it."""
    module = caller.f_globals.get("__name__", "")
    for action, text, category, of_module, line in warnings.filters:
        if (
            issubclass(kind, category)
            and (text is None or text.match(message))
            and (of_module is None or of_module.match(module))
            and line in (0, caller.f_lineno)
        ):
            return action == "ignore"
    return False


def warn_not_separable(clones: str | None, what: str) -> None:
    """Warn that a soft margin takes the place of the hard one; to be called from `fit`."""
    warn_once(
        clones,
        f"{what} cannot be separated: no hard margin exists, and a soft margin takes its place, "
        "with C = 10 over the mean square length of what is separated; set C to choose another",
        NotSeparableWarning,
    )
