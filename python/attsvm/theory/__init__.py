"""How training and the support vector machine compare."""

from attsvm.theory.automaton import Prediction, predict_next
from attsvm.theory.certified_cosine import certified_cosine, certified_cosine_gap
from attsvm.theory.choices import Choices, every_choice, locally_optimal_choices
from attsvm.theory.classification import classify
from attsvm.theory.composition import optimal_loss
from attsvm.theory.cones import in_cone, in_separation_cone
from attsvm.theory.cyclic_subspace import CyclicSubspace, cyclic_subset, cyclic_subspace
from attsvm.theory.decomposition import Decomposition, decompose
from attsvm.theory.directions import cosine, cosine_gap, directional_distance
from attsvm.theory.finite_part import finite_part
from attsvm.theory.first_step import first_step_separates
from attsvm.theory.local_optimality import is_locally_optimal, support_tokens
from attsvm.theory.margins import margins
from attsvm.theory.priority_graphs import TokenPriorityGraph, token_priority_graphs
from attsvm.theory.ranks import effective_rank, rank
from attsvm.theory.rates import Rate, fit_rate
from attsvm.theory.solution_set import nuclear_suboptimality
from attsvm.theory.sparsity import sparsity
from attsvm.theory.token_scores import optimal_tokens, scores

__all__ = [
    "Choices",
    "CyclicSubspace",
    "Decomposition",
    "Prediction",
    "Rate",
    "TokenPriorityGraph",
    "certified_cosine",
    "certified_cosine_gap",
    "classify",
    "cosine",
    "cosine_gap",
    "cyclic_subset",
    "cyclic_subspace",
    "decompose",
    "directional_distance",
    "effective_rank",
    "every_choice",
    "finite_part",
    "first_step_separates",
    "fit_rate",
    "in_cone",
    "in_separation_cone",
    "is_locally_optimal",
    "locally_optimal_choices",
    "margins",
    "nuclear_suboptimality",
    "optimal_loss",
    "optimal_tokens",
    "predict_next",
    "rank",
    "scores",
    "sparsity",
    "support_tokens",
    "token_priority_graphs",
]
