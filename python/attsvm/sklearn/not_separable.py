"""Warning for data that no hard margin separates."""

from __future__ import annotations

import warnings


class NotSeparableWarning(UserWarning):
    """No hard margin exists; the estimator has the soft margin that its documentation names."""


def warn_not_separable(what: str) -> None:
    """Warn that a soft margin takes the place of the hard one; to be called from `fit`."""
    warnings.warn(
        f"{what} cannot be separated: no hard margin exists, and a soft margin takes its place, "
        "with C = 10 over the mean square length of what is separated; set C to choose another",
        NotSeparableWarning,
        stacklevel=3,
    )
