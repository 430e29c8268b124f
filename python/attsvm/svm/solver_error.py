"""The error of a problem that could be neither solved nor shown infeasible."""

__all__ = ["SolverError"]


class SolverError(RuntimeError):
    """No answer passed its check; the message names what was tried and the residuals it left.

    Constraints of sizes so far apart that no W in float64 can meet them all to 1e-6 are a cause:
    |W|_F times the largest |(x_iα - x_it) z_i'|_F is then above 1e9 or so.
    """
