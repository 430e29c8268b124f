"""SVMs on samples and on tokens as scikit-learn estimators (extra ``sklearn``)."""

try:
    from sklearn.utils.validation import validate_data  # noqa: F401  # scikit-learn 1.6
except ImportError as error:
    raise ImportError(
        'attsvm.sklearn needs scikit-learn 1.6 or newer: pip install "attsvm[sklearn]"'
    ) from error

from attsvm.sklearn.attention import AttentionSVM
from attsvm.sklearn.estimator_warnings import NotSeparableWarning
from attsvm.sklearn.hard_margin import HardMarginSVC
from attsvm.sklearn.token_transformer import TokenTransformer

__all__ = ["AttentionSVM", "HardMarginSVC", "NotSeparableWarning", "TokenTransformer"]
