r"""Fractions of rows for the chronological splits."""

from __future__ import annotations

__all__ = ["FRACTIONS", "SPLITS", "read_fractions", "require_divisible"]

from collections.abc import Sequence
from typing import Any

from . import checks
from .errors import shown

#: The splits in order of time; "confirmation" is the selection split.
SPLITS = ("train", "validation", "calibration", "confirmation")
#: The default fractions of rows for these splits.
FRACTIONS = (0.7, 0.1, 0.1, 0.1)


def read_fractions(option: str, value: Any) -> tuple[float, ...]:
    r"""Check the fractions of rows for the four splits.

    Arguments:
        option: The beginning of the message: owner and option.
        value: The value: a tuple, a list or an array of one axis.

    Returns:
        The fractions as Python floats.

    Raises:
        ValueError: If it is not four numbers of 0 or more that sum to one, the first above 0.
    """
    import numpy as np

    several = isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim == 1)
    given = tuple(checks.real(fraction) for fraction in value) if several else ()
    in_range = len(given) == len(SPLITS) and all(0 <= fraction <= 1 for fraction in given) and given[0] > 0
    if not in_range or not abs(sum(given) - 1) < 1e-9:
        total = f", which sum to {sum(given):g}" if in_range else ""
        raise ValueError(
            f"{option} to be {len(SPLITS)} fractions of rows ({', '.join(SPLITS)}) that sum to 1, train above 0 and "
            f"the others 0 or more, such as {FRACTIONS}, got {shown(value)}{total}"
        )
    return given


def require_divisible(fractions: Sequence[float], borders: tuple[int, int] | None) -> None:
    r"""Check that there is a split for the validation rows that borders state.

    Arguments:
        fractions: The fractions of the four splits.
        borders: The rows where the train and the validation rows end; None without borders.

    Raises:
        ValueError: If there are borders and the last three fractions are 0.
    """
    if borders is not None and not any(fractions[1:]):
        raise ValueError(
            f"the borders (train end, validation end) = {shown(tuple(borders))} state validation rows, which splits "
            f"divides among {', '.join(SPLITS[1:])}, got splits={shown(tuple(fractions))}: make one of the last three "
            "positive"
        )
