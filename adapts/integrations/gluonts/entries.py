r"""Validation and reading of the entries of gluonts datasets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from ...data.columns import as_array
from ...data.item import Categories
from ...errors import few, reading, shown

#: The fields of entries that hold past and known covariates, and static numbers and categories.
PAST, KNOWN = "past_feat_dynamic_real", "feat_dynamic_real"
REAL, CAT = "feat_static_real", "feat_static_cat"


def channel_names(dataset: Any, field: str) -> tuple[str, ...]:
    r"""Return the names of the rows of a field; only a PandasDataset, or a dataset split from one, has names."""
    for wrapped in ("test_data", "dataset"):
        dataset = getattr(dataset, wrapped, dataset)
    if field in (REAL, CAT):  # PandasDataset stores them in separate frames, one row per feature
        field = {REAL: "_static_reals", CAT: "_static_cats"}[field]
        return tuple(str(name) for name in getattr(getattr(dataset, field, None), "index", ()))
    names = getattr(dataset, field, None)
    names = [names] if isinstance(names, str) else names
    return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()


def numbered_names(field: str, count: int) -> tuple[str, ...]:
    r"""Return the default names of the rows of a field."""
    return tuple(str(number) if field == "target" else f"{field} {number}" for number in range(count))


def same_names(names: tuple[str, ...], others: tuple[str, ...], numbered: tuple[str, ...]) -> bool:
    r"""Return whether rows have the same names in the same order; default names match any."""
    return not names or names in (others, numbered) or others == numbered


def read_feature(
    number: int, entry: Mapping[str, Any], field: str, names: tuple[str, ...], steps: int, ahead: int
) -> np.ndarray:
    r"""Return the covariates in a field of an entry, at the steps of its target and those ahead, (C, T + H)."""
    expected = f"expected {len(names)} rows ({few(names)}) of {steps + ahead} steps or more"
    if ahead:
        expected += f", the {steps} of its target and the {ahead} ahead"
    if entry.get(field) is None:
        raise ValueError(f"entry {number} has no {field}: {expected}")
    values = np.atleast_2d(as_array(entry[field]))
    if values.ndim != 2 or len(values) != len(names) or values.shape[1] < steps + ahead:
        raise ValueError(f"entry {number} has {field} of shape {values.shape}: {expected}")
    values = values[:, : steps + ahead]
    require_finite(number, field, names, values)
    missing = np.isnan(values[:, steps:]).sum(1)
    if missing.any():
        row = int(missing.argmax())
        raise ValueError(
            f"entry {number} lacks {missing[row]} of the {ahead} steps ahead of {names[row]!r} (row {row} of {field}): "
            "known covariates need a value at each"
        )
    return values


def dated_entry(number: int, entry: Mapping[str, Any], freq: str | None) -> dict[str, Any]:
    r"""Return an entry with a Period as its start and an array as its target, as in gluonts' own datasets."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected gluonts entries with 'target' and 'start'; entry {number} is {shown(entry)}")
    if not {"start", "target"} <= entry.keys():
        raise ValueError(f"expected gluonts entries with 'target' and 'start'; entry {number} has {few(entry)}")
    start, target = entry["start"], np.atleast_1d(as_array(entry["target"]))
    if isinstance(start, pd.Period):
        if freq is not None and start.freq != to_offset(freq):
            raise ValueError(f"entry {number} has periods of {start.freqstr!r}, not of freq={freq!r}: leave freq out")
        return {**entry, "target": target}
    if freq is None:
        raise ValueError(
            f"entry {number} starts at {shown(start)}, no Period: read it with gluonts' FileDataset or "
            "ListDataset, or pass freq="
        )
    with reading(f"the start {shown(start)} of entry {number} is no period of freq={freq!r}", "write it as 2024-01-31"):
        period = pd.Period(start, to_offset(freq))  # type: ignore[arg-type]
    return {**entry, "start": period, "target": target}


def static_values(number: int, entry: Mapping[str, Any], field: str, names: Sequence[str]) -> np.ndarray:
    r"""Return the static features in a field of an entry, (S,)."""
    values = np.zeros(0) if entry.get(field) is None else np.atleast_1d(as_array(entry[field]))
    if values.shape != (len(names),):
        raise ValueError(f"entry {number} has {field} of shape {values.shape}, expected ({len(names)},): {few(names)}")
    if field == REAL:
        require_finite(number, field, names, values[:, None])
    for name, value in zip(names, values, strict=True):
        if field == CAT and not (np.isnan(value) or value >= -1 and float(value).is_integer()):
            raise ValueError(
                f"entry {number} has {value:g} in {field} for {name!r}: expected the code of a category, a whole "
                "number from 0, or -1 for none"
            )
    return values


def require_finite(number: int, field: str, names: Sequence[str], values: np.ndarray) -> None:
    r"""Check that rows (C, T) of an entry hold no infinite values."""
    rows, steps = np.nonzero(np.isinf(values))
    if len(rows):
        name = names[rows[0]] if rows[0] < len(names) else str(rows[0])
        raise ValueError(
            f"entry {number} has an infinite value of {name!r} (row {rows[0]} of {field}), first at step {steps[0]}: a "
            "missing value is NaN"
        )


def static_fields(static: Mapping[str, Categories | None]) -> dict[str, tuple[str, ...]]:
    r"""Return the names of the static columns of entries, by field."""
    numbers = tuple(name for name, categories in static.items() if categories is None)
    kinds = tuple(name for name in static if name not in numbers)
    return {field: names for field, names in ((REAL, numbers), (CAT, kinds)) if names}


def static_kinds(number: int, entry: Mapping[str, Any], static: Mapping[str, Categories | None]) -> list[float]:
    r"""Return the static columns of an entry: numbers, and one indicator per category."""
    values: dict[str, float] = {}
    for field, names in static_fields(static).items():
        values |= dict(zip(names, static_values(number, entry, field, names), strict=True))
    row: list[float] = []
    for name, categories in static.items():
        if categories is None:
            row.append(values[name])
        else:  # categories are codes if an estimator fitted them; else codes are their positions
            codes = [each if isinstance(each, int) else position for position, each in enumerate(categories)]
            row += [float(values[name] == code) for code in codes]
    return row


def require_frequency(freq: object) -> None:
    r"""Check the frequency of entries whose start is no Period."""
    if freq is None:
        return
    with reading(f"expected freq to be a pandas alias of a frequency, got {shown(freq)}", "pass one, such as 'h'"):
        to_offset(freq)  # type: ignore[call-overload]
