"""What gradient descent does: parameters, losses, step rules, the run and its record."""

from attsvm.descent.run import Run
from attsvm.descent.train import train

__all__ = ["Run", "train"]
