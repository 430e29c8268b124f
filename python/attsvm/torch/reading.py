"""The attention layers of a model on a batch, read while the model runs once."""

from __future__ import annotations

import inspect as signatures
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge

from attsvm._validation import as_positive_int
from attsvm.torch.adapters import ADAPTERS, adapter_of_kin, looks_like_attention, not_bilinear
from attsvm.torch.call import Adapter, AttentionCall, NotReadableError, attended
from attsvm.torch.layer import AttentionLayer, Positions, layer_of, positions_of
from attsvm.torch.running import as_it_was, call_model, first_tensor, with_first

Loss = Callable[[Any], torch.Tensor]


@dataclass(eq=False)
class _Taken:
    """A call as it was taken while the model ran."""

    name: str
    call: AttentionCall
    output: torch.Tensor
    edge: Any
    gradient: torch.Tensor | None = None


def read(
    model: torch.nn.Module,
    batch: Any,
    loss: Loss | None = None,
    *,
    layers: str | int | Sequence[str | int] | None = None,
    positions: Positions = "all",
    max_inputs: int = 1000,
    adapters: Mapping[Any, Adapter] | None = None,
    rng: int = 0,
) -> list[AttentionLayer]:
    """Run a model once and return its attention layers as problems of attsvm.

    Parameters, errors and notes are those of `inspect`, which measures what is returned here.

    Returns
    -------
    list of AttentionLayer
        In the order in which the model calls them. A layer that is called again appears again,
        as ``"name#2"``.

    Examples
    --------
    >>> import torch
    >>> from attsvm.torch import read
    >>> attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = torch.randn(3, 5, 8)
    >>> (layer,) = read(attention, (x, x, x))
    >>> layer
    AttentionLayer(heads=2, inputs=15, tokens=5)
    >>> layer.problem(0)
    AttentionData(n=15, T=5, d=9, dtype=float64, sequences=3, with queries)
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if loss is not None and not callable(loss):
        several = "; several arguments of the model are a tuple, the second argument here"
        raise TypeError(
            "loss: expected a function of the model's output that returns a number, got "
            f"{type(loss).__name__}{several if isinstance(loss, torch.Tensor) else ''}"
        )
    most = as_positive_int("max_inputs", max_inputs)
    choose = positions_of(positions)
    model = getattr(model, "_orig_mod", model)  # what torch.compile has wrapped
    found = _readable(model, dict(adapters or {}))
    taken: list[_Taken] = []
    chosen = _chosen(found, layers)
    with as_it_was(model), torch.inference_mode(False), torch.set_grad_enabled(loss is not None):
        handles = [
            module.register_forward_hook(
                _taking(name, adapter, taken, loss is not None), prepend=True, with_kwargs=True
            )
            for name, (module, adapter) in chosen.items()
        ]
        try:
            output = call_model(model, batch)
        finally:
            for handle in handles:
                handle.remove()
        if not taken:
            raise ValueError(f"layers: the model called none of {', '.join(chosen)} on this batch")
        if loss is not None:
            _differentiate(loss(output), taken)
    return [layer_of(one.name, one.call, one.gradient, choose, most, rng) for one in taken]


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _readable(
    model: torch.nn.Module, own: dict[Any, Adapter]
) -> dict[str, tuple[torch.nn.Module, Adapter]]:
    """Find the layers that an adapter reads, by their names."""
    for kind in own:
        if not (
            isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, torch.nn.Module))
        ):
            raise TypeError(f"adapters: expected classes of modules as keys, got {kind!r}")
    named = {kind if isinstance(kind, str) else _name_of(kind): own[kind] for kind in own}
    adapters = {**ADAPTERS, **named}
    found: dict[str, tuple[torch.nn.Module, Adapter]] = {}
    others: dict[str, torch.nn.Module] = {}
    for name, module in model.named_modules():
        own_name = name or type(module).__name__
        known = [_name_of(kind) for kind in type(module).__mro__ if _name_of(kind) in adapters]
        if known:
            found[own_name] = (module, adapters[known[0]])
        elif looks_like_attention(module):
            reason = not_bilinear(module)
            if reason:
                raise NotReadableError(f"model: {own_name} ({type(module).__name__}): {reason}")
            alike = adapter_of_kin(module)
            if alike is None:
                others[own_name] = module
            else:
                found[own_name] = (module, alike)
    if not found:
        seen = ", ".join(f"{name} ({type(module).__name__})" for name, module in others.items())
        known_names = ", ".join(sorted({name.rpartition(".")[2] for name in ADAPTERS}))
        raise ValueError(
            f"model: expected attention layers of {known_names}, got none"
            + (f"; {seen} may be read by an adapter" if seen else "")
        )
    return found


def _chosen(
    found: Mapping[str, tuple[torch.nn.Module, Adapter]],
    layers: str | int | Sequence[str | int] | None,
) -> dict[str, tuple[torch.nn.Module, Adapter]]:
    """Return the layers of these names or places, of all of them by default."""
    if layers is None:
        return dict(found)
    names = list(found)
    asked = [layers] if isinstance(layers, str | int) else list(layers)
    chosen = []
    for one in asked:
        if isinstance(one, int) and -len(names) <= one < len(names):
            chosen.append(names[one])
        elif one in found:
            chosen.append(str(one))
        else:
            raise ValueError(f"layers: expected some of {', '.join(names)}, got {one!r}")
    if not chosen:
        raise ValueError(f"layers: expected some of {', '.join(names)}, got none")
    return {name: found[name] for name in names if name in chosen}


def _taking(name: str, adapter: Adapter, taken: list[_Taken], backward: bool) -> Any:
    """Return a forward hook that takes the call of a layer."""

    def hook(module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        count = 1 + sum(one.name.partition("#")[0] == name for one in taken)
        own = name if count == 1 else f"{name}#{count}"
        tensor = first_tensor(output)
        try:
            if tensor is None:
                raise NotReadableError("an output without a tensor")
            with torch.no_grad():
                arguments = _arguments(module, args, kwargs)
                call = adapter(module, arguments, output)
                if not isinstance(call, AttentionCall):
                    raise TypeError(f"expected an AttentionCall, got {type(call).__name__}")
                call.require_shapes()
                call = call.kept(tensor.device)
                _require_output(call, _in_batch(call, tensor))
        except KeyError as error:
            known = ", ".join(arguments)
            raise ValueError(
                f"adapters: that of {type(module).__name__} asks for the argument {error}; the "
                f"layer has {known}"
            ) from error
        except (TypeError, ValueError) as error:
            raise type(error)(f"model: {own} ({type(module).__name__}): {error}") from error
        if not backward:
            taken.append(_Taken(own, call, tensor, None))
            return None
        tensor = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        tensor = tensor.clone()  # no view, whose history a later operation in place replaces
        taken.append(_Taken(own, call, tensor.detach(), get_gradient_edge(tensor)))
        return with_first(output, tensor)

    return hook


def _arguments(module: torch.nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included."""
    bound = signatures.signature(module.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name)
    return arguments


def _in_batch(call: AttentionCall, output: torch.Tensor) -> torch.Tensor:
    """Return the output of a layer, or its gradient, as (B, L, d_o)."""
    B, L, _ = call.queries.shape
    if not call.batch_first:
        output = output.transpose(0, 1)
    return output.reshape(B, L, -1)


def _require_output(call: AttentionCall, output: torch.Tensor) -> None:
    """Raise NotReadableError unless tokens, matrices and mask give the output of the layer."""
    allowed = attended(call)
    queries = torch.einsum("bld,hdm->bhlm", call.queries, call.W_Q)
    if call.bias is not None:
        queries = queries + call.bias[None, :, None]
    keys = torch.einsum("btd,hdm->bhtm", call.keys, call.W_K)
    mixtures = torch.nn.functional.scaled_dot_product_attention(
        queries, keys, call.values, allowed, scale=call.scale
    )
    if call.W_O is None:
        expected = mixtures.transpose(1, 2).flatten(2)
    else:
        expected = torch.einsum("bhle,heo->blo", mixtures, call.W_O)
        expected = expected if call.bias_O is None else expected + call.bias_O
    if not bool(torch.isfinite(output).all()):
        raise NotReadableError("expected a finite output, got NaN or inf")
    rows = allowed.any(dim=-1).all(dim=1)
    if expected.shape != output.shape:
        raise NotReadableError(
            f"expected an output of shape {tuple(expected.shape)}, got {tuple(output.shape)}"
        )
    apart = float((expected - output)[rows].abs().max()) if bool(rows.any()) else 0.0
    size = float(output[rows].abs().max()) if bool(rows.any()) else 0.0
    allowance = 16 * torch.finfo(output.dtype).eps ** 0.75 * max(size, 1e-30)
    if not apart <= allowance:
        raise NotReadableError(
            f"the tokens and matrices that were read give another output than the layer, "
            f"{apart:.2g} apart where its entries are up to {size:.2g}: dropout that is always "
            "on, or another formula of the logits"
        )


def _differentiate(value: Any, taken: Sequence[_Taken]) -> None:
    """Add the gradient of the loss with respect to the output of every layer."""
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"loss: expected a tensor of one number, got {got}")
    if not value.requires_grad:
        raise ValueError("loss: expected a function of the model's output, got a constant")
    if not bool(torch.isfinite(value)):
        raise ValueError(f"loss: expected a finite number, got {float(value)}")
    gradients = torch.autograd.grad(
        value.reshape(()), [one.edge for one in taken], allow_unused=True
    )
    for one, gradient in zip(taken, gradients, strict=True):
        of_output = torch.zeros_like(one.output) if gradient is None else gradient
        one.gradient = _in_batch(one.call, of_output)
