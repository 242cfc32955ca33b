r"""Names of known checkpoints."""

from __future__ import annotations

__all__ = ["KNOWN", "STATISTICAL", "foundation_models"]

from importlib.resources import files
from pathlib import Path

#: The bundled checkpoints by name, with their package folders.
_BUNDLED = {"bolt-nano": "bolt_nano"}
#: Statistical models by name, which have no checkpoints; the backend "statsforecast" makes them.
STATISTICAL = ("auto-ets", "theta")
#: The names that a saved file may refer to: bundled checkpoints, statistical models, and Chronos-Bolt on the hub.
KNOWN = (*_BUNDLED, *STATISTICAL, *(f"amazon/chronos-bolt-{size}" for size in ("tiny", "mini", "small", "base")))


def foundation_models() -> dict[str, Path]:
    r"""Return the folders of the bundled checkpoints, by name.

    Example:
        >>> list(foundation_models())
        ['bolt-nano']
    """
    return {name: Path(str(files(__package__) / folder)) for name, folder in _BUNDLED.items()}
