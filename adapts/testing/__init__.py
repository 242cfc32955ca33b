r"""Conformance tests for third-party adapter families and foundation models."""

from .families import AdapterConformance
from .foundation import FoundationModelConformance, require_true_gradient
from .rows import degenerate_rows
from .tiny import tiny_chronos_bolt

__all__ = [
    "AdapterConformance",
    "FoundationModelConformance",
    "degenerate_rows",
    "require_true_gradient",
    "tiny_chronos_bolt",
]
