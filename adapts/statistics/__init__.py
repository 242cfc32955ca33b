r"""Statistics: closed forms, and how sure a mean over dependent windows is."""

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
