"""Problems to study: random ones, and the real digits."""

from attsvm.datasets.handwritten_digits import digits
from attsvm.datasets.sphere import unit_sphere

__all__ = ["digits", "unit_sphere"]
