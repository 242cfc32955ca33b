r"""Items: the single series of a panel, and the channels of their static columns."""

from __future__ import annotations

__all__ = ["Categories", "Item", "columns_of"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import shown

#: The categories of a static column: their names, or their codes in gluonts.
Categories = tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Item:
    r"""One multivariate series.

    Arguments:
        item_id: The name of the item.
        values: The rows, oldest first, with shape :math:`(T, D)`, float64. NaN marks a missing value.
        index: The dates of the rows, or a RangeIndex for undated data.

    Raises:
        ValueError: If the values are no such array, or the index has another length.
    """

    item_id: str
    values: np.ndarray
    index: pd.Index[Any]

    def __post_init__(self) -> None:
        values = self.values
        if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype != np.float64:
            raise ValueError(f"an item holds a float64 array (T, D), got {shown(values)}: Panel.of reads anything else")
        if not isinstance(self.index, pd.Index) or len(self.index) != len(values):
            raise ValueError(f"an item of {len(values)} rows has an index of as many entries, got {shown(self.index)}")
        # Rounding in sums over rows depends on the memory layout, and equal rows must have equal forecasts.
        object.__setattr__(self, "values", np.ascontiguousarray(self.values))

    def __len__(self) -> int:
        return len(self.values)

    def clock(self) -> np.ndarray:
        r"""Return the dates as integers that compare across items (nanoseconds of UTC).

        Returns:
            The integers, with shape :math:`(T,)`.
        """
        assert isinstance(self.index, pd.DatetimeIndex)
        return np.asarray(self.index.as_unit("ns").asi8)


def columns_of(static: Mapping[str, Categories | None]) -> tuple[str, ...]:
    r"""Return the names of the channels that encode static columns.

    Arguments:
        static: The categories of each, None for numbers.

    Returns:
        The names, in order.

    Example:
        >>> columns_of({"size": None, "kind": ("shop", "store")})
        ('size', 'kind=shop', 'kind=store')
    """
    names: list[str] = []
    for name, categories in static.items():
        names += [name] if categories is None else [f"{name}={category}" for category in categories]
    return tuple(names)
