"""Run a model as in evaluation, and leave everything as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Set a model to evaluation, without the fused kernels that pass by its layers.

    Afterwards modes, buffers and random generators are as before, whatever happens. (Hooks are
    removed by those who set them.)
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        with torch.random.fork_rng([device.index for device in devices]):
            torch.backends.mha.set_fastpath_enabled(False)
            for module, _ in modes:
                module.training = False
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def call_model(model: torch.nn.Module, batch: Any) -> Any:
    """Call a model with a tensor, with a tuple of arguments, or with a mapping of named ones."""
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple | list):
        return model(*batch)
    return model(batch)


def first_tensor(output: Any) -> torch.Tensor | None:
    """Return the output of a layer that gives a tensor, or a tuple that begins with one."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, torch.Tensor) else None


def with_first(output: Any, first: torch.Tensor) -> Any:
    """Return an output with another first tensor."""
    if isinstance(output, torch.Tensor):
        return first
    rebuilt = getattr(type(output), "_make", type(output))  # of named tuples
    return rebuilt([first, *output[1:]])
