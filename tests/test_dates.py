r"""Dates: what frequency they have, what follows them, and what is done about those that are not regular."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adapts.data.date_parsing import first_undated, parse_dates, times_of_day
from adapts.data.frequency import alias, calendar_period
from adapts.data.panel import Panel
from adapts.data.regular_dates import frequency_of, regular_dates, steps_from


def frame(rows: int = 48, frequency: str = "h", start: str = "2024-01-01", **options: Any) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(rows, 2))
    return pd.DataFrame(values, index=pd.date_range(start, periods=rows, freq=frequency, **options), columns=["a", "b"])


def series(index: pd.DatetimeIndex) -> pd.DataFrame:
    return pd.DataFrame({"a": np.arange(float(len(index)))}, index=index)


def following(index: pd.DatetimeIndex, steps: int, frequency: str | None = None) -> pd.DatetimeIndex:
    panel = Panel.of(series(index), frequency=frequency)
    return panel.future_index(panel.items[0], steps)


# ------------------------------------------------------------------------------------------------- frequencies

# frequency as given -> as pandas names it now, and as it is inferred from forty dates (None: it cannot be)
TABLE: dict[str, tuple[str, str | None]] = {
    "us": ("us", "us"), "ms": ("ms", "ms"), "500ms": ("500ms", "500ms"), "L": ("ms", "ms"), "U": ("us", "us"),
    "s": ("s", "s"), "S": ("s", "s"), "5s": ("5s", "5s"), "30S": ("30s", "30s"), "min": ("min", "min"),
    "T": ("min", "min"), "5T": ("5min", "5min"), "15min": ("15min", "15min"), "30min": ("30min", "30min"),
    "90min": ("90min", "90min"), "1h30min": ("90min", "90min"), "1.5h": ("90min", "90min"), "h": ("h", "h"),
    "H": ("h", "h"), "2h": ("2h", "2h"), "3H": ("3h", "3h"), "6h": ("6h", "6h"), "12h": ("12h", "12h"),
    "24h": ("24h", "D"), "D": ("D", "D"), "2D": ("2D", "2D"), "10D": ("10D", "10D"), "7D": ("7D", "W-MON"),
    "B": ("B", "B"), "2B": ("2B", None), "C": ("C", "B"), "W": ("W-SUN", "W-SUN"), "W-MON": ("W-MON", "W-MON"),
    "W-TUE": ("W-TUE", "W-TUE"), "W-WED": ("W-WED", "W-WED"), "W-THU": ("W-THU", "W-THU"),
    "W-FRI": ("W-FRI", "W-FRI"), "W-SAT": ("W-SAT", "W-SAT"), "2W-TUE": ("2W-TUE", "2W-TUE"),
    "4W-MON": ("4W-MON", "4W-MON"), "M": ("ME", "ME"), "ME": ("ME", "ME"), "MS": ("MS", "MS"), "BM": ("BME", "BME"),
    "BME": ("BME", "BME"), "BMS": ("BMS", "BMS"), "2M": ("2ME", "2ME"), "2MS": ("2MS", "2MS"),
    "3MS": ("3MS", "QS-OCT"), "6ME": ("6ME", "2QE-DEC"), "SM": ("SME-15", None), "SMS": ("SMS-15", None),
    "Q": ("QE-DEC", "QE-DEC"), "QE": ("QE-DEC", "QE-DEC"), "Q-NOV": ("QE-NOV", "QE-NOV"),
    "QE-JAN": ("QE-JAN", "QE-OCT"), "QS": ("QS-JAN", "QS-OCT"), "QS-FEB": ("QS-FEB", "QS-NOV"),
    "BQ": ("BQE-DEC", "BQE-DEC"), "2QS": ("2QS-JAN", "2QS-OCT"), "BQS": ("BQS-JAN", "BQS-OCT"),
    "A": ("YE-DEC", "YE-DEC"), "Y": ("YE-DEC", "YE-DEC"), "A-JUN": ("YE-JUN", "YE-JUN"),
    "YE-MAR": ("YE-MAR", "YE-MAR"), "AS": ("YS-JAN", "YS-JAN"), "AS-APR": ("YS-APR", "YS-APR"),
    "YS": ("YS-JAN", "YS-JAN"), "BA": ("BYE-DEC", "BYE-DEC"), "2YS": ("2YS-JAN", "2YS-JAN"),
    "2YE": ("2YE-DEC", "2YE-DEC"),
}  # fmt: skip


@pytest.mark.parametrize("frequency", TABLE)
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_the_dates_of_a_forecast_follow_on(frequency: str, zone: str | None) -> None:
    name, inferred = TABLE[frequency]
    assert alias(frequency) == name
    dates = pd.date_range("2019-03-04 00:00", periods=52, freq=name, tz=zone)
    for rows in (40, 3, 2, 1):
        assert following(dates[:rows], 12, frequency).tolist() == dates[rows:][:12].tolist()
        assert Panel.of(series(dates[:rows]), frequency=frequency).frequency == name
    if inferred is None:
        with pytest.raises(ValueError, match="not regular at frequency|no regular frequency fits"):
            Panel.of(series(dates[:40]))
        return
    if zone is not None and name == "24h":  # days of 24 hours are no local days
        inferred = "24h"
    assert Panel.of(series(dates[:40])).frequency == inferred
    assert following(dates[:40], 12).tolist() == dates[40:].tolist()


@pytest.mark.parametrize("frequency", ["2B", "3B", "SMS-15", "SME-15"])
def test_rare_frequencies_are_named_where_they_are_not_given(frequency: str) -> None:
    dates = pd.date_range("2020-01-01", periods=50, freq=frequency)
    with pytest.raises(ValueError, match=f"[Tt]hey look like frequency='{frequency}'"):
        Panel.of(series(dates))
    assert Panel.of(series(dates), frequency=frequency).frequency == frequency


DAYS = pd.date_range("2024-01-01", periods=40, freq="D")
DAY_FIRST = ["%d.%m.%Y", "%d.%m.%Y %H:%M", " %d.%m.%Y ", "%d/%m/%Y", "%d/%m/%Y %H:%M:%S", "%d-%m-%Y"]
TWO_DIGITS = ["%d.%m.%y", "%d/%m/%y", "%d-%m-%y", "%d/%m/%y %H:%M", " %d.%m.%y ", "%m/%d/%y", "%m/%d/%y %I:%M %p"]


@pytest.mark.parametrize(
    "form", [*DAY_FIRST, *TWO_DIGITS, "%m/%d/%Y", "%m/%d/%Y %H:%M", "%Y-%m-%d", "%Y.%m.%d", "%Y/%m/%d"]
)
@pytest.mark.parametrize("kind", [object, "string"])
def test_texts_of_dates_that_tell_their_order(form: str, kind: Any) -> None:
    for dates in (DAYS, DAYS[::-1], DAYS[20:]):
        found = parse_dates(pd.Series(dates.strftime(form), dtype=kind))
        assert found is not None and (found == dates).all()
    missing = parse_dates(pd.Series([*DAYS.strftime(form), None], dtype=kind))
    assert missing is not None and (missing[:-1] == DAYS).all() and missing[-1] is pd.NaT


@pytest.mark.parametrize("frequency", ["6h", "D", "W", "MS", "ME", "QS", "YS", "YE"])
def test_years_of_two_digits_stand_last(frequency: str) -> None:
    dates = pd.date_range("2003-01-01", periods=21, freq=frequency)
    for form in ("%d.%m.%y %H:%M", "%m/%d/%y %H:%M"):
        panel = Panel.of(pd.DataFrame({"ds": dates.strftime(form), "y": 1.0}), frequency=frequency)
        assert (panel.items[0].index == dates).all()


def test_centuries_of_two_digits() -> None:
    for texts in (["31.12.68", "01.01.69"], ["12/31/68", "1/1/69"], ["31-12-68", "1-1-69"]):
        found = parse_dates(pd.Index(texts))
        assert found is not None and found.year.tolist() == [2068, 1969]
    found = parse_dates(pd.Index(["99/12/30", "99/12/31"]))  # no day is the 99th
    assert found is not None and (found == pd.DatetimeIndex(["1999-12-30", "1999-12-31"])).all()


@pytest.mark.parametrize("form", ["%y/%m/%d", "%y-%m-%d", "%y.%m.%d", "%y/%m/%d %H:%M"])
@pytest.mark.parametrize("frequency", ["D", "B", "W", "ME", "6h"])
def test_years_of_two_digits_that_may_stand_first_are_asked_for(form: str, frequency: str) -> None:
    texts = pd.date_range("2024-01-01", periods=30, freq=frequency).strftime(form)
    with pytest.raises(
        ValueError, match="column 'ds' holds years of two digits .* write the years with four"
    ) as caught:
        Panel.of(pd.DataFrame({"ds": texts, "y": 1.0}), regularise=True)
    assert "\n" not in str(caught.value)


def test_texts_of_dates_are_read_in_one_order_or_not_at_all() -> None:
    for texts in (
        ["13/01/24", "01/13/24"],
        ["13.01.24", "01.13.24"],
        ["01.02.24", "01.02.2024"],
        ["01.02.24", "1/2/24"],
    ):
        assert parse_dates(pd.Index(texts)) is None
    text = pd.Series([*DAYS.strftime("%d.%m.%y"), "total"])
    assert parse_dates(text) is None and first_undated(text) == (40, "total")


def test_texts_of_dates_that_do_not_tell_their_order() -> None:
    for form in ("%d.%m.%Y", "%d.%m.%y"):
        found = parse_dates(pd.Index(DAYS[:12].strftime(form)))
        assert found is not None and (found == DAYS[:12]).all()
    for form in ("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d/%m/%y", "%m/%d/%y"):  # days of January, or firsts of months
        assert parse_dates(pd.Index(DAYS[:12].strftime(form))) is None
    assert parse_dates(pd.Index(["13.01.2024", "01.13.2024"])) is None  # neither order reads both
    assert parse_dates(pd.Index(["13/01/2024", "01/13/2024"])) is None
    text = pd.Series([*DAYS.strftime("%d.%m.%Y"), "total"])
    assert parse_dates(text) is None and first_undated(text) == (40, "total")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_keep_their_unit(unit: str) -> None:
    dates = pd.date_range("2024-01-01", periods=10, freq="h", unit=unit)
    assert following(dates, 3).unit == unit


FAR = pd.date_range("1500-01-01", periods=30, freq="D", unit="s")


@pytest.mark.parametrize(
    "given",
    [
        series(FAR),
        series(FAR.shift(1500, freq="366D")),
        series(FAR).rename_axis("ds").reset_index(),
        series(FAR).set_axis(FAR.strftime("%Y-%m-%d")),
        series(FAR).set_axis(pd.period_range("1500-01-01", periods=30, freq="D")),
        [{"start": pd.Period("1500-01-01", "D"), "target": np.arange(30.0)}],
        [{"start": "1500-01-01", "target": np.arange(30.0)}],
        [{"start": pd.Period("2262-04-01", "D"), "target": np.arange(30.0)}],
    ],
)
def test_dates_that_nanoseconds_do_not_count_are_refused(given: Any) -> None:
    with pytest.raises(
        ValueError, match="dates lie between 1677-09-22 and 2262-04-11.*: shift these, or drop"
    ) as caught:
        Panel.of(given, frequency="D")
    assert "\n" not in str(caught.value) and not isinstance(caught.value, pd.errors.OutOfBoundsDatetime)


def test_a_frequency_too_long_for_the_rows_is_as_wrong_as_any_other() -> None:
    many = series(pd.date_range("2000-01-01", periods=3000, freq="D"))
    with pytest.raises(ValueError, match="lie off the grid of frequency 'YS-JAN' .*: they look like frequency='D'"):
        Panel.of(many, frequency="YS-JAN")


@pytest.mark.parametrize("unit", ["s", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_forecasts_end_where_dates_do(unit: str, zone: str | None) -> None:
    dates = pd.date_range("2262-03-01", "2262-04-09", freq="D", unit=unit, tz=zone)
    assert following(dates, 1).tolist() == [pd.Timestamp("2262-04-10", tz=zone)]
    with pytest.raises(ValueError, match="the 9 steps after 2262-04-09 00:00:00.* are out of range: dates lie between"):
        following(dates, 9)


# ------------------------------------------------------------------------------------- time zones, summer time

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]  # the last one moves its clocks by half an hour
CHANGES = ["2024-03-08", "2024-03-29", "2024-04-05", "2024-10-04", "2024-10-25", "2024-11-01"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("frequency", ["15min", "30min", "h", "2h", "6h"])
def test_hours_are_those_that_pass_whatever_the_clocks_do(zone: str, frequency: str) -> None:
    for start in CHANGES:
        dates = pd.date_range(start, periods=300, freq=frequency, tz=zone)
        for rows in range(12, 280, 23):
            future = following(dates[:rows], 20)
            assert future.equals(dates[rows : rows + 20]) and str(future.tz) == zone
            assert set(np.diff(future.as_unit("ns").asi8)) == {
                pd.Timedelta(pd.tseries.frequencies.to_offset(frequency)).value
            }


def test_the_hour_that_comes_twice_and_the_one_that_never_comes() -> None:
    def wall(dates: pd.DatetimeIndex) -> list[str]:
        return dates.strftime("%H:%M%z").tolist()

    autumn = pd.date_range("2024-10-25 23:00", "2024-10-27 01:00", freq="h", tz="Europe/Berlin")
    assert wall(following(autumn, 3)) == ["02:00+0200", "02:00+0100", "03:00+0100"]
    assert wall(following(following(autumn, 12)[:2].union(autumn), 2)) == ["03:00+0100", "04:00+0100"]
    spring = pd.date_range("2024-03-29 23:00", "2024-03-31 01:00", freq="h", tz="Europe/Berlin")
    assert wall(following(spring, 2)) == ["03:00+0200", "04:00+0200"]


@pytest.mark.parametrize("zone", [*ZONES, "America/Sao_Paulo", "Asia/Beirut", "Africa/Cairo"])
@pytest.mark.parametrize("frequency", ["D", "2D", "B", "W-SUN", "MS", "ME", "QS-OCT", "YS-JAN"])
def test_days_begin_at_local_midnight_or_at_the_first_hour_there_is(zone: str, frequency: str) -> None:
    for start in ("2018-10-18", "2024-03-18", "2024-04-15", "2024-10-16"):
        local = pd.date_range(start, periods=60, freq=frequency)
        dates = local.tz_localize(zone, nonexistent="shift_forward")
        for rows in (4, 8, 14, 17, 30):
            future = following(dates[:rows], 12, frequency)
            assert future.equals(dates[rows : rows + 12]), (start, rows)
        assert (dates.tz_localize(None).normalize() == local).all()


def test_a_midnight_that_the_clocks_skip() -> None:
    dates = pd.date_range("2018-10-25", periods=10, freq="D", tz="America/Sao_Paulo")  # on 4 November it is skipped
    future = following(dates, 3)
    assert future.strftime("%d %H").tolist() == ["04 01", "05 00", "06 00"]
    assert following(dates.append(future[:1]), 2).strftime("%d %H").tolist() == ["05 00", "06 00"]


def test_days_of_another_time_zone_are_24_hours() -> None:
    days = pd.date_range("2024-03-20", periods=40, freq="D", tz="UTC").tz_convert("Europe/Berlin")
    assert following(days[:30], 10).equals(days[30:]) and Panel.of(series(days)).frequency == "24h"


@pytest.mark.parametrize("frequency", ["h", "15min", "30min", "2h"])
def test_local_time_becomes_regular_by_the_remedy_that_its_error_names(frequency: str) -> None:
    ambiguous = True if frequency == "2h" else "infer"
    for start in ("2024-03-30", "2024-10-26"):
        dates = pd.date_range(start, periods=200, freq=frequency, tz="Europe/Berlin")
        local = series(dates.tz_localize(None))
        words = re.escape(f"change of the clocks, say so: frame.tz_localize(zone, ambiguous={ambiguous!r})")
        with pytest.raises(ValueError, match=words):
            Panel.of(local, frequency=frequency)
        told = local.tz_localize("Europe/Berlin", ambiguous=np.ones(200, bool) if ambiguous is True else ambiguous)
        assert Panel.of(told).items[0].index.equals(dates)


def test_an_hour_that_is_absent_at_another_time_is_no_change_of_the_clocks() -> None:
    with pytest.raises(ValueError, match=r"1 missing \(first: 2024-01-01 05:00:00\)") as caught:
        Panel.of(frame().drop(pd.Timestamp("2024-01-01 05:00")))
    assert "clocks" not in str(caught.value)


def test_regularise_keeps_zone_unit_and_name() -> None:
    dates = pd.date_range("2024-03-30", periods=40, freq="h", tz="Europe/Berlin", unit="s", name="when")
    panel = Panel.of(series(dates.delete([3, 27])), regularise=True)
    pd.testing.assert_index_equal(panel.items[0].index, dates)


# -------------------------------------------------------------------------------------------- starts and periods


@pytest.mark.parametrize(
    ("start", "frequency", "settled", "first"),
    [
        ("2024-01-15 10:30", "h", "h", "2024-01-15 10:30"),
        ("2024-01-15", "H", "h", "2024-01-15"),
        (pd.Timestamp("2024-01-16"), "W", "W-TUE", "2024-01-16"),
        ("2024-01-16", "W-SUN", "W-SUN", "2024-01-21"),
        ("2024-01-15", "MS", "MS", "2024-01-01"),
        ("2024-01-15", "ME", "ME", "2024-01-31"),
        ("2024-01-01", "M", "MS", "2024-01-01"),
        ("2024-02-20", "QS", "QS-JAN", "2024-01-01"),
        ("2024-05-01", "Y", "YS-MAY", "2024-05-01"),
        ("2024-05-07", "YS", "YS-JAN", "2024-01-01"),
        ("2024-01-13", "B", "B", "2024-01-15"),
    ],
)
def test_a_start_and_a_frequency_make_dates(start: Any, frequency: str, settled: str, first: str) -> None:
    dates, found = steps_from(start, frequency, 5)
    assert found == settled and dates[0] == pd.Timestamp(first)
    assert dates.equals(pd.date_range(first, periods=5, freq=settled))


def test_calendar_periods_have_no_anchor() -> None:
    names = ["W", "M", "MS", "Q", "QE", "A", "YS", "W-TUE", "2M", "h", "D", None]
    assert [calendar_period(name) for name in names] == ["W", "M", "M", "Q", "Q", "Y", "Y", *[None] * 5]


# ---------------------------------------------------------------------------------------- regular, and made so

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


@pytest.mark.parametrize("frequency", REGULAR)
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("given", [False, True])
def test_the_newest_row_first_is_an_order_to_be_mended(frequency: str, zone: str | None, given: bool) -> None:
    wide = series(pd.date_range("2019-05-04", periods=40, freq=frequency, tz=zone))
    said = frequency if given else None
    with pytest.raises(ValueError, match=r": 39 out of order \(first: row 1, .*differ\) and put .* missing$"):
        Panel.of(wide[::-1], frequency=said)
    panel = Panel.of(wide[::-1], frequency=said, regularise=True)
    assert panel.frequency == frequency and (panel.items[0].index == wide.index).all()
    assert panel.items[0].values.ravel().tolist() == list(range(40))


def test_regularise_takes_the_mean_of_rows_that_disagree() -> None:
    wide = frame(5)
    other = wide.iloc[[2]].assign(a=10.0)
    panel = Panel.of(pd.concat([wide, other, other]), regularise=True)  # the second copy of `other` is an exact one
    assert panel.items[0].values[2, 0] == pytest.approx((wide.iloc[2, 0] + 10) / 2)
    assert panel.items[0].values[2, 1] == wide.iloc[2, 1]


def test_regularise_leaves_regular_dates_alone() -> None:
    wide = frame()
    assert np.array_equal(Panel.of(wide, regularise=True).items[0].values, wide.to_numpy(), equal_nan=True)


def test_frequencies_without_an_anchor_take_it_from_the_dates() -> None:
    tuesdays = pd.date_range("2002-01-01", periods=20, freq="7D")
    assert frequency_of(tuesdays, "W") == frequency_of(tuesdays, None) == "W-TUE"
    assert frequency_of(pd.date_range("2002-01-01", periods=20, freq="MS"), "M") == "MS"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("day", ["2024-03-09", "2024-03-30", "2024-10-26"])
def test_text_with_offsets_that_change_becomes_utc(zone: str, day: str) -> None:
    dates = pd.date_range(day, periods=48, freq="h", tz=zone)
    for texts in (dates.astype(str), dates.map(pd.Timestamp.isoformat), dates.strftime("%Y-%m-%d %H:%M:%S%z")):
        item = Panel.of(pd.DataFrame({"date": texts, "a": 1.0})).items[0]
        assert (item.index == dates).all()
        changes = len({text[-6:] for text in dates.astype(str)}) > 1
        assert not changes or str(item.index.tz) == "UTC"


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


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%d-%m-%Y", "%d/%m/%y", "%m/%d/%Y", "%m/%d/%y"])
@pytest.mark.parametrize("frequency", ["MS", "QS", "W-MON", "h"])
def test_the_order_of_day_and_month_that_gives_a_frequency_is_theirs(form: str, frequency: str) -> None:
    dates = pd.date_range("2001-01-01", periods=60, freq=frequency)
    if frequency == "h":
        form += " %H:%M"
    found = parse_dates(pd.Series(dates.strftime(form)))
    assert found is not None and (found == dates).all()


def test_an_order_of_day_and_month_that_is_not_told_is_asked_for() -> None:
    months = pd.date_range("2001-01-01", periods=12, freq="MS")
    frame = pd.DataFrame({"date": months.strftime("%d/%m/%Y"), "y": np.arange(12.0)})
    with pytest.raises(ValueError, match="month first they are of frequency 'D'.*day first they are of frequency 'MS'"):
        Panel.of(frame)
    assert (Panel.of(frame, frequency="MS").items[0].index == months).all()
    assert Panel.of(frame, frequency="D").items[0].index[-1] == pd.Timestamp("2001-01-12")
    read = frame.assign(date=pd.to_datetime(frame["date"], dayfirst=True))
    assert Panel.of(read).frequency == "MS"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", [int, str])
def test_the_size_of_an_epoch_tells_its_unit(unit: str, kind: type) -> None:
    hours = pd.date_range("1999-12-31 20:00", periods=10, freq="h")
    found = parse_dates(pd.Series(hours.as_unit(unit).asi8.astype(kind)))
    assert found is not None and (found == hours).all()


@pytest.mark.parametrize("form", ["%Y", "%Y%m", "%Y%m%d", "%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S"])
def test_dates_in_whole_numbers(form: str) -> None:
    dates = pd.date_range("1990-01-01", periods=30, freq={"%Y": "YS", "%Y%m": "MS"}.get(form, "D"))
    found = parse_dates(pd.Series(dates.strftime(form).astype(np.int64)))
    assert found is not None and (found == dates).all()
    assert parse_dates(pd.Series(dates.strftime(form).astype(np.float64))) is None  # an amount, until it is said


def test_times_of_day_are_no_dates() -> None:
    for texts in (["18:00", "19:30"], ["18.00.00", "19.30.00"], ["6:00 PM", "7:30 PM"]):
        assert parse_dates(pd.Index(texts)) is None
        found = times_of_day(pd.Index(texts))
        assert found is not None and found.tolist() == [pd.Timedelta("18h"), pd.Timedelta("19.5h")]
    for texts in (["25:00"], ["18:75"], ["12.50"], ["18:00", "noon"]):
        assert times_of_day(pd.Index(texts)) is None


@pytest.mark.parametrize("kind", ["category", object])
def test_numbers_of_rows_are_no_dates_however_an_index_holds_them(kind: object) -> None:
    frame = pd.DataFrame({"a": np.arange(30.0)}, index=pd.Index(range(30)).astype(kind))
    assert Panel.of(frame).frequency is None
    days = pd.DataFrame({"a": np.arange(30.0)}, index=pd.date_range("2024-01-01", periods=30).astype(kind))
    assert Panel.of(days).frequency == "D"
    with pytest.raises(ValueError, match="column 'date' could not be read as dates"):
        Panel.of(pd.DataFrame({"date": pd.Series(range(30)).astype(kind), "a": 1.0}), timestamp_column="date")
