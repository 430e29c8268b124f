"""What attention learns by gradient descent, beside the SVM that theory says it converges to."""

from importlib.metadata import version

from attsvm import datasets, functional, heads, theory
from attsvm.data import AttentionData, load, save
from attsvm.descent import (
    ConvergenceWarning,
    RegularizationPath,
    Run,
    StepRule,
    regularization_path,
    train,
)
from attsvm.svm import (
    SolverError,
    SVMSolution,
    att_svm,
    general_svm,
    label_svm,
    prompt_svm,
    selected_sets,
)
from attsvm.theory import (
    certified_cosine,
    classify,
    cosine,
    decompose,
    directional_distance,
    effective_rank,
    finite_part,
    first_step_separates,
    in_cone,
    in_separation_cone,
    is_locally_optimal,
    locally_optimal_choices,
    nuclear_suboptimality,
    optimal_tokens,
    rank,
    scores,
    sparsity,
    support_tokens,
)

__version__ = version("attsvm")

__all__ = [
    "AttentionData",
    "ConvergenceWarning",
    "RegularizationPath",
    "Run",
    "SVMSolution",
    "SolverError",
    "StepRule",
    "__version__",
    "att_svm",
    "certified_cosine",
    "classify",
    "cosine",
    "datasets",
    "decompose",
    "directional_distance",
    "effective_rank",
    "finite_part",
    "first_step_separates",
    "functional",
    "general_svm",
    "heads",
    "in_cone",
    "in_separation_cone",
    "is_locally_optimal",
    "label_svm",
    "load",
    "locally_optimal_choices",
    "nuclear_suboptimality",
    "optimal_tokens",
    "prompt_svm",
    "rank",
    "regularization_path",
    "save",
    "scores",
    "selected_sets",
    "sparsity",
    "support_tokens",
    "theory",
    "train",
]
