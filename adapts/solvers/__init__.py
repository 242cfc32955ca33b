r"""What has a closed form."""

from .bayesian import BayesianRegression
from .ridge import RidgePath, blocked_folds, cross_validated_error, ridge

__all__ = ["BayesianRegression", "RidgePath", "blocked_folds", "cross_validated_error", "ridge"]
