r"""Prediction: from windows to the joint distribution."""

from .predictor import Predictor

__all__ = ["Predictor"]
