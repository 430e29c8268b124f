"""Comparison of training with the SVM: scores, optimality, graphs, margins, certificates."""

from attsvm.theory.automaton import Prediction, predict_next
from attsvm.theory.certified_cosine import certified_cosine, certified_cosine_gap
from attsvm.theory.classification import Classification, Classifications, classify
from attsvm.theory.composition import optimal_loss
from attsvm.theory.cosine import bregman_distance, cosine, cosine_gap, directional_distance, in_cone
from attsvm.theory.cyclic_subspace import CyclicSubspace, cyclic_subset, cyclic_subspace
from attsvm.theory.decomposition import Decomposition, decompose
from attsvm.theory.finite_part import finite_part
from attsvm.theory.frank_wolfe_gap import frank_wolfe_gap
from attsvm.theory.local_optimality import (
    Choices,
    every_choice,
    is_locally_optimal,
    locally_optimal_choices,
    support_tokens,
)
from attsvm.theory.margin_ratio import (
    certified_margin_ratio,
    margin_ratio,
    margin_ratios,
    nuclear_suboptimality,
)
from attsvm.theory.priority_graphs import TokenPriorityGraph, token_priority_graphs
from attsvm.theory.product_norm import product_norm
from attsvm.theory.ranks import effective_rank, rank
from attsvm.theory.rates import Rate, fit_rate
from attsvm.theory.separation import first_step_separates, in_separation_cone, margins
from attsvm.theory.sparsity import sparsity
from attsvm.theory.token_scores import optimal_tokens, scores

__all__ = [
    "Choices",
    "Classification",
    "Classifications",
    "CyclicSubspace",
    "Decomposition",
    "Prediction",
    "Rate",
    "TokenPriorityGraph",
    "bregman_distance",
    "certified_cosine",
    "certified_cosine_gap",
    "certified_margin_ratio",
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
    "frank_wolfe_gap",
    "in_cone",
    "in_separation_cone",
    "is_locally_optimal",
    "locally_optimal_choices",
    "margin_ratio",
    "margin_ratios",
    "margins",
    "nuclear_suboptimality",
    "optimal_loss",
    "optimal_tokens",
    "predict_next",
    "product_norm",
    "rank",
    "scores",
    "sparsity",
    "support_tokens",
    "token_priority_graphs",
]
