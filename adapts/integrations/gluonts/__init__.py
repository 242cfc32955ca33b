r"""adapts as an estimator and a predictor of gluonts."""

from .estimator import AdapterEstimator
from .predictor import AdapterPredictor

__all__ = ["AdapterEstimator", "AdapterPredictor"]
