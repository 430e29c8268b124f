"""Rules that make a step of the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from attsvm import _core
from attsvm._validation import (
    as_choice,
    as_float,
    as_float_in,
    as_positive_float,
    as_positive_int,
)
from attsvm.descent.blocks import Blocks

__all__ = ["StepRule", "as_step_rule"]


@dataclass(frozen=True)
class StepRule:
    """A rule of descent with its settings, for `train`; a plain name takes the defaults.

    Attributes
    ----------
    kind : {"ngd", "gd", "polyak", "adam"}
        The step k of a block is the rate η_k times: the gradient over its norm (ngd), the gradient
        (gd), the gradient times gap / (factor |gradient|²) with the gap of the loss to its infimum
        and the norm of all blocks (polyak, η = 1), or Adam's quotient.
    decay : float or dict by block
        η_k = η / k^decay, k = 1, 2, ...
    factor : float
        Of polyak, positive.
    largest_step : float, optional
        Of polyak: what multiplies the gradient is at most this.
    momentum : float
        β of [0, 1): with b_k = β b_(k-1) + (the step above, without its rate) the step is η_k b_k.
    nesterov : bool
        The step is η_k times (the step above, without its rate) + β b_k.
    betas : pair of float
        Of adam: weights of the running means of the gradient and of its square.
    epsilon : float
        Of adam: added to the root of the second, part of its definition.
    batch_size : int, optional
        Inputs of a mini-batch. All inputs are visited in a random order, batch after batch, then
        again in another; in a batch of problems the order is the same for all. By default every
        step sees every input.

    Raises
    ------
    TypeError, ValueError
        A setting is not what it must be, or does not belong to the kind.

    References
    ----------
    Vasudeva, Deora, Thrampoulidis, "Implicit Bias and Fast Convergence Rates for Self-attention",
    2025, section 3 (normalised and Polyak steps). Loizou, Vaswani, Laradji, Lacoste-Julien,
    "Stochastic Polyak Step-size for SGD", 2021 (`factor`, `largest_step`). Kingma, Ba, "Adam",
    2015.
    """

    kind: str = "ngd"
    decay: float | Mapping[str, float] = 0.0
    factor: float = 2.0
    largest_step: float | None = None
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    batch_size: int | None = None

    def __post_init__(self) -> None:
        as_choice("kind", self.kind, _core.step_rules)
        if isinstance(self.decay, Mapping):
            exponents = {k: as_float(f"decay[{k!r}]", x) for k, x in self.decay.items()}
            object.__setattr__(self, "decay", MappingProxyType(exponents))
        else:
            as_float("decay", self.decay)
        as_positive_float("factor", self.factor)
        as_positive_float("epsilon", self.epsilon)
        if self.largest_step is not None:
            as_positive_float("largest_step", self.largest_step)
            self._require_kind("largest_step", self.largest_step, ("polyak",))
        given: Any = self.betas
        if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str):
            raise TypeError(f"betas: expected two numbers, got {given!r}")
        if len(given) != 2:
            raise ValueError(f"betas: expected two numbers, got {given!r}")
        object.__setattr__(
            self, "betas", tuple(as_float_in("betas", b, 0, 1, ends="[)") for b in given)
        )
        if as_float_in("momentum", self.momentum, 0, 1, ends="[)"):
            takers = [kind for kind in _core.step_rules if _core.StepRule(kind).takes_momentum]
            self._require_kind("momentum", self.momentum, takers)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: expected False without momentum, got True")
        if self.batch_size is not None:
            as_positive_int("batch_size", self.batch_size)

    @property
    def by_coordinate(self) -> bool:
        """Whether the steps depend on the coordinates of tokens and queries."""
        return _core.StepRule(self.kind).by_coordinate

    def _require_kind(self, name: str, value: Any, kinds: Sequence[str]) -> None:
        if self.kind not in kinds:
            raise ValueError(f"{name}: expected no value for kind={self.kind!r}, got {value}")

    def _settings(self) -> dict[str, Any]:
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(self.decay, Mapping):
            settings["decay"] = dict(self.decay)
        return settings

    def __hash__(self) -> int:
        decay = self.decay
        fixed = frozenset(decay.items()) if isinstance(decay, Mapping) else decay
        return hash(tuple((self._settings() | {"decay": fixed}).values()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value: a read-only view of a dict cannot be."""
        return partial(StepRule, **self._settings()), ()

    def to_core(
        self,
        blocks: Blocks,
        rates: Mapping[str, float],
        n: int,
        generator: np.random.Generator,
        weight_decay: float = 0.0,
    ) -> _core.StepRule:
        """Return the rule for these blocks, each with its rate, and data of n inputs."""
        decay = self.decay
        if isinstance(decay, Mapping):
            decay = blocks.by_name("decay", decay)
        else:
            decay = dict.fromkeys(blocks.names, decay)
        if self.batch_size is not None and self.batch_size > n:
            raise ValueError(f"batch_size: expected at most {n} (n), got {self.batch_size}")
        rule = _core.StepRule(self.kind)
        places = iter(("first", "second"))
        for name in blocks.names:
            rate = 1.0 if rule.needs_infimum else rates[name]
            place = "head" if name == "v" else next(places)
            setattr(rule, place, _core.BlockRate(rate, float(decay[name])))
        rule.polyak_factor = self.factor
        rule.largest_step = np.inf if self.largest_step is None else self.largest_step
        rule.weight_decay = weight_decay
        rule.momentum, rule.nesterov = self.momentum, self.nesterov
        rule.adam_beta, rule.adam_second_beta = self.betas
        rule.adam_epsilon = self.epsilon
        if self.batch_size:
            rule.batch, rule.seed = self.batch_size, int(generator.integers(2**63))
        return rule


def as_step_rule(rule: str | StepRule) -> StepRule:
    """Read a rule, or the name of one."""
    if isinstance(rule, StepRule):
        return rule
    return StepRule(as_choice("rule", rule, _core.step_rules))
