r"""Validation of options: each error states what is expected, what was passed, and what to pass instead."""

from __future__ import annotations

__all__ = [
    "LONGEST",
    "MOST",
    "choice",
    "flag",
    "integer",
    "levels",
    "number",
    "pair",
    "real",
    "seed",
    "several",
    "time_limit",
    "whole",
]

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .errors import shown, unknown

#: The maximum context or prediction length: more than any frozen model reads, 15 years of hourly data.
LONGEST = 2**17
#: The maximum of any count without a smaller natural bound.
MOST = 2**31 - 1


def integer(
    option: str, value: object, least: int = 1, most: int = MOST, *, none: bool = False, hint: str = ""
) -> None:
    r"""Check an integer.

    Arguments:
        option: The beginning of the message: owner and option, such as `"Adapter expects batch_size"`.
        value: The value.
        least: The minimum.
        most: The maximum.
        none: Whether None is allowed.
        hint: The advice for a value that is too large; if empty, to pass a smaller one.

    Raises:
        ValueError: If it is not such an integer.
    """
    if value is None and none:
        return
    given = whole(value)
    if given is None or given < least:
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{option} to be {kind}{' or None' if none else ''}, got {shown(value)}")
    if given > most:
        raise ValueError(f"{option} to be at most {most}, got {shown(value)}: {hint or f'pass {most} or less'}")


def number(option: str, value: object, kind: str, fits: Callable[[float], bool], *, none: bool = False) -> None:
    r"""Check a real number.

    Arguments:
        option: The beginning of the message: owner and option.
        value: The value.
        kind: The expected value in words: `"a number of 0 or more"`.
        fits: A function that returns whether a finite number is valid.
        none: Whether None is allowed.

    Raises:
        ValueError: If it is not such a number.
    """
    if value is None and none:
        return
    given = real(value)
    if not math.isfinite(given) or not fits(given):
        raise ValueError(f"{option} to be {kind}{' or None' if none else ''}, got {shown(value)}")


def flag(option: str, value: object, *, none: bool = False) -> None:
    r"""Check a boolean.

    Arguments:
        option: The beginning of the message: owner and option.
        value: The value.
        none: Whether None is allowed.

    Raises:
        ValueError: If it is neither True nor False.
    """
    import numpy as np

    if not isinstance(value, bool | np.bool_) and not (none and value is None):
        kind = "True, False or None" if none else "True or False"
        raise ValueError(f"{option} to be {kind}, got {shown(value)}")


def time_limit(seconds: object) -> None:
    r"""Check the limit of the time that a fit may take.

    Arguments:
        seconds: The limit in seconds; none if None.

    Raises:
        ValueError: If it is not a positive number.
    """
    number("expected time_limit", seconds, "a positive number of seconds", lambda value: value > 0, none=True)


def choice(kind: str, value: object, known: Iterable[str]) -> None:
    r"""Check that a value is one of the known names.

    Arguments:
        kind: The kind of object, such as "copula".
        value: The value.
        known: The known names, in the order in which to list them.

    Raises:
        ValueError: If it is none of them; the message suggests the closest.
    """
    if not isinstance(value, str) or value not in known:
        raise ValueError(unknown(kind, value, known))


def seed(value: object) -> None:
    r"""Check the seed of a random generator.

    Arguments:
        value: The value.

    Raises:
        ValueError: If it is not an unsigned 32-bit integer.
    """
    given = whole(value)
    if given is None or not 0 <= given < 2**32:
        raise ValueError(f"a seed is an integer from 0 to 4294967295, got {shown(value)}")


def levels(value: Any, option: str = "") -> list[float]:
    r"""Check quantile levels, at least one.

    Arguments:
        value: The value: a sequence or an array.
        option: The option's name, if the message needs one.

    Returns:
        The levels as Python floats.

    Raises:
        ValueError: If it is not a sequence of numbers within (0, 1).
    """
    import numpy as np

    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    given = list(value) if several or (isinstance(value, np.ndarray) and value.ndim == 1) else []
    if not given or not all(0 < real(level) < 1 for level in given):
        raise ValueError(f"{option and f'{option}: '}levels lie within (0, 1), as 0.9 does; got {shown(value)}")
    return [float(level) for level in given]


def real(value: object) -> float:
    r"""Convert a real number to a float.

    Arguments:
        value: The value.

    Returns:
        The float; NaN for anything else, including booleans, and for integers beyond the range of floats.
    """
    import numpy as np

    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool | np.timedelta64):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def whole(value: object) -> int | None:
    r"""Convert an integer to Python's type.

    Arguments:
        value: The value.

    Returns:
        The integer; None for anything else, including booleans and durations.
    """
    import numpy as np

    if not isinstance(value, int | np.integer) or isinstance(value, bool | np.timedelta64):
        return None
    return int(value)


def several(option: str, value: object) -> list[Any]:
    r"""Convert one value, or a sequence, one-dimensional array or index of values, to a list.

    Arguments:
        option: The beginning of the message: owner and option.
        value: The value.

    Returns:
        The entries; text and other single values give a list of one.

    Raises:
        ValueError: If it is a set, a mapping or an array with another number of dimensions.
    """
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    if isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1:
        return list(value)
    raise ValueError(f"{option} to be one or a list of several, got {shown(value)}: pass a list")


def pair(value: Any) -> tuple[Any, Any] | None:
    r"""Read the two members of a tuple, a list or an array of one axis.

    Arguments:
        value: What was given.

    Returns:
        Both; None of anything else.
    """
    import numpy as np

    several = isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim == 1)
    return (value[0], value[1]) if several and len(value) == 2 else None
