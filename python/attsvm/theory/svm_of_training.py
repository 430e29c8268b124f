"""The SVM whose solution training of a parameter goes to: of W, p or diagonal W, in a norm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attsvm._geometries import Norm
from attsvm.descent.blocks import as_blocks
from attsvm.descent.step_rule import ADAM, StepRule
from attsvm.svm import SVMSolution, att_svm, diagonal_svm, prompt_svm
from attsvm.svm.norms import as_svm_norm

SVMS: Mapping[str, Callable[..., SVMSolution]] = {
    "W": att_svm,
    "p": prompt_svm,
    "diagonal KQ": diagonal_svm,
}
_EXACT_PRODUCTS = ("nuc", "spec")


def kind_of_svm(parameter: str | Sequence[str]) -> str:
    """Return the key of `SVMS` for a parameter of `train`; X W p is X u with u = W p."""
    kind = as_blocks(parameter).kind
    if kind.diagonal:
        return "diagonal KQ"
    return "W" if kind.queries == "data" else "p"


def norm_of_training(parameter: str | Sequence[str], rule: StepRule) -> Norm:
    """Return the norm of that SVM: that of the steps, or that of the product of two factors.

    Adam's steps become those of signs, which are steps in the max norm. Of factors it is the
    `product_norm` where its SVMs are exact in every dimension, and else that of gradient steps,
    nuclear; of diagonal ones the l1 norm. Where steps of several blocks have several norms, it is
    that of gradient steps.
    """
    blocks = as_blocks(parameter)
    of_steps = rule.norm
    if isinstance(of_steps, Mapping):
        norms = {of_steps[block.name] for block in blocks.kind.blocks}
        of_steps = norms.pop() if len(norms) == 1 else "fro"
    norm: Norm = "max" if rule.kind in ADAM else of_steps or "fro"
    if blocks.direction == "Wp":
        return "fro"
    if not blocks.kind.bilinear:
        return norm
    product = as_svm_norm("norm", norm).of_factors
    known = product if product in _EXACT_PRODUCTS else "nuc"
    return "l1" if blocks.kind.diagonal else known
