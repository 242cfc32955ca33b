r"""Check that values have sizes whose squares are finite and not zero."""

from __future__ import annotations

__all__ = ["LARGEST", "SMALLEST", "require_sizes"]

from typing import TYPE_CHECKING

import numpy as np

from ..errors import shown

if TYPE_CHECKING:
    from .panel import Panel

#: The smallest and the largest size of a channel, with a margin of ten before squares leave double precision.
SMALLEST, LARGEST = 1e-150, 1e150


def require_sizes(panel: Panel) -> None:
    r"""Check that the largest absolute value of each channel lies between 1e-150 and 1e150.

    Arguments:
        panel: The panel, without infinite values.

    Raises:
        ValueError: If a value is over ten times larger, or all values of a channel are over ten times smaller but not
            all zero.
    """
    sizes = [np.abs(item.values).max(0, initial=0.0, where=~np.isnan(item.values)) for item in panel.items]
    largest = np.max(sizes, axis=0)  # (D,)
    far = np.flatnonzero((largest > 10 * LARGEST) | ((largest < SMALLEST / 10) & (largest > 0)))
    if not len(far):
        return
    column = int(far[0])
    number = int(np.argmax([size[column] for size in sizes]))
    item = panel.items[number]
    row = int(np.argmax(np.where(np.isnan(item.values[:, column]), -1.0, np.abs(item.values[:, column]))))
    whose = "" if len(panel) == 1 else f" of item {shown(item.item_id)}"
    size = largest[column]
    large = size > LARGEST
    expected, change = (f"at most {LARGEST:g}", "divide") if large else (f"at least {SMALLEST:g}", "multiply")
    raise ValueError(
        f"expected column {shown(panel.channels[column])} to have a size of {expected}, and its largest value is "
        f"{item.values[row, column]:g}, in row {row}{whose}: {change} the column by a power of ten, and undo that in "
        f"its forecast; or write {'NaN if the value is a mistake' if large else '0 if it is no signal'}"
    )
