r"""Panel: what every input becomes, and the doors that it comes in by."""

from .panel import Item, Panel, require_length

__all__ = ["Item", "Panel", "require_length"]
