r"""The text format of the Monash archive of forecasting data."""

from __future__ import annotations

__all__ = ["read_tsf"]

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import shown

#: The most lines that are read.
MOST_LINES = 10_000_000
STEPS = {"second": "s", "secondly": "s", "minute": "min", "minutely": "min", "half_hourly": "30min", "hour": "h"}
STEPS |= {"hourly": "h", "day": "D", "daily": "D", "week": "W", "weekly": "W", "month": "M", "monthly": "M"}
STEPS |= {"quarter": "Q", "quarterly": "Q", "year": "Y", "yearly": "Y"}
KEYS = ("relation", "attribute", "frequency", "horizon", "missing", "equallength", "data")


def read_tsf(name: str, text: str) -> tuple[list[dict[str, Any]] | dict[str, np.ndarray], str | None]:
    r"""Reads the Monash archive's format: a header of `@` lines, then a series a line, with its attributes first.

    References:
        | Monash Time Series Forecasting Archive (Godahewa et al., 2021)
        | https://arxiv.org/abs/2105.06643

    Arguments:
        name: The name of the file, for messages.
        text: Its content.

    Returns:
        gluonts entries (item_id, start, target with shape :math:`(T,)`, NaN for `?`), or a mapping of names to arrays
        :math:`(T,)` where the file has no dates; and the pandas alias of its frequency, None if it states none.

    Raises:
        ValueError: If the text is not of this format, or is not what its header says.

    Example:
        >>> read_tsf("one.tsf", "@attribute series_name string\n@frequency 10_minutes\n@data\nT1:1,?,3\n")
        ({'T1': array([ 1., nan,  3.])}, '10min')
    """
    if text.count("\n") > MOST_LINES:
        raise ValueError(
            f"{name} cannot be read as tsf: it has more than {MOST_LINES} lines; cut it into several files"
        )
    attributes: dict[str, str] = {}
    header: dict[str, str] = {}
    series: list[tuple[dict[str, str], np.ndarray]] = []

    def where(number: int) -> str:
        return f"{name} cannot be read as tsf: line {number}: "

    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            key, *words = line[1:].split() or [""]
            key = key.lower()
            if key not in KEYS or "data" in header:
                raise ValueError(where(number) + f"expected one of @{', @'.join(KEYS)}, @data last, got {line[:40]!r}")
            if key == "attribute":
                if len(words) != 2 or words[1] not in ("string", "numeric", "date"):
                    raise ValueError(
                        where(number) + f"expected @attribute NAME string, numeric or date, got {line[:60]!r}"
                    )
                attributes[words[0]] = words[1]
            else:
                header[key] = " ".join(words)
            continue
        if "data" not in header:
            raise ValueError(where(number) + f"expected @data before the series, got {line[:40]!r}")
        *told, values = line.split(":")
        if len(told) != len(attributes):
            raise ValueError(
                where(number)
                + f"expected {len(attributes)} attributes ({shown(', '.join(attributes))}), got {len(told)}"
            )
        if "_" in values or not values.isascii():  # float reads 1_0 as 10, and the digits of other scripts
            raise ValueError(where(number) + f"expected numbers or '?' with commas between them, got {shown(values)}")
        try:
            row = np.fromiter(
                (np.nan if value.strip() == "?" else float(value) for value in values.split(",")), dtype=np.float64
            )
        except ValueError as error:
            raise ValueError(
                where(number) + f"expected numbers or '?' with commas between them, {str(error)[:100]}"
            ) from error
        if header.get("missing", "").lower() == "false" and np.isnan(row).any():
            raise ValueError(where(number) + "a value is missing, and the header says @missing false")
        series.append((dict(zip(attributes, told, strict=True)), row))
    if not series:
        raise ValueError(f"{name} cannot be read as tsf: it holds no series after @data")
    if header.get("equallength", "").lower() == "true" and len({len(row) for _, row in series}) > 1:
        raise ValueError(f"{name} cannot be read as tsf: its header says @equallength true, and lengths differ")
    items = _names([told for told, _ in series], attributes)
    frequency = _frequency(name, header.get("frequency"))
    dates = [key for key, kind in attributes.items() if kind == "date"]
    if not dates:
        return {item: row for item, (_, row) in zip(items, series, strict=True)}, frequency
    return (
        [
            # 2024-01-31 00-00-00: colons part the attributes
            {"item_id": item, "start": re.sub(r" (\d\d)-(\d\d)-(\d\d)$", r" \1:\2:\3", told[dates[0]]), "target": row}
            for item, (told, row) in zip(items, series, strict=True)
        ],
        frequency,
    )


def _names(told: list[dict[str, str]], attributes: Mapping[str, str]) -> list[str]:
    r"""The names of the series: their series_name, or else all that is told of them but dates, if that is unique."""
    texts = [name for name, kind in attributes.items() if kind != "date"]
    for keys in (["series_name"] if "series_name" in texts else [], texts):
        names = [" ".join(entry[key] for key in keys) for entry in told]
        if len(set(names)) == len(told) and keys:
            return names
    return [str(number) for number in range(len(told))]


def _frequency(name: str, text: str | None) -> str | None:
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+)_)?(\w+)", text.lower())
    step = match and (STEPS.get(match[2]) or STEPS.get(match[2].removesuffix("s")))
    if not match or not step:
        raise ValueError(
            f"{name} cannot be read as tsf: expected a @frequency such as hourly, daily or 10_minutes, got "
            f"{shown(text)}"
        )
    return (match[1] or "") + step
