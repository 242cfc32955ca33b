r"""Adapter families: one a file, entered in one roster."""

from .base import AdapterModule, Evidence, State, families, make, register
from .identity import Identity
from .linear import Linear
from .projection import Projection
from .residual import Residual

__all__ = [
    "AdapterModule",
    "Evidence",
    "Identity",
    "Linear",
    "Projection",
    "Residual",
    "State",
    "families",
    "make",
    "register",
]
