r"""Forecasts: what users see, and what they decide on."""

from .forecast import Forecast
from .scenarios import Scenarios

__all__ = ["Forecast", "Scenarios"]
