"""How training and the support vector machine compare."""

from attsvm.theory.classification import classify
from attsvm.theory.directions import cosine, cosine_gap, directional_distance
from attsvm.theory.local_optimality import is_locally_optimal
from attsvm.theory.solution_set import nuclear_suboptimality
from attsvm.theory.token_scores import optimal_tokens, scores

__all__ = [
    "classify",
    "cosine",
    "cosine_gap",
    "directional_distance",
    "is_locally_optimal",
    "nuclear_suboptimality",
    "optimal_tokens",
    "scores",
]
