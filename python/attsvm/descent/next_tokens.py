"""Next-token data as attention is trained on it: tokens looked up, and the head of the loss."""

from __future__ import annotations

from attsvm.data import AttentionData, NextTokenData
from attsvm.heads import Head, LinearScores, Softmax


def require_realizable(data: NextTokenData) -> None:
    """Raise `ValueError` if a label is not in its context: -log of its attention is infinite."""
    if not data.realizable.all():
        missing = int((~data.realizable).sum())
        raise ValueError(
            f"data: expected every label in its context with the log loss, got {missing} that are "
            "not; data.subset(data.realizable) leaves them out"
        )


def next_token_problem(
    data: NextTokenData, loss: str, head: Head | None
) -> tuple[AttentionData, Head]:
    """Return looked-up tokens, and where no head is given that of the loss.

    Cross-entropy and squared loss take the tied head C = E, the others a head with C E' = I, under
    which the margin is the attention on the label.
    """
    if loss == "log" and head is None:
        require_realizable(data)
    if head is None and loss in ("cross_entropy", "squared"):
        head = Softmax(data.embeddings, data.labels)
    elif head is None:
        head = LinearScores(data.label_scores)
    return data.as_attention(), head
