r"""Data: panels of series, and the readers that make them."""

from .frames import as_pandas
from .item import Categories, Item
from .panel import Panel, require_length

__all__ = ["Categories", "Item", "Panel", "as_pandas", "require_length"]
