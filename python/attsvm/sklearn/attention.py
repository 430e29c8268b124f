"""Attention as a classifier: the tokens that gradient descent selects, and a head on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y

from attsvm._arrays import Float64Array, FloatArray, IndexArray
from attsvm._validation import (
    as_choice,
    as_float64_array,
    as_nonnegative_float,
    as_nonnegative_int,
    require_unmasked,
)
from attsvm.data.attention_data import AttentionData, as_selected, require_padded
from attsvm.descent import train
from attsvm.functional import softmax
from attsvm.sklearn.estimator_warnings import OneWarningOfClones, warn_not_separable, warn_once
from attsvm.sklearn.hard_margin import predicted, two_classes
from attsvm.sklearn.largest_margin import Separation, separation
from attsvm.sklearn.slack import as_penalty, beyond_float64, fallback_penalty, too_hard
from attsvm.sklearn.soft_selection import constraint_rows, with_slack, without_slack
from attsvm.svm import SolverError, SVMSolution, att_svm, prompt_svm
from attsvm.svm.solvers import EXTENDED
from attsvm.theory import optimal_tokens
from attsvm.threads import core_threads, threads_of_jobs

_PARAMETERS: tuple[Literal["W", "KQ", "p"], ...] = ("W", "KQ", "p")
_NORMS: tuple[Literal["fro", "nuc"], ...] = ("fro", "nuc")
_SELECTIONS: tuple[Literal["optimal", "trained"], ...] = ("optimal", "trained")
_TRAIN_OPTIONS = (
    *("rule", "lr", "steps", "loss", "init", "record_every", "reference", "dtype"),
    *("progress", "rng", "ridge", "certify", "record"),
)
"""Arguments of `train` that may be set; the estimator sets the others, or its model lacks them."""
_QUERIES: tuple[Literal["first", "last"], ...] = ("first", "last")
_OF_TRAINING = ("rule", "lr", "steps", "loss", "train_options")
"""Parameters without effect where nothing is trained."""


class AttentionSVM(ClassifierMixin, OneWarningOfClones):
    """Attention with a linear head, in the limit to which gradient descent converges.

    Sequence X_i of T tokens is classified by the sign of v'X_i'softmax(X_i W z_i / temperature), or
    with the logits X_i p. Fitting chooses a token of every sequence, solves the attention SVM that
    separates it from the others, which is the direction W or p grows in under gradient descent, and
    the label SVM of the chosen tokens for v ("Max-Margin Token Selection in Attention Mechanism",
    "Transformers as Support Vector Machines").

    Parameters
    ----------
    parameter : {"W", "KQ", "p"}
        W, the smallest with (x_iα - x_it)' W z_i >= 1 (`attsvm.att_svm`), or p (`prompt_svm`).
        "KQ" is W = K Q' with both factors trained.
    norm : {"fro", "nuc"}, optional
        The norm of W that is minimised: by default Frobenius, and with "KQ" nuclear, which is the
        norm that training K and Q leads to.
    selection : {"optimal", "trained"}
        The tokens α, where `fit` is not given them. "optimal": those of the highest score
        Y_i v'x_it. Without a `value`, v and α are found in turns, from the v of the mean tokens:
        each α raises the label margin of v and each v that of α, up to a local optimum.
        "trained": those that gradient descent selects (`attsvm.train`, together with v where no
        `value` is given).
    value : array_like, shape (d,), optional
        The head v. By default the label SVM of the selected tokens.
    query : {"first", "last"}
        Which token is the query z_i of its sequence where no queries are given.
    C : float
        inf: hard margins. A finite C allows violations ξ and adds ½ C Σ ξ² to ½|W|² or ½|p|², and
        in the same way to ½|v|²: the hard margin of tokens with a coordinate more for every
        constraint, n²T² numbers.
    temperature : float
        Of the softmax in predictions; 0 is the limit of training, the token of the highest logit.
    rule, lr, steps, loss
        As in `attsvm.train`, for ``selection="trained"``.
    random_state : int, RandomState or None
        For the start of K and Q, and the order of mini-batches.
    n_jobs : int, optional
        Threads of the C++ core, by default those of `attsvm.train`; -1 takes all processors.
    train_options : dict, optional
        Further arguments of `attsvm.train`: all but the data, the `parameter`, `num_threads`, and
        `head`, `inner` and `prompt`, which belong to other models. They go before `rule`, `lr`,
        `steps`, `loss` and `random_state`.

    Attributes
    ----------
    classes_ : ndarray, shape (2,)
        Labels; the second one is Y = +1.
    coef_ : ndarray, shape (d, d) or (d,)
        W or p.
    value_ : ndarray, shape (d,)
        v.
    selected_ : ndarray of int, shape (n,)
        α of the sequences that were fitted.
    margin_ : float
        1 / |W| or 1 / |p|: by how much the selected tokens lead, in a direction of norm 1, where
        margins are hard.
    label_margin_ : float
        1 / |v|; with a given `value` min Y_i v'x_iα / |v|.
    support_ : ndarray of int, shape (m, 2)
        (i, t) of every constraint with a multiplier λ_it > 0.
    dual_coef_ : ndarray, shape (m,)
        Those λ_it: W = Σ λ_it (x_iα - x_it) z_i' in the Frobenius norm.
    separable_ : bool or None
        Whether the hard margin of the tokens exists; None with a finite C, which does not
        depend on it.
    certificate_ : ndarray, shape (n, T), or None
        Where it does not: Farkas multipliers λ with Σ λ_it (x_iα - x_it) z_i' = 0.
    C_ : float
        The C that was used for the tokens.
    gap_, kkt_ : float
        Relative duality gap and largest residual of the optimality conditions of W or p.
    run_ : Run or None
        The training, with ``selection="trained"``.
    n_features_in_ : int
        d.

    Warns
    -----
    NotSeparableWarning
        C = inf, and the hard margin does not exist. The soft margin takes its place, with
        C = 10 / s², s² the mean square of (x_iα - x_it) |z_i|, or of x_iα for the labels.
    UserWarning
        Parameters were set that have no effect: those of training where nothing is trained, or
        `query` with "p".

    Of the clones of one estimator that are fitted, as by a search, one gives a warning and not all.

    Examples
    --------
    >>> import numpy as np
    >>> from attsvm.sklearn import AttentionSVM
    >>> X = np.random.default_rng(0).standard_normal((6, 4, 8))
    >>> y = ["cat", "dog", "cat", "dog", "dog", "cat"]
    >>> model = AttentionSVM().fit(X, y)
    >>> model.score(X, y), model.coef_.shape, model.gap_ < 1e-9
    (1.0, (8, 8), True)
    """

    def __init__(
        self,
        *,
        parameter: str = "W",
        norm: str | None = None,
        selection: str = "optimal",
        value: Any = None,
        query: str = "first",
        C: float = np.inf,
        temperature: float = 0.0,
        rule: Any = "ngd",
        lr: Any = None,
        steps: int = 1000,
        loss: str | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        train_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.parameter = parameter
        self.norm = norm
        self.selection = selection
        self.value = value
        self.query = query
        self.C = C
        self.temperature = temperature
        self.rule = rule
        self.lr = lr
        self.steps = steps
        self.loss = loss
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.train_options = train_options

    def fit(
        self, X: Any, y: Any, *, queries: Any = None, lengths: Any = None, selected: Any = None
    ) -> AttentionSVM:
        """Choose the tokens, and compute W or p, and v.

        Parameters
        ----------
        X : array_like, shape (n, T, d)
            Tokens of each sequence.
        y : array_like, shape (n,)
            Two different labels.
        queries : array_like, shape (n, d), optional
            z_i; by default the token that `query` names.
        lengths : array_like of int, shape (n,), optional
            Number of valid tokens of each sequence.
        selected : array_like of int, shape (n,), optional
            The tokens α to select, in place of `selection`.

        Returns
        -------
        AttentionSVM
            The fitted estimator, `self`.

        Raises
        ------
        ValueError
            Only a soft margin exists and the norm is nuclear, for which there is none.
        """
        clones = self._take_clones()
        parameter = as_choice("parameter", self.parameter, _PARAMETERS)
        norm = self._norm()
        as_choice("selection", self.selection, _SELECTIONS)
        C = as_penalty(self.C)
        self._temperature()
        options = self._train_options()
        threads = threads_of_jobs(self.n_jobs)
        if parameter == "KQ" and norm == "fro":
            raise ValueError("norm: expected 'nuc' for 'KQ', got 'fro'")
        if norm == "nuc" and parameter == "p":
            raise ValueError("norm: expected 'fro' for p, got 'nuc'")
        if norm == "nuc" and not np.isinf(C):
            nuclear = "'KQ', whose norm is nuclear" if parameter == "KQ" else "the nuclear norm"
            raise ValueError(f"C: expected inf for {nuclear}, got {self.C!r}")
        require_unmasked("y", y)
        require_padded("X", X)
        X, y = check_X_y(X, y, ensure_2d=False, allow_nd=True, dtype=np.float64)
        self.classes_, sign = two_classes(y)
        value = None
        if self.value is not None:
            value = as_float64_array("value", self.value, "(d,)", ndim=1)
        data = AttentionData(
            as_tokens(X), sign, queries=self._queries(X, queries, lengths), value=value,
            lengths=lengths,
        )  # fmt: skip
        self.n_features_in_ = data.d
        self._warn_unused(clones, selected is not None)
        with core_threads(threads):
            head = self._select(data, selected, C, options)
            self._set_head(data, head)
            self._set_tokens(data, C)
        inseparable = []
        if head is not None and head.certificate is not None:
            inseparable.append("the labels of the selected tokens")
        if self.certificate_ is not None:
            inseparable.append("the selected tokens")
        if inseparable:
            warn_not_separable(clones, " and ".join(inseparable))
        return self

    def attention(self, X: Any, *, queries: Any = None, lengths: Any = None) -> Float64Array:
        """Compute the attention weights of the tokens.

        Parameters
        ----------
        X : array_like, shape (n, T, d)
            T may differ from that of the sequences that were fitted.
        queries, lengths
            As in `fit`.

        Returns
        -------
        ndarray, shape (n, T)
            Of sum 1, 0 at padding. At temperature 0 all of it is on one token, the first of equals.
        """
        return self._weights(self._data(X, queries, lengths))

    def decision_function(
        self, X: Any, *, queries: Any = None, lengths: Any = None
    ) -> Float64Array:
        """Compute v'o (n,) of each sequence, o the mixture of its tokens by their weights.

        It is positive for ``classes_[1]``. Parameters are those of `attention`.
        """
        data = self._data(X, queries, lengths)
        return np.asarray(np.einsum("nt,nt->n", self._weights(data), data.tokens @ self.value_))

    def predict(self, X: Any, *, queries: Any = None, lengths: Any = None) -> NDArray[Any]:
        """Predict the label (n,) of each sequence; parameters are those of `attention`."""
        return predicted(self, self.decision_function(X, queries=queries, lengths=lengths))

    def score(
        self, X: Any, y: Any, sample_weight: Any = None, *, queries: Any = None, lengths: Any = None
    ) -> float:
        """Compute the share of the sequences whose label (n,) is predicted.

        Parameters beside `y` and `sample_weight` (n,) are those of `attention`.
        """
        labels = self.predict(X, queries=queries, lengths=lengths)
        return float(accuracy_score(y, labels, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.classifier_tags.multi_class = False
        return tags

    def _warn_unused(self, clones: str | None, given: bool) -> None:
        """Warn of parameters without effect; to be called from `fit`, whether tokens are given."""
        usual = AttentionSVM().get_params(deep=False)
        changed = {x for x in usual if repr(getattr(self, x)) != repr(usual[x])}
        unused = [name for name in _OF_TRAINING if name in changed]
        if unused and (given or self.selection != "trained"):
            why = "with `selected`" if given else "unless selection='trained'"
            warn_once(clones, f"{', '.join(unused)}: no effect, as nothing is trained {why}")
        if self.parameter == "p" and "query" in changed:
            warn_once(
                clones, "query: no effect, as the logits X p of parameter='p' have no queries"
            )

    def _norm(self) -> str:
        default = "nuc" if self.parameter == "KQ" else "fro"
        return default if self.norm is None else as_choice("norm", self.norm, _NORMS)

    def _train_options(self) -> dict[str, Any]:
        seed = self.random_state
        if seed is not None:
            seed = int(check_random_state(seed).randint(2**31))
        as_nonnegative_int("steps", self.steps)
        options = _as_train_options(self.train_options)
        named = {name: getattr(self, name) for name in ("rule", "lr", "steps", "loss")}
        return {**named, "rng": seed, **options}

    def _temperature(self) -> float:
        return as_nonnegative_float("temperature", self.temperature)

    def _queries(self, X: NDArray[Any], queries: Any, lengths: Any) -> Any:
        """Return the queries, by default the first or last token of each sequence."""
        query = as_choice("query", self.query, _QUERIES)
        if queries is not None:
            return queries
        X = as_tokens(X)
        if query == "first":
            return X[:, 0]
        last = AttentionData(X, np.ones(len(X)), lengths=lengths).lengths - 1
        return X[np.arange(len(X)), last]

    def _data(self, X: Any, queries: Any, lengths: Any) -> AttentionData:
        """Check the sequences to predict for; labels are not used."""
        check_is_fitted(self)
        require_padded("X", X)
        X = as_tokens(check_array(X, ensure_2d=False, allow_nd=True, dtype=np.float64))
        if X.shape[2] != self.n_features_in_:
            raise ValueError(
                f"X: expected tokens of {self.n_features_in_} coordinates, as in fit, "
                f"got {X.shape[2]}"
            )
        return AttentionData(
            X, np.ones(len(X)), queries=self._queries(X, queries, lengths), lengths=lengths
        )

    def _weights(self, data: AttentionData) -> Float64Array:
        assert data.queries is not None
        if self.coef_.ndim == 1:
            logits = data.tokens @ self.coef_
        else:
            directions = data.queries @ self.coef_.T
            logits = np.einsum("ntd,nd->nt", data.tokens, directions)
        logits = np.where(data.valid, logits, -np.inf)
        temperature = self._temperature()
        if temperature == 0:
            return np.asarray(np.eye(data.T)[logits.argmax(axis=1)])
        below = logits - logits.max(axis=1, keepdims=True)
        with np.errstate(over="ignore"):
            weights: Float64Array = softmax(below / temperature, axis=1)
        return weights

    def _select(
        self, data: AttentionData, selected: Any, C: float, options: Mapping[str, Any]
    ) -> Separation | None:
        """Set `selected_`, and compute the head of those tokens unless there is a `value`."""
        self.run_ = None
        if selected is not None:
            self.selected_ = as_selected("selected", selected, data)
        elif self.selection == "trained":
            attention = self.parameter
            trained = attention if data.value is not None else ("v", attention)
            self.run_ = train(data, parameter=trained, **options)
            self.selected_ = self.run_.selected
        elif data.value is not None:
            self.selected_ = optimal_tokens(data)
        else:
            self.selected_, head = _in_turns(data, C)
            return head
        if data.value is not None:
            return None
        return _label_separation(_chosen(data, self.selected_), data, C)

    def _set_head(self, data: AttentionData, head: Separation | None) -> None:
        if head is not None:
            self.value_ = head.w
            size = float(linalg.norm(head.w))
            self.label_margin_ = 1.0 / size if size > 0 else np.inf
            return
        assert data.value is not None
        self.value_ = data.value.astype(np.float64, copy=False)
        lead = float((data.labels * (_chosen(data, self.selected_) @ data.value)).min())
        size = float(linalg.norm(data.value))
        self.label_margin_ = lead / size if size > 0 else 0.0

    def _set_tokens(self, data: AttentionData, C: float) -> None:
        self.separable_, self.certificate_ = None, None
        solution = None
        if np.isinf(C):
            solution = self._solve(data)
            self.separable_ = bool(solution.feasible)
        if solution is not None and not solution.feasible:
            if self._norm() == "nuc":
                factored = self.parameter == "KQ"
                name, wanted, got = ("parameter", "W", "KQ") if factored else ("norm", "fro", "nuc")
                raise ValueError(
                    f"{name}: expected {wanted!r} where no hard margin exists (the selected tokens "
                    f"cannot be separated from the others), got {got!r}"
                )
            self.certificate_ = solution.certificate
            C = fallback_penalty(constraint_rows(data, self.selected_, self.parameter))
            solution = None
        if solution is None:
            widened = with_slack(data, self.selected_, C, self.parameter)
            try:
                solution = self._solve(widened)
            except SolverError as error:
                raise too_hard(C) from error
            if not solution.feasible:
                raise too_hard(C)
        self.C_ = C
        self.coef_ = without_slack(solution, data.d)
        # Of a vector SciPy's norm neither overflows nor underflows; of a matrix it would.
        nuclear = self._norm() == "nuc"
        size = float(linalg.norm(self.coef_, "nuc") if nuclear else linalg.norm(self.coef_.ravel()))
        self.margin_ = 1.0 / size if size > 0 else np.inf
        assert solution.dual is not None
        self.support_ = np.argwhere(solution.dual > 0)
        self.dual_coef_ = solution.dual[solution.dual > 0]
        self.gap_, self.kkt_ = solution.gap, solution.kkt

    def _solve(self, data: AttentionData) -> SVMSolution:
        if self.parameter == "p":
            solution = prompt_svm(data, self.selected_)
        else:
            solution = att_svm(data, self.selected_, norm=self._norm())
        if solution.solver == EXTENDED:
            raise beyond_float64(f"the selected tokens of {data.n} sequences")
        return solution


def _as_train_options(value: Any) -> Mapping[str, Any]:
    options = {} if value is None else value
    if not isinstance(options, Mapping):
        raise TypeError(f"train_options: expected a dict, got {type(value).__name__}")
    for name in options:
        if name not in _TRAIN_OPTIONS:
            raise ValueError(
                f"train_options: expected arguments of train among {', '.join(_TRAIN_OPTIONS)}, "
                f"got {name!r}"
            )
    return options


def as_tokens(X: NDArray[Any]) -> NDArray[Any]:
    """Return X, which has the shape of tokens."""
    if X.ndim != 3:
        raise ValueError(f"X: expected tokens of shape (n, T, d), got {X.shape}")
    return X


def _chosen(data: AttentionData, tokens: IndexArray) -> FloatArray:
    """Return x_iα, shape (n, d)."""
    return np.asarray(data.tokens[np.arange(data.n), tokens])


def _label_separation(samples: FloatArray, data: AttentionData, C: float) -> Separation:
    return separation(samples, data.labels, C, intercept=False, weights=np.ones(data.n))


def _in_turns(data: AttentionData, C: float) -> tuple[IndexArray, Separation]:
    """Compute tokens and a head, each optimal for the other, in turns."""
    mean = np.einsum("nt,ntd->nd", data.valid / data.lengths[:, np.newaxis], data.tokens)
    head = _label_separation(mean, data, C)
    heads: dict[bytes, Separation] = {}
    while True:
        scored = AttentionData(data.tokens, data.labels, value=head.w, lengths=data.lengths)
        tokens = optimal_tokens(scored)
        key = tokens.tobytes()
        if key in heads:
            return tokens, heads[key]
        head = heads[key] = _label_separation(_chosen(data, tokens), data, C)
