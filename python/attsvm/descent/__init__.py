"""Training by gradient methods: parameters, losses, step rules, runs, regularisation paths."""

from attsvm.descent.evaluation import Evaluation
from attsvm.descent.log_schedule import log_schedule
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
    "Evaluation",
    "RegularizationPath",
    "Run",
    "StepRule",
    "log_schedule",
    "regularization_path",
    "train",
]
