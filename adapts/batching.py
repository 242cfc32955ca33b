r"""Which entries of a long axis to compute at once, and which to take if all are too many."""

from __future__ import annotations

__all__ = ["evenly_spaced", "slices"]

from collections.abc import Iterator

import numpy as np


def slices(count: int, numbers_each: int, most: int) -> Iterator[slice]:
    r"""Split an axis into slices whose temporary arrays fit a budget.

    Arguments:
        count: The number of entries.
        numbers_each: How many numbers the temporary arrays hold per entry.
        most: The budget: how many numbers they may hold together. A slice has at least one entry.

    Returns:
        The slices, in order.

    Example:
        >>> list(slices(5, numbers_each=10, most=20))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    step = max(1, most // max(1, numbers_each))
    return (slice(start, start + step) for start in range(0, count, step))


def evenly_spaced(count: int, most: int) -> np.ndarray:
    r"""Return evenly spaced indices, the first and the last among them.

    Arguments:
        count: The number of entries.
        most: The maximum number of indices.

    Returns:
        The indices, ascending: all of them if there are at most `most` entries.

    Example:
        >>> evenly_spaced(10, most=4)
        array([0, 3, 6, 9])
    """
    return np.linspace(0, count - 1, max(0, min(count, most))).round().astype(int)
