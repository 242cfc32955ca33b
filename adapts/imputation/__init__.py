r"""Imputation: short gaps, other channels, and contexts of few values."""

from .cold_start import Kriging
from .cross_channel import Coupling, Told

__all__ = ["Coupling", "Kriging", "Told"]
