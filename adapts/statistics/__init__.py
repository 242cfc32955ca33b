r"""Statistics: regression in closed form, and inference on means over dependent windows."""

from .bayesian import BayesianRegression
from .bootstrap import effective_sample_size, lead_blocks
from .ridge import RidgePath, blocked_folds, cross_validated_error, ridge

__all__ = [
    "BayesianRegression",
    "RidgePath",
    "blocked_folds",
    "cross_validated_error",
    "effective_sample_size",
    "lead_blocks",
    "ridge",
]
