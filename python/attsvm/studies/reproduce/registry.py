"""The figures that can be reproduced, in the order of the papers."""

from __future__ import annotations

from collections.abc import Sequence

from attsvm.studies.figures import (
    digits_rules,
    joint_rates,
    joint_training,
    lambda_head,
    local_convergence,
    loss_comparison,
    multi_token,
    multiple_inputs,
    next_token_global,
    next_token_local,
    over_parameterisation,
    priority_components,
    rank,
    regularization_paths,
    single_input,
    step_rules,
    trajectories,
)
from attsvm.studies.reproduce.figure import Figure

__all__ = ["FIGURES", "named"]

FIGURES: tuple[Figure, ...] = (
    single_input.FIGURE,
    multiple_inputs.FIGURE,
    joint_training.FIGURE,
    loss_comparison.FIGURE,
    trajectories.FIGURE,
    local_convergence.FIGURE,
    rank.FIGURE,
    over_parameterisation.FIGURE,
    multi_token.FIGURE,
    lambda_head.FIGURE,
    regularization_paths.FIGURE,
    step_rules.FIGURE,
    joint_rates.FIGURE,
    digits_rules.FIGURE,
    next_token_global.FIGURE,
    next_token_local.FIGURE,
    priority_components.FIGURE,
)


def named(name: str, figures: Sequence[Figure] = FIGURES) -> Figure:
    """The figure of this name.

    Raises
    ------
    ValueError
        There is none; the message lists the names.
    """
    for figure in figures:
        if figure.name == name:
            return figure
    known = ", ".join(figure.name for figure in figures)
    raise ValueError(f"NAME: expected one of {known}, got {name!r}")
