r"""Checks of options: each raises one error that says what is expected, what came, and what to pass."""

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
    "whole",
]

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .errors import shown, unknown

#: The longest context or prediction that is taken: more than any frozen model reads, and 15 years of hours.
LONGEST = 2**17
#: The most of anything counted, where no smaller bound makes sense.
MOST = 2**31 - 1


def integer(
    option: str, value: object, least: int = 1, most: int = MOST, *, none: bool = False, hint: str = ""
) -> None:
    r"""Checks a whole number.

    Arguments:
        option: Who expects which option, as the message begins: `"Adapter expects batch_size"`.
        value: What was given.
        least: The least that is taken.
        most: The most that is taken.
        none: Whether None is taken too.
        hint: What to do about a number that is too large; to pass a smaller one if empty.

    Raises:
        ValueError: If it is no such integer.
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
    r"""Checks a real number.

    Arguments:
        option: Who expects which option, as the message begins.
        value: What was given.
        kind: What is expected, in words: `"a number of 0 or more"`.
        fits: Whether a finite number is that.
        none: Whether None is taken too.

    Raises:
        ValueError: If it is no such number.
    """
    if value is None and none:
        return
    given = real(value)
    if not math.isfinite(given) or not fits(given):
        raise ValueError(f"{option} to be {kind}{' or None' if none else ''}, got {shown(value)}")


def flag(option: str, value: object, *, none: bool = False) -> None:
    r"""Checks a switch.

    Arguments:
        option: Who expects which option, as the message begins.
        value: What was given.
        none: Whether None is taken too.

    Raises:
        ValueError: If it is neither True nor False.
    """
    import numpy as np

    if not isinstance(value, bool | np.bool_) and not (none and value is None):
        kind = "True, False or None" if none else "True or False"
        raise ValueError(f"{option} to be {kind}, got {shown(value)}")


def choice(kind: str, value: object, known: Iterable[str]) -> None:
    r"""Checks a name of one of several.

    Arguments:
        kind: What it names, as in "copula".
        value: What was given.
        known: The names there are, in the order in which to list them.

    Raises:
        ValueError: If it is none of them; it suggests the nearest.
    """
    if not isinstance(value, str) or value not in known:
        raise ValueError(unknown(kind, value, known))


def seed(value: object) -> None:
    r"""Checks the seed of a random generator.

    Arguments:
        value: What was given.

    Raises:
        ValueError: If it is no integer of 32 bits without sign.
    """
    given = whole(value)
    if given is None or not 0 <= given < 2**32:
        raise ValueError(f"a seed is an integer from 0 to 4294967295, got {shown(value)}")


def levels(value: Any, option: str = "") -> list[float]:
    r"""Checks quantile levels, of which there is at least one.

    Arguments:
        value: What was given: a sequence or an array.
        option: The option's name, where the message needs one.

    Returns:
        The levels as Python's numbers.

    Raises:
        ValueError: If it is no sequence of numbers within (0, 1).
    """
    import numpy as np

    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    given = list(value) if several or (isinstance(value, np.ndarray) and value.ndim == 1) else []
    if not given or not all(0 < real(level) < 1 for level in given):
        raise ValueError(f"{option and f'{option}: '}levels lie within (0, 1), as 0.9 does; got {shown(value)}")
    return [float(level) for level in given]


def real(value: object) -> float:
    r"""Reads a real number.

    Arguments:
        value: What was given.

    Returns:
        It as Python's; NaN for anything else, for truths, and for integers beyond all floats.
    """
    import numpy as np

    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool | np.timedelta64):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def whole(value: object) -> int | None:
    r"""Reads a whole number.

    Arguments:
        value: What was given.

    Returns:
        It as Python's; None for anything else, truths and durations among them.
    """
    import numpy as np

    if not isinstance(value, int | np.integer) or isinstance(value, bool | np.timedelta64):
        return None
    return int(value)


def several(option: str, value: object) -> list[Any]:
    r"""Reads what may be one or several of something, in a sequence, an array of one axis or an index.

    Arguments:
        option: Who expects which option, as the message begins.
        value: What was given.

    Returns:
        The entries; text and what is no sequence alone.

    Raises:
        ValueError: If it is a set, a mapping or an array of another number of axes.
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
