r"""Forecasts, with scenarios and aggregates for decisions."""

from .forecast import Forecast
from .scenarios import Scenarios

__all__ = ["Forecast", "Scenarios"]
