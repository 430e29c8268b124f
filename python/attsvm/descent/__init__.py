"""What gradient descent does: parameters, losses, step rules, runs, regularisation paths."""

from attsvm.descent.regularization_path import (
    ConvergenceWarning,
    RegularizationPath,
    regularization_path,
)
from attsvm.descent.run import Run
from attsvm.descent.step_rule import StepRule
from attsvm.descent.train import train

__all__ = [
    "ConvergenceWarning",
    "RegularizationPath",
    "Run",
    "StepRule",
    "regularization_path",
    "train",
]
