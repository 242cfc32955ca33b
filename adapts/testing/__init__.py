r"""Conformance tests for third-party adapter families and foundation models."""

from .families import AdapterConformance
from .foundation import FoundationModelConformance
from .rows import degenerate_rows
from .tiny import tiny_chronos_bolt

__all__ = ["AdapterConformance", "FoundationModelConformance", "degenerate_rows", "tiny_chronos_bolt"]
