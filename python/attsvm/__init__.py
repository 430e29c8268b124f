"""What attention learns by gradient descent, beside the SVM that theory says it converges to."""

from importlib.metadata import version

from attsvm import datasets, functional, heads
from attsvm.data import AttentionData, load, save
from attsvm.descent import Run, train
from attsvm.svm import SolverError, SVMSolution, att_svm, label_svm, prompt_svm
from attsvm.theory import (
    classify,
    cosine,
    directional_distance,
    is_locally_optimal,
    nuclear_suboptimality,
    optimal_tokens,
    scores,
)

__version__ = version("attsvm")

__all__ = [
    "AttentionData",
    "Run",
    "SVMSolution",
    "SolverError",
    "__version__",
    "att_svm",
    "classify",
    "cosine",
    "datasets",
    "directional_distance",
    "functional",
    "heads",
    "is_locally_optimal",
    "label_svm",
    "load",
    "nuclear_suboptimality",
    "optimal_tokens",
    "prompt_svm",
    "save",
    "scores",
    "train",
]
