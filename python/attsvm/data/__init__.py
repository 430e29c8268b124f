"""Problems: their arrays, checks of them, and files."""

from attsvm.data.attention_data import AttentionData
from attsvm.data.files import load, save
from attsvm.data.next_token_data import NextTokenData

__all__ = ["AttentionData", "NextTokenData", "load", "save"]
