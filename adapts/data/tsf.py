r"""Reader of the text format of the Monash time series forecasting archive."""

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
    r"""Read the Monash archive's format: a header of `@` lines, then one series a line, after its attributes.

    References:
        | Monash Time Series Forecasting Archive (Godahewa et al., 2021)
        | https://arxiv.org/abs/2105.06643

    Arguments:
        name: The name of the file, for messages.
        text: Its content.

    Returns:
        gluonts entries (item_id, start, target with shape :math:`(T,)`, NaN for `?`), or a mapping of names to arrays
        :math:`(T,)` if the file has no dates; and the pandas alias of its frequency, None if it states none.

    Raises:
        ValueError: If the text does not have this format, or contradicts its header.

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

    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        where = f"{name} cannot be read as tsf: line {number}: "
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            _read_header_line(where, line, header, attributes)
            continue
        if "data" not in header:
            raise ValueError(where + f"expected @data before the series, got {line[:40]!r}")
        series.append(_read_series_line(where, line, header, attributes))
    if not series:
        raise ValueError(f"{name} cannot be read as tsf: it holds no series after @data")
    if header.get("equallength", "").lower() == "true" and len({len(row) for _, row in series}) > 1:
        raise ValueError(f"{name} cannot be read as tsf: its header says @equallength true, and lengths differ")
    items = _names([values for values, _ in series], attributes)
    frequency = _frequency(name, header.get("frequency"))
    dates = [key for key, kind in attributes.items() if kind == "date"]
    if not dates:
        return {item: row for item, (_, row) in zip(items, series, strict=True)}, frequency
    return (
        [
            # Times are written 00-00-00, because colons separate the attributes.
            {"item_id": item, "start": re.sub(r" (\d\d)-(\d\d)-(\d\d)$", r" \1:\2:\3", values[dates[0]]), "target": row}
            for item, (values, row) in zip(items, series, strict=True)
        ],
        frequency,
    )


def _read_header_line(where: str, line: str, header: dict[str, str], attributes: dict[str, str]) -> None:
    r"""Read an `@` line into the header or the attributes; `where` begins the message of errors."""
    key, *words = line[1:].split() or [""]
    key = key.lower()
    if key not in KEYS or "data" in header:
        raise ValueError(where + f"expected one of @{', @'.join(KEYS)}, @data last, got {line[:40]!r}")
    if key == "attribute":
        if len(words) != 2 or words[1] not in ("string", "numeric", "date"):
            raise ValueError(where + f"expected @attribute NAME string, numeric or date, got {line[:60]!r}")
        attributes[words[0]] = words[1]
    else:
        header[key] = " ".join(words)


def _read_series_line(
    where: str, line: str, header: Mapping[str, str], attributes: Mapping[str, str]
) -> tuple[dict[str, str], np.ndarray]:
    r"""Return the attributes and the values, (T,), of a series; `where` begins the message of errors."""
    *given, values = line.split(":")
    if len(given) != len(attributes):
        raise ValueError(
            where + f"expected {len(attributes)} attributes ({shown(', '.join(attributes))}), got {len(given)}"
        )
    if "_" in values or not values.isascii():  # float reads 1_0 as 10, and the digits of other scripts
        raise ValueError(where + f"expected numbers or '?' with commas between them, got {shown(values)}")
    try:
        row = np.fromiter(
            (np.nan if value.strip() == "?" else float(value) for value in values.split(",")), dtype=np.float64
        )
    except ValueError as error:
        raise ValueError(where + f"expected numbers or '?' with commas between them, {str(error)[:100]}") from error
    if header.get("missing", "").lower() == "false" and np.isnan(row).any():
        raise ValueError(where + "a value is missing, and the header says @missing false")
    return dict(zip(attributes, given, strict=True)), row


def _names(values: list[dict[str, str]], attributes: Mapping[str, str]) -> list[str]:
    r"""Return the names of the series: series_name, or else all attributes but dates, or else numbers; unique."""
    texts = [name for name, kind in attributes.items() if kind != "date"]
    for keys in (["series_name"] if "series_name" in texts else [], texts):
        names = [" ".join(entry[key] for key in keys) for entry in values]
        if len(set(names)) == len(values) and keys:
            return names
    return [str(number) for number in range(len(values))]


def _frequency(name: str, text: str | None) -> str | None:
    r"""Return the pandas alias of a `@frequency` such as 10_minutes; None if there is none."""
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
