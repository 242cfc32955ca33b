r"""Files and cards become data sets; what cannot be read gets an error that says why."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from adapts.data import cards as data_cards
from adapts.data.cards import Dataset, read
from adapts.data.frequency import season_length
from adapts.data.panel import Panel
from adapts.registry import cards, load_card

# rows, channels, frequency, first and last date, missing values, borders, end, season
FACTS: dict[str, tuple[Any, ...]] = {
    "greensboro": (8760, 8, "h", "1990-01-01 00:00", "1990-12-31 23:00", 0, (6132, 7008), 8760, 24),
    "etth1": (17420, 7, "h", "2016-07-01 00:00", "2018-06-26 19:00", 0, (8640, 11520), 14400, 24),
    "ettm1": (69680, 7, "15min", "2016-07-01 00:00", "2018-06-26 19:45", 0, (34560, 46080), 57600, 96),
    "illness": (966, 7, "W-TUE", "2002-01-01", "2020-06-30", 0, (676, 773), 966, 52),
    "exchange_rate": (7588, 8, "D", "1990-01-01", "2010-10-10", 0, (5311, 6071), 7588, 1),
    "weather": (52696, 21, "10min", "2020-01-01 00:10", "2020-12-31 22:40", 81, (36887, 42157), 52696, 144),
    "beijing_pm25": (35064, 12, "h", "2013-03-01 00:00", "2017-02-28 23:00", 8739, (24544, 28052), 35064, 24),
    "los_loop": (2016, 120, "5min", "2012-03-01 00:00", "2012-03-07 23:55", 0, (1411, 1613), 2016, 288),
    "bike_sharing": (17544, 24, "h", "2011-01-01 00:00", "2012-12-31 23:00", 330, (12280, 14036), 17544, 24),
}
KEYS = {"name", "source", "licence", "file", "sha256", "reader", "frequency", "channels", "borders", "season_length"}
MORE_KEYS = {
    "package",
    "extra",
    "timestamp_column",
    "timestamps",
    "coerce_year",
    "date_format",
    "hour_column",
    "known_covariates",
    "calendar",
    "missing",
    "support",
    "repairs",
    "notes",
}


def frame(rows: int = 30) -> pd.DataFrame:
    dates = pd.date_range("2024-01-01", periods=rows, freq="h", name="date")
    return pd.DataFrame({"a": np.arange(rows) / 7, "b": 1.5 - np.arange(rows)}, index=dates)


def assert_holds(dataset: Dataset, expected: pd.DataFrame) -> None:
    item = dataset.panel.items[0]
    assert dataset.panel.channels == tuple(expected.columns) and (item.index == expected.index).all()
    assert np.array_equal(item.values, expected.to_numpy(), equal_nan=True)


# --------------------------------------------------------------------------------------------------------- cards


def dataset(name: str, request: pytest.FixtureRequest) -> Dataset:
    if "package" in load_card(name):
        pytest.importorskip(load_card(name)["package"])
    else:
        request.getfixturevalue("data_directory")
    return read(name)


@pytest.mark.parametrize("name", cards())
def test_a_card_says_what_a_reader_must_know(name: str) -> None:
    card = load_card(name)
    assert set(card) >= KEYS and set(card) <= KEYS | MORE_KEYS and card["name"] == name
    assert card["borders"]["train"] < card["borders"]["validation"] < card["borders"]["test"]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in card["sha256"])
    assert set(card.get("support", {})) <= set(card["channels"])
    assert card["season_length"] == 1 or card["season_length"] == season_length(card["frequency"])


@pytest.mark.parametrize("name", cards())
def test_a_card_s_data_are_what_it_says(name: str, request: pytest.FixtureRequest) -> None:
    data = dataset(name, request)
    rows, channels, frequency, first, last, missing, borders, end, season = FACTS[name]
    (item,) = data.panel.items
    assert item.values.shape == (rows, channels) and data.panel.frequency == frequency and data.panel.single
    assert (item.index[0], item.index[-1]) == (pd.Timestamp(first), pd.Timestamp(last))
    assert item.index.equals(pd.date_range(first, last, freq=frequency))  # strictly regular
    assert np.isnan(item.values).sum() == missing
    assert (data.name, data.borders, data.end, data.season_length) == (name, borders, end, season)
    for channel, (low, high) in data.support.items():
        values = item.values[:, data.panel.channels.index(channel)]
        assert low <= np.nanmin(values) and np.nanmax(values) <= high


def test_greensboro_is_one_year_with_hours_at_their_beginning(request: pytest.FixtureRequest) -> None:
    data = dataset("greensboro", request)
    assert data.panel.channels == (
        "GHI", "DNI", "DHI", "dry_bulb", "dew_point", "relative_humidity", "pressure", "wind_speed",
    )  # fmt: skip
    assert data.support["GHI"] == (0, np.inf) and data.support["relative_humidity"] == (0, 100)
    values = pd.DataFrame(data.panel.items[0].values, data.panel.items[0].index, data.panel.channels)
    # The file's row "01/01/1988,08:00" is the hour from 7 to 8; its noon is where the sun is highest.
    assert values.loc["1990-01-01 07:00"].tolist() == [9, 1, 9, 10.0, 8.9, 93, 992, 5.2]
    assert values.groupby(values.index.hour)["GHI"].mean().idxmax() == 12
    assert values.loc["1990-12-31 23:00"].notna().all()


def test_weather_s_sentinels_are_missing_where_the_file_has_them(request: pytest.FixtureRequest) -> None:
    data = dataset("weather", request)
    missing = pd.DataFrame(np.isnan(data.panel.items[0].values), columns=data.panel.channels).sum()
    assert missing[missing > 0].to_dict() == {"wv (m/s)": 1, "max. PAR (µmol/m²/s)": 30, "OT": 50}


def test_bike_sharing_has_the_covariates_that_its_card_names(data_directory: Path) -> None:
    panel = read("bike_sharing").panel
    assert panel.targets == ("casual", "registered") and panel.calendar
    assert panel.known_covariates[:8] == (
        "season", "holiday", "workingday", "weathersit", "temp", "atemp", "hum", "windspeed",
    )  # fmt: skip
    values = pd.DataFrame(panel.items[0].values, panel.items[0].index, panel.channels)
    # The file has rows of 2 January 2011 at 4 and at 6 o'clock, and none at 5.
    assert values.loc["2011-01-02 04:00", ["casual", "registered"]].tolist() == [2, 1]
    assert values.loc["2011-01-02 05:00", ["casual", "registered"]].isna().all()
    names = list(panel.known_covariates[:8])
    assert values.loc["2011-01-02 05:00", names].tolist() == values.loc["2011-01-02 04:00", names].tolist()


@pytest.mark.parametrize("name", ["ETTh1", "ETTH1", "etth1"])
def test_cards_are_found_by_any_spelling(name: str, data_directory: Path) -> None:
    assert read(name).name == "etth1"
    assert read("ExchangeRate").name == read("exchange-rate").name == "exchange_rate"


def test_a_card_and_its_file_are_one_panel(data_directory: Path) -> None:
    card, file = read("illness"), read(data_directory / "Illness.csv")
    assert np.array_equal(card.panel.items[0].values, file.panel.items[0].values)
    assert card.panel.items[0].index.equals(file.panel.items[0].index) and card.panel.channels == file.panel.channels
    assert (file.name, file.borders, file.end, file.season_length, file.support) == ("Illness", None, None, 52, {})


def test_columns_pick_channels_and_their_support(request: pytest.FixtureRequest) -> None:
    dataset("greensboro", request)
    data = read("greensboro", columns=["pressure", "GHI"])
    assert data.panel.channels == ("pressure", "GHI") and set(data.support) == {"GHI"}


def test_a_weather_file_without_its_card_gets_the_error_that_names_the_remedy(data_directory: Path) -> None:
    words = r"Weather.csv: the dates are not regular at frequency '10min': 1 repeated \(first: row 19044.*; 9 missing"
    with pytest.raises(ValueError, match=words + r".*--regularise"):
        read(data_directory / "Weather.csv")
    assert read(data_directory / "Weather.csv", regularise=True).panel.lengths == (52704,)


# --------------------------------------------------------------------------------------------------------- files

TEXTS = {
    "comma": dict(sep=","),
    "semicolon": dict(sep=";"),
    "tab": dict(sep="\t"),
    "bar": dict(sep="|"),
    "bar and decimal comma": dict(sep="|", decimal=","),
    "semicolon and decimal comma": dict(sep=";", decimal=","),
    "quoted names with commas": dict(quoting=2),
    "byte order mark": dict(encoding="utf-8-sig"),
}


@pytest.mark.parametrize("form", TEXTS)
def test_csv_files_are_read_whatever_their_separator(form: str, tmp_path: Path) -> None:
    expected = frame()
    if form == "quoted names with commas":
        expected.columns = ["a, left; right", "b, right"]
    expected.to_csv(tmp_path / "data.csv", **TEXTS[form])
    assert_holds(read(tmp_path / "data.csv"), expected)


def test_blanks_about_the_names_of_columns_do_not_count(tmp_path: Path) -> None:
    rows = [f"0{n % 2} | {n // 2 + 1:02d}.01.2024 | {n},5 | {n}" for n in range(40)]
    (tmp_path / "data.csv").write_text("\n".join([" shop | date | a | b ", *rows]))
    panel = read(tmp_path / "data.csv", item_column="shop").panel
    assert panel.channels == ("a", "b") and [item.item_id for item in panel.items] == ["00", "01"]
    assert panel.items[1].values[:, 0].tolist() == [n + 0.5 for n in range(1, 40, 2)]
    assert (panel.items[0].index == pd.date_range("2024-01-01", periods=20, freq="D")).all()
    (tmp_path / "data.csv").write_text("\n".join([" Unique_ID | date | a | b ", *rows]))
    assert [item.item_id for item in read(tmp_path / "data.csv").panel.items] == ["00", "01"]


def test_days_with_dots_in_a_csv_begin_with_the_day(tmp_path: Path) -> None:
    expected = frame()
    text = expected.to_csv(sep=";", decimal=",", date_format="%d.%m.%Y %H:%M")
    (tmp_path / "data.csv").write_text(text)
    assert_holds(read(tmp_path / "data.csv"), expected)


def test_csv_files_with_an_index_or_without_dates(tmp_path: Path) -> None:
    frame().rename_axis(None).to_csv(tmp_path / "unnamed.csv")
    assert_holds(read(tmp_path / "unnamed.csv"), frame())
    frame().reset_index().to_csv(tmp_path / "counted.csv")
    assert_holds(read(str(tmp_path / "counted.csv")), frame())
    frame().to_csv(tmp_path / "undated.csv", index=False)
    data = read(tmp_path / "undated.csv")
    assert data.panel.frequency is None and data.panel.lengths == (30,) and data.season_length == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("load\n1\n\n3\n4\n", [1, np.nan, 3, 4]),
        ("\ufeffload\r\n1\r\n\r\n\r\n4\r\n\r\n\r\n", [1, np.nan, np.nan, 4]),
        ("load\n\n1\n\n2\n\n3\n\n4\n", [1, 2, 3, 4]),  # a text with each second line left free
        ("load\n1\n\n2\n\n3\n\n4\n", [1, 2, 3, 4]),
    ],
)
def test_an_empty_line_of_a_single_column_is_a_missing_value(text: str, expected: list[float], tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(read(tmp_path / "one.csv").panel.items[0].values[:, 0], expected)


def test_missing_cells_and_items_in_a_file(tmp_path: Path) -> None:
    expected = frame()
    expected.iloc[[2, 5], [1]] = np.nan
    path = tmp_path / "data.csv"
    expected.to_csv(path)
    assert_holds(read(path), expected)
    pd.concat([frame().assign(shop=shop) for shop in ("x", "y")]).to_csv(path)
    assert [item.item_id for item in read(path, item_column="shop", columns="a").panel.items] == ["x", "y"]


@pytest.mark.parametrize("column", ["item_id", "shop"])
def test_names_of_items_in_a_csv_stay_as_they_are(column: str, tmp_path: Path) -> None:
    names = ["001", "1", "NA", "null", "1.50", "007"]
    whole = pd.concat([frame(3).assign(**{column: name}) for name in names])
    whole.to_csv(tmp_path / "data.csv", sep=";")
    assert [item.item_id for item in read(tmp_path / "data.csv", item_column=column).panel.items] == names
    whole.assign(**{column: [None, *whole[column][1:]]}).to_csv(tmp_path / "data.csv")
    with pytest.raises(ValueError, match=f"column '{column}' names no item in row 0"):
        read(tmp_path / "data.csv", item_column=column)


def test_offsets_in_a_csv_may_change(tmp_path: Path) -> None:
    dates = pd.date_range("2021-03-27 23:00", periods=8, freq="h", tz="Europe/Berlin", name="date")
    pd.DataFrame({"a": np.arange(8.0)}, index=dates).to_csv(tmp_path / "data.csv")
    assert "+01:00" in (tmp_path / "data.csv").read_text() and "+02:00" in (tmp_path / "data.csv").read_text()
    assert (read(tmp_path / "data.csv").panel.items[0].index == dates).all()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/London", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("frequency", ["D", "B", "W-TUE", "MS"])
def test_local_days_with_offsets_in_a_csv_say_what_became_of_them(zone: str, frequency: str, tmp_path: Path) -> None:
    dates = pd.date_range("2024-01-01", periods=300, freq=frequency, tz=zone)[:280]
    data = pd.DataFrame({"date": dates.map(pd.Timestamp.isoformat), "a": 1.0})
    data.to_csv(path := tmp_path / "data.csv", index=False)
    for given in (None, frequency):
        with pytest.raises(
            ValueError, match=r"local days whose UTC offset changes .* becomes UTC: .*tz_convert\(zone\)"
        ):
            read(path, frequency=given)
    days = pd.to_datetime(data["date"], utc=True).dt.tz_convert(zone)  # the remedies
    panel = Panel.of(data.assign(date=days))
    assert panel.frequency == frequency and (panel.items[0].index == dates).all()
    data.assign(date=data["date"].str[:10]).to_csv(path, index=False)
    assert (read(path).panel.items[0].index == dates.tz_localize(None)).all()


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_parquet_files_are_read(zone: str | None, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    expected = frame().tz_localize(zone)
    expected.to_parquet(tmp_path / "data.parquet")
    assert_holds(read(tmp_path / "data.parquet"), expected)
    expected.reset_index().to_parquet(tmp_path / "data.PQ")
    assert_holds(read(tmp_path / "data.PQ", frequency="H"), expected)


# ---------------------------------------------------------------------------------------------- there and back


def items(zone: str | None = None) -> pd.DataFrame:
    r"""A long frame of numbers of every size, with names that look like numbers and like nothing."""
    rng = np.random.default_rng(0)
    dates = pd.date_range("2024-03-30", periods=40, freq="h", tz=zone)
    values = rng.normal(size=(120, 2)) * 10.0 ** rng.integers(-300, 150, (120, 2))
    values[[3, 50], 1] = np.nan
    names = np.repeat(["001", "1", "NA"], 40)
    whole = pd.DataFrame({"unique_id": names.astype(object), "ds": dates.append([dates] * 2), "a": 0.0, "b": 0.0})
    whole[["a", "b"]] = values
    return whole


def gluonts_file(writer: Any) -> Callable[[pd.DataFrame, Path], None]:
    return lambda frame, path: writer.write_to_file(Panel.of(frame).to_gluonts(), path)


def gluonts_writers() -> dict[str, Callable[[pd.DataFrame, Path], None]]:
    from gluonts.dataset.arrow import ArrowWriter, ParquetWriter
    from gluonts.dataset.jsonl import JsonLinesWriter

    return {
        "lines.json": gluonts_file(JsonLinesWriter(use_gzip=False)),
        "lines.json.gz": gluonts_file(JsonLinesWriter(use_gzip=True)),
        "flat.feather": gluonts_file(ArrowWriter()),
        "nested.feather": gluonts_file(ArrowWriter(flatten_arrays=False)),
        "stream.arrow": gluonts_file(ArrowWriter(stream=True)),
        "table.parquet": gluonts_file(ParquetWriter()),
    }


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    records = frame.astype({"ds": str}).to_dict("records")
    return [{key: None if value != value else value for key, value in record.items()} for record in records]


ZONED: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "pandas.parquet": lambda f, path: f.to_parquet(path),
    "pandas.feather": lambda f, path: f.to_feather(path),
    "polars.parquet": lambda f, path: pl.from_pandas(f).write_parquet(path),
    "polars.arrow": lambda f, path: pl.from_pandas(f).write_ipc(path),
    "stream.arrow": lambda f, path: pl.from_pandas(f).write_ipc_stream(path),
}
NAIVE: dict[str, Callable[[pd.DataFrame, Path], Any]] = ZONED | {
    "pandas.csv": lambda f, path: f.to_csv(path, index=False),
    "packed.csv.gz": lambda f, path: f.to_csv(path, index=False),
    "packed.tsv.gz": lambda f, path: f.to_csv(path, index=False, sep="\t"),
    "polars.csv": lambda f, path: pl.from_pandas(f).write_csv(path),
    "polars.jsonl": lambda f, path: pl.from_pandas(f).write_ndjson(path),
    "python.jsonl": lambda f, path: path.write_text("\n".join(map(json.dumps, rows(f)))),
    "packed.jsonl.gz": lambda f, path: path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows(f))).encode())),
    "array.json": lambda f, path: path.write_text(json.dumps(rows(f))),
}


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("file", NAIVE)
def test_what_is_written_is_read_to_the_bit(file: str, zone: str | None, tmp_path: Path) -> None:
    if zone is not None and file not in ZONED:
        pytest.skip("text holds UTC offsets, not time zones")
    expected = items(zone)
    NAIVE[file](expected, tmp_path / file)
    data = read(tmp_path / file)
    assert data.name == file.split(".")[0] and data.panel.frequency == "h" and data.season_length == 24
    pd.testing.assert_frame_equal(data.panel.to_pandas(), expected, check_exact=True)


@pytest.mark.parametrize("zone", [None, "America/New_York"])
@pytest.mark.parametrize("file", [file for file in NAIVE if "python" not in file and "jsonl.gz" not in file])
def test_a_wide_frame_is_read_as_it_was_written(file: str, zone: str | None, tmp_path: Path) -> None:
    if zone is not None and file not in ZONED:
        pytest.skip("text holds UTC offsets, not time zones")
    expected = items(zone)[:40].drop(columns="unique_id")
    NAIVE[file](expected, tmp_path / file)
    back = read(tmp_path / file).panel.to_pandas()
    pd.testing.assert_frame_equal(back, expected.set_index("ds"), check_exact=True, check_freq=False)


@pytest.mark.parametrize("file", gluonts_writers())
def test_what_gluonts_writes_is_read_to_the_bit(file: str, tmp_path: Path) -> None:
    expected = items()
    gluonts_writers()[file](expected, tmp_path / file)
    back = read(tmp_path / file, frequency="h").panel.to_pandas()
    assert back.columns.tolist() == ["item_id", "timestamp", "0", "1"]
    pd.testing.assert_frame_equal(back.set_axis(expected.columns, axis=1), expected, check_exact=True)


def test_names_that_numbers_hold_whole_are_numbers_where_they_name_no_items(tmp_path: Path) -> None:
    frame().assign(id=np.arange(30.0)).to_csv(tmp_path / "data.csv")
    assert read(tmp_path / "data.csv").panel.channels == ("a", "b", "id")
    frame().assign(id=[f"{n:03}" for n in range(30)]).to_csv(tmp_path / "data.csv")
    with pytest.raises(ValueError, match="column 'id' holds numbers as text"):
        read(tmp_path / "data.csv")
    pd.concat([frame().assign(id=name) for name in ("01", "1")]).to_csv(tmp_path / "data.csv")
    assert [item.item_id for item in read(tmp_path / "data.csv").panel.items] == ["01", "1"]


# ----------------------------------------------------------------------------------------- the Monash archive

TSF = """# A data set: Größe
@relation small
@attribute series_name string
@attribute state string
@attribute start_timestamp date
@frequency {frequency}
@horizon 8
@missing true
@equallength false
@data
T1:NSW:{first}:1.5,?,3e-3,4
T2:VIC:{second}:1,2,3,4,5,6
"""


@pytest.mark.parametrize(
    ("frequency", "first", "second", "alias", "starts", "season"),
    [
        ("4_seconds", "2015-01-01 00-30-04", "2015-01-02 00-00-00", "4s", None, 900),
        ("minutely", "2015-01-01 00-10-00", "2015-01-02 00-00-00", "min", None, 1440),
        ("10_minutes", "2015-01-01 00-10-00", "2015-01-02 00-00-00", "10min", None, 144),
        ("half_hourly", "2015-01-01 00-30-00", "2015-01-02 00-00-00", "30min", None, 48),
        ("hourly", "2015-07-01 12-00-00", "2015-01-02 00-00-00", "h", None, 24),
        ("daily", "2015-01-01 00-00-00", "2015-01-02", "D", None, 7),
        ("weekly", "2015-01-01 00-00-00", "2015-01-08 00-00-00", "W-THU", None, 52),
        ("monthly", "1994-02-01 12-00-00", "1995-03-01 12-00-00", "MS", None, 12),
        ("monthly", "1994-02-15 00-00-00", "1994-03-20", "ME", ("1994-02-28", "1994-03-31"), 12),
        ("quarterly", "1980-01-01 00-00-00", "1980-04-01 00-00-00", "QS-OCT", None, 4),
        ("yearly", "1979-01-01 00-00-00", "1981-01-01 00-00-00", "YS-JAN", None, 1),
        # weeks of other weekdays and years of other months are put into calendar weeks and years
        ("weekly", "2015-01-01 00-00-00", "2015-01-02 00-00-00", "W-SUN", ("2015-01-04", "2015-01-04"), 52),
        ("quarterly", "1980-01-01 00-00-00", "1980-02-01 00-00-00", "QS-OCT", ("1980-01-01", "1980-01-01"), 4),
        ("yearly", "1979-01-01 12-00-00", "1984-06-30 12-00-00", "YS-JAN", ("1979-01-01", "1984-01-01"), 1),
    ],
)
def test_files_of_the_monash_archive_are_read(
    frequency: str, first: str, second: str, alias: str, starts: Any, season: int, tmp_path: Path
) -> None:
    text = TSF.format(frequency=frequency, first=first, second=second)
    (tmp_path / "small.tsf").write_bytes(text.encode("latin-1"))
    data = read(tmp_path / "small.tsf")
    one, two = data.panel.items
    assert (data.panel.frequency, data.season_length, data.panel.single) == (alias, season, False)
    assert (one.item_id, two.item_id, data.panel.lengths) == ("T1", "T2", (4, 6))
    assert np.array_equal(one.values, [[1.5], [np.nan], [0.003], [4]], equal_nan=True)
    assert two.values.ravel().tolist() == [1, 2, 3, 4, 5, 6]
    told = [re.sub(r" (..)-(..)-(..)$", r" \1:\2:\3", start) for start in (first, second)]
    assert [one.index[0], two.index[0]] == [pd.Timestamp(start) for start in starts or told]


def test_a_tsf_file_without_dates_or_names(tmp_path: Path) -> None:
    (tmp_path / "plain.tsf").write_text("@frequency monthly\n@data\n1,2\n1,2,3\n")
    data = read(tmp_path / "plain.tsf")
    assert (data.panel.frequency, data.panel.lengths, data.season_length) == (None, (2, 3), 12)
    text = "@attribute station string\n@attribute kind string\n@data\nx:rain:1,2\nx:wind:1,2\n"
    (tmp_path / "plain.tsf").write_text(text)
    data = read(tmp_path / "plain.tsf")
    assert [item.item_id for item in data.panel.items] == ["x rain", "x wind"] and data.season_length == 1


def test_season_lengths_follow_the_frequency() -> None:
    expected = {"15min": 96, "7min": 1, "h": 24, "3h": 8, "D": 7, "B": 5, "W-TUE": 52, "ME": 12, "MS": 12, "s": 3600}
    expected |= {"QS-JAN": 4, "YE-DEC": 1, "2D": 1, "2MS": 6, None: 1}
    assert {frequency: season_length(frequency) for frequency in expected} == expected


# ------------------------------------------------------------------------------------------------------ bad input


def test_files_that_are_not_there(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "sales.csv")
    with pytest.raises(ValueError, match=r"there is no file .*sale.csv \(did you mean 'sales.csv'\?\); the cards"):
        read(tmp_path / "sale.csv")
    with pytest.raises(ValueError, match=r"is a folder: name one file in it \(sales.csv\)"):
        read(tmp_path)


def test_cards_whose_file_is_not_there_or_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTS_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"the folder .* that ADAPTS_DATA names holds no ETTh1.csv"):
        read("etth1")
    (tmp_path / "ETTh1.csv").write_text("date,a\n")
    with pytest.raises(ValueError, match="is not the file that the card 'etth1' describes: expected sha256 f18de3ad"):
        read("etth1")


def test_a_card_without_the_package_that_ships_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_cards, "find_spec", lambda name: None if name == "pvlib" else find_spec(name))
    with pytest.raises(ValueError, match=re.escape("pip install 'adapts[demo]'")):
        read("greensboro")


# ------------------------------------------------------------------------------------------------ tables in text

TABLE_DAYS = pd.date_range("2024-01-13", periods=40)


def table(form: str, *columns: Callable[[int], str], mark: str = ";", header: str = "date;a;b;c") -> str:
    rows = [mark.join([day.strftime(form), *(each(n) for each in columns)]) for n, day in enumerate(TABLE_DAYS)]
    return "\n".join([mark.join(header.split(";")[: len(columns) + 1]), *rows])


def german(number: float, digits: int = 0) -> str:
    return f"{number:,.{digits}f}".replace(",", "_").replace(".", ",").replace("_", ".")


RIGHT: dict[str, tuple[str, list[Callable[[int], float]]]] = {
    "each line ends with a separator": (
        table("%Y-%m-%d", lambda n: f"{3 * n}", lambda n: f"{n / 2},", mark=","),
        [lambda n: 3 * n, lambda n: n / 2],
    ),
    "the header too": (
        table("%Y-%m-%d", lambda n: f"{3 * n}", lambda n: f"{n / 2};").replace("date;a;b", "date;a;b;"),
        [lambda n: 3 * n, lambda n: n / 2],
    ),
    "thousands and a decimal comma": (
        table("%Y-%m-%d", lambda n: german(900 + 37 * n), lambda n: german(-n / 4, 2)),
        [lambda n: 900 + 37 * n, lambda n: -n / 4],
    ),
    "thousands beside German dates": (
        table("%d.%m.%Y", lambda n: german(900 + 37 * n)).replace("date", "Datum").replace("Datum", "date"),
        [lambda n: 900 + 37 * n],
    ),
    "millions": (table("%Y-%m-%d", lambda n: german(990_000 + 1000 * n)), [lambda n: 990_000 + 1000 * n]),
    "thousands with decimals": (
        table("%Y-%m-%d", lambda n: german(980 + n + 0.25, 2)),
        [lambda n: 980 + n + 0.25],
    ),
    "a decimal comma that comes late": (
        table("%Y-%m-%d", lambda n: german(n + (0.5 if n > 30 else 0), 1 if n > 30 else 0)),
        [lambda n: n + (0.5 if n > 30 else 0)],
    ),
    "two notations in two columns": (
        table("%Y-%m-%d", lambda n: german(n + 0.5, 1), lambda n: f"{n + 0.25}"),
        [lambda n: n + 0.5, lambda n: n + 0.25],
    ),
    "three decimals from below 1 on": (
        table("%Y-%m-%d", lambda n: f"{0.125 * n:.3f}", mark="\t"),
        [lambda n: 0.125 * n],
    ),
    "three decimals beside two": (
        table("%Y-%m-%d", lambda n: f"{1 + 0.125 * n:.3f}", lambda n: f"{n / 4:.2f}", mark="|"),
        [lambda n: 1 + 0.125 * n, lambda n: n / 4],
    ),
    "commas of thousands beside a decimal point": (
        table("%Y-%m-%d", lambda n: f"{900 + 37 * n:,}", lambda n: f"{n}.5"),
        [lambda n: 900 + 37 * n, lambda n: n + 0.5],
    ),
    "thousands beside three of more figures": (
        table("%Y-%m-%d", lambda n: f"{1200 + n}" if n % 2 else f"{n}.125"),
        [lambda n: 1200 + n if n % 2 else n + 0.125],
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_each_column_of_a_table_is_read_in_its_own_notation(case: str, tmp_path: Path) -> None:
    text, columns = RIGHT[case]
    (tmp_path / "loads.csv").write_text(text)
    panel = read(tmp_path / "loads.csv").panel
    assert panel.channels == ("a", "b")[: len(columns)] and (panel.items[0].index == TABLE_DAYS).all()
    expected = np.array([[float(column(n)) for column in columns] for n in range(40)])
    assert np.array_equal(panel.items[0].values, expected)


PLAIN_ROWS = table("%Y-%m-%d", lambda n: f"{n}", lambda n: f"{n / 2}", mark=",")
REFUSED: dict[str, tuple[str, str]] = {
    "a decimal comma between commas": (
        table("%Y-%m-%d", lambda n: f"{n},5", mark=","),
        "its first row has 3 fields, and its header names 2: name each column, and put numbers with a decimal comma in",
    ),
    "names of rows without a name": (
        "\n".join(f"{n},{row}" if n else row for n, row in enumerate(PLAIN_ROWS.split("\n"))),
        "its first row has 4 fields, and its header names 3",
    ),
    "a field too many behind empty ones": (
        PLAIN_ROWS.replace("\n", ",\n").replace("date,a,b,", "date,a,b") + ",7",
        "its 40th row has 4 fields, and its header names 3",
    ),
    "a title": ("Load of the city\n\n" + PLAIN_ROWS, "has 1 line above what looks like its header, 'date,a,b'"),
    "a title with commas": (
        "Load, in kW\n" + PLAIN_ROWS.replace(",", ";"),
        "has 1 line above what looks like its header, 'date;a;b': delete it",
    ),
    "lines that were padded": (
        "Load,,\nof 2024,,\n,,\n" + PLAIN_ROWS,
        "has 3 lines above what looks like its header, 'date,a,b': delete them",
    ),
    "comments": ("# a: kW\n# b: C\n" + PLAIN_ROWS, "has 2 lines above what looks like its header, 'date,a,b'"),
    "units": (
        PLAIN_ROWS.replace("date,a,b", "date,a,b\n,kW,C"),
        "has 2 lines above its numbers, from 'date,a,b' to ',kW,C': keep the one that names the columns",
    ),
    "two headers": (
        PLAIN_ROWS.replace("date,a,b", "date,load,load\n,mean,max"),
        "has 2 lines above its numbers, from 'date,load,load' to ',mean,max'",
    ),
    "dots that may be either": (
        table("%Y-%m-%d", lambda n: german(900 + 37 * n)),
        "column 'a' may hold thousands or decimals, for three figures are behind each '.' (first: '1.011' in row 3)",
    ),
    "commas that may be either": (
        table("%Y-%m-%d", lambda n: f"{900 + 37 * n:,}"),
        "column 'a' may hold thousands or decimals, for three figures are behind each ',' (first: '1,011' in row 3)",
    ),
    "no header": (
        PLAIN_ROWS.partition("\n")[2].replace(",0,", ",0.5,"),
        "has no header, for its first line is '2024-01-13",
    ),
    "two notations in one column": (
        table("%Y-%m-%d", lambda n: f"{n},5" if n % 2 else f"{n}.5"),
        "column 'a' holds numbers in two notations ('1,5' in row 1, and '0.5')",
    ),
    "rows numbered twice": (
        "\n".join(f"{n},{n},{row}" if n else f",Unnamed: 0,{row}" for n, row in enumerate(PLAIN_ROWS.split("\n"))),
        "are no series to forecast but a number of each row",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_is_none_says_where(case: str, tmp_path: Path) -> None:
    text, words = REFUSED[case]
    (tmp_path / "loads.csv").write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        read(tmp_path / "loads.csv")
    assert "\n" not in str(caught.value)


def test_the_remedies_of_dots_that_may_be_either_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loads.csv").write_text(REFUSED["dots that may be either"][0])
    with pytest.raises(ValueError, match="may hold thousands or decimals") as caught:
        read("loads.csv")
    said = str(caught.value)
    first, second = re.search(r"thousands, (frame = .*) and (frame\['a'\] = .*) read them", said).groups()  # type: ignore[union-attr]
    scope: dict[str, Any] = {"pd": pd}
    exec(f"{first}\n{second}", scope)
    assert np.array_equal(Panel.of(scope["frame"]).items[0].values[:, 0], 900 + 37 * np.arange(40))
    exec(re.search(r"decimals, (frame = .*) does$", said)[1], scope)  # type: ignore[index]
    assert Panel.of(scope["frame"]).items[0].values[3, 0] == 1.011


def test_several_columns_that_name_an_item_stay_text(tmp_path: Path) -> None:
    rows = "".join(f"{s},{p},2024-01-{n:02d},{n}\n" for s in ("001", "01") for p in ("NA", "1") for n in range(1, 21))
    (tmp_path / "sales.csv").write_text("store,product,date,y\n" + rows)
    panel = read(tmp_path / "sales.csv", item_column=["store", "product"]).panel
    assert [item.item_id for item in panel.items] == ["001/NA", "001/1", "01/NA", "01/1"] and panel.channels == ("y",)


def test_dots_of_thousands_in_a_file_of_commas_are_asked_about(tmp_path: Path) -> None:
    head, mixed = "date,y\n", ["974", "1.043", "998", "1.210"]
    days = [f"2024-01-0{n}" for n in range(1, 5)]
    (tmp_path / "z.csv").write_text(head + "\n".join(f"{day},{each}" for day, each in zip(days, mixed, strict=True)))
    with pytest.raises(ValueError, match=r"column 'y' may hold thousands or decimals.*sep=','"):
        read(tmp_path / "z.csv")
    # another column with decimals, or numbers that no fixed number of decimals has written, tell what dots are
    lines = [f"{day},{each},{n + 0.25}" for n, (day, each) in enumerate(zip(days, mixed, strict=True))]
    (tmp_path / "z.csv").write_text("date,y,w\n" + "\n".join(lines))
    assert read(tmp_path / "z.csv").panel.items[0].values[:, 0].tolist() == [974.0, 1.043, 998.0, 1.21]
    (tmp_path / "z.csv").write_text(head + "2024-01-01,974\n2024-01-02,1.043\n2024-01-03,1.2\n")
    assert read(tmp_path / "z.csv").panel.items[0].values[:, 0].tolist() == [974.0, 1.043, 1.2]
