r"""Names of known checkpoints."""

from __future__ import annotations

__all__ = ["KNOWN", "PACKAGED", "STATISTICAL", "foundation_models"]

from importlib.resources import files
from pathlib import Path

#: The bundled checkpoints by name, with their package folders.
_BUNDLED = {"bolt-nano": "bolt_nano"}
#: The checkpoints within other packages by name, with their backends: `packaged_checkpoint()` gives the folder.
PACKAGED = {"fracast-0": "fracast"}
#: Statistical models by name, which have no checkpoints; the backend "statsforecast" makes them.
STATISTICAL = ("auto-ets", "theta")
_ON_HUB = (f"amazon/chronos-bolt-{size}" for size in ("tiny", "mini", "small", "base"))
#: The names that a saved file may refer to: bundled, packaged and statistical models, and Chronos-Bolt on the hub.
KNOWN = (*_BUNDLED, *PACKAGED, *STATISTICAL, *_ON_HUB)


def foundation_models() -> dict[str, Path]:
    r"""Return the folders of the bundled checkpoints, by name.

    Example:
        >>> list(foundation_models())
        ['bolt-nano']
    """
    return {name: Path(str(files(__package__) / folder)) for name, folder in _BUNDLED.items()}
