r"""Location and scale of channels."""

from __future__ import annotations

__all__ = ["extent", "location_scale"]

import numpy as np

#: The least ratio of a covariate's variance to its mean square; below it, the covariate counts as constant.
ROUNDING = 1e-12


def location_scale(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the location and scale of columns.

    Arguments:
        rows: The rows, with shape :math:`(n, C)`. NaN marks a missing value.

    Returns:
        Means and population standard deviations, the latter at least 1e-9 of the absolute mean. A constant column has
        exactly its constant and the absolute value of it. A column without values, or of zeros only, has 0 and 1.

    Example:
        >>> location_scale(np.array([[1e-150, 0.1, 0.0], [3e-150, 0.1, 0.0]]))
        (array([2.e-150, 1.e-001, 0.e+000]), array([1.e-150, 1.e-001, 1.e+000]))
    """
    seen = ~np.isnan(rows)
    count = np.maximum(seen.sum(0), 1)
    location = np.where(seen, rows, 0.0).sum(0) / count
    deviation = np.where(seen, rows - location, 0.0)
    exponent = np.frexp(np.abs(deviation).max(0, initial=0.0))[1]  # squares neither underflow nor overflow
    scale = np.ldexp(np.sqrt((np.ldexp(deviation, -exponent) ** 2).sum(0) / count), exponent)
    low, high = extent(rows)
    location = np.where(low == high, low, location)
    scale = np.where(low == high, np.abs(location), np.maximum(scale, 1e-9 * np.abs(location)))
    return location, np.where(scale > 0, scale, 1.0)


def extent(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the smallest and the largest value of columns.

    Arguments:
        rows: The rows, with shape :math:`(n, C)`. NaN marks a missing value.

    Returns:
        Both, with shape :math:`(C,)`; infinity and minus infinity for a column without values.
    """
    seen = ~np.isnan(rows)
    low = np.where(seen, rows, np.inf).min(0, initial=np.inf)
    return low, np.where(seen, rows, -np.inf).max(0, initial=-np.inf)
