"""The quantities that are measured in the heads of a model, each with its formula."""

from __future__ import annotations

from dataclasses import dataclass

INPUT, HEAD, SVM, SVM_INPUT = (
    ("layer", "head", "input"),
    ("layer", "head"),
    ("layer", "head", "norm"),
    ("layer", "head", "norm", "input"),
)


@dataclass(frozen=True)
class Quantity:
    """A variable of the Dataset of `inspect`."""

    dims: tuple[str, ...]
    long_name: str  # what it is
    formula: str  # how it is computed
    # Where a layer has fewer heads or inputs than others, or the quantity does not exist.
    missing: float | bool | int | str = float("nan")


QUANTITIES: dict[str, Quantity] = {
    "tokens": Quantity(
        INPUT, "tokens attended to", "T_i, those that no mask excludes; 0: no such input", 0
    ),
    "entropy": Quantity(INPUT, "entropy of the attention", "-Σ_t s_it ln s_it, from 0 to ln T_i"),
    "sparsity": Quantity(
        INPUT, "soft sparsity: effective number of tokens", "|s_i|_1² / |s_i|_2², from 1 to T_i"
    ),
    "largest_weight": Quantity(INPUT, "largest attention weight", "max_t s_it"),
    "selected": Quantity(
        INPUT, "selected token", "α_i = argmax_t x_t' W z_i, the first of equals", -1
    ),
    "logit_gap": Quantity(
        INPUT, "gap of the two largest logits", "min_{t≠α} (x_α - x_t)' W z_i; inf where T_i = 1"
    ),
    "score": Quantity(
        INPUT,
        "score of the selected token",
        "γ_iα with γ_it = -<∂loss/∂o_i, V x_t>, o_i = Σ_t s_it V x_t the mixture of the head",
    ),
    "best_score": Quantity(INPUT, "largest token score", "max_t γ_it"),
    "global": Quantity(
        INPUT, "the selected token has the largest score", "γ_iα = max_t γ_it", False
    ),
    "fro_norm": Quantity(
        HEAD,
        "Frobenius norm of W",
        "|W|_F, W = W_K [W_Q; b_Q']' / √m, without the bias of the keys",
    ),
    "nuc_norm": Quantity(HEAD, "nuclear norm of W", "|W|_* = Σ_k σ_k"),
    "spec_norm": Quantity(HEAD, "spectral norm of W", "σ_1"),
    "rank": Quantity(HEAD, "rank of W", "number of σ_k > 1e-5 σ_1"),
    "effective_rank": Quantity(
        HEAD, "effective rank of W", "exp(-Σ_k p_k ln p_k), p_k = σ_k / Σ σ"
    ),
    "global_share": Quantity(
        HEAD,
        "share of inputs whose selected token has the largest score",
        "mean_i [γ_iα = max γ_it]",
    ),
    "constraints": Quantity(HEAD, "constraints of the SVM", "Σ_i (T_i - 1)", 0),
    "svm_status": Quantity(
        SVM,
        "how the SVM of the selected tokens was settled: min |W| with (x_α - x_t)' W z_i >= 1",
        "optimal: solved; bounded: not solved, numbers are bounds by weak duality; soft margin: "
        "nothing separates the tokens; no constraints",
        "",
    ),
    "svm_norm": Quantity(
        SVM,
        "norm of the SVM's solution",
        "|W^mm|, a lower bound where bounded; of a soft margin |W|_F",
    ),
    "svm_norm_upper": Quantity(SVM, "upper bound of the norm of the solution", ">= |W^mm|"),
    "svm_gap": Quantity(SVM, "relative duality gap", "1 - lower / upper bound of |W^mm|"),
    "margin_ratio": Quantity(
        SVM,
        "margin of W over the largest margin that its norm allows",
        "(min_it (x_α - x_t)' W z_i / |W|) |W^mm|, at most 1; a lower bound where bounded",
    ),
    "margin_ratio_upper": Quantity(SVM, "upper bound of the margin ratio", ">= margin_ratio"),
    "cosine": Quantity(
        SVM,
        "cosine of W and the solution of the SVM",
        "<W, W^mm> / (|W|_F |W^mm|_F); a lower bound where bounded; the nuclear W^mm "
        "may not be the only solution",
    ),
    "support_vectors": Quantity(
        SVM,
        "tokens that are support vectors",
        "number of (i, t) with (x_α - x_t)' W^mm z_i < 1 + 1e-4; of a soft margin, with λ_it > 0",
    ),
    "soft_penalty": Quantity(
        SVM, "C of the soft margin", "½|W|_F² + ½ C Σ ξ_it²; inf: no soft margin"
    ),
    "local": Quantity(
        SVM_INPUT,
        "the selection of the input is locally optimal",
        "γ_iα > γ_it for all support vectors t of input i",
        False,
    ),
    "local_share": Quantity(
        SVM, "share of inputs whose selection is locally optimal", "mean_i of local"
    ),
}
"""By the names of the variables."""
