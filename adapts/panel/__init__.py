r"""Panel: what every input becomes, and the doors that it comes in by."""

from .frames import as_pandas
from .panel import Categories, Item, Panel, require_length

__all__ = ["Categories", "Item", "Panel", "as_pandas", "require_length"]
