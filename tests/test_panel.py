r"""Every kind of input becomes the same panel, and comes out of it as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapts.dates import alias, frequency_of, regular_dates
from adapts.panel import Panel, require_length


def frame(rows: int = 48, frequency: str = "h", start: str = "2024-01-01", **options: Any) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(rows, 2))
    values[3:4, 1] = np.nan
    return pd.DataFrame(values, index=pd.date_range(start, periods=rows, freq=frequency, **options), columns=["a", "b"])


def long(*frames: pd.DataFrame, item_column: str = "item_id", timestamp: str = "timestamp") -> pd.DataFrame:
    parts = [f.rename_axis(timestamp).reset_index().assign(**{item_column: f"item{n}"}) for n, f in enumerate(frames)]
    return pd.concat(parts, ignore_index=True)


# ------------------------------------------------------------------------------------------------- what comes in

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


def test_items_named_by_numbers_and_by_their_text_are_one() -> None:
    panel = Panel.of(pd.DataFrame({"item_id": [1, "1", 2], "a": [1.0, 2.0, 3.0]}))
    assert [item.item_id for item in panel.items] == ["1", "2"] and panel.lengths == (2, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_tensors_of_any_type_are_read(dtype: torch.dtype) -> None:
    assert Panel.of(torch.ones(4, 2, dtype=dtype)).items[0].values.tolist() == [[1.0, 1.0]] * 4


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


@pytest.mark.parametrize(
    "frequency", ["W", "W-TUE", "2W", "M", "2M", "Q", "Q-NOV", "2Q", "Y", "Y-JUN", "D", "h", "15min"]
)
def test_periods_go_on_where_they_end(frequency: str) -> None:
    start = pd.Period("2024-01-10", freq=frequency)
    series = pd.Series(np.arange(20.0), index=pd.period_range(start, periods=20, freq=frequency))
    for panel in (Panel.of([{"target": np.arange(20.0), "start": start}]), Panel.of(series)):
        future = panel.future_index(panel.items[0], 3)
        expected = pd.period_range(start, periods=23, freq=frequency)[20:]
        assert pd.date_range(future[0], periods=3, freq=panel.frequency).to_period().equals(expected)


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


# ---------------------------------------------------------------------------------------------------- frequencies

REGULAR = [
    "s",
    "5s",
    "min",
    "15min",
    "h",
    "6h",
    "D",
    "B",
    "W-TUE",
    "W-SUN",
    "MS",
    "ME",
    "BME",
    "QS-OCT",
    "QE-DEC",
    "YS-JAN",
    "YE-DEC",
    "2D",
]


@pytest.mark.parametrize("frequency", REGULAR)
def test_frequencies_are_inferred_and_go_on(frequency: str) -> None:
    dates = pd.date_range("2019-03-04", periods=44, freq=frequency)
    panel = Panel.of(pd.DataFrame({"a": np.arange(40.0)}, index=dates[:40]))
    assert panel.frequency == frequency
    assert panel.future_index(panel.items[0], 4).tolist() == dates[40:].tolist()


@pytest.mark.parametrize("frequency", REGULAR)
def test_regularise_gives_back_the_grid(frequency: str) -> None:
    dates = pd.date_range("2019-03-04", periods=80, freq=frequency)
    whole = pd.DataFrame({"a": np.arange(80.0), "b": -np.arange(80.0)}, index=dates)
    absent = [7, 31, 32, 60]
    dirty = pd.concat([whole.drop(dates[absent]), whole.iloc[[3, 50, 50]]]).sample(frac=1, random_state=1)
    with pytest.raises(ValueError, match=r"out of order.*repeated.*4 missing.*regularise=True \(--regularise\)"):
        Panel.of(dirty)
    panel = Panel.of(dirty, regularise=True)
    expected = whole.copy()
    expected.iloc[absent] = np.nan
    assert panel.frequency == frequency and (panel.items[0].index == dates).all()
    assert np.array_equal(panel.items[0].values, expected.to_numpy(), equal_nan=True)


def test_regularise_takes_the_mean_of_rows_that_disagree() -> None:
    wide = frame(5)
    other = wide.iloc[[2]].assign(a=10.0)
    panel = Panel.of(pd.concat([wide, other, other]), regularise=True)  # the second copy of `other` is an exact one
    assert panel.items[0].values[2, 0] == pytest.approx((wide.iloc[2, 0] + 10) / 2)
    assert panel.items[0].values[2, 1] == wide.iloc[2, 1]


def test_regularise_leaves_regular_dates_alone() -> None:
    wide = frame()
    assert np.array_equal(Panel.of(wide, regularise=True).items[0].values, wide.to_numpy(), equal_nan=True)


def test_old_aliases_and_anchors_are_understood() -> None:
    assert [alias(name) for name in ("H", "15T", "M", "Q-DEC", "A", "BM", "S", "D")] == [
        "h",
        "15min",
        "ME",
        "QE-DEC",
        "YE-DEC",
        "BME",
        "s",
        "D",
    ]
    tuesdays = pd.date_range("2002-01-01", periods=20, freq="7D")
    assert frequency_of(tuesdays, "W") == frequency_of(tuesdays, None) == "W-TUE"
    assert frequency_of(pd.date_range("2002-01-01", periods=20, freq="MS"), "M") == "MS"


@pytest.mark.parametrize(("frequency", "zone"), [("h", "Europe/Berlin"), ("D", "Europe/Berlin"), ("15min", "UTC")])
def test_time_zones_are_kept_across_summer_time(frequency: str, zone: str) -> None:
    dates = pd.date_range("2024-03-29", periods=60, freq=frequency, tz=zone)
    panel = Panel.of(pd.DataFrame({"a": np.arange(50.0)}, index=dates[:50]))
    assert panel.frequency == frequency
    assert panel.future_index(panel.items[0], 10).tolist() == dates[50:].tolist()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("day", ["2024-03-09", "2024-03-30", "2024-10-26"])
def test_text_with_offsets_that_change_becomes_utc(zone: str, day: str) -> None:
    dates = pd.date_range(day, periods=48, freq="h", tz=zone)
    for texts in (dates.astype(str), dates.map(pd.Timestamp.isoformat), dates.strftime("%Y-%m-%d %H:%M:%S%z")):
        item = Panel.of(pd.DataFrame({"date": texts, "a": 1.0})).items[0]
        assert (item.index == dates).all()
        changes = len({text[-6:] for text in dates.astype(str)}) > 1
        assert not changes or str(item.index.tz) == "UTC"


def test_local_time_without_a_zone_shows_the_hour_that_comes_twice() -> None:
    dates = pd.date_range("2024-10-26", periods=60, freq="h", tz="Europe/Berlin").tz_localize(None)
    with pytest.raises(ValueError, match=r"1 repeated \(first: row 27, 2024-10-27 02:00:00\)"):
        Panel.of(pd.DataFrame({"a": np.arange(60.0)}, index=dates))


def test_business_days_with_a_holiday_are_business_days() -> None:
    days = pd.date_range("2024-01-01", periods=40, freq="B").drop("2024-01-15")
    panel = Panel.of(pd.DataFrame({"a": np.ones(39)}, index=days), regularise=True)
    assert panel.frequency == "B" and panel.lengths == (40,)


def test_the_frequency_given_says_which_rows_are_absent() -> None:
    dates = pd.date_range("2024-01-01", periods=10, freq="h")
    index, values = regular_dates(dates, "30min", np.ones((10, 1)), regularise=True)
    assert len(index) == 19 and np.isnan(values).sum() == 9


def test_a_short_entry_of_a_list_takes_the_frequency_of_the_longest() -> None:
    for frequency in ("h", "ME", "W-TUE", "B"):
        dates = pd.date_range("2024-01-01", periods=20, freq=frequency)
        whole = pd.DataFrame({"a": np.arange(20.0)}, index=dates)
        panel = Panel.of([whole[:1], whole[3:5], whole, whole[:4]])
        assert panel.frequency == frequency and panel.lengths == (1, 2, 20, 4)
    entries = [{"target": np.arange(n), "start": pd.Period("2024-01-10", freq="W")} for n in (1, 9, 2)]
    panel = Panel.of(entries)
    assert panel.frequency == "W-SUN" and panel.lengths == (1, 9, 2)
    with pytest.raises(ValueError, match="1 of the 1 dates lie off the grid of frequency 'W-TUE'"):
        Panel.of([frame(frequency="W-TUE"), frame(1, start="2024-01-03")])
    panel = Panel.of([frame(), frame(2, frequency="3h")], regularise=True)
    assert panel.frequency == "h" and panel.lengths == (48, 4)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("frequency", ["h", "15min", "D", "W-TUE", "MS", "ME", "QE-NOV", "YE-DEC", "2D"])
def test_the_frequency_given_is_that_of_a_few_rows(rows: int, frequency: str) -> None:
    few = frame(rows, frequency)
    assert Panel.of(few, frequency=frequency).frequency == frequency
    with pytest.raises(ValueError, match=f"{rows} of the {rows} dates lie off the grid of frequency 'W-WED'"):
        Panel.of(frame(rows, "W-TUE"), frequency="W-WED")


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


def test_a_few_rows_with_gaps_are_mended_only_if_asked() -> None:
    gaps = frame(6).iloc[[0, 2, 5]]
    with pytest.raises(ValueError, match="3 missing"):
        Panel.of(gaps, frequency="h")
    assert Panel.of(gaps, frequency="h", regularise=True).lengths == (6,)
    with pytest.raises(ValueError, match=r"46 missing .* \(they look like frequency='D'\)"):
        Panel.of(frame(3, "D"), frequency="h")


def test_an_anchor_that_is_given_is_kept() -> None:
    with pytest.raises(ValueError, match="20 of the 20 dates lie off .*'W-WED'.* they look like frequency='W-TUE'"):
        Panel.of(frame(20, "W-TUE"), frequency="W-WED")
    with pytest.raises(ValueError, match="20 of the 20 dates lie off .*'MS'.* they look like frequency='ME'"):
        Panel.of(frame(20, "ME"), frequency="MS")
    with pytest.raises(ValueError, match="2 of the 2 dates lie off .*'MS'.* give the true frequency="):
        Panel.of(frame(2, "ME"), frequency="MS")


def test_a_frequency_without_its_anchor_takes_it_from_few_dates() -> None:
    for given, start, expected in (
        ("M", "2024-02-01", "MS"),
        ("M", "2024-02-29", "ME"),
        ("W", "2024-01-02", "W-TUE"),
        ("Q", "2024-02-29", "QE-FEB"),
        ("Y", "2024-03-01", "YS-MAR"),
    ):
        assert Panel.of(frame(1, "D", start), frequency=given).frequency == expected
