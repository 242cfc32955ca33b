r"""Baselines by name: simple probabilistic forecasts to compare every model with."""

__all__ = ["BASELINES", "VAR", "Baseline", "DLinear", "Drift", "LastValue", "NLinear", "SeasonalNaive"]

from collections.abc import Callable

from .base import Baseline
from .dlinear import DLinear
from .naive import Drift, LastValue, SeasonalNaive
from .nlinear import NLinear
from .var import VAR

#: The constructor of each baseline, given the number of steps in a season.
BASELINES: dict[str, Callable[[int], Baseline]] = {
    "last value": lambda season: LastValue(),
    "seasonal naive": SeasonalNaive,
    "drift": lambda season: Drift(),
    "nlinear": lambda season: NLinear(),
    "dlinear": lambda season: DLinear(),
    "var": lambda season: VAR(),
}
