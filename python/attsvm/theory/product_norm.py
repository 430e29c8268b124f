"""The norm of W = K Q' that steepest descent of the factors K and Q makes small."""

from __future__ import annotations

from attsvm._geometries import Norm
from attsvm.svm.norms import NORMS, as_svm_norm


def product_norm(norm: Norm) -> str:
    """Return the norm of W = K Q' that belongs to steps in one norm on both K and Q.

    Steps in the norm N on each of K and Q, with m columns, are steepest descent of the pair in the
    norm max(N(K), N(Q)). The product norm of W is the least N(K) N(Q) over K Q' = W:

    * "fro": the nuclear norm "nuc", for m at least the rank of W;
    * "spec": the spectral norm "spec", for m at least the rank of W;
    * "max": over m it is at least the cut norm "cut", and tends to it with the number of columns.
      A column of K and one of Q of size 1 are the product s t' of two vectors of signs, or a mean
      of such products; K Q' / m is a mean of m of them.

    Where such steps, with rates o(1/sqrt(k)), come to select tokens, K and Q go in a direction that
    meets the optimality conditions of the SVM of pairs. That W is then a solution of the SVM in the
    product norm is measured, not proved: the first reference proves it for gradient descent from
    certain starts.

    Parameters
    ----------
    norm : {"fro", "spec", "max"}
        That of the steps, as in `StepRule`.

    Returns
    -------
    {"nuc", "spec", "cut"}
        As in `att_svm` and `margin_ratio`.

    References
    ----------
    "Transformers as Support Vector Machines": the nuclear norm. Gronich, Vardi, arXiv:2602.16340,
    2026: blocks in norms of their own. Linial, Mendelson, Schechtman, Shraibman, "Complexity
    Measures of Sign Matrices", 2007: factorisation norms.

    Examples
    --------
    >>> import attsvm
    >>> attsvm.theory.product_norm("max")
    'cut'
    """
    name = as_svm_norm("norm", norm).of_factors
    if name is None:
        known = ", ".join(repr(one.name) for one in NORMS.values() if one.of_factors)
        raise ValueError(f"norm: expected one of {known}, got {norm!r}")
    return name
