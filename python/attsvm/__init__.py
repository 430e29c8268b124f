"""Attention trained by gradient methods, compared with the SVM that it converges to in theory.

A `TypeError` or `ValueError` names the argument, what it was and what it must be; NaN, inf and
masked arrays are refused. A `SolverError` says that an SVM could be neither solved nor shown
infeasible, an `ImportError` which extra brings a package that is missing. `num_threads` are the
threads of a call, by default what OpenMP and the container allow; results do not depend on them.
Docstrings say what there is beyond that, and name these papers by their titles:

* Tarzanagh, Li, Zhang, Oymak, "Max-Margin Token Selection in Attention Mechanism", 2023.
* Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023.
* Vasudeva, Deora, Thrampoulidis, "Implicit Bias and Fast Convergence Rates for Self-attention",
  2025.
* Li, Huang, Ildiz, Rawat, Oymak, "Mechanics of Next Token Prediction with Self-Attention", 2024.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from attsvm import _core as _core  # first: in a subinterpreter the import ends here
from attsvm import datasets, functional, heads, theory
from attsvm._version import __version__
from attsvm.data import AttentionData, NextTokenData, load, save
from attsvm.descent import (
    ConvergenceWarning,
    Evaluation,
    RegularizationPath,
    Run,
    StepRule,
    log_schedule,
    regularization_path,
    train,
)
from attsvm.svm import (
    SolverError,
    SVMSolution,
    att_svm,
    diagonal_svm,
    general_svm,
    graph_svm,
    label_svm,
    prompt_svm,
    selected_sets,
)
from attsvm.theory import (
    Rate,
    certified_cosine,
    certified_margin_ratio,
    classify,
    cosine,
    decompose,
    directional_distance,
    effective_rank,
    finite_part,
    first_step_separates,
    fit_rate,
    in_cone,
    in_separation_cone,
    is_locally_optimal,
    locally_optimal_choices,
    margin_ratio,
    margin_ratios,
    nuclear_suboptimality,
    optimal_tokens,
    predict_next,
    rank,
    scores,
    sparsity,
    support_tokens,
    token_priority_graphs,
)

__all__ = [
    "AttentionData",
    "ConvergenceWarning",
    "Evaluation",
    "NextTokenData",
    "Rate",
    "RegularizationPath",
    "Run",
    "SVMSolution",
    "SolverError",
    "StepRule",
    "__version__",
    "att_svm",
    "certified_cosine",
    "certified_margin_ratio",
    "classify",
    "cosine",
    "datasets",
    "decompose",
    "diagonal_svm",
    "directional_distance",
    "effective_rank",
    "finite_part",
    "first_step_separates",
    "fit_rate",
    "functional",
    "general_svm",
    "graph_svm",
    "heads",
    "in_cone",
    "in_separation_cone",
    "is_locally_optimal",
    "label_svm",
    "load",
    "locally_optimal_choices",
    "log_schedule",
    "margin_ratio",
    "margin_ratios",
    "nuclear_suboptimality",
    "optimal_tokens",
    "predict_next",
    "prompt_svm",
    "rank",
    "regularization_path",
    "save",
    "scores",
    "selected_sets",
    "sparsity",
    "support_tokens",
    "theory",
    "token_priority_graphs",
    "train",
]

_IMPORTED_WHEN_USED = ("plots", "sklearn", "studies", "torch")

if not _TYPE_CHECKING:  # which would take any name for a subpackage

    def __getattr__(name: str) -> object:
        if name not in _IMPORTED_WHEN_USED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return _import_module(f"{__name__}.{name}")
        except ImportError as error:  # of an extra, which hasattr is asked for
            raise AttributeError(str(error)) from error
