"""One call of an attention layer, in the form in which every model is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import torch

MASKED = -1e4
"""Numbers added to logits are 0, or at most this where a mask excludes a token."""


class NotReadableError(ValueError):
    """A layer whose logits are not x'Wz of its tokens, or a call that is not understood."""


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """Tokens, matrices and values of an attention layer in one call.

    Head h of position i attends to token t with the softmax over t of

        logit_it = scale (W_K' x_t)' (W_Q' z_i + bias) = x_t' W z_i,

    and its mixture is o_i = Σ_t s_it v_t. The output of the layer is Σ_h W_O' o_i + bias_O, or the
    mixtures of all heads side by side. A bias of the keys adds the same number to all logits of a
    position; the softmax does not depend on it, and it is left out.

    Parameters
    ----------
    queries : Tensor, shape (B, L, d_q)
        Tokens z_i, as the layer gets them: after a layer norm, where one comes before.
    keys : Tensor, shape (B, T, d_k)
        Tokens x_t. For self-attention the same tensor as the queries.
    W_Q : Tensor, shape (H, d_q, m)
    W_K : Tensor, shape (H, d_k, m)
    values : Tensor, shape (B, H, T, e)
        v_t = V x_t, a bias included.
    bias : Tensor, shape (H, m), optional
        Of the queries.
    scale : float
        1/√m as a rule.
    mask : Tensor, optional
        Broadcasts to (B, H, L, T): bool, True where a position attends to a token; or numbers that
        are added to the logits, 0 or -1e4 and less.
    W_O : Tensor, shape (H, e, d_o), optional
        Where it is not given, the output is (B, L, H e), the mixtures side by side.
    bias_O : Tensor, shape (d_o,), optional
    batch_first : bool
        False where the output of the layer is (L, B, d_o).
    """

    queries: torch.Tensor
    keys: torch.Tensor
    W_Q: torch.Tensor
    W_K: torch.Tensor
    values: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    mask: torch.Tensor | None = None
    W_O: torch.Tensor | None = None
    bias_O: torch.Tensor | None = None
    batch_first: bool = True

    def require_shapes(self) -> None:
        """Raise ValueError, naming the member, where shapes do not fit each other."""
        for name in ("queries", "keys", "W_Q", "W_K", "values"):
            axes = 4 if name == "values" else 3
            tensor = getattr(self, name)
            if not isinstance(tensor, torch.Tensor) or tensor.ndim != axes:
                got = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else tensor
                raise ValueError(f"{name}: expected a tensor of {axes} axes, got {got!r}")
        (B, L, d_q), (H, _, m) = self.queries.shape, self.W_Q.shape
        (_, T, d_k), e = self.keys.shape, self.values.shape[-1]
        expected: dict[str, tuple[int, ...]] = {
            "keys": (B, T, d_k),
            "W_Q": (H, d_q, m),
            "W_K": (H, d_k, m),
            "values": (B, H, T, e),
            "bias": (H, m),
        }
        if self.W_O is not None:
            d_o = self.W_O.shape[-1]
            expected |= {"W_O": (H, e, d_o), "bias_O": (d_o,)}
        for name, shape in expected.items():
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {tuple(tensor.shape)}")
        if self.mask is not None:
            try:
                torch.broadcast_shapes(self.mask.shape, (B, H, L, T))
                fits = self.mask.ndim <= 4
            except RuntimeError:
                fits = False
            if not fits:
                got = tuple(self.mask.shape)
                raise ValueError(f"mask: expected to broadcast to {(B, H, L, T)}, got {got}")

    def kept(self, device: torch.device) -> AttentionCall:
        """Return copies of the tensors without their history, tokens shared where they were."""
        copies: dict[int, torch.Tensor] = {}
        members: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                if id(value) not in copies:
                    copies[id(value)] = value.detach().to(device, copy=True)
                value = copies[id(value)]
            members[field.name] = value
        return AttentionCall(**members)


Adapter: TypeAlias = Callable[[torch.nn.Module, Mapping[str, Any], Any], AttentionCall]
"""Reads a call: (module, its arguments by name, its output) to an `AttentionCall`."""


def attended(call: AttentionCall) -> torch.Tensor:
    """Return which token which position attends to: bool, (B, H or 1, L, T).

    A mask that adds other numbers than those that exclude a token is a `NotReadableError`.
    """
    B, L, _ = call.queries.shape
    T = call.keys.shape[1]
    mask = call.mask
    if mask is None:
        return torch.ones(B, 1, L, T, dtype=torch.bool, device=call.queries.device)
    while mask.ndim < 4:
        mask = mask.unsqueeze(0)
    if mask.dtype != torch.bool:
        allowed, excluded = mask == 0, mask <= MASKED
        if not bool((allowed | excluded).all()):
            raise NotReadableError(
                "the mask adds numbers to the logits that are not 0 or -1e4 and less: a bias by "
                "position is no bilinear form of the tokens"
            )
        mask = allowed
    return mask.expand(B, mask.shape[1], L, T)
