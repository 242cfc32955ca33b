r"""Tests that adapter families and foundation models of others inherit."""

from .families import AdapterConformance
from .foundation import FoundationModelConformance
from .rows import degenerate_rows
from .tiny import tiny_chronos_bolt

__all__ = ["AdapterConformance", "FoundationModelConformance", "degenerate_rows", "tiny_chronos_bolt"]
