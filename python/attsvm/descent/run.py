"""The result of a training run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attsvm._arrays import ArrayLike, Float64Array, IndexArray
from attsvm._display import Plotted, ends_text
from attsvm._linalg import LowRank
from attsvm._validation import number_text
from attsvm.data.attention_data import AttentionData
from attsvm.descent.by_ids import TrainedByIds
from attsvm.descent.evaluation import Evaluation, evaluate, evaluated
from attsvm.descent.problem import Trained
from attsvm.descent.step_rule import ADAM, StepRule


@dataclass(frozen=True, eq=False, repr=False)
class Run(Plotted):
    """The final parameters and attention of a run of gradient descent, and its history.

    A batch has a leading axis B throughout. A run has copies of what it computes W, p or `evaluate`
    from: changes of the data's arrays after training do not change it. Its pickle has no tokens.

    Attributes
    ----------
    parameter : str, or pair of str
        What was trained, as `train` takes it.
    rule, loss : str
        Names of the step rule and of the loss.
    step_rule : StepRule
        The rule with its settings.
    lr : dict of float
        By block: ``"W"``, ``"p"``, ``"K"``, ``"Q"``, ``"v"``; 1 with "polyak".
    steps : int
    v : ndarray, shape ([B,] d), or None
        Final head, where it was trained.
    attention : ndarray, shape ([B,] n, T)
        Softmax weights at the final parameters, 0 at padding.
    log_attention : ndarray, shape ([B,] n, T)
        Their logarithms, exact also where the weights underflow; -inf at padding.
    selected : ndarray of int64, shape ([B,] n)
        Token with the largest final weight (the first of equals).
    history : dict of ndarray
        ``"step"`` (R,) are the recorded steps: step k is the iterate after k updates. The others
        have shape ([B,] R): ``"loss"``; ``"loss_gap"``, loss less its infimum, where this is known;
        ``"norm"``, of the attention parameter; ``"norm:v"``, of a trained head; ``"grad_norm"`` and
        ``"log_grad_norm"``; ``"max_attention"``, the largest weight of an input, averaged over
        inputs; for each reference ``"cosine"`` and ``"cosine_gap"`` (1 - cosine without
        cancellation), with ``":name"`` behind for named references. The zero iterate points nowhere
        and has cosine 0. A certified run has ``"margin"``, the least that the logit of the top
        token of an input stands above its others, inf where no input has others;
        ``"certified_cosine"``, a lower bound on the cosine of the iterate with the SVM of the
        tokens on top at that step, -1 where there is none; for each norm that was asked for, as in
        ``"certified_margin_ratio:max"``, one on its margin ratio with these tokens, -inf where
        there is none; and ``"settled"``, whether those are the tokens selected at the end. For k
        and q of a diagonal W these are the SVMs among diagonal W, `diagonal_svm`. A run of gradient
        flow on two factors has ``"balance_drift"``: by how much K'K - Q'Q or k² - q², which the
        flow keeps, has changed since the start, over |K|² + |Q|². With `test` data ``"accuracy"``
        is that of the training data, and ``"test_loss"`` and ``"test_accuracy"`` are those of the
        test. What `train` was asked to `record` is under its name, as ``"attention"`` and
        ``"log_attention"`` ([B,] R, n, T), or ``"W"`` ([B,] R, d, d).
    """

    parameter: str | tuple[str, str]
    rule: str
    step_rule: StepRule
    loss: str
    lr: dict[str, float]
    steps: int
    trained: Trained | TrainedByIds
    v: Float64Array | None
    attention: Float64Array
    log_attention: Float64Array
    selected: IndexArray
    history: dict[str, NDArray[Any]]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: not what was formed of it when first asked for."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def attention_parameter(self) -> str:
        """`parameter` without the head."""
        return self.trained.blocks.attention

    @property
    def variable(self) -> Literal["W", "p"]:
        """Whether `direction` is W or p."""
        return "p" if self.trained.blocks.kind.queries == "one" else "W"

    @cached_property
    def direction(self) -> Float64Array:
        """`W` or `p`, ([B,] d, d) or ([B,] d), of which theory says where it goes; W p of both."""
        return self.trained.answer(self.trained.dense())

    @cached_property
    def parameters(self) -> dict[str, Float64Array]:
        """Final value of every trained block, under the names in `lr`."""
        of_head = {} if self.v is None else {"v": self.v}
        answer = self.trained.answer
        return {k: answer(x) for k, x in self.trained.by_block().items()} | of_head

    @property
    def W(self) -> Float64Array | None:
        """Final W ([B,] d, d), also where other blocks make it; formed when first asked for."""
        return self.direction if self.variable == "W" else self.parameters.get("W")

    @property
    def p(self) -> Float64Array | None:
        """Final p ([B,] d), where p was trained."""
        return self.parameters.get("p")

    @property
    def K(self) -> Float64Array | None:
        """Final K ([B,] d, m), where the factors of W = K Q' were trained."""
        return self.parameters.get("K")

    @property
    def Q(self) -> Float64Array | None:
        """Final Q ([B,] d, m), where the factors of W = K Q' were trained."""
        return self.parameters.get("Q")

    @property
    def prompt(self) -> Float64Array | None:
        """The p ([B,] d) that is not trained of the logits X W p; None for other logits."""
        trained = self.trained
        if not isinstance(trained, Trained) or trained.blocks.kind.queries != "prompt":
            return None
        assert trained.query is not None
        prompt: Float64Array = trained.answer(trained.query)[..., 0, :]
        return prompt

    @cached_property
    def _factors(self) -> tuple[Float64Array, Float64Array] | None:
        factors = self.trained.factors()
        if factors is None:
            return None
        left, right = map(self.trained.answer, factors)
        return left, right

    @property
    def left(self) -> Float64Array | None:
        """Left factor ([B,] s, d) of W = left' right, for a run whose W is too large to be formed.

        s is at most the number of inputs where that is below d. None if a start other than zero has
        a part outside the spans of tokens and queries.
        """
        return None if self._factors is None else self._factors[0]

    @property
    def right(self) -> Float64Array | None:
        """Right factor ([B,] s, e) of W = left' right, as `left`; e = 1 for p."""
        return None if self._factors is None else self._factors[1]

    @property
    def speed_limit_share(self) -> Float64Array | None:
        """Whether Adam's memory holds it back, shape ([B]); None for other rules.

        The decrease of log |gradient| per step, over the second half of the records, divided by
        ½ log(1/β2). Once every input has selected a token this is how fast the smallest margin
        grows, at most min(η/N*, ½ log(1/β2)), with N* the norm of the SVM in the max norm: the root
        of the mean square fades no faster. Far below 1 the steps are those of signs and W goes to
        that SVM; near 1 they are those of a preconditioner left from old gradients. NaN where a
        gradient is zero.
        """
        if self.rule not in ADAM:
            return None
        assert self.step_rule.betas is not None
        steps, log_norm = self.history["step"], self.history["log_grad_norm"]
        half = (steps.size - 1) // 2
        with np.errstate(divide="ignore"):
            limit = -0.5 * np.log(self.step_rule.betas[1])
        ends = np.where(np.isfinite(log_norm), log_norm, np.nan)[..., [half, -1]]
        fall = (ends[..., 0] - ends[..., 1]) / max(1, steps[-1] - steps[half])
        share: Float64Array = fall / limit
        return share

    def evaluate(self, data: AttentionData) -> Evaluation:
        """Compute margins, loss and accuracy of what was trained on other inputs.

        `train` does so at every recorded step for the data that it is given as its `test`.

        Parameters
        ----------
        data : AttentionData
            Of the same dimension, with queries where W was trained, and, where the head was not
            trained, with a value, which is then their head. Data without a batch axis serve every
            problem of a batch.

        Returns
        -------
        Evaluation

        Examples
        --------
        >>> import attsvm
        >>> data = attsvm.datasets.signal_noise(20, 8, 500, label_noise=0.2, rng=0)
        >>> run = attsvm.train(data, parameter="p", steps=100)
        >>> test = attsvm.datasets.signal_noise(1000, 8, 500, rng=1)
        >>> float(run.evaluate(test).accuracy)
        0.997
        """
        trained = self.trained if isinstance(self.trained, Trained) else None
        inputs, trained = evaluated("data", data, trained, self.loss)
        if self.variable == "p" or self._factors is None:
            lead = self.selected.shape[:-1]
            matrix = LowRank.of_dense(self.direction.reshape(*lead, inputs.d, -1))
        else:
            matrix = LowRank(*self._factors)
        queries = inputs.queries
        if trained.query is not None:
            queries = trained.answer(trained.query)
        value = inputs.value if self.v is None else self.v
        assert queries is not None
        assert value is not None
        directions = matrix.of_rows(queries.astype(np.float64, copy=False))
        return evaluate(inputs, directions, value.astype(np.float64, copy=False), self.loss)

    _drawn_by = "run"

    def _facts(self) -> dict[str, str]:
        return self.facts()

    def facts(self, outcomes: ArrayLike | None = None) -> dict[str, str]:
        """Say in words and numbers what was trained, how, and where it ended.

        Returns texts by name, numbers of a batch as their smallest and largest. `outcomes`, those
        of `attsvm.classify`, are counted.
        """

        def last(key: str, form: str) -> str:
            return ends_text(self.history[key][..., -1], form)

        name = "+".join(np.atleast_1d(self.parameter))
        problems = f", {len(self.selected)} problems" if self.selected.ndim == 2 else ""
        facts = {
            "training": f"{name}, {self.steps} steps of {self.step_rule.text}, {self._rates('lr ')}"
            f"{self.loss} loss{problems}"
        }
        named = {"loss": "loss", "loss_gap": "loss less its infimum"}
        facts |= {text: last(key, ".3e") for key, text in named.items() if key in self.history}
        named = {"accuracy": "accuracy", "test_loss": "test loss", "test_accuracy": "test accuracy"}
        facts |= {text: last(key, ".4g") for key, text in named.items() if key in self.history}
        facts[f"norm of {self.attention_parameter.replace('+', ' ')}"] = last("norm", ".6g")
        if outcomes is not None:
            kinds, counts = np.unique(np.asarray(outcomes), return_counts=True)
            pairs = zip(kinds.tolist(), counts.tolist(), strict=True)
            facts["outcome"] = ", ".join(f"{count} {kind}" for kind, count in pairs)
        return facts

    def summary(self, outcomes: ArrayLike | None = None) -> str:
        """Write `facts`, one a line.

        Examples
        --------
        >>> import attsvm
        >>> data = attsvm.AttentionData([[[3.0, 4.0], [0.0, 0.0]]], [1], value=[1.0, 0.0])
        >>> run = attsvm.train(data, parameter="p", steps=100)
        >>> print(run.summary(attsvm.classify(data, run)))
        training: p, 100 steps of ngd, lr 0.1, logistic loss
        loss: 4.859e-02
        loss less its infimum: 2.744e-23
        norm of p: 10
        outcome: 1 global
        """
        return "\n".join(f"{name}: {text}" for name, text in self.facts(outcomes).items())

    def _rates(self, name: str) -> str:
        """Write the step sizes, which Polyak steps do not have."""
        rates = " and ".join(number_text(rate) for rate in dict.fromkeys(self.lr.values()))
        return "" if self.rule == "polyak" else f"{name}{rates}, "

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.trained.parameter_shape)
        return (
            f"Run(parameter={self.parameter!r} {shape}, rule={self.rule!r}, "
            f"{self._rates('lr=')}loss={self.loss!r}, steps={self.steps}, "
            f"{self.history['step'].size} recorded)"
        )
