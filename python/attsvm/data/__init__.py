"""What a problem is: its arrays, the checks on what comes in, and the files it is kept in."""

from attsvm.data.attention_data import AttentionData
from attsvm.data.files import load, save
from attsvm.data.next_token_data import NextTokenData

__all__ = ["AttentionData", "NextTokenData", "load", "save"]
