r"""Panel: what every input becomes, and the doors that it comes in by."""

from .frames import as_pandas
from .item import Categories, Item
from .panel import Panel, require_length

__all__ = ["Categories", "Item", "Panel", "as_pandas", "require_length"]
