r"""Baselines: forecasts that every model has to beat, each a full law, by name."""

__all__ = ["BASELINES", "VAR", "Baseline", "Drift", "LastValue", "NLinear", "SeasonalNaive"]

from collections.abc import Callable

from .base import Baseline
from .naive import Drift, LastValue, SeasonalNaive
from .nlinear import NLinear
from .var import VAR

#: Makes each baseline, given the number of steps in a season.
BASELINES: dict[str, Callable[[int], Baseline]] = {
    "last value": lambda season: LastValue(),
    "seasonal naive": SeasonalNaive,
    "drift": lambda season: Drift(),
    "nlinear": lambda season: NLinear(),
    "var": lambda season: VAR(),
}
