"""The SVMs of the papers: attention, prompt, label, and of several selected tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attsvm._arrays import ArrayLike, BoolArray, Float64Array
from attsvm._geometries import Norm as NormLike
from attsvm._validation import as_bool_array, require_nonnegative
from attsvm.data.attention_data import AttentionData, as_data, as_selected
from attsvm.data.attention_weights import AttendedLike, as_attention_weights
from attsvm.data.batch_axis import as_float64, shape_of
from attsvm.svm.norms import as_svm_norm
from attsvm.svm.selected_sets import representatives, sets_of
from attsvm.svm.solution import SVMSolution
from attsvm.svm.solve import solve
from attsvm.svm.svm_problem import (
    attention_problem,
    diagonal_problem,
    general_problem,
    label_problem,
    prompt_problem,
)
from attsvm.threads import takes_threads


@takes_threads
def att_svm(
    data: AttentionData,
    selected: ArrayLike,
    *,
    norm: NormLike = "fro",
    solver: str = "auto",
    start: ArrayLike | None = None,
    num_threads: int | None = None,
) -> SVMSolution:
    """Solve the Att-SVM: the smallest W whose attention separates the selected tokens.

    min N(W) subject to (x_iα - x_it)' W z_i >= 1 for every input i, α its selected token, and every
    other valid token t. When gradient descent comes to select the tokens α, it goes in this
    direction: on W with the Frobenius norm, on (K, Q) with W = K Q' with the nuclear norm
    ("Transformers as Support Vector Machines").

    Parameters
    ----------
    data : AttentionData
        With queries. float32 data is solved in float64.
    selected : array_like of int, shape ([B,] n)
        Tokens α, within the valid tokens of each input.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        What is made small, the norm N of the optimiser: the Frobenius norm (gradient descent); the
        largest entry or the sum of all, in absolute value (sign descent; coordinate descent); the
        largest singular value or the sum of all (Muon; gradient descent of K and Q); the cut norm,
        the least Σ |c_k| of W = Σ c_k s_k t_k' with vectors of signs s_k and t_k (sign descent of K
        and Q); a number p > 1 for (Σ |W_jk|^p)^(1/p) (mirror descent). The max, l1, cut and l_p
        norm depend on the coordinates of tokens and queries.
    solver : {"auto", "native", "osqp", "active-set"}
        "auto" and "native": the C++ core, by ascent on the dual or the dual active set method,
        whichever is less work, for all problems of a batch at once. "active-set": the latter alone.
        "osqp", a second opinion: multipliers by OSQP, certified by the core after an exact finish
        on their active set; where that fails, "active-set" decides. With other norms than
        Frobenius, "native" and "auto" only.
    start : array_like, shape ([B,] n, T), optional
        A guess of the multipliers, 0 or more and of any scale, for "native" and the Frobenius
        norm; such as `Run.attention`, whose weights of the tokens that are not selected are large
        where multipliers are. It may shorten the way and does not change the answer.
    num_threads : int, optional
        Threads; by default what OpenMP and the container allow. Results do not depend on it.

    Returns
    -------
    SVMSolution
        With `W`, shape ([B,] d, d).

    Notes
    -----
    In every norm N with the dual N*, the dual problem is max Σ λ_it subject to N*(G) <= 1 and
    λ >= 0, where G = Σ λ_it (x_iα - x_it) z_i'. The answer is certified by weak duality: any λ >= 0
    proves that N(W) >= Σ λ_it / N*(G). For other norms than Frobenius `gap` and `kkt` are 1e-12 as
    a rule.

    * Max and l1: linear programs, by an interior-point method, and linear equations on the active
      set.
    * l_p: Newton's method on the active set, along p from the Frobenius solution.
    * Cut: N*(G) = max s' G t over vectors of signs. A linear program with a variable for every s t'
      by column generation: the l1 SVM of the coefficients of a few of them gives multipliers, and
      every s tells which others are missing. With more than 16 rows and columns the signs are not
      enumerated: W is the best that was found until no s' G t above 1.05 was, and `gap` is that to
      the best bound by unit vectors in place of signs, at most 1.783 times max s' G t
      (Grothendieck's inequality); `status` is then "bounded".
    * Nuclear and spectral: in coordinates of the spans of the token differences and of the queries,
      between which a solution lies, by an interior-point method (or many first-order steps with
      singular-value thresholding), which finds the rank of W or G and the active constraints, and
      Newton's method for the smooth equations that are left.

    Only in the Frobenius and l_p norm is the solution always unique; of many, one is returned, and
    `unique` tells. `margin_ratio` compares a direction with all of them.

    That paper has the constraint rank W <= m for keys and queries of m < d columns. It changes
    nothing when m is at least the rank of the solution found here, which is never above min(n, d)
    and much smaller as a rule. For a smaller m the problem is not convex, and this W is a lower
    bound of its norm only.

    References
    ----------
    Alon, Naor, "Approximating the Cut-Norm via Grothendieck's Inequality", 2006.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> attsvm.att_svm(data, [0]).W
    array([[ 0.5,  0. ],
           [-0.5,  0. ]])
    """
    data = as_data(data)
    problem = attention_problem(data, as_selected("selected", selected, data))
    made_small = as_svm_norm("norm", norm)
    guess = None
    if start is not None:
        if made_small.name != "fro" or solver not in ("auto", "native"):
            raise ValueError(
                "start: expected None but for the native solver and the Frobenius norm, got "
                f"norm={norm!r}, solver={solver!r}"
            )
        guess = _start(data, start)
    return solve("W", problem, batch=data.batch, norm=made_small, solver=solver, start=guess)


@takes_threads
def prompt_svm(
    data: AttentionData,
    selected: ArrayLike,
    *,
    required: ArrayLike | None = None,
    norm: NormLike = "fro",
    solver: str = "auto",
    num_threads: int | None = None,
) -> SVMSolution:
    """Solve the p-SVM: the smallest prompt p that separates the selected tokens from all others.

    min |p| subject to (x_iα - x_it)' p >= 1 for every input i and every valid token t other than
    the selected α. In inputs that are not `required` the right-hand side is 0: the relaxed SVM,
    where the prompt goes when the head is trained with it and those inputs are not support vectors
    of `label_svm` ("Max-Margin Token Selection in Attention Mechanism").

    Parameters
    ----------
    data : AttentionData
        Queries are not used. float32 data is solved in float64.
    selected : array_like of int, shape ([B,] n)
        Tokens α, within the valid tokens of each input.
    required : array_like of bool, shape ([B,] n), optional
        Inputs with right-hand side 1; all of them when not given.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        What is made small, as in `att_svm`. Of a vector, "spec" and "nuc" are "fro", and "cut" is
        "max".
    solver, num_threads
        As in `att_svm`.

    Returns
    -------
    SVMSolution
        With `p`, shape ([B,] d).

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1])
    >>> attsvm.prompt_svm(data, [0]).p
    array([ 0.5, -0.5])
    """
    data = as_data(data)
    tokens = as_selected("selected", selected, data)
    if required is None:
        margin_one: BoolArray = np.ones(tokens.shape, dtype=np.bool_)
    else:
        text, shape = shape_of(data, "n")
        margin_one = as_bool_array("required", required, text, shape=shape)
    problem = prompt_problem(data, tokens, margin_one)
    made_small = as_svm_norm("norm", norm).of_one_column()
    return solve("p", problem, batch=data.batch, norm=made_small, solver=solver)


@takes_threads
def diagonal_svm(
    data: AttentionData,
    selected: ArrayLike,
    *,
    norm: NormLike = "l1",
    solver: str = "auto",
    num_threads: int | None = None,
) -> SVMSolution:
    """Solve the Att-SVM among diagonal W = diag(w), to which training of k and q leads.

    min N(W) subject to Σ_j w_j (x_iα - x_it)_j z_ij >= 1 for every input i, α its selected token,
    and every other valid token t. From an unbalanced start gradient flow on k and q, w = k ∘ q,
    goes to the smallest Σ |w_j|; from k = q no entry of w can change its sign.

    Parameters
    ----------
    data : AttentionData
        With queries. float32 data is solved in float64.
    selected : array_like of int, shape ([B,] n)
        Tokens α, within the valid tokens of each input.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        N, as in `att_svm`. Of diag(w), "spec" and "cut" are "max", and "nuc" is "l1".
    solver, num_threads
        As in `att_svm`.

    Returns
    -------
    SVMSolution
        With a diagonal `W`, shape ([B,] d, d). The stationarity that `dual` certifies is that of
        the diagonal of Σ λ_it (x_iα - x_it) z_i'.

    References
    ----------
    Sheen, Chen, Wang, Zhou, "Implicit Regularization of Gradient Flow on One-Layer Softmax
    Attention", 2024.

    Examples
    --------
    >>> import attsvm
    >>> tokens = [[[2.0, 1.0], [0.0, 0.0]]]
    >>> data = attsvm.AttentionData(tokens, [1], queries=[[1.0, 1.0]])
    >>> attsvm.diagonal_svm(data, [0]).W.round(12) + 0.0
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    data = as_data(data)
    problem = diagonal_problem(data, as_selected("selected", selected, data))
    made_small = as_svm_norm("norm", norm).of_one_diagonal()
    solution = solve("p", problem, batch=data.batch, norm=made_small, solver=solver)
    if solution.left is None:
        return replace(solution, variable="W")
    *lead, s, d = solution.left.shape  # s = 4 where one is extended
    left = (solution.left[..., np.newaxis] * np.eye(d)).reshape(*lead, s * d, d)
    right = np.tile(np.eye(d), (*lead, s, 1))
    return replace(solution, variable="W", left=left, right=right)


@takes_threads
def label_svm(
    data: AttentionData,
    selected: ArrayLike,
    *,
    norm: NormLike = "fro",
    solver: str = "auto",
    num_threads: int | None = None,
) -> SVMSolution:
    """Solve the v-SVM: the smallest head v that tells the labels from the selected tokens.

    min |v| subject to Y_i v' x_iα >= 1 for every input i, α its selected token; hard margin, no
    intercept. Its support vectors are the inputs with margin 1, as in "Max-Margin Token Selection".

    Parameters
    ----------
    data : AttentionData
        Queries and value are not used. float32 data is solved in float64.
    selected : array_like of int, shape ([B,] n)
        Tokens α, within the valid tokens of each input.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        What is made small, as in `prompt_svm`: the l_p norm where v is trained by mirror descent.
    solver, num_threads
        As in `att_svm`.

    Returns
    -------
    SVMSolution
        With `v`, shape ([B,] d), and arrays of shape ([B,] n) for the constraints.

    References
    ----------
    In other norms: Julistiono, Tarzanagh, Azizan, "Optimizing Attention with Mirror Descent", 2025.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[0.0, 2.0]], [[1.0, -2.0]]], [1, -1])
    >>> attsvm.label_svm(data, [0, 0]).v
    array([0. , 0.5])
    """
    data = as_data(data)
    tokens = as_selected("selected", selected, data)
    problem = label_problem(data, tokens)
    made_small = as_svm_norm("norm", norm).of_one_column()
    return solve("v", problem, batch=data.batch, norm=made_small, solver=solver)


@takes_threads
def general_svm(
    data: AttentionData,
    attention: AttendedLike,
    *,
    threshold: float = 1e-3,
    norm: NormLike = "fro",
    solver: str = "auto",
    num_threads: int | None = None,
) -> SVMSolution:
    """Solve the Gen-SVM: the smallest W that selects a set of tokens in every input.

    min |W|_F subject to (x_it - x_iτ)' W z_i = 0 for t, τ in the selected set O_i = {t : s_it >
    threshold}, and >= 1 for t in O_i and every valid τ outside it. Where descent keeps several
    tokens, W grows in this direction, and `finite_part` settles the ratios of their weights
    ("Transformers as Support Vector Machines").

    Parameters
    ----------
    data : AttentionData
        With queries. float32 data is solved in float64.
    attention : array_like of shape ([B,] n, T), or Run
        Softmax weights s. Only the selected sets matter, see `selected_sets`.
    threshold : float
        At least 0 and below 1.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        What is made small, as in `att_svm`.
    solver, num_threads
        As in `att_svm`.

    Returns
    -------
    SVMSolution
        With `W`, shape ([B,] d, d). The equalities let one token of each set stand for all of it:
        the one of largest weight, α_i. Its constraint with token t is at [i, t]: `margins` are
        (x_iα - x_it)' W z_i, 0 in the set and at least 1 outside it; a token of the set has a
        multiplier `dual` of any sign and counts as `support`. As in `att_svm` there is nothing at
        α_i itself and at padding. Where nothing is outside the sets, W = 0.

    Examples
    --------
    >>> import attsvm
    >>> tokens = [[[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]]
    >>> data = attsvm.AttentionData(tokens, [1], queries=[[1.0, 0.0]])
    >>> attsvm.general_svm(data, [[0.7, 0.3, 0.0]]).W.round(12) + 0.0
    array([[1., 0.],
           [0., 0.]])
    """
    data = as_data(data)
    weights = as_attention_weights("attention", attention, data)
    sets = sets_of(weights, threshold)
    problem = general_problem(data, representatives(data, weights), sets)
    made_small = as_svm_norm("norm", norm)
    return solve("W", problem, batch=data.batch, norm=made_small, solver=solver)


def _start(data: AttentionData, start: ArrayLike) -> Float64Array:
    """Return the guess of the multipliers with a batch axis, each of largest entry 1."""
    guess = as_float64(data, "start", start, "n", "T")
    require_nonnegative("start", guess, "multipliers")
    of_problems = guess.reshape(data.batch or 1, data.n, data.T)
    largest = of_problems.max(axis=(1, 2), keepdims=True)
    return np.ascontiguousarray(of_problems / np.where(largest > 0, largest, 1.0))
