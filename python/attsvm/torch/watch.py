"""The attention heads of a model followed along its training."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from attsvm._validation import as_float_in, as_int, as_positive_int
from attsvm.extras import require_extra
from attsvm.torch.inspection import inspect
from attsvm.torch.quantities import HEAD, INPUT, QUANTITIES, SVM
from attsvm.torch.reading import Loss

if TYPE_CHECKING:
    import xarray as xr


_AVERAGED = ("tokens", "entropy", "sparsity", "largest_weight")


class Watch:
    """Record what `inspect` measures at some steps of a training loop.

    Parameters
    ----------
    model : torch.nn.Module
    every : int, optional
        Record the steps that it divides. By default as often as the `budget` allows: the steps then
        depend on the speed of the computer, what is measured at a step does not.
    budget : float
        Largest share of the time since the first call, up to 1, that records take. The first step
        is always recorded, so that the share is kept from the time on when training has taken
        1 / budget times as long as one record.
    max_inputs, norms, max_constraints, **options
        As in `inspect`, by default with fewer inputs, and the Frobenius norm alone, whose SVMs of
        more constraints are solved.

    Attributes
    ----------
    seconds : float
        Time that records have taken.

    Examples
    --------
    >>> import torch
    >>> from attsvm.torch import Watch
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> watch = Watch(model, every=10)
    >>> for step in range(21):
    ...     x = torch.randn(4, 5, 8)
    ...     loss = lambda output: output.square().mean()
    ...     watch(step, x, loss)
    ...     optimizer.zero_grad()
    ...     loss(model(x)).backward()
    ...     optimizer.step()
    >>> watch.dataset.margin_ratio.dims, watch.dataset.step.values
    (('step', 'layer', 'head', 'norm'), array([ 0, 10, 20]))
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        every: int | None = None,
        budget: float = 0.05,
        max_inputs: int = 64,
        norms: Any = "fro",
        max_constraints: int = 4000,
        **options: Any,
    ) -> None:
        require_extra("attsvm.torch.Watch", "torch", "xarray")
        self._model = model
        self._every = None if every is None else as_positive_int("every", every)
        self._budget = as_float_in("budget", budget, 0, 1, ends="(]")
        self._options = {
            "max_inputs": max_inputs,
            "norms": norms,
            "max_constraints": max_constraints,
            **options,
        }
        self._records: list[xr.Dataset] = []
        self._began = 0.0
        self._longest = 0.0
        self.seconds = 0.0

    def __call__(self, step: int, batch: Any, loss: Loss | None = None) -> None:
        """Record the heads on a batch, if it is their turn.

        Parameters
        ----------
        step : int
            Larger than that of the record before.
        batch, loss
            As in `inspect`: the batch that is trained on, or better one that stays the same, whose
            steps can be compared.
        """
        now = time.perf_counter()
        at = as_int("step", step)
        if not self._records:
            self._began = now
        elif not self._due(at, now):
            return
        found = inspect(self._model, batch, loss, **self._options)
        record = _of_heads(found).expand_dims(step=[at])
        taken = time.perf_counter() - now
        self.seconds += taken
        self._longest = max(self._longest, taken)
        self._records.append(record)

    def _due(self, step: int, now: float) -> bool:
        last = int(self._records[-1].step[0])
        if step <= last:
            raise ValueError(f"step: expected one after {last}, got {step}")
        if self._every is not None:
            return step % self._every == 0
        return self.seconds + self._longest <= self._budget * (now - self._began)

    @property
    def dataset(self) -> xr.Dataset:
        """The records: variables over step, layer and head, and norm for those of the SVMs.

        Those of inputs are means over them; ``inputs`` is their number. ``attrs`` of every variable
        have its formula.

        Raises
        ------
        ValueError
            Nothing was recorded.
        """
        import xarray as xr

        if not self._records:
            raise ValueError("dataset: expected records, got none: call the watch in the loop")
        joined: xr.Dataset = xr.concat(self._records, dim="step", join="outer")
        return joined


def _of_heads(found: Any) -> Any:
    """Return the variables of heads of a Dataset of `inspect`, and means of those of inputs."""
    real = found.tokens > 0
    variables = {"inputs": real.any("head").sum("input")}
    variables["inputs"].attrs = {"long_name": "inputs", "formula": "n, those that were drawn"}
    for name, quantity in QUANTITIES.items():
        if name not in found:
            continue
        if quantity.dims in (HEAD, SVM):
            variables[name] = found[name]
        elif quantity.dims == INPUT and name in _AVERAGED:
            mean = found[name].where(real).mean("input")
            mean.attrs = {
                "long_name": f"{quantity.long_name}, mean over inputs",
                "formula": f"mean_i of: {quantity.formula}",
            }
            variables[name] = mean
    return found.drop_vars([*found.data_vars, "sample", "position"]).assign(variables)
