"""The problem of a regularisation path, in coordinates of the spans of tokens and queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attsvm import _core
from attsvm._arrays import Float64Array
from attsvm._linalg import euclidean_norm, in_own_span
from attsvm._validation import as_float64_array, as_positive_int, require_keys
from attsvm.data.attention_data import AttentionData, require_queries
from attsvm.descent.attention_maps import Sequences
from attsvm.descent.ball import Objective
from attsvm.descent.log_excess import LogExcess, LogLoss, LogLossOfMixture, MarginLoss, Slope
from attsvm.heads import Head, LinearScores, require_scores_of_loss, value_of

BLOCKS = {"p": ("p",), "W": ("W",), "KQ": ("K", "Q"), "v+p": ("v", "p")}


@dataclass(frozen=True, eq=False)
class PathProblem:
    """The problem in coordinates of the spans of its tokens and queries, as flat blocks."""

    parameter: str
    sequences: Sequences
    token_basis: Float64Array | None
    query_basis: Float64Array | None
    dimension: int
    inner: int
    columns: int
    objective: Objective
    of_logits: Callable[[Float64Array], Slope] | None
    ranking: LogExcess | None
    infimum: float
    constant: bool
    sizes: tuple[int, ...]

    @classmethod
    def of(
        cls, data: AttentionData, parameter: str, loss: str, head: Head | None, inner: int | None
    ) -> PathProblem:
        """Check that `data` has what `parameter` and `head` need, and lay it out."""
        if parameter in ("W", "KQ"):
            require_queries(data, "W")
        if parameter != "KQ" and inner is not None:
            raise ValueError(f"inner: expected None where K and Q are not varied, got {inner!r}")
        d = data.d
        m = d if inner is None else as_positive_int("inner", inner)
        order = slice(None) if data.sequence is None else data.sequence
        given = data.tokens.astype(np.float64)
        tokens, token_basis = in_own_span(given.reshape(1, -1, d))
        queries, query_basis = np.ones((1, data.n, 1)), None
        if data.queries is not None and parameter in ("W", "KQ"):
            queries, query_basis = in_own_span(data.queries[np.newaxis].astype(np.float64))
        tokens = tokens.reshape(*given.shape[:2], -1)[order]
        sequences = Sequences(tokens, queries[0], data.valid)
        k, r = sequences.shape
        # W has rank min(k, r) at most: that many columns reach any of them at its nuclear norm.
        inner_size = min(m, k, r)
        labels = data.labels.astype(np.float64)
        of_logits: Callable[[Float64Array], Slope] | None = None
        ranking, infimum, constant = None, 0.0, False
        if parameter == "v+p":
            if head is not None:
                raise ValueError(
                    f"head: expected None where v is varied, got {type(head).__name__}"
                )
            _require_positive(loss, "for v and p")
            objective = sequences.of_value_and_prompt(LogLoss(loss), labels)
            sizes: tuple[int, ...] = (k, k)
        else:
            if isinstance(head, Head) and head.smooth:
                _require_positive(loss, f"with a {type(head).__name__} head")
                head.core_head(data)  # checks its shape
                of_logits = LogLossOfMixture(given[order], labels, head, loss)
                flat = head.prediction(given.reshape(-1, d)).reshape(given.shape[:2])
                alone = labels[:, np.newaxis] * flat[order]
                require_scores_of_loss("head", np.where(data.valid, alone, 0.0), loss)
                ranking = LogExcess(alone, data.valid, loss)
                same = (given[order] == given[order][:, :1]).all(axis=2) | ~data.valid
                infimum, constant = (ranking.infimum, True) if same.all() else (0.0, False)
            else:
                ranking = LogExcess(_scores(data, given[order], head, loss), data.valid, loss)
                of_logits, infimum, constant = ranking, ranking.infimum, ranking.constant
            if parameter == "KQ":
                objective = sequences.of_factors(of_logits, inner_size)
                sizes = ((k + r) * inner_size,)
            else:
                objective = sequences.of_matrix(of_logits)
                sizes = (k * r,)
        return cls(
            parameter,
            sequences,
            None if token_basis is None else token_basis[0],
            None if query_basis is None else query_basis[0],
            d,
            inner_size,
            m,
            objective,
            of_logits,
            ranking,
            infimum,
            constant,
            sizes,
        )

    @property
    def reach(self) -> float:
        """Return the largest |x_it| |z_i|, which bounds the logits at a radius of 1."""
        tokens = euclidean_norm(self.sequences.tokens, 2).max(axis=1)
        with np.errstate(over="ignore"):
            return float(np.max(tokens * euclidean_norm(self.sequences.queries, 1)))

    def ball(self, radius: Float64Array) -> Float64Array:
        """Return the radii of the blocks from the caller's bounds."""
        return np.sqrt(2.0 * radius) if self.parameter == "KQ" else radius

    def start(self, name: str, value: Any) -> Float64Array:
        """Check a start as given by the caller, and return its coordinates."""
        blocks = BLOCKS[self.parameter]
        if not isinstance(value, Mapping):
            if len(blocks) > 1:
                keys = " and ".join(map(repr, blocks))
                raise TypeError(f"{name}: expected a dict with {keys}, got {type(value).__name__}")
            value, names = {blocks[0]: value}, [name]
        else:
            require_keys(name, value, blocks)
            names = [f"{name}[{block!r}]" for block in blocks]
        d, columns = self.dimension, self.columns
        shapes = {"W": ("(d, d)", (d, d)), "KQ": ("(d, m)", (d, columns))}
        text, shape = shapes.get(self.parameter, ("(d,)", (d,)))
        parts = []
        for block, label in zip(blocks, names, strict=True):
            array = as_float64_array(label, value[block], text, shape=shape)
            basis = self.query_basis if block == "Q" else self.token_basis
            inside = array if basis is None else basis @ array
            if block == "W" and self.query_basis is not None:
                inside = inside @ self.query_basis.T
            parts.append(inside)
        if self.parameter == "KQ" and self.inner < columns:
            # The largest part of K Q' that the fewer columns hold.
            parts = list(_balanced(parts[0] @ parts[1].T, self.inner))
        return np.concatenate([part.ravel() for part in parts])

    def lifted(self, x: Float64Array) -> dict[str, Float64Array]:
        """Return the blocks in the caller's coordinates."""

        def lift(basis: Float64Array | None, part: Float64Array) -> Any:
            return part if basis is None else basis.T @ part

        k, r = self.sequences.shape
        if self.parameter == "KQ":
            K, Q = self.sequences.factors(x, self.inner)
            empty = ((0, 0), (0, self.columns - self.inner))
            K, Q = lift(self.token_basis, K), lift(self.query_basis, Q)
            return {"K": np.pad(K, empty), "Q": np.pad(Q, empty), "W": K @ Q.T}
        if self.parameter == "W":
            W = lift(self.token_basis, x.reshape(k, r))
            return {"W": W if self.query_basis is None else W @ self.query_basis}
        if self.parameter == "p":
            return {"p": lift(self.token_basis, x)}
        return {"v": lift(self.token_basis, x[:k]), "p": lift(self.token_basis, x[k:])}

    def logits(self, x: Float64Array) -> Float64Array:
        """Compute the attention logits (n, T) at x."""
        k, r = self.sequences.shape
        if self.parameter == "KQ":
            K, Q = self.sequences.factors(x, self.inner)
            return self.sequences.logits(K @ Q.T)
        if self.parameter == "v+p":
            return self.sequences.logits(x[k:, np.newaxis])
        return self.sequences.logits(x.reshape(k, r))

    def downhill(self) -> Float64Array:
        """Return a start along the negative gradient at zero; that of p is taken after v."""
        k, r = self.sequences.shape
        if self.parameter == "v+p":
            # At zero only v has a gradient, and p gets one as soon as v has moved.
            v = -self.objective(np.zeros(2 * k)).gradient[:k]
            return np.concatenate([v, -self.objective(np.append(v, np.zeros(k))).gradient[k:]])
        assert self.of_logits is not None
        at_zero = self.of_logits(self.sequences.logits(np.zeros((k, r))))
        return self.of_direction(-self.sequences.pullback(at_zero.gradient))

    def of_direction(self, W: Float64Array) -> Float64Array:
        """Return the flat parameter of W, of its best approximation if K and Q have few columns."""
        if self.parameter != "KQ":
            return W.ravel()
        return np.concatenate([part.ravel() for part in _balanced(W, self.inner)])

    def margins(self) -> Objective | None:
        """Return the convex problem with the max-margin direction of the best tokens, or None."""
        if self.ranking is None or self.ranking.constant:
            return None
        slope = MarginLoss(self.ranking.best, self.ranking.moved)
        if self.parameter == "KQ":
            return self.sequences.of_factors(slope, self.inner)
        return self.sequences.of_matrix(slope)


def _scores(data: AttentionData, tokens: Float64Array, head: Any, loss: str) -> Float64Array:
    """Return the token scores of a linear head, labels included, 0 at padding."""
    if head is None:
        value = value_of(data).astype(np.float64)
        scores = data.labels.astype(np.float64)[:, np.newaxis] * (tokens @ value)
        scores = np.where(data.valid, scores, 0.0)
    elif isinstance(head, LinearScores):
        scores = np.asarray(head.core_head(data).scores, dtype=np.float64)
    else:
        smooth = [kind.__name__ for kind in Head.__subclasses__() if kind.smooth]
        raise TypeError(
            f"head: expected None, {', '.join(['LinearScores', *smooth[:-1]])} or {smooth[-1]}, "
            f"got {type(head).__name__}"
        )
    require_scores_of_loss("value" if head is None else "head", scores, loss)
    return scores


def _require_positive(loss: str, where: str) -> None:
    """Raise `ValueError` if the loss is not positive: its logarithm is minimised."""
    if not _core.losses[loss].positive:
        fit = " or ".join(repr(name) for name, one in _core.losses.items() if one.positive)
        raise ValueError(f"loss: expected {fit} {where}, got {loss!r}")


def _balanced(W: Float64Array, inner: int) -> tuple[Float64Array, Float64Array]:
    """Return K and Q with K'K = Q'Q and K Q' = W, or its best approximation of rank `inner`."""
    left, values, right = np.linalg.svd(W, full_matrices=False)
    root = np.sqrt(values[:inner])
    return left[:, :inner] * root, right[:inner].T * root
