"""Rules that make a step of the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property, partial
from types import MappingProxyType
from typing import Any

import numpy as np

from attsvm import _core
from attsvm._geometries import Norm, as_geometry, as_norm
from attsvm._validation import (
    as_bool,
    as_choice,
    as_float,
    as_float_in,
    as_generator,
    as_nonnegative_float,
    as_positive_float,
    as_positive_int,
    in_words,
    number_text,
)
from attsvm.descent.blocks import Blocks

STEP_SIZE = 0.1
"""The rate η where none is given."""
_DECAY_OF_FACTORS = 0.75
ADAM = ("adam", "adamw")
"""The kinds whose steps are Adam's quotient of running means."""


@dataclass(frozen=True)
class StepRule:
    """A rule of descent with its settings, for `train`; a plain name takes the defaults.

    A step of a block W of parameters with gradient G and rate η is made in this order. The running
    mean M of gradients, with `ema`, takes the place of G. Its steepest direction in the norm N of
    the rule is D = argmax <M, D> over N(D) <= 1; with N*, the dual norm, <M, D> = N*(M). Then
    W <- (1 - η λ) W - η g, with λ the `weight_decay` and g = D ("ngd") or N*(M) D ("gd"), or
    the velocity that `momentum` makes of it.

    Attributes
    ----------
    kind : str
        "ngd", "gd" : steps in any norm, as above. In the Frobenius norm, g is G / |G| or G.
        "polyak" : g is G times gap / (factor |gradient|²) with the gap of the loss to its infimum
        and the norm of all blocks; η = 1.
        "sign", "coordinate", "spectral" : "ngd" in the norms "max" (the signs of G), "l1" (the
        largest entry alone) and "spec" (U V' of the singular value decomposition of G).
        "signum", "muon" : "sign" and "spectral" with `ema`, 0.9 and 0.95. (torch.optim.Muon has
        5 `newton_schulz` iterations, and Nesterov's momentum unless ``nesterov=False``.)
        "lion" : the signs of β1 M + (1 - β1) G with M <- β2 M + (1 - β2) G, `betas` (0.9, 0.99).
        "adam", "adamw" : Adam's quotient; "adamw" with `weight_decay` 0.01.
        "mirror", "plain_mirror" : mirror descent with the potential ψ(W) = (1/p) Σ_ij |W_ij|^p,
        ∇ψ(W) <- ∇ψ(W) - η g, with g = G / N*(G) or G.
        "flow" : gradient flow dW/ds = -G / |G| of all blocks together, over the arc length s = η,
        integrated by the Runge-Kutta pair of Dormand and Prince, orders 5 and 4, with steps of its
        own. On K and Q it keeps K'K - Q'Q; a run records how far that drifts. At a minimum, as a
        `ridge` makes one, its path ends, and it stays there.
    decay : float or dict by block
        η_k = η / k^decay, k = 1, 2, ... By default 0: a constant rate; 0.75 where blocks that
        multiply each other (K and Q, k and q, W and p) are trained by steps in another norm than
        "fro", whose limits need rates o(1/√k) there.
    factor : float
        Of polyak, positive.
    largest_step : float, optional
        Of polyak: what multiplies the gradient is at most this.
    momentum : float
        β of [0, 1): with b_k = β b_(k-1) + g the step is η_k b_k.
    nesterov : bool
        The step is η_k (g + β b_k).
    betas : pair of float
        Of adam, adamw (0.9, 0.999) and lion: weights of running means.
    epsilon : float
        Of adam and adamw: added to the root of the mean square, part of their definition; with 0 a
        quotient 0/0 is 0.
    batch_size : int, optional
        Inputs of a mini-batch. All inputs are visited in a random order, batch after batch, then
        again in another; in a batch of problems the order is the same for all. By default every
        step sees every input.
    norm : {"fro", "max", "l1", "spec", "nuc"} or float, or dict by block
        Of "ngd" and "gd", and of the mirror rules; a number p > 1 is the l_p norm of the entries,
        which those also take. Of vectors "spec" and "nuc" are "fro".
    ema : float
        β of [0, 1): M <- β M + (1 - β) G takes the place of the gradient.
    weight_decay : float
        λ, decoupled, of "adam" too. Steps with N(g) <= 1, as "ngd" without `momentum` has in any
        norm N, keep W in the ball N(W) <= 1/λ and are the Frank-Wolfe method on it;
        `theory.frank_wolfe_gap` says how far W is from the optimum there. (`ridge` of `train` is
        the decay that is coupled: a term of the loss.)
    newton_schulz : int, optional
        Of steps in the spectral norm: that many iterations of the quintic Newton-Schulz method of
        Muon in practice (5 there) instead of the exact U V'.
    tolerance : float
        Of flow: bound on the estimated error of a step of the integration, over the norm of the
        parameters.

    Notes
    -----
    Steps in the norms "max" and "l1" and in l_p norms, Adam's, Lion's and those of mirror descent
    depend on the coordinates of tokens and queries; the others do not. An entry that is zero or no
    larger than the rounding of its own terms has sign 0; of equally large entries "l1" takes the
    first in the order of the rows. "spec" leaves out singular values below 1e-12 of the largest.
    Means of gradients are kept in units of their own, so that nothing underflows.

    References
    ----------
    "Implicit Bias and Fast Convergence Rates for Self-attention", section 3 (normalised and Polyak
    steps). Loizou, Vaswani, Laradji, Lacoste-Julien, "Stochastic Polyak Step-size for SGD", 2021
    (`factor`, `largest_step`). Fan, Schmidt, Thrampoulidis, "Implicit Bias of Spectral Descent and
    Muon on Multiclass Separable Data", 2025 (norms, `ema`). Kingma, Ba, "Adam", 2015. Loshchilov,
    Hutter, "Decoupled Weight Decay Regularization", 2019. Chen et al., "Symbolic Discovery of
    Optimization Algorithms", 2023 (lion). Jordan et al., "Muon", 2024 (`newton_schulz`).
    Julistiono, Tarzanagh, Azizan, "Optimizing Attention with Mirror Descent", 2025 (mirror
    descent). Hairer, Nørsett, Wanner, "Solving Ordinary Differential Equations I", 1993, section
    II.4 (flow).
    """

    kind: str = "ngd"
    decay: float | Mapping[str, float] | None = None
    factor: float = 2.0
    largest_step: float | None = None
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] | None = None
    epsilon: float = 1e-8
    batch_size: int | None = None
    norm: Norm | Mapping[str, Norm] | None = None
    ema: float | None = None
    weight_decay: float | None = None
    newton_schulz: int | None = None
    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        as_choice("kind", self.kind, _core.step_rules)
        rule = _core.StepRule(self.kind)
        self._read_norm(rule)
        self._read_means(rule)
        if isinstance(self.decay, Mapping):
            exponents = {k: as_float(f"decay[{k!r}]", x) for k, x in self.decay.items()}
            self._set("decay", MappingProxyType(exponents))
        elif self.decay is not None:
            as_float("decay", self.decay)
        as_positive_float("factor", self.factor)
        self._require_usual("factor", rule.needs_infimum)
        as_nonnegative_float("epsilon", self.epsilon)
        self._require_usual("epsilon", self.kind in ADAM)
        if self.largest_step is not None:
            as_positive_float("largest_step", self.largest_step)
            self._require("largest_step", self.largest_step, rule.needs_infimum)
        if as_float_in("momentum", self.momentum, 0, 1, ends="[)"):
            self._require("momentum", self.momentum, rule.takes_momentum)
        if as_bool("nesterov", self.nesterov) and not self.momentum:
            raise ValueError("nesterov: expected False without momentum, got True")
        decay = rule.weight_decay if self.weight_decay is None else self.weight_decay
        self._set("weight_decay", as_nonnegative_float("weight_decay", decay))
        as_positive_float("tolerance", self.tolerance)
        self._require_usual("tolerance", rule.flows)
        if self.batch_size is not None:
            as_positive_int("batch_size", self.batch_size)
        if rule.flows:
            for name in ("weight_decay", "batch_size"):
                self._require(name, getattr(self, name), not getattr(self, name))

    def _read_norm(self, rule: _core.StepRule) -> None:
        settled = rule.blocks[0].geometry.name
        norm: Any = settled if self.norm is None else self.norm
        if isinstance(norm, Mapping):
            norm = MappingProxyType({k: as_norm(f"norm[{k!r}]", x) for k, x in norm.items()})
        else:
            norm = as_norm("norm", norm)
        self._require("norm", norm, rule.takes_norm or norm == settled)
        self._set("norm", norm)
        for name, geometry in self._geometries().items():
            if rule.mirrors and not geometry.has_mirror:
                raise ValueError(
                    f"{name}: expected 'fro' or a number p > 1 for kind={self.kind!r}, got "
                    f"{geometry.name!r}"
                )
        if self.newton_schulz is not None:
            as_positive_int("newton_schulz", self.newton_schulz)
            spectral = any(g.name == "spec" for g in self._geometries().values())
            self._require("newton_schulz", self.newton_schulz, spectral and not rule.mirrors)

    def _read_means(self, rule: _core.StepRule) -> None:
        interpolates = rule.average != rule.average_seen
        adam = (rule.adam_beta, rule.adam_second_beta)
        usual = (rule.average_seen, rule.average) if interpolates else adam
        betas: Any = usual if self.betas is None else self.betas
        if not isinstance(betas, Sequence | np.ndarray) or isinstance(betas, str):
            raise TypeError(f"betas: expected two numbers, got {betas!r}")
        if len(betas) != 2:
            raise ValueError(f"betas: expected two numbers, got {betas!r}")
        self._set("betas", tuple(as_float_in("betas", b, 0, 1, ends="[)") for b in betas))
        self._require("betas", betas, interpolates or self.kind in ADAM or self.betas == usual)
        if self.ema is not None and as_float_in("ema", self.ema, 0, 1, ends="[)"):
            self._require("ema", self.ema, rule.takes_average)
        elif self.ema is None:
            self._set("ema", rule.average if rule.takes_average else 0.0)

    def _geometries(self) -> dict[str, _core.Geometry]:
        """Return geometries by the name of the argument."""
        norms: Any = self.norm
        given = {"norm": norms}
        if isinstance(norms, Mapping):
            given = {f"norm[{block!r}]": norm for block, norm in norms.items()}
        return {argument: as_geometry(argument, norm) for argument, norm in given.items()}

    @cached_property
    def _without_blocks(self) -> _core.StepRule:
        """The rule with the settings that are not of a block; to be copied, not changed."""
        rule = _core.StepRule(self.kind)
        betas: Any = self.betas
        rule.polyak_factor = self.factor
        rule.largest_step = np.inf if self.largest_step is None else self.largest_step
        rule.momentum, rule.nesterov = self.momentum, self.nesterov
        if rule.average != rule.average_seen:
            rule.average_seen, rule.average = betas
        else:
            rule.average = rule.average_seen = self.ema or 0.0
            rule.adam_beta, rule.adam_second_beta = betas
        rule.adam_epsilon = self.epsilon
        rule.flow_tolerance = self.tolerance
        rule.weight_decay = self.weight_decay or 0.0
        return rule

    @cached_property
    def by_coordinate(self) -> bool:
        """Whether the steps depend on the coordinates of tokens and queries."""
        geometries = self._geometries().values()
        return self._without_blocks.by_coordinate or any(g.by_coordinate for g in geometries)

    @cached_property
    def moves_along_gradients(self) -> bool:
        """Whether every step is a combination of gradients, with one factor for each of them."""
        rule = self._without_blocks
        geometries = self._geometries().values()
        return rule.moves_along_gradients and all(g.name == "fro" for g in geometries)

    def _require(self, name: str, value: Any, holds: bool) -> None:
        if not holds:
            raise ValueError(f"{name}: expected no value for kind={self.kind!r}, got {value!r}")

    def _require_usual(self, name: str, unless: bool) -> None:
        value = getattr(self, name)
        self._require(name, value, unless or value == getattr(StepRule, name))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _settings(self) -> dict[str, Any]:
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: dict(x) if isinstance(x, Mapping) else x for k, x in settings.items()}

    def __hash__(self) -> int:
        settings = self._settings().values()
        return hash(tuple(frozenset(x.items()) if isinstance(x, dict) else x for x in settings))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by value: a read-only view of a dict cannot be."""
        return partial(StepRule, **self._settings()), ()

    def _changed(self) -> dict[str, Any]:
        """Return the settings that are not usual for the kind."""
        usual = _named(self.kind)._settings()
        return {k: x for k, x in self._settings().items() if x != usual[k]}

    def __repr__(self) -> str:
        changed = (f"{name}={value!r}" for name, value in self._changed().items())
        return f"StepRule({', '.join([repr(self.kind), *changed])})"

    @property
    def text(self) -> str:
        """The kind, and the settings that are not usual."""
        words = (f"{k.replace('_', ' ')} {in_words(x)}" for k, x in self._changed().items())
        return ", ".join([self.kind, *words])

    @cached_property
    def takes_rate(self) -> bool:
        """Whether the caller chooses the rate η, which is 1 in Polyak steps."""
        return not self._without_blocks.needs_infimum

    def rates(self, lr: float | Mapping[str, float] | None, blocks: Blocks) -> dict[str, float]:
        """Return the rate of each block."""
        if lr is None:
            return dict.fromkeys(blocks.names, STEP_SIZE if self.takes_rate else 1.0)
        self._require("lr", lr, self.takes_rate)
        return blocks.rates(lr)

    def to_core(
        self,
        blocks: Blocks,
        rates: Mapping[str, float],
        n: int,
        rng: np.random.Generator | None = None,
        ridge: float = 0.0,
    ) -> _core.StepRule:
        """Return the rule for these blocks, each with its rate, and data of n inputs."""
        if self.batch_size is not None and self.batch_size > n:
            raise ValueError(f"batch_size: expected at most {n} (n), got {self.batch_size}")
        norms = self._by_block("norm", self.norm, blocks)
        of_factors = blocks.kind.bilinear and any(norm != "fro" for norm in norms.values())
        default = _DECAY_OF_FACTORS if of_factors else 0.0
        decay = self._by_block("decay", default if self.decay is None else self.decay, blocks)
        rule = self._without_blocks.copy()
        if rule.flows and len({(rates[name], decay[name]) for name in blocks.names}) > 1:
            raise ValueError("lr: expected one rate for all blocks, which flow together")
        rates_of_blocks = []
        for name in blocks.names:
            rate = rates[name]
            if rate * rule.weight_decay > 1.0:
                raise ValueError(
                    f"weight_decay: expected at most {number_text(1.0 / rate)} (1/lr), got "
                    f"{rule.weight_decay}"
                )
            geometry = as_geometry("norm", norms[name])
            geometry.newton_schulz = self.newton_schulz or 0
            rates_of_blocks.append(_core.BlockRate(rate, float(decay[name]), geometry))
        if blocks.head:
            rule.head = rates_of_blocks.pop()
        rule.blocks = rates_of_blocks
        rule.ridge = ridge
        if self.batch_size:
            rule.batch, rule.seed = self.batch_size, int(as_generator("rng", rng).integers(2**63))
        return rule

    @staticmethod
    def _by_block(argument: str, given: Any, blocks: Blocks) -> Mapping[str, Any]:
        if isinstance(given, MappingProxyType):
            return blocks.by_name(argument, given)
        return dict.fromkeys(blocks.names, given)


def as_step_rule(rule: str | StepRule) -> StepRule:
    """Read a rule, or the name of one."""
    if isinstance(rule, StepRule):
        return rule
    return _named(as_choice("rule", rule, _core.step_rules))


@cache
def _named(kind: str) -> StepRule:
    return StepRule(kind)
