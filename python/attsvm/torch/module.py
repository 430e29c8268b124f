"""Attention as a torch module whose parameters attsvm trains (extra ``torch``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from attsvm._arrays import ArrayLike
from attsvm._validation import (
    as_choice,
    as_float_array,
    as_instance,
    as_positive_int,
    require_shape,
)
from attsvm.data import AttentionData
from attsvm.descent import Run, train
from attsvm.descent.blocks import as_blocks

try:
    import torch
except ModuleNotFoundError as error:
    raise ImportError('attsvm.torch needs PyTorch: pip install "attsvm[torch]"') from error


_OF_THE_MODULE = ("head", "init", "inner", "parameter", "prompt")
_DIRECTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "W": lambda own, z: z @ own.W.mT,
    "p": lambda own, z: own.p.unsqueeze(-2),
    "KQ": lambda own, z: (z @ own.Q) @ own.K.mT,
    "Wp": lambda own, z: (own.W @ own.prompt.unsqueeze(-1)).mT,
    "W+p": lambda own, z: (own.W @ own.p.unsqueeze(-1)).mT,
    "diagonal KQ": lambda own, z: z * (own.k * own.q).unsqueeze(-2),
}
"""Query directions ([B,] n, d), or what broadcasts to it, of a module and its queries z."""


class Attention(torch.nn.Module):
    """One attention layer with a linear head: f(X, z) = v'X'softmax(X W z), as the papers have it.

    The forward pass is torch's own, so that autograd and every optimiser work on it; `fit` trains
    the same parameters by `attsvm.train`.

    Parameters
    ----------
    d : int
        Dimension of a token.
    parameter : {"W", "p", "KQ", "Wp", "W+p", "diagonal KQ"}, or a pair of one of them and "v"
        What is trained, as in `attsvm.train`: logits X W z, X p, X K Q'z, X W p with p the
        `prompt` or trained too, or X (k ∘ q ∘ z); in a pair the head v too.
    value : array_like, shape ([B,] d), optional
        The head v, or its start; needed where v is not trained, else 0 by default.
    prompt : array_like, shape ([B,] d), optional
        The fixed p of the logits X W p.
    inner : int, optional
        Number m of columns of K and Q; d by default.
    batch : int, optional
        B, for parameters of B independent problems along a leading axis.
    dtype : torch.dtype, optional
        Of the parameters; torch's default by default.

    Attributes
    ----------
    W : Parameter, shape ([B,] d, d)
        Where it is trained; starts at 0, and beside p as K does.
    p : Parameter, shape ([B,] d)
        Where it is trained; starts at 0.
    K, Q : Parameter, shape ([B,] d, m)
    k, q : Parameter, shape ([B,] d)
        Where they are trained; start at U(-1/sqrt(d), 1/sqrt(d)), as they cannot leave 0.
    v : Parameter or buffer, shape ([B,] d)
    prompt : buffer, shape ([B,] d), or None

    Examples
    --------
    >>> import attsvm, torch
    >>> from attsvm.torch import Attention
    >>> data = attsvm.datasets.unit_sphere(4, 3, 5, rng=0)
    >>> model = Attention(5, value=data.value, dtype=torch.float64)
    >>> run = model.fit(data, steps=300)
    >>> solution = attsvm.att_svm(data, run.selected)
    >>> bool(attsvm.cosine(model.direction, solution.W) > 0.98)
    True
    >>> model(torch.tensor(data.tokens), torch.tensor(data.queries)).shape
    torch.Size([4])
    """

    def __init__(
        self,
        d: int,
        parameter: str | Sequence[str] = "W",
        *,
        value: ArrayLike | None = None,
        prompt: ArrayLike | None = None,
        inner: int | None = None,
        batch: int | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self._blocks = as_blocks(parameter)
        attention = as_choice("parameter", self._blocks.attention, _DIRECTIONS)
        self.d = as_positive_int("d", d)
        self._lead = () if batch is None else (as_positive_int("batch", batch),)
        kind = {"dtype": torch.get_default_dtype() if dtype is None else dtype}
        if not isinstance(kind["dtype"], torch.dtype) or not kind["dtype"].is_floating_point:
            raise TypeError(f"dtype: expected a floating-point torch.dtype, got {dtype!r}")
        if inner is not None and not self._blocks.has_inner:
            raise ValueError(f"inner: expected None without K and Q, got {inner!r}")
        m = self.d if inner is None else as_positive_int("inner", inner)
        reach = self.d**-0.5 if self._blocks.kind.bilinear else 0.0
        for name, shape in self._blocks.shapes(self.d, self.d, m).items():
            start = torch.zeros(*self._lead, *shape, **kind)
            if reach and not (attention == "W+p" and name == "p"):
                start.uniform_(-reach, reach)
            self.register_parameter(name, torch.nn.Parameter(start))
        if attention == "Wp" and prompt is None:
            raise ValueError("prompt: needed to train W in the logits X W p, got None")
        if attention != "Wp" and prompt is not None:
            raise ValueError("prompt: expected None where logits are not X W p, got an array")
        fixed = None if prompt is None else self._vector("prompt", prompt, kind)
        self.register_buffer("prompt", fixed)
        if value is None and not self._blocks.head:
            trained = "v+" + self._blocks.attention
            raise ValueError(f"value: needed unless v is trained, as by {trained!r}, got None")
        v = (
            torch.zeros(*self._lead, self.d, **kind)
            if value is None
            else self._vector("value", value, kind)
        )
        if self._blocks.head:
            self.register_parameter("v", torch.nn.Parameter(v))
        else:
            self.register_buffer("v", v)

    @property
    def direction(self) -> Any:
        """Return W, K Q', diag(k ∘ q), p or W p: detached, a view where it is the parameter."""
        own = [getattr(self, block.name).detach() for block in self._blocks.kind.blocks]
        if len(own) == 1:
            return own[0]
        if self._blocks.attention == "W+p":
            return (own[0] @ own[1].unsqueeze(-1)).squeeze(-1)
        return (
            own[0] @ own[1].mT if self._blocks.attention == "KQ" else (own[0] * own[1]).diag_embed()
        )

    def attention(self, tokens: Any, queries: Any = None, lengths: Any = None) -> Any:
        """Compute the softmax weights of the tokens.

        Parameters
        ----------
        tokens : Tensor, shape ([B,] n, T, d)
        queries : Tensor, shape ([B,] n, d), optional
            z; by default the first token of each sequence. Not used for the logits X p and X W p.
        lengths : Tensor of int, shape ([B,] n), optional
            Number of valid tokens of each sequence, 1 to T.

        Returns
        -------
        Tensor, shape ([B,] n, T)
            0 at padding.
        """
        self._require_tensors(tokens, queries, lengths)
        logits = (tokens @ self._directions(tokens, queries).unsqueeze(-1)).squeeze(-1)
        if lengths is not None:
            logits = logits.masked_fill(_padding(tokens, lengths), -torch.inf)
        return logits.softmax(dim=-1)

    def forward(self, tokens: Any, queries: Any = None, lengths: Any = None) -> Any:
        """Compute f(X, z), ([B,] n), of each sequence; parameters are those of `attention`."""
        weights = self.attention(tokens, queries, lengths)
        if lengths is not None:  # a weight of 0 does not undo a NaN
            tokens = tokens.masked_fill(_padding(tokens, lengths).unsqueeze(-1), 0.0)
        mixtures = (weights.unsqueeze(-2) @ tokens).squeeze(-2)
        return (mixtures @ self.v.unsqueeze(-1)).squeeze(-1)

    def fit(
        self,
        data: AttentionData | Any,
        labels: Any = None,
        *,
        queries: Any = None,
        lengths: Any = None,
        **options: Any,
    ) -> Run:
        """Train the parameters by `attsvm.train`, from where they are.

        Parameters
        ----------
        data : AttentionData, or Tensor of shape ([B,] n, T, d)
            The problem, or its tokens on the CPU. A value in it must be this module's v. Queries,
            where it has none, are the first tokens, as in `attention`.
        labels : Tensor, shape ([B,] n), optional
            -1 or +1, with tokens.
        queries, lengths : Tensor, optional
            With tokens, as in `attention`.
        **options
            Of `attsvm.train`: rule, lr, steps, loss, record_every, reference and more.

        Returns
        -------
        Run
            The parameters hold its end, rounded to their own type.

        Notes
        -----
        Tensors are read in their own memory, without a copy, where they are contiguous and all of
        the type of the tokens. The parameters stay in their memory, where an optimiser or another
        module may know them; the steps are made in float64 in the memory of the core, and their
        end is copied over.
        """
        settled = sorted(set(options) & set(_OF_THE_MODULE))
        if settled:
            raise TypeError(f"{settled[0]}: expected not to be given, the module has its own")
        own = {name: _shared(name, getattr(self, name)) for name in self._blocks.names}
        for name in own:
            if getattr(self, name).is_inference() and not torch.is_inference_mode_enabled():
                raise ValueError(f"{name}: made in inference mode, it can be trained only there")
        problem = self._problem(data, labels, queries, lengths)
        prompt = None if self.prompt is None else _shared("prompt", self.prompt)
        run = train(problem, parameter=self._blocks.parameter, init=own, prompt=prompt, **options)
        with torch.no_grad():
            for name in self._blocks.names:
                trained = np.ascontiguousarray(run.parameters[name])
                getattr(self, name).copy_(torch.from_numpy(trained))
        return run

    def extra_repr(self) -> str:
        """Return the text in the brackets of the printed module."""
        batch = f", batch={self._lead[0]}" if self._lead else ""
        return f"d={self.d}, parameter={self._blocks.parameter!r}{batch}"

    def _require_tensors(self, tokens: Any, queries: Any, lengths: Any) -> None:
        as_instance("tokens", tokens, torch.Tensor)
        for name, given in (("queries", queries), ("lengths", lengths)):
            if given is not None:
                as_instance(name, given, torch.Tensor)
        if tokens.ndim < 3 or tokens.shape[-1] != self.d:
            raise ValueError(
                f"tokens: expected shape ([B,] n, T, {self.d}), got {tuple(tokens.shape)}"
            )
        n = tokens.shape[-3]
        if queries is not None and queries.shape[-2:] != (n, self.d):
            raise ValueError(
                f"queries: expected shape ([B,] {n}, {self.d}), got {tuple(queries.shape)}"
            )

    def _directions(self, tokens: Any, queries: Any) -> Any:
        """Return the query directions, ([B,] n, d) or what broadcasts to it."""
        z = tokens[..., 0, :] if queries is None else queries
        return _DIRECTIONS[self._blocks.attention](self, z)

    def _problem(self, data: Any, labels: Any, queries: Any, lengths: Any) -> AttentionData:
        """Return the problem with this module's v where that is fixed, without copies."""
        v = None if self._blocks.head else _shared("v", self.v)
        if isinstance(data, AttentionData):
            for name, given in (("labels", labels), ("queries", queries), ("lengths", lengths)):
                if given is not None:
                    raise ValueError(f"{name}: expected None beside AttentionData")
            if data.d != self.d:
                raise ValueError(f"data: expected tokens of dimension {self.d}, got {data.d}")
            if data.value is not None and v is not None:
                if not np.array_equal(data.value.astype(v.dtype), v):  # as the module rounds it
                    raise ValueError("data: expected no value, or that of the module, got another")
                v = data.value
            if self._blocks.lacks_queries(data):
                data = data.with_first_queries()
            tokens, y, z, counts = data.tokens, data.labels, data.queries, data.lengths
            return AttentionData(
                tokens, y, queries=z, value=v, lengths=counts, sequence=data.sequence
            )
        if labels is None:
            raise ValueError("labels: needed with tokens, got None")
        tokens = _shared("data", data)
        if queries is None and self._blocks.kind.queries == "data":
            if tokens.ndim < 3:
                raise ValueError(f"data: expected shape ([B,] n, T, d), got {tokens.shape}")
            queries = tokens[..., 0, :]
        return AttentionData(
            tokens,
            _shared("labels", labels),
            queries=None if queries is None else _shared("queries", queries),
            value=v,
            lengths=None if lengths is None else _shared("lengths", lengths),
        )

    def _vector(self, name: str, given: Any, kind: dict[str, Any]) -> Any:
        text = "([B,] d)" if self._lead else "(d,)"
        array = as_float_array(name, _shared(name, given), text, ndim={1, 1 + len(self._lead)})
        if array.ndim == 1:
            array = np.broadcast_to(array, (*self._lead, *array.shape))
        require_shape(name, array, text, (*self._lead, self.d))
        return torch.tensor(array, **kind)


def _padding(tokens: Any, lengths: Any) -> Any:
    """Return where padding is, ([B,] n, T) of bool."""
    T = tokens.shape[-2]
    if not torch.compiler.is_compiling() and bool(((lengths < 1) | (lengths > T)).any()):
        raise ValueError(f"lengths: expected 1..{T} (T), got {lengths.min()}..{lengths.max()}")
    return torch.arange(T, device=tokens.device) >= lengths.unsqueeze(-1)


def _shared(name: str, value: Any) -> Any:
    """Return the array in a tensor's own memory; what is no tensor as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        kind = "quantised" if value.is_quantized else "nested" if value.is_nested else value.layout
        raise TypeError(f"{name}: expected a dense tensor, got one that is {kind}")
    if value.device.type != "cpu":
        raise TypeError(f"{name}: expected a tensor on the CPU, got one on {value.device}")
    if value.is_floating_point() and value.dtype not in (torch.float64, torch.float32):
        raise TypeError(f"{name}: expected float64 or float32, got {value.dtype}")
    return value.detach().resolve_conj().resolve_neg().numpy()
