r"""Imputation: short gaps, other channels, and cold starts."""

from .cold_start import ColdStart
from .cross_channel import ChannelImputer, Imputation

__all__ = ["ChannelImputer", "ColdStart", "Imputation"]
