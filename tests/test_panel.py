r"""Every kind of input becomes the same panel, and comes out of it as it came."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from adapts.copulas.independent import Independent
from adapts.data.frequency import period_at
from adapts.data.item import Item
from adapts.data.panel import Panel, require_length
from adapts.distribution.joint import JointDistribution
from adapts.distribution.quantile_function import QuantileFunction
from adapts.forecast.forecast import Forecast


def frame(rows: int = 48, frequency: str = "h", start: str = "2024-01-01", **options: Any) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(rows, 2))
    values[3:4, 1] = np.nan
    return pd.DataFrame(values, index=pd.date_range(start, periods=rows, freq=frequency, **options), columns=["a", "b"])


def long(*frames: pd.DataFrame, item_column: str = "item_id", timestamp: str = "timestamp") -> pd.DataFrame:
    parts = [f.rename_axis(timestamp).reset_index().assign(**{item_column: f"item{n}"}) for n, f in enumerate(frames)]
    return pd.concat(parts, ignore_index=True)


# ------------------------------------------------------------------------------------------------- what comes in

ORDERS: dict[str, Callable[[np.ndarray], Any]] = {
    "Fortran": np.asfortranarray,
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards twice": lambda x: x[::-1].copy()[::-1],
    "tensor, transposed": lambda x: torch.from_numpy(x.T.copy()).T,
    "stack": lambda x: np.asfortranarray(x[None]),
    "list": lambda x: [np.asfortranarray(x)],
    "frame": pd.DataFrame,
    "frame, channels moved": lambda x: pd.DataFrame(x[:, ::-1], columns=["1", "0"])[["0", "1"]],
    "polars": lambda x: pl.from_numpy(x, ["0", "1"]),
    "gluonts": lambda x: [{"start": pd.Period("2024-01-01", "h"), "target": x.T}],
}


@pytest.mark.parametrize("order", ORDERS)
def test_rows_lie_in_one_order_in_memory(order: str) -> None:
    values = np.random.default_rng(0).normal(size=(48, 2))
    panel = Panel.of(ORDERS[order](values))
    for same in (
        panel,
        panel.select(["1", "0"]).select(["0", "1"]),
        panel.rows(40),
        panel.standardised(*np.eye(2) + 1),
    ):
        assert all(item.values.flags.c_contiguous for item in same.items)
        assert same.concatenated[0].flags.c_contiguous
    assert np.array_equal(panel.items[0].values, values)


WIDE: dict[str, Callable[[pd.DataFrame], Any]] = {
    "index": lambda f: f,
    "timestamp column": lambda f: f.rename_axis("timestamp").reset_index(),
    "Date column of text": lambda f: f.rename_axis("Date").reset_index().astype({"Date": str}),
    "ds column of date-times": lambda f: f.rename_axis("ds").reset_index(),
    "a column of date-times by another name": lambda f: f.rename_axis("when").reset_index(),
    "index of text": lambda f: f.set_axis(f.index.astype(str)),
    "periods": lambda f: f.set_axis(f.index.to_period("h")),
    "long, one item": lambda f: long(f),
    "long, indexed": lambda f: long(f).set_index(["item_id", "timestamp"]),
    "nullable floats": lambda f: f.astype("Float64"),
    "objects": lambda f: f.astype(object),
    "seconds": lambda f: f.set_axis(f.index.as_unit("s")),
    "a panel": Panel.of,
}


@pytest.mark.parametrize("form", WIDE)
def test_forms_of_one_dated_series_are_one_panel(form: str) -> None:
    wide = frame()
    panel = Panel.of(WIDE[form](wide))
    assert panel.channels == ("a", "b") and panel.frequency == "h" and panel.single
    assert np.array_equal(panel.items[0].values, wide.to_numpy(), equal_nan=True)
    assert (panel.items[0].index == wide.index).all()
    assert panel.future_index(panel.items[0], 3).tolist() == list(pd.date_range("2024-01-03", periods=3, freq="h"))


ARRAYS: dict[str, tuple[Callable[[np.ndarray], Any], bool]] = {
    "array": (lambda x: x, True),
    "tensor": (torch.from_numpy, True),
    "nested lists": (lambda x: x.tolist(), True),
    "frame": (pd.DataFrame, True),
    "array with an item axis": (lambda x: x[None], False),
    "list of arrays": (lambda x: [x], False),
    "list of tensors": (lambda x: [torch.from_numpy(x)], False),
}


@pytest.mark.parametrize("form", ARRAYS)
def test_forms_of_one_undated_series_are_one_panel(form: str) -> None:
    values = frame().to_numpy()
    make, single = ARRAYS[form]
    panel = Panel.of(make(values))
    assert panel.channels == ("0", "1") and panel.frequency is None and panel.single == single
    assert np.array_equal(panel.items[0].values, values, equal_nan=True)
    assert panel.future_index(panel.items[0], 2).equals(pd.RangeIndex(48, 50))


def test_a_number_and_a_text_that_would_name_the_same_item_are_refused() -> None:
    with pytest.raises(ValueError, match="column 'item_id' holds the item '1' as text, and as a number"):
        Panel.of(pd.DataFrame({"item_id": [1, "1", 2], "a": [1.0, 2.0, 3.0]}))
    panel = Panel.of(pd.DataFrame({"item_id": [1, "2", 1], "a": [1.0, 2.0, 3.0]}))
    assert [item.item_id for item in panel.items] == ["1", "2"] and panel.lengths == (2, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_tensors_of_any_type_are_read(dtype: torch.dtype) -> None:
    assert Panel.of(torch.ones(4, 2, dtype=dtype)).items[0].values.tolist() == [[1.0, 1.0]] * 4


def test_masked_entries_are_missing() -> None:
    masked = np.ma.masked_array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])
    assert np.array_equal(Panel.of(masked).items[0].values, [[1, np.nan], [3, 4]], equal_nan=True)


def test_a_vector_and_a_series_have_one_channel() -> None:
    assert Panel.of(np.arange(5.0)).items[0].values.shape == (5, 1)
    assert Panel.of(frame()["b"]).channels == ("b",)
    assert Panel.of(pd.Series([1.0, 2.0])).channels == ("0",)
    assert Panel.of([np.arange(5.0), np.arange(3.0)]).lengths == (5, 3)


def test_items_keep_their_order_lengths_and_names() -> None:
    frames = [frame(48), frame(30, start="2023-12-31"), frame(1)]
    panel = Panel.of(long(*frames).sample(frac=1, random_state=0).sort_values("timestamp", kind="stable"))
    assert {item.item_id for item in panel.items} == {"item0", "item1", "item2"} and not panel.single
    for item in panel.items:
        assert np.array_equal(item.values, frames[int(item.item_id[-1])].to_numpy(), equal_nan=True)
    panel = Panel.of(frames[:2])
    assert [item.item_id for item in panel.items] == ["0", "1"] and panel.lengths == (48, 30)
    panel = Panel.of(long(*frames, item_column="unique_id", timestamp="ds"), item_column="unique_id")
    assert [item.item_id for item in panel.items] == ["item0", "item1", "item2"]


def test_a_gluonts_dataset_is_read() -> None:
    wide = frame()
    entry = {"target": wide.to_numpy().T, "start": pd.Period("2024-01-01", freq="h"), "item_id": "x"}
    panel = Panel.of(iter([entry]))
    assert panel.items[0].item_id == "x" and panel.frequency == "h" and not panel.single
    assert np.array_equal(panel.items[0].values, wide.to_numpy(), equal_nan=True)
    assert (Panel.of([{**entry, "start": "2024-01-01"}], frequency="h").items[0].index == wide.index).all()
    with pytest.raises(ValueError, match="give frequency="):
        Panel.of([{**entry, "start": "2024-01-01"}])


SEVERAL = ["2M", "3M", "4M", "6M", "12M", "18M", "24M", "2Q", "2Q-NOV", "4Q", "2Y", "5Y-JUN", "2W-TUE"]


@pytest.mark.parametrize("frequency", ["W", "W-TUE", "M", "Q", "Q-NOV", "Y", "Y-JUN", "D", "h", "15min", *SEVERAL])
def test_periods_go_on_where_they_end(frequency: str) -> None:
    start = pd.Period("2024-01-10", freq=frequency)
    series = pd.Series(np.arange(20.0), index=pd.period_range(start, periods=20, freq=frequency))
    for panel in (Panel.of([{"target": np.arange(20.0), "start": start}]), Panel.of(series)):
        future = panel.future_index(panel.items[0], 3)
        expected = pd.period_range(start, periods=23, freq=frequency)[20:]
        for date, period in zip(future, expected, strict=True):
            found = period_at(date, panel.frequency)
            assert (found.start_time, found.end_time) == (period.start_time, period.end_time)


@pytest.mark.parametrize("frequency", SEVERAL)
@pytest.mark.parametrize("month", pd.date_range("2000-01-01", periods=12, freq="MS").strftime("%Y-%m"))
def test_several_months_go_to_gluonts_and_back_as_these_months(frequency: str, month: str) -> None:
    start = pd.Period(month, freq=frequency)
    wide = pd.DataFrame({"a": np.arange(12.0)}, pd.period_range(start, periods=12, freq=frequency))
    for panel in (Panel.of([{"start": start, "target": np.arange(12.0)}]), Panel.of(wide)):
        (entry,) = panel.to_gluonts()
        for there in (entry, Panel.of([entry]).to_gluonts()[0]):
            for step in range(12):
                found, period = there["start"] + step, start + step
                assert (found.start_time, found.end_time) == (period.start_time, period.end_time)
        calendars = frequency[-1] in "MQY"
        day = start.start_time if calendars else pd.Period(start.start_time, freq=frequency[1:]).end_time
        assert panel.items[0].index[0] == day.normalize()


@pytest.mark.parametrize("frequency", ["B", "2B"])
def test_periods_of_business_days_bring_no_warnings(frequency: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = pd.Period("2024-01-10", freq=frequency)
        wide = pd.DataFrame({"a": np.arange(20.0)}, pd.period_range(start, periods=20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        panels = Panel.of([{"start": start, "target": np.arange(20.0)}]), Panel.of(wide, frequency=frequency)
        periods = [panel.to_gluonts()[0]["start"] for panel in panels]
        expected = pd.date_range("2024-01-10", periods=20, freq=frequency)
        assert all((panel.items[0].index == expected).all() for panel in panels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert periods == [start, start]


def test_target_picks_and_orders_columns_and_the_others_may_be_anything() -> None:
    wide = frame().assign(city="Jena")
    assert Panel.of(wide, target=["b", "a"]).channels == ("b", "a")
    assert np.array_equal(Panel.of(wide, target="a").items[0].values[:, 0], wide["a"])
    assert Panel.of(Panel.of(frame()), target="b").channels == ("b",)
    assert Panel.of(np.zeros((4, 3)), target=["2"]).channels == ("2",)


def test_the_panel_keeps_no_hold_of_the_callers_numbers() -> None:
    values = np.zeros((4, 2))
    wide = pd.DataFrame(values.copy())
    panels = Panel.of(values), Panel.of(wide)
    values[:], wide.iloc[:, :] = 1, 1
    assert all((panel.items[0].values == 0).all() for panel in panels)


def test_an_undated_frame_goes_on_counting() -> None:
    wide = frame().reset_index(drop=True)
    panel = Panel.of(wide.iloc[10:])
    assert panel.future_index(panel.items[0], 2).tolist() == [48, 49]


# ------------------------------------------------------------------------------------------------- what comes out


def test_standardised_is_affine_and_rows_are_the_first() -> None:
    panel = Panel.of([frame(48), frame(30)])
    location, scale = np.array([1.0, 2.0]), np.array([2.0, 4.0])
    back = panel.standardised(location, scale).standardised(-location / scale, 1 / scale)
    for old, new in zip(panel.items, back.items, strict=True):
        np.testing.assert_allclose(new.values, old.values, atol=1e-14)
    assert panel.rows(20).lengths == (20, 20) and panel.rows([5, 40]).lengths == (5, 30)
    assert panel.rows(20).items[0].index.equals(panel.items[0].index[:20])


def test_channels_of_the_fit_are_asked_for() -> None:
    panel = Panel.of(frame())
    assert panel.require_channels(("a", "b")) is panel
    assert np.array_equal(
        panel.require_channels(["b", "a"]).items[0].values, frame()[["b", "a"]].to_numpy(), equal_nan=True
    )
    with pytest.raises(ValueError, match=r"the 3 channels of the fit \(a, b, c\), got 2; missing: c"):
        panel.require_channels(["a", "b", "c"])
    with pytest.raises(ValueError, match=r"channels of the fit \(a\), got 2; not fitted: b; target="):
        panel.require_channels(["a"])


def test_a_channel_must_be_seen_in_some_item() -> None:
    seen, unseen = frame(), frame().assign(b=np.nan)
    Panel.of([seen, unseen]).require_observed()
    with pytest.raises(ValueError, match="column 'b' is NaN throughout: drop it"):
        Panel.of(unseen).require_observed()


def test_a_series_must_be_long_enough() -> None:
    require_length(Panel.of(frame(48)), 48, "anything")
    with pytest.raises(ValueError, match="the series has 48 steps, at least 72 are needed for prediction_length=24"):
        require_length(Panel.of(frame(48)), 72, "prediction_length=24")
    with pytest.raises(ValueError, match="item 'item1' has 10 steps"):
        require_length(Panel.of(long(frame(48), frame(10))), 20, "anything")


# ------------------------------------------------------------------------------------------ which column names items


def two(item_column: str, timestamp: str = "timestamp", **options: Any) -> pd.DataFrame:
    return long(frame(**options), frame(30, **options), item_column=item_column, timestamp=timestamp)


ITEMS: dict[str, tuple[pd.DataFrame, tuple[int, ...]]] = {
    "item_id": (two("item_id"), (48, 30)),
    "Nixtla": (two("unique_id", "ds").rename(columns={"a": "y"}), (48, 30)),
    "Nixtla, indexed": (two("unique_id", "ds").set_index("unique_id"), (48, 30)),
    "Chronos": (two("id"), (48, 30)),
    "Darts": (two("series_id", "time"), (48, 30)),
    "any case": (two("Unique_ID", "Date"), (48, 30)),
    "numbers": (two("id").assign(id=[7] * 48 + [8] * 30), (48, 30)),
    "categories": (two("id").astype({"id": "category"}), (48, 30)),
    "rows mixed": (two("id").sort_values("timestamp", kind="stable"), (48, 30)),
    "one item": (frame().assign(unique_id="x"), (48,)),
    "one item, numbered": (frame().assign(unique_id=3), (48,)),
    "one item by the name of id": (frame().assign(id="x"), (48,)),
    "one row an item": (long(*[frame(1)] * 5, item_column="unique_id"), (1,) * 5),
    "items one after another": (
        pd.concat([frame().assign(id="x"), frame(start="2025-01-01").assign(id="y")]),
        (48, 48),
    ),
    "without dates": (two("unique_id").drop(columns="timestamp"), (48, 30)),
    "indexed by item and date": (two("shop", "day").set_index(["shop", "day"]), (48, 30)),
    "indexed by date and item, unnamed": (
        two("shop", "day").set_index(["day", "shop"]).rename_axis([None, None]),
        (48, 30),
    ),
}


@pytest.mark.parametrize("case", ITEMS)
def test_the_column_that_names_items_is_recognised(case: str) -> None:
    rows, lengths = ITEMS[case]
    frequency = "h" if "one row" in case else None
    panel = Panel.of(rows, frequency=frequency)
    assert panel.lengths == lengths and panel.num_channels == 2 and panel.single == (len(lengths) == 1)
    for item, length in zip(panel.items, lengths, strict=True):
        assert np.array_equal(item.values, frame(length).to_numpy(), equal_nan=True)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("unit", ["ns", "us", "s"])
def test_dates_that_arrow_backs(zone: str | None, unit: str) -> None:
    pytest.importorskip("pyarrow")
    wide = frame().tz_localize(zone).rename_axis("ds")
    wide.index = wide.index.as_unit(unit)
    rows = wide.reset_index().convert_dtypes(dtype_backend="pyarrow")
    assert isinstance(rows["ds"].dtype, pd.ArrowDtype)
    both = pd.concat([rows.assign(shop="x"), rows.assign(shop="y")])
    for given in (
        rows,
        rows.set_index("ds"),
        rows.rename(columns={"ds": "when"}),
        both.rename(columns={"shop": "unique_id"}),
        both.set_index(["shop", "ds"]),
    ):
        for item in Panel.of(given).items:
            assert isinstance(item.index, pd.DatetimeIndex) and item.index.dtype == wide.index.dtype
            assert (item.index == wide.index).all() and np.array_equal(item.values, wide.to_numpy(), equal_nan=True)
    rows.loc[3, "ds"] = None
    with pytest.raises(ValueError, match="column 'ds' has 1 rows without a date, the first is row 3"):
        Panel.of(rows)


def test_an_item_column_that_is_given_wins() -> None:
    rows = two("shop").assign(unique_id=0.5, id=np.arange(78.0))
    panel = Panel.of(rows, item_column="shop")
    assert panel.channels == ("a", "b", "unique_id", "id") and [i.item_id for i in panel.items] == ["item0", "item1"]
    both = two("item_id").assign(id=[7] * 48 + [8] * 30)
    assert [item.item_id for item in Panel.of(both, item_column="id", target=["a"]).items] == ["7", "8"]
    assert Panel.of(both, item_column="item_id").channels == ("a", "b", "id")


@pytest.mark.parametrize("regularise", [False, True])
@pytest.mark.parametrize("names", [(1, 2), (0.5, 7.0), ("north", "south"), (True, False)])
@pytest.mark.parametrize("options", [{}, {"target": ["a", "b"]}, {"target": "a", "frequency": "h"}])
def test_series_that_another_column_tells_apart_are_not_averaged(
    regularise: bool, names: tuple[Any, Any], options: dict[str, Any]
) -> None:
    rows = two("shop").assign(shop=[names[0]] * 48 + [names[1]] * 30, promo=np.arange(78) % 2)
    some = rows.drop(index=[5, 60])
    for given in (rows, some, pd.concat([some, some[-1:]])):  # gaps, and a row that came twice
        with pytest.raises(
            ValueError, match=r"[23]\d of the 7\d dates are repeated: does column 'shop' name the series"
        ) as e:
            Panel.of(given, regularise=regularise, **options)
        assert "item_column='shop' (--item-column shop)" in str(e.value) and "\n" not in str(e.value)
        assert Panel.of(given, regularise=True, item_column="shop", **options).lengths == (48, 30)


def test_repeated_dates_that_no_column_tells_apart_are_averaged_as_before() -> None:
    revised = frame().rename_axis("date").reset_index().assign(count=np.arange(48) * 7 % 10)
    both = pd.concat([revised, revised.assign(a=revised.a + 1.0, count=np.arange(48) * 3 % 10)])
    assert Panel.of(both, regularise=True).lengths == (48,)
    with pytest.raises(ValueError, match=r"48 repeated .*regularise=True \(--regularise\) would"):
        Panel.of(both)
    shops = two("shop").assign(shop=[1] * 48 + [2] * 30)
    assert Panel.of(shops, target=["a", "shop"], regularise=True).channels == ("a", "shop")  # it is said to be one
    clocks = frame(300, start="2024-10-20").tz_localize("UTC").tz_convert("Europe/Berlin").tz_localize(None)
    clocks["summer"] = np.arange(300) < 171
    assert Panel.of(clocks, regularise=True).lengths == (299,)


def test_an_index_by_the_name_of_id_that_counts_rows_names_no_items() -> None:
    numbered = frame().rename_axis("date").reset_index().rename_axis("id")
    assert Panel.of(numbered).channels == ("a", "b") and Panel.of(numbered).lengths == (48,)


def test_a_number_by_the_name_of_an_item_column_may_be_a_channel() -> None:
    numbered = frame().assign(id=np.arange(48.0))
    assert Panel.of(numbered).channels == ("a", "b", "id")
    again = pd.concat([numbered, numbered[-1:]])
    assert Panel.of(again, regularise=True).lengths == (48,)  # the same row twice
    for rows in (again, pd.concat([numbered, numbered[-1:].assign(id=48.0)])):
        with pytest.raises(ValueError, match="1 repeated .*regularise=True"):
            Panel.of(rows)
    other = pd.concat([numbered, numbered[-1:].assign(id=0.0)])
    assert Panel.of(other, target=["a", "id"], regularise=True).lengths == (48,)


# ----------------------------------------------------------------------------------------- frames of other libraries


def test_columns_of_polars_keep_their_bits_dates_and_missing_values() -> None:
    dates = pd.date_range("2024-03-30 20:00", periods=4, freq="h")
    columns: dict[str, Any] = {
        "float": [0.1, None, float("nan"), 1e150],
        "integer": [2**53, None, -3, 4],
        "small": pl.Series([1, 2, 3, 4], dtype=pl.UInt8),
        "single": pl.Series([0.1, 0.2, None, 0.4], dtype=pl.Float32),
        "boolean": [True, None, False, True],
        "decimal": [Decimal("1.5"), None, Decimal("-2.25"), Decimal("0.125")],
    }
    for zone in (None, "Europe/Berlin"):
        when = pl.Series(dates).dt.cast_time_unit("us").dt.replace_time_zone("UTC" if zone else None)
        table = pl.DataFrame({"when": when.dt.convert_time_zone(zone) if zone else when, **columns})
        panel = Panel.of(table)
        expected = [[0.1, 2**53, 1, np.float32(0.1), 1, 1.5], [np.nan, np.nan, 2, np.float32(0.2), np.nan, np.nan],
                    [np.nan, -3, 3, np.nan, 0, -2.25], [1e150, 4, 4, np.float32(0.4), 1, 0.125]]  # fmt: skip
        assert panel.channels == tuple(columns) and np.array_equal(panel.items[0].values, expected, equal_nan=True)
        index = panel.items[0].index
        assert index.name == "when" and index.unit == "us" and str(index.tz) == str(zone)
        assert (index == (dates.tz_localize("UTC").tz_convert(zone) if zone else dates)).all()


def test_days_names_and_series_of_polars() -> None:
    days = pl.DataFrame({"unique_id": [3, 3, 4, 4], "ds": pl.Series(["2024-01-01", "2024-01-02"] * 2).str.to_date()})
    panel = Panel.of(days.with_columns(y=pl.Series([1.0, 2.0, 3.0, None])))
    assert panel.frequency == "D" and [i.item_id for i in panel.items] == ["3", "4"] and panel.channels == ("y",)
    assert Panel.of(pl.Series([1.0, None])).channels == ("0",) and Panel.of(pl.Series("x", [1])).channels == ("x",)
    table = pl.from_pandas(frame().rename_axis("date").reset_index())
    assert Panel.of([table, table[:20]]).lengths == (48, 20)
    assert Panel.of(table.lazy(), target="b").channels == ("b",)


def test_arrow_tables_bring_the_index_that_pandas_left_in_them() -> None:
    pa = pytest.importorskip("pyarrow")
    wide = frame().tz_localize("Europe/Berlin").rename_axis("when")
    for table in (
        pa.Table.from_pandas(wide),
        pa.RecordBatch.from_pandas(wide),
        pa.Table.from_pandas(wide.reset_index()),
    ):
        pd.testing.assert_frame_equal(Panel.of(table).to_pandas(), wide, check_freq=False)
    assert Panel.of(pa.array([1, None])).channels == ("0",)


# ------------------------------------------------------------------------------------------------ there and back

WIDES: dict[str, pd.DataFrame] = {
    "plain": frame(),
    "named index": frame().rename_axis("when"),
    "time zone": frame().tz_localize("America/New_York").rename_axis("when"),
    "over summer time": frame(400, start="2024-03-20").tz_localize("UTC").tz_convert("Europe/Berlin"),
    "seconds": frame().set_axis(frame().index.as_unit("s").rename("x")),
    "microseconds in a time zone": frame().set_axis(frame().index.tz_localize("UTC").as_unit("us")),
    "months": frame(frequency="ME"),
    "weeks": frame(frequency="2W-TUE"),
    "undated": frame().reset_index(drop=True),
    "undated, from 7 on": frame().reset_index(drop=True).set_axis(pd.RangeIndex(7, 55)),
    "one channel": frame()[["b"]],
}


@pytest.mark.parametrize("case", WIDES)
def test_a_wide_frame_goes_out_as_it_came(case: str) -> None:
    wide = WIDES[case]
    panel = Panel.of(wide)
    pd.testing.assert_frame_equal(panel.to_pandas(), wide, check_exact=True, check_freq=True)
    again = Panel.of(panel.to_pandas(long=True))
    assert again.frequency == panel.frequency and again.channels == panel.channels
    assert np.array_equal(again.items[0].values, panel.items[0].values, equal_nan=True)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize(("item", "timestamp"), [("item_id", "timestamp"), ("unique_id", "ds"), ("id", "date")])
def test_a_long_frame_goes_out_as_it_came(item: str, timestamp: str, zone: str | None) -> None:
    rows = two(item, timestamp, start="2024-03-30")
    rows[timestamp] = rows[timestamp].dt.as_unit("ms").dt.tz_localize("UTC").dt.tz_convert(zone)
    rows = rows[[item, timestamp, "b", "a"]]
    panel = Panel.of(rows)
    pd.testing.assert_frame_equal(panel.to_pandas(), rows, check_exact=True)
    mixed = rows.sample(frac=1, random_state=0).sort_values(timestamp, kind="stable")
    pd.testing.assert_frame_equal(
        Panel.of(mixed).to_pandas().sort_values([item, timestamp], ignore_index=True), rows, check_exact=True
    )
    undated = rows.drop(columns=timestamp)
    back = Panel.of(undated, item_column=item).to_pandas()
    pd.testing.assert_frame_equal(back, undated, check_exact=True)


def test_what_is_not_float64_comes_out_as_float64() -> None:
    numbers = frame().assign(i=np.arange(48) // 2, f=np.arange(48, dtype=np.float32) / 3, t=True)
    pd.testing.assert_frame_equal(Panel.of(numbers).to_pandas(), numbers.astype(np.float64))


def test_arrays_and_lists_go_out_as_they_came() -> None:
    values = np.random.default_rng(0).normal(size=(3, 5, 2))
    back = Panel.of(values).to_pandas()
    assert back.columns.tolist() == ["item_id", "0", "1"]
    assert np.array_equal(back[["0", "1"]].to_numpy().reshape(3, 5, 2), values)
    with pytest.raises(ValueError, match=r"a wide frame holds one item, the panel has 3: to_pandas\(long=True\)"):
        Panel.of(values).to_pandas(long=False)
    panel = Panel.of(frame(5))
    out = panel.to_pandas()
    out.loc[:, :] = 0.0
    assert not (panel.items[0].values == 0).any()


@pytest.mark.parametrize(
    "frequency", ["s", "15min", "h", "6h", "D", "B", "W-SUN", "W-TUE", "M", "2M", "Q-DEC", "Q-NOV", "Y-DEC", "Y-JUN"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_gluonts_entries_go_out_as_they_came(frequency: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    starts = [pd.Period("2024-01-10", freq=frequency) + n for n in (0, 5, 9)]
    targets = [rng.normal(size=(channels, n) if channels > 1 else n) for n in (50, 1, 7)]
    entries = [
        {"start": start, "target": target, "item_id": f"item {n}"}
        for n, (start, target) in enumerate(zip(starts, targets, strict=True))
    ]
    panel = Panel.of(entries)
    for old, new in zip(entries, panel.to_gluonts(), strict=True):
        assert new["start"] == old["start"] and new["start"].freq == old["start"].freq
        assert new["item_id"] == old["item_id"] and np.array_equal(new["target"], old["target"])


def test_gluonts_takes_what_goes_out() -> None:
    from gluonts.dataset.common import ListDataset
    from gluonts.dataset.pandas import PandasDataset

    panel = Panel.of(two("item_id"))
    for one_dim, some in ((False, panel), (True, panel.select(["a"]))):
        dataset = ListDataset(some.to_gluonts(), freq="h", one_dim_target=one_dim)
        assert [entry["target"].shape[-1] for entry in dataset] == [48, 30]
        back = Panel.of(dataset)
        assert [item.item_id for item in back.items] == ["item0", "item1"] and back.frequency == "h"
        assert np.array_equal(back.items[0].values, some.items[0].values.astype(np.float32), equal_nan=True)
    dataset = PandasDataset.from_long_dataframe(
        two("item_id").set_index("timestamp"), item_id="item_id", target=["a", "b"]
    )
    back = Panel.of(dataset)
    assert back.channels == ("a", "b") and np.array_equal(back.items[0].values, frame().to_numpy(), equal_nan=True)
    assert Panel.of(PandasDataset(frame()[["a"]], target="a")).channels == ("a",)


@pytest.mark.parametrize("name", ["QS", "QE", "BQS", "BQE", "YS", "YE", "BYS", "BYE"])
@pytest.mark.parametrize("month", pd.date_range("2024-01-01", periods=12, freq="MS").strftime("%b").str.upper())
def test_quarters_and_years_of_any_month_go_to_gluonts_and_back(name: str, month: str) -> None:
    dates = pd.date_range("1990-01-01", periods=24, freq=f"{name}-{month}")
    series = pd.DataFrame({"a": np.arange(24.0)}, dates)
    for frequency in (f"{name}-{month}", None):
        entries = Panel.of(series, frequency=frequency).to_gluonts()
        period = entries[0]["start"]
        assert period.freqstr[0] == name.removeprefix("B")[0]
        for step, date in enumerate(dates):
            first, last = (period + step).start_time, (period + step).end_time
            assert first <= date <= last
            assert name[0] == "B" or date == (first if name[1] == "S" else last.normalize())
        back = Panel.of(entries).to_gluonts()[0]
        assert back["start"].start_time == period.start_time  # QE-JAN and QE-OCT are the same quarters
        assert (back["start"] + 23).start_time == (period + 23).start_time
        assert np.array_equal(back["target"], np.arange(24.0))


def test_what_is_made_by_hand_is_checked() -> None:
    item = Item("a", np.zeros((3, 2)), pd.RangeIndex(3))
    for values, index in (
        (np.zeros(3), item.index),
        (np.zeros((3, 2), int), item.index),
        (item.values, item.index[:2]),
    ):
        with pytest.raises(ValueError, match="float64 array|index of as many entries"):
            Item("a", values, index)
    with pytest.raises(ValueError, match="one item at least, each with the 3 channels"):
        Panel((item,), ("a", "b", "c"), None, single=True)
    panel = Panel((item,), ("a", "b"), None, single=True)
    for stop in (0, -1, 1.5, "2", [1, 2], [], np.timedelta64(2, "h")):
        with pytest.raises(ValueError, match="expected stop to be a positive number of rows"):
            panel.rows(stop)


def test_text_in_a_list_is_read_where_it_is_a_number() -> None:
    assert np.array_equal(Panel.of([1, None, "NaN", "-2.5e3"]).items[0].values[:, 0], [1, np.nan, np.nan, -2500], True)
    for odd in ("1_0", "\u0663", "0x10", "ten", ""):
        with pytest.raises(ValueError, match="write numbers, None where one is missing"):
            Panel.of([[1.0, 2.0], [odd, 3.0]])
        with pytest.raises(ValueError, match="write numbers, None where one is missing"):
            Panel.of([{"start": pd.Period("2020-01-01", "D"), "target": [1.0, odd]}])


def test_a_list_has_time_zones_throughout_or_nowhere() -> None:
    naive, aware = frame(), frame().tz_localize("Europe/Berlin")
    with pytest.raises(ValueError, match="got Europe/Berlin in entry 1 and none in entry 0: frame.tz_localize"):
        Panel.of([naive, aware, aware])
    with pytest.raises(ValueError, match="got Europe/Berlin in entry 0 and none in entry 2: frame.tz_localize"):
        Panel.of([aware, aware, naive])
    assert len(Panel.of([aware, frame().tz_localize("UTC")])) == 2
    assert len(Panel.of([np.zeros(5), np.zeros(7)])) == 2


def test_series_that_no_periods_stand_for_do_not_go_to_gluonts() -> None:
    with pytest.raises(ValueError, match="item '0' has no dates: give it a DatetimeIndex"):
        Panel.of(np.zeros((4, 2))).to_gluonts()
    with pytest.raises(ValueError, match="pandas has none of 'SME-15'"):
        Panel.of(frame(frequency="SME"), frequency="SME").to_gluonts()
    berlin = frame(start="2024-03-30").tz_localize("UTC").tz_convert("Europe/Berlin")
    with pytest.raises(
        ValueError, match=r"the clocks change within item '0': convert its dates with tz_convert\('UTC'\)"
    ):
        Panel.of(berlin).to_gluonts()
    winter = frame().tz_localize("Europe/Berlin")
    assert Panel.of(winter).to_gluonts()[0]["start"] == pd.Period("2024-01-01 00:00", "h")


def test_a_forecast_over_a_change_of_the_clocks_does_not_go_to_gluonts() -> None:
    def forecast(start: str, frequency: str) -> Forecast:
        dates = pd.date_range(start, periods=6, freq=frequency, tz="Europe/Berlin")
        law = JointDistribution(
            QuantileFunction((0.1, 0.5, 0.9), torch.arange(18.0).reshape(1, 6, 1, 3)), Independent(6, 1)
        )
        return Forecast("a", dates, ("x",), frequency, law)

    with pytest.raises(
        ValueError,
        match=r"the clocks change within the forecast of item 'a': convert its dates with tz_convert\('UTC'\)",
    ):
        forecast("2024-03-31 00:00", "h").to_gluonts()
    assert forecast("2024-03-31 03:00", "h").to_gluonts().start_date == pd.Period("2024-03-31 03:00", "h")
    assert forecast("2024-03-29", "D").to_gluonts().start_date == pd.Period("2024-03-29", "D")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["1", "2", "n/a", "4", "5"], r"some entries that are none \(first: 'n/a' in row 3\)"),
        (["1", "x", "y", "z", "5"], r"holds object \(first: 'x' in row 2\)"),
        ([1, "x", 2.0, 3, 4], r"some entries that are none \(first: 'x' in row 2\)"),
        (
            ["1", "1,234", "-1,234,567.8", "4", "5"],
            r"separators of thousands \(first: '1,234' in row 2\): take them out",
        ),
        (["1", "1 234", "4", "5'678", "5"], r"separators of thousands \(first: '1 234' in row 2\): take them out"),
        (["1", "-", "4", "1,5", "1,234"], r"a decimal comma \(first: '1,5' in row 4\): write a point"),
        (["1", "2", "1.234,5", "4", "5"], r"a decimal comma \(first: '1.234,5' in row 3\): write a point"),
        (["1%", "2.5 %", "3%", "4%", "5%"], r"holds percents \(first: '1%' in row 1\): take the sign off"),
    ],
)
@pytest.mark.parametrize("kind", [object, "string"])
def test_a_column_that_is_not_numeric_says_what_it_holds_and_where(written: list[Any], message: str, kind: Any) -> None:
    if kind == "string" and not all(isinstance(entry, str) for entry in written):
        return
    wide = frame(6).assign(a=pd.array([None, *written], dtype=kind))
    with pytest.raises(ValueError, match=message.replace("object", str(wide["a"].dtype))) as caught:
        Panel.of(wide)
    assert "\n" not in str(caught.value)


def test_the_remedies_of_written_numbers_make_them_numbers() -> None:
    thousands = pd.Series(["1,234", "1 234", "1'234"]).str.replace(r"[, ']", "", regex=True)
    assert pd.to_numeric(thousands).tolist() == [1234] * 3
    commas = pd.Series(["1.234,5", "1234,5"]).str.replace(".", "").str.replace(",", ".")
    assert pd.to_numeric(commas).tolist() == [1234.5] * 2
    assert pd.to_numeric(pd.Series(["5%", "5 %"]).str.rstrip("% ")).tolist() == [5, 5]


# ----------------------------------------------------------------------------- what tells the time, or series apart


def noise(rows: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=rows)


MONTHS = pd.date_range("2010-01-01", periods=48, freq="MS")
NAMED_BY_DATES = {
    "text": (MONTHS.strftime("%Y-%m"), MONTHS),
    "years": (1950 + np.arange(48), pd.date_range("1950-01-01", periods=48, freq="YS")),
    "months in numbers": (MONTHS.strftime("%Y%m").astype(int), MONTHS),
    "days in numbers": (
        pd.date_range("2024-01-01", periods=48).strftime("%Y%m%d").astype(int),
        pd.date_range("2024-01-01", periods=48),
    ),
    "epochs": (
        pd.date_range("2024-03-01", periods=48, freq="h").asi8 // 10**9,
        pd.date_range("2024-03-01", periods=48, freq="h"),
    ),
    "quarters": (
        [f"{day.year}-Q{day.quarter}" for day in pd.date_range("2001-01-01", periods=48, freq="QS")],
        pd.date_range("2001-01-01", periods=48, freq="QS"),
    ),
}


@pytest.mark.parametrize("options", [{}, {"target": "y"}, {"item_column": "shop", "target": ["y"]}])
@pytest.mark.parametrize("case", NAMED_BY_DATES)
def test_dates_by_a_name_that_is_not_known_are_asked_about_whatever_the_options(
    case: str, options: dict[str, Any]
) -> None:
    held, dates = NAMED_BY_DATES[case]
    rows = pd.DataFrame({"begun": held, "y": noise(48)})
    if "item_column" in options:
        rows = pd.concat([rows.assign(shop="x"), rows.assign(shop="z")])
    with pytest.raises(ValueError, match="column 'begun' holds dates: name it with timestamp_column="):
        Panel.of(rows, **options)
    panel = Panel.of(rows, timestamp_column="begun", **options)
    assert panel.channels == ("y",) and all((item.index == dates).all() for item in panel.items)


WRITTEN = {
    "quarter first": [f"Q{day.quarter}/{day.year}" for day in MONTHS[::3]],
    "months with M": MONTHS.strftime("%YM%m"),
    "month and year": MONTHS.strftime("%m.%Y"),
    "month by name": MONTHS.strftime("%b-%y"),
    "weeks": pd.date_range("2024-01-01", periods=20, freq="W-MON").strftime("%G-W%V"),
    "day of the year": pd.date_range("2024-01-01", periods=20).strftime("%Y-%j"),
    "days of a spreadsheet": 45000 + np.arange(20),
    "hours of a spreadsheet": 45000 + np.arange(24) / 24,
    "milliseconds that are floats": pd.date_range("2024-03-01", periods=24, freq="h").asi8 / 10**6,
}


@pytest.mark.parametrize("case", WRITTEN)
def test_the_remedy_of_dates_that_are_not_read_reads_them(case: str) -> None:
    frame = pd.DataFrame({"date": WRITTEN[case], "y": noise(len(WRITTEN[case]))})
    with pytest.raises(
        ValueError, match="column 'date' could not be read as dates .*: .* makes dates of it, from"
    ) as e:
        Panel.of(frame)
    code = str(e.value).partition("): ")[2].partition(" makes dates of it")[0]
    frame["date"] = eval(code, {"pd": pd, "column": frame["date"]})
    panel = Panel.of(frame)
    first = {"days of a spreadsheet": "2023-03-15", "hours of a spreadsheet": "2023-03-15"}.get(case)
    months = "2010-01-01" if "month" in case or "quarter" in case else "2024-01-01"
    if case.startswith("milli"):
        months = "2024-03-01"
    assert panel.items[0].index[0] == pd.Timestamp(first or months) and panel.frequency is not None


def test_whole_numbers_under_the_name_of_dates_number_the_steps() -> None:
    rows = pd.DataFrame({"unique_id": np.repeat(["a", "b"], 30), "ds": np.r_[5:35, 7:37], "y": noise(60)})
    for given, options in ((rows, {}), (rows.rename(columns={"ds": "week"}), {"timestamp_column": "week"})):
        panel = Panel.of(given, **options)
        assert panel.frequency is None and panel.channels == ("y",)
        assert panel.future_index(panel.items[1], 2).tolist() == [37, 38]
        again = Panel.of(panel.to_pandas())
        assert all(a.index.equals(b.index) for a, b in zip(again.items, panel.items, strict=True))
    mixed = rows.sample(frac=1, random_state=0)
    with pytest.raises(
        ValueError, match=r"column 'ds' numbers the rows, and of item .*sort_values\('ds', kind='stable'"
    ):
        Panel.of(mixed)
    assert Panel.of(mixed.sort_values("ds", kind="stable")).lengths == (30, 30)
    with pytest.raises(ValueError, match="column 'step' numbers the rows, and they do not lie in its order") as e:
        Panel.of(mixed.rename(columns={"ds": "step"}), target="y")
    assert "frame.sort_values(['unique_id', 'step'], ignore_index=True)" in str(e.value)
    ordered = mixed.rename(columns={"ds": "step"}).sort_values(["unique_id", "step"], ignore_index=True)
    assert np.array_equal(Panel.of(ordered, target="y").items[0].values[:, 0], rows["y"][:30])


def test_numbers_of_rows_and_parts_of_dates_are_no_channels_unless_they_are_named() -> None:
    hours = pd.date_range("2024-03-01", periods=100, freq="h", name="date")
    plain = pd.DataFrame({"pm": noise(100)}, index=hours)
    for name, column in {
        "Unnamed: 0": np.arange(100),
        "No": 1 + np.arange(100),
        "hour": hours.hour,
        "weekday": hours.dayofweek + 1,
        "year": hours.year,
        "stamp": hours.asi8 // 10**9,
    }.items():
        with pytest.raises(ValueError, match=rf"column '{name}' is .*target=\[...\] \(--columns\)"):
            Panel.of(plain.assign(**{name: column}))
        assert Panel.of(plain.assign(**{name: column}), target=["pm", name]).channels == ("pm", name)
        assert Panel.of(plain.assign(**{name: column}), target="pm").channels == ("pm",)
        whole = plain.assign(**{name: np.asarray(column, np.float64)})
        assert Panel.of(whole).channels == ("pm", name)  # what to_pandas writes is read back
    assert Panel.of(pd.DataFrame({"a": np.arange(100)}, index=hours)).channels == ("a",)


@pytest.mark.parametrize("names", [("year", "month", "day", "hour"), ("Year", "Month"), ("year", "quarter")])
def test_columns_that_spell_out_the_dates_are_made_dates(names: tuple[str, ...]) -> None:
    frequency = {"hour": "h", "Month": "MS", "quarter": "QS"}[names[-1]]
    dates = pd.date_range("2023-01-01", periods=60, freq=frequency)
    frame = pd.DataFrame({name: getattr(dates, name.lower()) for name in names}).assign(pm=noise(60))
    with pytest.raises(ValueError, match=f"columns {', '.join(names)} spell out the dates") as e:
        Panel.of(frame)
    code = str(e.value).partition("frame['date'] = ")[2].partition(", and drop them")[0]
    frame["date"] = eval(code, {"pd": pd, "frame": frame})
    assert (Panel.of(frame.drop(columns=[*names])).items[0].index == dates).all()


def test_numbers_that_look_like_dates_are_read_back_as_numbers() -> None:
    days = 20240101.0 + np.arange(31)
    for values in (np.stack([days, noise(31)], axis=1), np.stack([days, noise(31)], axis=1)[None].repeat(2, 0)):
        panel = Panel.of(values)
        again = Panel.of(panel.to_pandas())
        assert again.channels == ("0", "1") and again.frequency is None
        assert all(np.array_equal(a.values, b.values) for a, b in zip(again.items, panel.items, strict=True))


@pytest.mark.parametrize(
    ("days", "times"),
    [
        ("%d.%m.%Y", "%H.%M.%S"),
        ("%d/%m/%Y", "%H:%M"),
        ("%m/%d/%Y", "%I:%M %p"),
        ("%Y-%m-%d", "time"),
        (None, "time"),
        (None, "hour"),
        (None, "duration"),
        ("%d.%m.%Y", "hour"),
        ("%Y-%m-%d", "hour as float"),
        ("%Y%m%d", "%H%M"),
    ],
)
@pytest.mark.parametrize("name", ["Date", "Datum"])
@pytest.mark.parametrize("options", [{}, {"target": "y", "regularise": True}])
def test_dates_and_times_of_day_in_two_columns_are_joined(
    days: str | None, times: str, name: str, options: dict[str, Any]
) -> None:
    hours = pd.date_range("2024-03-01", periods=240, freq="h")
    special = {"time": hours.time, "hour": hours.hour, "hour as float": hours.hour * 1.0, "duration": None}
    clock = special.get(times, hours.strftime(times))
    clock = hours - hours.normalize() if clock is None else clock
    dates = hours.normalize() if days is None else hours.strftime(days)
    called = "Hour" if "hour" in times else "time" if times == "%H%M" else "Zeit"
    frame = pd.DataFrame({name: dates, called: clock, "y": noise(240)})
    both = re.escape(f"columns '{name}' and '{frame.columns[1]}' hold the date and the time of day")
    for more in ({}, {"timestamp_column": name}):
        with pytest.raises(ValueError, match=both) as e:
            Panel.of(frame, **options, **more)
    if called == "Zeit" and times != "duration":
        with pytest.raises(ValueError, match="times of day name no items"):
            Panel.of(frame, timestamp_column=name, item_column="Zeit", target="y")
    code = str(e.value).partition("make one column of them, ")[2].partition(", and drop")[0]
    made = frame.assign(**{name: eval(code, {"pd": pd, "frame": frame})}).drop(columns=frame.columns[1])
    assert (Panel.of(made, timestamp_column=name).items[0].index == hours).all()


@pytest.mark.parametrize("labels", ["%Y", "%Y-%m", "%Y%m", "%m/%d/%y"])
def test_a_frame_that_lies_on_its_side_is_stood_up(labels: str) -> None:
    frequency = {"%Y": "YS", "%m/%d/%y": "D"}.get(labels, "MS")
    dates = pd.date_range("2019-12-20" if frequency == "D" else "2015-01-01", periods=20, freq=frequency)
    values = noise(40).reshape(2, 20)
    frame = pd.DataFrame(values, columns=dates.strftime(labels))
    frame.insert(0, "country", ["Chad", "Peru"])
    with pytest.raises(
        ValueError, match="are called by dates, so that each row would be a step: .* has a row a date"
    ) as e:
        Panel.of(frame)
    code = str(e.value).partition("would be a step: ")[2].partition(" has a row a date")[0]
    panel = Panel.of(eval(code, {"frame": frame}))
    assert panel.channels == ("Chad", "Peru") and (panel.items[0].index == dates).all()
    assert np.array_equal(panel.items[0].values, values.T)


SALES = pd.concat(
    pd.DataFrame({"region": r, "state": r[0], "kind": k, "date": MONTHS, "trips": noise(48) + 100 * n})
    for n, (r, k) in enumerate((r, k) for r in ("a1", "a2", "b1") for k in ("work", "rest"))
)


@pytest.mark.parametrize("regularise", [False, True])
@pytest.mark.parametrize(
    ("given", "keys"),
    [(None, ["region", "kind"]), ("region", ["region", "kind"]), ("kind", ["kind", "region"])],
)
def test_a_second_key_is_named_whatever_the_options(regularise: bool, given: str | None, keys: list[str]) -> None:
    with pytest.raises(ValueError, match="dates are repeated.*regularise=True does not average what") as e:
        Panel.of(SALES, item_column=given, target="trips", regularise=regularise)
    assert f"item_column={keys} (--item-column {keys[0]} --item-column {keys[1]})" in str(e.value)
    panel = Panel.of(SALES, item_column=keys, target="trips")
    assert panel.lengths == (48,) * 6 and panel.item_column == "/".join(keys)
    assert np.array_equal(panel.items[3].values[:, 0], SALES["trips"][3 * 48 : 4 * 48])
    again = Panel.of(panel.to_pandas(), item_column="/".join(keys))
    assert [item.item_id for item in again.items] == [item.item_id for item in panel.items]


def test_columns_that_name_an_item_together() -> None:
    numbers = SALES.assign(region=SALES["region"].map({"a1": 1, "a2": 2, "b1": 3})).drop(columns="state")
    panel = Panel.of(numbers, item_column=("region", "kind"))
    assert panel.channels == ("trips",) and panel.items[0].item_id == "1/work"
    assert Panel.of(numbers.set_index(["region", "kind", "date"]), item_column=["region", "kind"]).lengths == (48,) * 6
    assert Panel.of(numbers, item_column=["region", "kind"], static="kind").static == {"kind": ("rest", "work")}
    with pytest.raises(ValueError, match="there is no item column shop; the columns are"):
        Panel.of(numbers, item_column=["region", "shop"])
    twice = numbers.assign(region=np.where(numbers["region"] == 1, "x/y", "x"), kind="z")
    with pytest.raises(ValueError, match="would make the same name, 'x/y/z'"):
        Panel.of(pd.concat([twice, twice.assign(region="x", kind="y/z")]), item_column=["region", "kind"])
    with pytest.raises(ValueError, match="column 'region/kind' names no item in row 2"):
        Panel.of(numbers.assign(kind=["rest", "rest", None] * 96), item_column=["region", "kind"])


def test_an_index_and_a_column_of_one_name_are_one_if_they_agree() -> None:
    rows = two("store", "ds")
    for given in (rows.set_index("store", drop=False), rows.set_index(["store", "ds"], drop=False)):
        assert Panel.of(given, item_column="store").lengths == (48, 30)
    wide = rows[:48].drop(columns="store").set_index("ds", drop=False)
    assert Panel.of(wide).channels == ("a", "b") and Panel.of(wide).frequency == "h"
    assert Panel.of(wide.assign(ds=wide["ds"].astype(str))).frequency == "h"
    assert Panel.of(frame().reset_index(drop=True).set_index("a", drop=False)).channels == ("a", "b")
    with pytest.raises(
        ValueError, match="the index and a column are both called 'ds', and they disagree, first in row 7"
    ):
        Panel.of(wide.assign(ds=[*wide.index[:7], *(wide.index[7:] + pd.Timedelta("1D"))]))


def test_trading_hours_may_count_as_steps() -> None:
    quarters = pd.date_range("2024-01-01", "2024-02-01", freq="15min")
    quarters = quarters[(quarters.dayofweek < 5) & (quarters.hour >= 9) & (quarters.hour < 17)]
    days = pd.date_range("2023-01-02", periods=300)
    for dates in (quarters, days[days.dayofweek.isin([0, 1, 2, 3, 5])]):
        wide = pd.DataFrame({"y": noise(len(dates))}, index=dates.rename("date"))
        remedies = {
            "frame.reset_index(drop=True)": wide,
            "frame.drop(columns='date')": wide.reset_index(),
            "frame.droplevel('date')": wide.assign(item_id="x").reset_index().set_index(["item_id", "date"]),
        }
        for remedy, frame in remedies.items():
            with pytest.raises(ValueError, match=r"each row counts as one step .* drop the dates: frame\.") as e:
                Panel.of(frame, frequency="15min" if dates is quarters else None)
            assert str(e.value).endswith(remedy)
            panel = Panel.of(eval(remedy, {"frame": frame}))
            assert panel.frequency is None and np.array_equal(panel.items[0].values[:, 0], wide["y"])


def test_text_that_cuts_undated_rows_into_equal_parts_is_asked_about() -> None:
    shops = pd.DataFrame({"shop": np.repeat(["x", "z"], 30), "kind": np.tile(np.repeat(["p", "q", "r"], 10), 2)})
    shops["y"] = noise(60)
    for options, keys in (({}, "'shop'"), ({"item_column": "shop"}, "['shop', 'kind']")):
        with pytest.raises(ValueError, match=re.escape(f"if these are series, item_column={keys} (--item-column)")):
            Panel.of(shops, target="y", **options)
    assert Panel.of(shops, target="y", item_column=["shop", "kind"]).lengths == (10,) * 6
    assert Panel.of(shops.drop(columns=["shop", "kind"]), target="y").lengths == (60,)


def test_text_that_makes_no_series_is_not_proposed_as_items() -> None:
    sky = np.where(np.arange(48) % 5 < 2, "sun", "rain")
    clock = pd.date_range("2024-01-01 07:00", periods=48, freq="min").strftime("%H:%M")
    for wide in (frame(), frame().reset_index(drop=True)):
        for column in (sky, clock):
            with pytest.raises(ValueError, match="column 'c' holds .*picks the columns to forecast$"):
                Panel.of(wide.assign(c=column))


def test_dots_of_thousands_are_no_decimals() -> None:
    for column, message in (
        (["974", "1.043", "1.100"], r"pd.to_numeric\(column.str.replace\('.', ''\)\) if these are thousands"),
        (["1,5", "2.5", "3"], r"holds numbers in two notations \('1,5' in row 0, and '2.5'\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Panel.of(pd.DataFrame({"a": column}))


@pytest.mark.parametrize("items", [1, 2])
def test_a_second_key_of_dates_is_no_series_to_average(items: int) -> None:
    hours = pd.date_range("2024-01-01", periods=20, freq="h")
    vintages = pd.concat([
        pd.DataFrame({"item_id": str(number), "date": hours, "cutoff": pd.Timestamp(cutoff), "y": value})
        for number in range(items) for cutoff, value in (("2024-02-01", 0.0), ("2024-02-02", 10.0))
    ])  # fmt: skip
    for regularise in (False, True):
        with pytest.raises(ValueError, match="column 'cutoff' name the series .* drop it: regularise=True does not av"):
            Panel.of(vintages, target="y", regularise=regularise)
