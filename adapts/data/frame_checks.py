r"""Checks of a frame: misread dates, columns that repeat the time, columns that separate several series."""

from __future__ import annotations

__all__ = [
    "first_step", "may_name_items", "names_items", "numbers_steps", "require_one_series", "require_no_time_columns",
    "require_proportion", "require_undated", "require_whole_dates", "require_years", "why_undated",
]  # fmt: skip

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..errors import few, shown
from .clocks import SERIAL, as_dates, as_steps, counts, fields_of, joined, of_parts, spells, suggested, transposed
from .columns import named, numeric, require_plain, strange
from .date_parsing import first_undated, out_of_range, parse_dates, times_of_day, two_digit_years, two_orders
from .frequency import RANGE
from .item import Item
from .options import ITEM_NAMES
from .regular_dates import STEPS_IN_GAPS, STEPS_PER_DATE, frequency_of, is_regular


def require_years(frame: pd.DataFrame) -> None:
    r"""Check that all dates lie in the years 2 to 9998: formatting others as text crashes pandas.

    Arguments:
        frame: The frame; its index and all of its columns are checked.

    Raises:
        ValueError: If a date lies outside of these years.
    """
    index = frame.index
    levels = index.levels if isinstance(index, pd.MultiIndex) else [index]
    columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
    everything: list[Any] = [*levels, *columns]
    for values in everything:
        entries = values.dtype.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
        if pd.api.types.is_datetime64_any_dtype(entries.dtype):
            dates = pd.DatetimeIndex(entries)
            years = np.asarray(dates.asi8).view(f"M8[{dates.unit}]").astype("M8[Y]")
        elif isinstance(entries.dtype, pd.PeriodDtype):
            periods = pd.PeriodIndex(entries)
            years = (np.asarray(periods.year)[~np.asarray(periods.isna())] - 1970).astype("M8[Y]")
        elif pd.api.types.is_object_dtype(entries.dtype):
            datetimes = [entry for entry in np.asarray(entries, dtype=object) if isinstance(entry, np.datetime64)]
            years = np.array([entry.astype("M8[Y]") for entry in datetimes], dtype="M8[Y]")
        else:
            continue
        number = years[~np.isnat(years)].astype(np.int64) + 1970
        if len(number) and not 2 <= number.min() <= number.max() <= 9998:
            name = "the index" if values.name is None else shown(values.name)
            raise ValueError(f"{name} holds dates outside of the years 2 to 9998: {RANGE}")


def why_undated(frame: pd.DataFrame, column: pd.Series[Any], source: str, name: str | None) -> str:
    r"""Explain why a column could not be read as dates, with code that reads it where some is known.

    Arguments:
        frame: The frame.
        column: The column, or the index as a series.
        source: What it is, as the message begins: `"column 'day'"`.
        name: The name of the column, None if it is the index.

    Returns:
        The error message.
    """
    row, entry = first_undated(column)
    where = f"(first: {shown(entry)} in row {row})"
    sideways = transposed(frame) if name is None else None
    if sideways is not None:
        return f"the columns {few(sideways[1])} are called by dates: {sideways[0]} has a row a date"
    orders = two_orders(column)
    if orders is not None:
        readings = " and ".join(
            f"{order} they are {f'of frequency {step!r}' if step else 'not regular'}, {dates[0]} to {dates[-1]}"
            for order, (dates, step) in orders.items()
        )
        return (
            f"{source} does not tell in which order day and month stand (first: {shown(str(column.iloc[0]))}): "
            f"read {readings}. pd.to_datetime(column, dayfirst=True) reads the day first, and "
            "pd.to_datetime(column, dayfirst=False) the month"
        )
    if two_digit_years(column):
        return (
            f"{source} holds years of two digits {where}, and its dates do not "
            "tell in which order day, month and year stand: write the years with four digits, as 2024-01-31"
        )
    if times_of_day(column) is not None:
        return (
            f"{source} could not be read as dates {where}, for it holds times of day without a day: put the date "
            "before them, or drop it if the rows are to be numbered"
        )
    unread = f"{source} could not be read as dates {where}"
    another = "or name another column with timestamp_column= (--timestamp-column)"
    found = suggested(column)
    if found is not None:
        code, dates = found
        counted = "if it numbers the rows, drop it, " if numbers_steps(column, serial=True) else ""
        return f"{unread}: {code} makes dates of it, from {dates[0]} on; {counted}{another}"
    if pd.api.types.is_numeric_dtype(column.dtype):
        return f"{unread}, for it holds numbers of no known unit: drop it if it numbers the rows, {another}"
    if out_of_range(entry):
        return f"{source} holds {shown(entry)} in row {row}: {RANGE}"
    entries = column.to_numpy(dtype=object)
    others = column[[other != column.iloc[row] for other in entries]]
    if 2 * len(others) >= len(column) and parse_dates(others) is not None:
        return f"{unread}, and the other rows could: correct that row or drop it"
    return f"{unread}: write them as 2024-01-31 or 2024-01-31 12:00, {another}"


def require_whole_dates(
    frame: pd.DataFrame,
    dates: pd.DatetimeIndex,
    column: str | None,
    codes: np.ndarray,
    *,
    requested: Sequence[str],
) -> None:
    r"""Check that no other column holds the times of day of repeated days.

    Arguments:
        frame: The frame.
        dates: The dates of the rows.
        column: The column of the dates, None if they are the index.
        codes: The code of each row's item.
        requested: The target and static columns that the options name; these are not searched.

    Raises:
        ValueError: If a column of times of day belongs to the dates.
    """
    if not pd.DataFrame({"item": codes, "date": dates}).duplicated().any():
        return
    names = [name for name in frame.columns if name != column and name not in requested]
    both = joined(frame, column, dates, names)
    if both is not None:
        raise ValueError(both)


def require_undated(
    frame: pd.DataFrame,
    item: str | None,
    codes: np.ndarray,
    *,
    requested: Sequence[str],
    covariates: Sequence[str],
    has_target: bool,
) -> None:
    r"""Check that no column of a frame read without dates holds dates, series names or shuffled row numbers.

    Arguments:
        frame: The frame.
        item: The column of the items, None if there is none.
        codes: The code of each row's item.
        requested: The target and static columns that the options name.
        covariates: The covariates that the caller names. These and the requested columns are not searched.
        has_target: Whether the caller named the columns to forecast.

    Raises:
        ValueError: If a column holds dates, names series, or numbers the rows in another order than theirs; or if the
            index of a frame without items does not count its rows.
    """
    free = [name for name in frame.columns if name != item and name not in (*requested, *covariates)]
    parts = of_parts(frame, free)
    if parts is not None:
        code, names = parts
        raise ValueError(
            f"columns {few(names)} spell out the dates of the rows: make one column of them, "
            f"frame['date'] = {code}, and drop them; if they are to be forecast, target=[...] (--columns) names "
            "them"
        )
    largest = codes == np.bincount(np.maximum(codes, 0)).argmax()
    for name in free:
        if strange(frame[name]) is not None:
            continue
        found = as_dates(frame[name])
        if found is None or found[1][largest].nunique() < 2:
            continue
        read, dates = found
        both = joined(frame, name, dates, [each for each in free if each != name])
        if both is not None:
            raise ValueError(both)
        raise ValueError(
            f"column {shown(name)} holds dates: "
            + (
                f"name it with timestamp_column= (--timestamp-column), timestamp_column={shown(name)}"
                if read is None
                else f"make them such, frame[{name!r}] = {read.replace('column', f'frame[{name!r}]')}, and name it "
                f"with timestamp_column={shown(name)}"
            )
            + "; if the rows are to be numbered instead, drop it"
        )
    sideways = transposed(frame) if not has_target and item is None else None
    if sideways is not None:
        code, names = sideways
        raise ValueError(
            f"the columns {few(names)} are called by dates, so that each row would be a step: {code} has a row "
            "a date; target=[...] (--columns) names these columns if they are the series"
        )
    if item is None:
        _require_row_numbers(frame)
    for name in free if has_target else ():  # without a target, the column is a channel, and text is refused as one
        if strange(frame[name]) is None and _are_blocks(frame[name], codes):
            keys = name if item is None else [item, name]
            raise ValueError(
                f"the rows have no dates, and column {shown(name)} has names of as many rows each: if these are "
                f"series, item_column={keys!r} (--item-column) says so; if not, drop it"
            )
    for name in free:
        numbers = as_steps(frame[name]) if strange(frame[name]) is None else None
        if numbers is None or not counts(numbers, codes, in_order=False):
            continue
        if not counts(numbers, codes, in_order=True):
            by = [*([item] if item is not None else []), name]
            raise ValueError(
                f"column {shown(name)} numbers the rows, and they do not lie in its order: "
                f"frame.sort_values({by}, ignore_index=True) sorts them; drop it if it means something else"
            )


def _require_row_numbers(frame: pd.DataFrame) -> None:
    r"""Check that the index of an undated frame counts its rows."""
    index = frame.index
    if not np.array_equal(np.asarray(index), np.asarray(index)[0] + np.arange(len(frame))):
        found = as_dates(index.to_series())
        if found is not None:
            code = str(suggested(index.to_series())[0]).replace("column", "frame.index")  # type: ignore[index]
            raise ValueError(
                f"the index holds dates as numbers (first: {few(index[:3])}): frame.set_axis({code}) makes them dates"
            )
        raise ValueError(
            f"the index holds neither dates nor row numbers without gaps (first: {few(index[:3])}): set a "
            "DatetimeIndex, name a column with timestamp_column= (--timestamp-column), or call "
            "reset_index(drop=True) if the rows are regular"
        )


def require_no_time_columns(
    frame: pd.DataFrame, dates: pd.DatetimeIndex | None, codes: np.ndarray, free: Sequence[str]
) -> None:
    r"""Check that no channel repeats the dates or numbers the rows, unless all channels do.

    Arguments:
        frame: The frame.
        dates: The dates of the rows, None if undated.
        codes: The code of each row's item.
        free: The channels that no option names.

    Raises:
        ValueError: If some of these channels, but not all, say what the dates or the row numbers say.
    """
    whole = [name for name in free if pd.api.types.is_integer_dtype(frame[name].dtype)]
    fields = {} if dates is None or not whole else fields_of(dates)
    repeats = [name for name in whole if fields and spells(frame[name], fields)]
    if repeats and len(repeats) < len(free):
        raise ValueError(
            f"{named('column', repeats)} what the dates say once more, and no series to forecast: drop "
            f"{'it' if len(repeats) == 1 else 'them'}, or name the columns to forecast with target=[...] (--columns)"
        )
    numbers_of = {name: as_steps(frame[name]) for name in whole}
    repeats = [
        name for name, numbers in numbers_of.items() if numbers is not None and counts(numbers, codes, in_order=True)
    ]
    if repeats and len(repeats) < len(free):
        steps = dates is None and numbers_steps(frame[repeats[0]])
        more = f"; timestamp_column={shown(repeats[0])} says that it numbers the steps" if steps else ""
        raise ValueError(
            f"{named('column', repeats)} no series to forecast but a number of each row: drop "
            f"{'it' if len(repeats) == 1 else 'them'}, or name the columns to forecast with target=[...] "
            f"(--columns){more}"
        )


def names_items(ids: pd.Series[Any], dates: pd.DatetimeIndex | None) -> bool:
    r"""Return whether a column with an item name identifies series, and is neither a channel nor a row number.

    Arguments:
        ids: The column; its name is among `ITEM_NAMES`.
        dates: The dates of the rows, None if undated.

    Returns:
        Whether it does; always for `item_id`. Otherwise entries or dates must repeat, and a column `id` must hold text
        or separate repeated dates.

    Raises:
        ValueError: If it holds objects other than text, numbers and dates.
    """
    require_plain(ids, f"column {shown(ids.name)}", "names of items")
    name, rows, count = str(ids.name).lower(), len(ids), ids.nunique()
    repeated = 0 if dates is None else int(dates.duplicated().sum())
    if name == "item_id":
        return True
    if not (count <= 1 or 2 * count <= rows or 2 * repeated >= rows):
        return False
    if name != "id":
        return True
    if dates is not None and repeated:
        return not pd.DataFrame({"item": ids.to_numpy(), "date": dates}).duplicated().any()
    return numeric(ids) is None


def require_one_series(
    frame: pd.DataFrame, dates: pd.DatetimeIndex, codes: np.ndarray, item: str | None, *, requested: Sequence[str]
) -> None:
    r"""Check that dates that repeat within items do not belong to further series that other columns identify.

    Arguments:
        frame: The frame without its column of dates.
        dates: The dates of the rows.
        codes: The code of each row's item.
        item: The column of the items, None if there is none.
        requested: The target and static columns that the options name; these identify no series.

    Raises:
        ValueError: If columns separate the rows of repeated dates into series.
    """
    rows, repeated = len(dates), _repeated(codes, dates)
    for name in frame.columns if repeated and item is None else ():
        if name.lower() in ITEM_NAMES and name not in requested:
            still_repeated = pd.DataFrame({"item": frame[name].to_numpy(), "date": dates}).duplicated().sum()
            if still_repeated < repeated and frame[name].nunique() < len(frame):  # a row number identifies no series
                raise ValueError(
                    f"{repeated} of the {rows} dates are repeated, and the rows may be several series "
                    f"told apart by column {shown(name)}: pass item_column={shown(name)} (--item-column {name})"
                )
    if 10 * repeated <= rows:  # a flag that separates the repeated hour of a clock change makes no series
        return
    keys = _identifying_columns(frame, dates, codes, item, requested)
    if not keys:
        return
    whole = keys if item is None else [item, *keys]
    given = shown(whole[0]) if len(whole) == 1 else f"[{', '.join(map(repr, whole))}]"
    typed = " ".join(f"--item-column {shown(name) if ' ' in name else name}" for name in whole)
    unless = (
        f"If not, drop {'it' if len(keys) == 1 else 'them'}: regularise=True does not average what "
        f"{' and '.join(map(shown, keys))} {'tells' if len(keys) == 1 else 'tell'} apart"
    )
    which = f"does column {shown(keys[0])}" if len(keys) == 1 else f"do columns {few(keys)} together"
    raise ValueError(
        f"{repeated} of the {rows} dates are repeated{'' if item is None else ' within items'}: {which} name the "
        f"series of each row{'' if item is None else f', beside {shown(item)}'}? item_column={given} "
        f"({typed}) says so. {unless}"
    )


def _identifying_columns(
    frame: pd.DataFrame, dates: pd.DatetimeIndex, codes: np.ndarray, item: str | None, requested: Sequence[str]
) -> list[str]:
    r"""Find the fewest columns that, together with the items, identify series whose dates hardly repeat."""
    pair_codes = {}
    for name in frame.columns:
        column = frame[name]
        if name == item or name in requested or strange(column) is not None:
            continue
        is_numeric = pd.api.types.is_numeric_dtype(column.dtype)
        column_codes = pd.factorize(column if is_numeric else column.map(str, na_action="ignore"))[0]
        if (column_codes >= 0).all() and 2 <= column_codes.max() + 1 <= len(column_codes) / 2:
            pair_codes[name] = _paired(codes, column_codes)
    sufficient = [name for name in pair_codes if _identify_series(pair_codes[name], codes, dates)]
    if sufficient:
        return [min(sufficient, key=lambda name: len(set(frame[name].map(str))))]
    floats = [name for name in pair_codes if pd.api.types.is_float_dtype(frame[name].dtype)]
    chosen: list[str] = []
    combined = codes
    while len(chosen) < 4 and (left := [name for name in pair_codes if name not in (*chosen, *floats)]):
        best = min(left, key=lambda name: _repeated(_paired(combined, pair_codes[name]), dates))
        if _repeated(_paired(combined, pair_codes[best]), dates) == _repeated(combined, dates):
            break
        combined = _paired(combined, pair_codes[best])
        chosen.append(best)
        if _identify_series(combined, codes, dates):
            return chosen
    return []


def _identify_series(finer: np.ndarray, codes: np.ndarray, dates: pd.DatetimeIndex) -> bool:
    r"""Return whether finer item codes leave at most a tenth of the repeated dates, and series with a frequency."""
    if 2 * (finer.max() + 1) > len(finer) or 10 * _repeated(finer, dates) > _repeated(codes, dates):
        return False
    largest = np.argsort(np.bincount(finer), kind="stable")[-8:]
    try:
        return all(frequency_of(dates[finer == code], None) for code in largest)
    except ValueError:
        return False


def may_name_items(column: pd.Series[Any], dates: pd.DatetimeIndex | None) -> bool:
    r"""Return whether the entries of a text column could name series.

    Arguments:
        column: The column.
        dates: The dates of the rows, None if undated.

    Returns:
        Whether each entry has two rows or more on average, and the rows of each look like one series: their dates have
        a frequency and hardly repeat; undated rows are contiguous or equally many.
    """
    if strange(column) is not None or times_of_day(column) is not None or as_dates(column) is not None:
        return False
    codes = pd.factorize(column.map(str, na_action="ignore"))[0]
    if (codes < 0).any() or 2 * (codes.max() + 1) > len(codes) + 1:
        return False
    sizes = np.bincount(codes)
    if dates is None:
        return bool((np.diff(codes) != 0).sum() + 1 == len(sizes) or (sizes == sizes[0]).all())
    if _repeated(codes, dates) > len(dates) // 10:
        return False
    largest = [dates[codes == code] for code in np.argsort(sizes)[-8:]]
    try:
        frequencies = [frequency_of(series_dates, None) for series_dates in largest]
    except ValueError:
        return False
    # Without repeated dates, the entries cut one sequence of rows into pieces: these are series only if without gaps.
    return dates.has_duplicates or all(map(is_regular, largest, frequencies))


def _are_blocks(column: pd.Series[Any], codes: np.ndarray) -> bool:
    r"""Return whether text cuts the rows of each item into parts of one length, two rows or more."""
    if pd.api.types.is_numeric_dtype(column.dtype) or column.isna().any():
        return False
    names = pd.factorize(column.map(str))[0]
    pairs = _paired(codes, names)
    sizes = np.bincount(pairs)
    return len(sizes) > codes.max() + 1 and sizes[0] > 1 and bool((sizes == sizes[0]).all())


def numbers_steps(column: pd.Series[Any], *, serial: bool = False) -> bool:
    r"""Return whether a column numbers steps.

    Arguments:
        column: The column.
        serial: Whether its numbers are to lie within the range of serial dates of spreadsheets, or outside of it.

    Returns:
        Whether its whole numbers count steps, and lie there.
    """
    numbers = as_steps(column)
    return numbers is not None and serial == (SERIAL[0] <= numbers.min() and numbers.max() < SERIAL[1])


def first_step(numbers: np.ndarray, column: str, whose: str) -> int:
    r"""Return the number of an item's first row, once each number is checked to follow the one before.

    Arguments:
        numbers: The numbers of the item's rows.
        column: The column that holds them.
        whose: The item, for the message: `" of item 'a'"`.

    Returns:
        The first number.

    Raises:
        ValueError: If a row does not have the number after that of the row before.
    """
    wrong = np.flatnonzero(np.diff(numbers) != 1)
    if len(wrong):
        row = int(wrong[0])
        is_permutation = len(np.unique(numbers)) == len(numbers) == numbers.max() - numbers.min() + 1
        raise ValueError(
            f"column {shown(column)} numbers the rows, and{whose} {numbers[row + 1]} comes after {numbers[row]} (row "
            f"{row + 1}): "
            + (
                f"sort them, frame.sort_values({column!r}, kind='stable')"
                if is_permutation
                else "each row has the number after that of the row before; drop the column if it means something else"
            )
        )
    return int(numbers[0])


def _paired(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    r"""Return the codes of the pairs of two codes."""
    pairs: np.ndarray = np.unique(codes * (others.max() + 1) + others, return_inverse=True)[1]
    return pairs


def _repeated(codes: np.ndarray, dates: pd.DatetimeIndex) -> int:
    r"""Count the rows whose item and date an earlier row has."""
    return int(pd.DataFrame({"item": codes, "date": dates}).duplicated().sum())


def require_proportion(items: Sequence[Item], rows: int) -> None:
    r"""Check that filled gaps do not make items far longer than the given rows.

    Arguments:
        items: The items read so far; the last one is named in the message.
        rows: The number of given rows.

    Raises:
        ValueError: If the items have more than `STEPS_PER_DATE` steps for each row and `STEPS_IN_GAPS` more.
    """
    steps = sum(map(len, items))
    if steps > STEPS_PER_DATE * rows + STEPS_IN_GAPS:
        raise ValueError(
            f"regularise=True makes {steps} rows or more of {rows}, most of them missing: correct stray dates, such as "
            f"{items[-1].index[0]} or {items[-1].index[-1]} of item {shown(items[-1].item_id)}, or give a longer "
            "frequency="
        )
