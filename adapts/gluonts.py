r"""The estimator and the predictor for gluonts, under the name that saved predictors hold."""

__all__ = ["AdapterEstimator", "AdapterPredictor"]

from .integrations.gluonts import AdapterEstimator, AdapterPredictor
