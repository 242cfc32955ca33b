r"""Names of known checkpoints."""

from __future__ import annotations

__all__ = ["KNOWN", "foundation_models"]

from importlib.resources import files
from pathlib import Path

from .names import known_names

#: The bundled checkpoints by name, with their package folders.
_BUNDLED = {"bolt-nano": "bolt_nano"}
#: The names that a saved file may refer to: those of `adapts.foundation.names`, and their repositories on the hub.
KNOWN = known_names()


def foundation_models() -> dict[str, Path]:
    r"""Return the folders of the bundled checkpoints, by name.

    Example:
        >>> list(foundation_models())
        ['bolt-nano']
    """
    return {name: Path(str(files(__package__) / folder)) for name, folder in _BUNDLED.items()}
