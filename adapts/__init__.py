r"""Joint, calibrated multivariate forecasts from a frozen univariate foundation model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

__all__ = [
    "Adapter",
    "Forecast",
    "FoundationModel",
    "GroupedAdapter",
    "Panel",
    "__version__",
    "load_foundation_model",
    "set_verbosity",
    "tune",
]

if TYPE_CHECKING:
    from ._logging import set_verbosity
    from .adapter import Adapter
    from .data.panel import Panel
    from .forecast.forecast import Forecast
    from .foundation import FoundationModel, load_foundation_model
    from .grouped import GroupedAdapter
    from .tuning import tune

# A name is imported when it is first asked for, so that `import adapts` costs nothing.
_HOMES = {
    "Adapter": ".adapter",
    "Forecast": ".forecast",
    "FoundationModel": ".foundation",
    "GroupedAdapter": ".grouped",
    "Panel": ".data",
    "load_foundation_model": ".foundation",
    "set_verbosity": "._logging",
    "tune": ".tuning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
