r"""Whatever door the same data come in by, the forecast is the same; whatever is wrong, one line says what to do."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from seasonal import SeasonalModel

from adapts import Adapter
from adapts.data.cards import read
from adapts.data.panel import Panel

pytest.importorskip("pyarrow")


def frame(rows: int = 48, frequency: str = "h", start: str = "2024-01-01") -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(rows, 2))
    values[3:4, 1] = np.nan
    return pd.DataFrame(values, index=pd.date_range(start, periods=rows, freq=frequency), columns=["a", "b"])


def long(*frames: pd.DataFrame, item_column: str = "item_id", timestamp: str = "timestamp") -> pd.DataFrame:
    parts = [f.rename_axis(timestamp).reset_index().assign(**{item_column: f"item{n}"}) for n, f in enumerate(frames)]
    return pd.concat(parts, ignore_index=True)


# -------------------------------------------------------------------------------------- the same data, the same law


def season(channels: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    r"""Two weeks of hours whose numbers float32 holds exactly, as gluonts' own datasets have no others."""
    rng = np.random.default_rng(1)
    hour = np.arange(336)[:, None]
    values = 4 * np.sin(2 * np.pi * (hour + 3 * np.arange(2)) / 24) + rng.normal(size=(336, 1))
    values = np.round(256 * values) / 256
    values[50, 1] = np.nan
    index = pd.date_range("2024-01-01", periods=336, freq="h", name="timestamp")
    return pd.DataFrame(values[:, : len(channels)], index=index, columns=list(channels))


def written(f: pd.DataFrame, folder: Path, name: str, write: Callable[[pd.DataFrame, Path], Any]) -> Path:
    write(f, folder / name)
    return folder / name


def gluonts_list(f: pd.DataFrame) -> Any:
    from gluonts.dataset.common import ListDataset

    entry = {"start": f.index[0], "target": f.to_numpy().T}
    return ListDataset([entry], freq="h", one_dim_target=False)


def gluonts_frame(f: pd.DataFrame) -> Any:
    from gluonts.dataset.pandas import PandasDataset

    return PandasDataset(f, target=list(f.columns))


def json_lines(f: pd.DataFrame) -> str:
    return pl.from_pandas(f.reset_index()).write_ndjson()


def gluonts_lines(f: pd.DataFrame) -> str:
    return json.dumps(
        {"start": "2024-01-01 00:00", "target": [[None if x != x else x for x in row] for row in f.T.values]}
    )


# An item's name decides which paths are drawn: where a form names items, it is called "0" here too.
FORMS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "wide frame": lambda f, _: f,
    "frame with a timestamp column": lambda f, _: f.reset_index(),
    "periods": lambda f, _: f.to_period("h"),
    "long frame": lambda f, _: f.reset_index().assign(item_id="0"),
    "Nixtla's names": lambda f, _: f.rename_axis("ds").reset_index().assign(unique_id=0),
    "Chronos's names": lambda f, _: f.reset_index().assign(id="0"),
    "frame by item and date": lambda f, _: f.assign(shop="0").set_index("shop", append=True).swaplevel(),
    "polars": lambda f, _: pl.from_pandas(f.reset_index()),
    "polars, lazy": lambda f, _: pl.from_pandas(f.reset_index()).lazy(),
    "Arrow table": lambda f, _: pl.from_pandas(f.reset_index()).to_arrow(),
    "list of one frame": lambda f, _: [f],
    "list of one polars frame": lambda f, _: [pl.from_pandas(f.reset_index())],
    "gluonts ListDataset": lambda f, _: gluonts_list(f),
    "gluonts PandasDataset": lambda f, _: gluonts_frame(f),
    "CSV": lambda f, d: written(f, d, "x.csv", pd.DataFrame.to_csv),
    "packed CSV": lambda f, d: written(f, d, "x.csv.gz", pd.DataFrame.to_csv),
    "Parquet": lambda f, d: written(f, d, "x.parquet", pd.DataFrame.to_parquet),
    "Feather": lambda f, d: written(f.reset_index(), d, "x.feather", pd.DataFrame.to_feather),
    "JSON lines": lambda f, d: written(f, d, "x.jsonl", lambda f, path: path.write_text(json_lines(f))),
    "JSON lines of gluonts": lambda f, d: written(f, d, "g.jsonl", lambda f, path: path.write_text(gluonts_lines(f))),
    "a panel": lambda f, _: Panel.of(f),
    "array (T, D)": lambda f, _: f.to_numpy(),
    "array (1, T, D)": lambda f, _: f.to_numpy()[None],
    "array by columns": lambda f, _: np.asfortranarray(f.to_numpy()),
    "array by rows": lambda f, _: np.ascontiguousarray(f.to_numpy()),
    "array within another": lambda f, _: np.repeat(f.to_numpy(), 2, axis=1)[:, ::2],
    "tensor": lambda f, _: torch.from_numpy(f.to_numpy(copy=True)),
    "frame without dates": lambda f, _: f.reset_index(drop=True),
}


def law(series: Any, tmp_path: Path) -> Any:
    options = {"frequency": "h"} if str(series).endswith("g.jsonl") else {}
    adapter = Adapter("residual", foundation_model=SeasonalModel(24, 6), prediction_length=6, context_length=48)
    forecast = adapter.fit(series, **options).predict(num_samples=20)
    return forecast[0] if isinstance(forecast, list) else forecast


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return law(season(), tmp_path_factory.mktemp("expected"))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data_gives_the_same_forecast_to_the_bit(
    form: str, expected: Any, tmp_path: Path
) -> None:
    forecast = law(FORMS[form](season(), tmp_path), tmp_path)
    assert np.array_equal(forecast.quantile([0.05, 0.5, 0.9]), expected.quantile([0.05, 0.5, 0.9]))
    assert np.array_equal(forecast.mean, expected.mean)
    assert np.array_equal(forecast.samples, expected.samples)
    if forecast.frequency is not None:
        assert forecast.index.tolist() == expected.index.tolist()


def test_the_examples_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pvlib", reason="the last example is a card whose file ships inside pvlib: adapts[demo]")
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    first, *blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(first, names)
    quick: dict[str, Any] = {"copula": "independent", "recalibration": "none", "gate": False, "max_windows": 50}
    names["adapter"] = Adapter(
        "residual", foundation_model=SeasonalModel(24, 24), prediction_length=24, context_length=48, **quick
    )
    assert len(blocks) >= 17
    for block in blocks:
        names.update(dict.fromkeys(("forecast", "north", "south", "first", "second")))
        exec(block, names)
        made = [names[name] for name in ("forecast", "north", "south", "first", "second") if names[name] is not None]
        assert all(forecast.mean.shape[0] == 24 for forecast in made)
        assert len(made) == (0 if "pivot" in block else 1 if "forecast" in block else 2), block
    assert names["wide"].shape == (500, 1)


def test_many_items_of_unequal_length_are_forecast_each_from_its_own_end() -> None:
    whole = season()
    ends = {"long": 336, "short": 100, "late": 336, "tiny": 3}
    begins = dict.fromkeys(ends, 0) | {"late": 300}
    items = pd.concat([whole[begins[n] : ends[n]].reset_index().assign(unique_id=n) for n in ends])
    adapter = Adapter("residual", foundation_model=SeasonalModel(24, 6), prediction_length=6, context_length=48)
    fitted = adapter.fit(items).predict(num_samples=5)
    again = adapter.predict(items.sample(frac=1, random_state=0), num_samples=5, regularise=True)
    for name, forecast in zip(ends, fitted, strict=True):
        (other,) = [f for f in again if f.item_id == name]
        assert forecast.item_id == name and forecast.index[0] == whole.index[ends[name] - 1] + pd.Timedelta("1h")
        assert np.array_equal(forecast.samples, other.samples) and np.isfinite(forecast.samples).all()
    alone = adapter.predict(items[items["unique_id"] == "short"], num_samples=5)
    assert np.array_equal(alone.samples, fitted[1].samples)


# -------------------------------------------------------------------------------------------------- what is wrong


@dataclass
class File:
    name: str
    content: bytes


@dataclass
class Name:
    name: str


def hours(start: str, frequency: str = "h") -> pd.DataFrame:
    r"""Local time without its zone, over a change of Berlin's clocks."""
    dates = pd.date_range(start, periods=200, freq=frequency, tz="Europe/Berlin").tz_localize(None)
    return pd.DataFrame({"a": np.arange(200.0)}, index=dates)


def dirt(f: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    f = f.copy()
    f[column] = f[column].astype(object) if isinstance(value, str) else f[column]
    f.loc[f.index[row], column] = value
    return f


wide = frame()
dated = wide.rename_axis("date").reset_index()
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    # frames
    "unsorted": (
        wide.iloc[[1, 0, *range(2, 48)]],
        {},
        "1 out of order (first: row 1, 2024-01-01 00:00:00). regularise=",
    ),
    "repeated": (
        pd.concat([wide, wide[-1:]]),
        {},
        "1 repeated (first: row 48, 2024-01-02 23:00:00). regularise=True (--regularise) would sort the rows, keep one",
    ),
    "missing": (wide.drop(wide.index[[5, 6]]), {}, "2 missing (first: 2024-01-01 05:00:00)"),
    "missing, an item": (long(wide, wide.drop(wide.index[5])), {}, "the dates of item 'item1' are not regular"),
    "irregular": (
        wide.set_axis(wide.index + pd.to_timedelta(np.arange(48) ** 2, "s")),
        {},
        "no regular frequency fits",
    ),
    "off the grid": (
        wide.set_axis([*wide.index[:-1], wide.index[-1] + pd.Timedelta("7min")]),
        {"frequency": "h"},
        "1 of the 48 dates lie off the grid of frequency 'h'",
    ),
    "wrong frequency": (wide, {"frequency": "D"}, "they look like frequency='h'"),
    "unknown frequency": (wide, {"frequency": "hourly"}, "pandas knows no frequency 'hourly'"),
    "one row": (wide[:1], {}, "a single date (2024-01-01 00:00:00) shows no frequency: give frequency="),
    "no date": (dated.assign(date=[pd.NaT, *dated["date"][1:]]), {}, "column 'date' has 1 rows without a date"),
    "no dates": (dated.astype({"date": str}).assign(date="soon"), {}, "column 'date' could not be read as dates"),
    "day first and month first": (
        pd.DataFrame({"date": [*(f"{day:02d}/01/2024" for day in range(1, 20)), "01/20/2024"], "a": 1.0}),
        {},
        "column 'date' could not be read as dates (first: '13/01/2024' in row 12)",
    ),
    "an offset here and there": (
        pd.DataFrame({"date": ["2024-03-31T01:00+01:00", "2024-03-31T03:00"], "a": 1.0}),
        {},
        "column 'date' could not be read as dates",
    ),
    "numbers as dates": (dated.assign(date=range(0, 480, 10)), {}, "column 'date' could not be read as dates"),
    "two columns of dates": (
        dated.assign(time=dated["date"]),
        {},
        "date, time all hold dates: name one with timestamp_c",
    ),
    "no such timestamp": (wide, {"timestamp_column": "when"}, "no timestamp column 'when'; the columns are a, b"),
    "dates by another name": (
        dated.astype({"date": str}).rename(columns={"date": "when"}),
        {},
        "column 'when' holds dates: name it with timestamp_column= (--timestamp-column)",
    ),
    "index with gaps": (wide.reset_index(drop=True).drop(5), {}, "neither dates nor row numbers without gaps"),
    "index of names": (wide.set_axis([f"row {n}" for n in range(48)]), {}, "the index could not be read as dates"),
    "no such item": (wide, {"item_column": "shop"}, "no item column 'shop'; the columns are a, b"),
    "no item named": (long(wide).assign(item_id=None), {}, "names no item in row 0"),
    "text": (
        wide.assign(city="Jena"),
        {},
        "column 'city' holds object (first: 'Jena' in row 0). target=[...] (--columns)",
    ),
    "text that may name items": (
        long(wide, wide, item_column="shop"),
        {},
        "48 of the 96 dates are repeated: does column 'shop' name the series of each row? item_column='shop' "
        "(--item-column shop) says so",
    ),
    "categories that may name items": (
        long(wide, item_column="shop").astype({"shop": "category"}),
        {},
        "column 'shop' holds category (first: 'item0'). target=[...] (--columns) picks the columns to forecast; if",
    ),
    "an id that may name items": (
        pd.concat([wide.assign(id=1.0), wide.assign(id=2.0), wide[:1].assign(id=1.0)]),
        {},
        "49 of the 97 dates are repeated, and the rows may be several series told apart by column 'id': pass "
        "item_column='id' (--item-column id)",
    ),
    "two columns that name items": (
        long(wide, wide).assign(unique_id=np.repeat([1, 2], 48)),
        {},
        "columns item_id, unique_id could each name the item of a row: name one with item_column= (--item-column), and",
    ),
    "items whose dates repeat": (
        pd.concat([long(wide, wide, item_column="unique_id"), long(wide[:1], item_column="unique_id")]),
        {},
        "the dates of item 'item0' are not regular at frequency 'h': 1 out of order (first: row 48, 2024-01-01 00",
    ),
    "local time in autumn": (
        hours("2024-10-26"),
        {},
        "1 repeated (first: row 27, 2024-10-27 02:00:00). regularise=True (--regularise) would sort the rows, keep one "
        "row of each repeated date (the mean where they differ) and put rows of NaN where dates are missing. If they "
        "are local time over a change of the clocks, say so: frame.tz_localize(zone, ambiguous='infer') makes them",
    ),
    "local time in spring": (
        hours("2024-03-30"),
        {},
        "1 missing (first: 2024-03-31 02:00:00). regularise=True (--regularise) would sort the rows, keep one row of "
        "each repeated date (the mean where they differ) and put rows of NaN where dates are missing. If they are "
        "local time over a change of the clocks, say so: frame.tz_localize(zone, ambiguous='infer') makes them",
    ),
    "local time in quarters of hours": (hours("2024-10-26", "15min"), {}, "4 repeated (first: row 108, 2024-10-27 02"),
    "local time in steps of two hours": (
        hours("2024-10-26", "2h"),
        {"frequency": "2h"},
        "or resample the series. If they are local time over a change of the clocks, say so: frame.tz_localize(zone",
    ),
    "every six hours of local time": (
        frame(80, "6h", "2024-03-20").tz_localize("Europe/Berlin"),
        {},
        "They are regular in local time, frequency='6h', not in hours that passed: frame.tz_localize(None) keeps the",
    ),
    "one that is not there": (wide, {"item_column": "item_id"}, "no item column 'item_id'; the columns are a, b"),
    "numbers as text": (wide.astype({"a": str}), {}, "column 'a' holds numbers as text (first: '0.1"),
    "some numbers as text": (dirt(wide, 4, "a", "n/a"), {}, "some entries that are none (first: 'n/a' in row 4)"),
    "complex": (wide.astype(complex), {}, "column 'a' holds complex128"),
    "infinite": (dirt(wide, 4, "b", np.inf), {}, "column 'b' is infinite, first in row 4: a missing value is NaN"),
    "infinite, an item": (np.full((2, 3, 1), np.inf), {}, "column '0' is infinite of item '0'"),
    "no rows": (wide[:0], {}, "expected at least one row, got an empty frame"),
    "no columns": (wide[[]], {}, "expected at least one column to forecast"),
    "no such column": (wide, {"target": ["a", "z"]}, "no column z; the columns are a, b"),
    "no target": (wide, {"target": []}, "expected target to name columns, each once, got []"),
    "twice a target": (np.zeros((3, 2)), {"target": ["1", "1"]}, "each once, got ['1', '1']"),
    "twice a column": (wide[["a", "a"]], {}, "columns of different names, but a came more than once"),
    # frames of other libraries
    "text in polars": (
        pl.from_pandas(wide.assign(city="Jena").rename_axis("date").reset_index()),
        {},
        "column 'city' holds object (first: 'Jena' in row 0). target=[...] (--columns)",
    ),
    "an empty frame of polars": (pl.DataFrame({"a": []}), {}, "expected at least one row, got an empty frame"),
    "a gap in polars": (
        pl.from_pandas(wide.drop(wide.index[5]).rename_axis("date").reset_index()),
        {},
        "1 missing (first: 2024-01-01 05:00:00)",
    ),
    "text in Arrow": (pl.DataFrame({"a": ["x"]}).to_arrow(), {}, "expected numbers, but column 'a' holds object"),
    # arrays and lists
    "empty array": (np.zeros((0, 3)), {}, "at least one item, one row and one channel"),
    "empty list": ([], {}, "got an empty list"),
    "ragged lists": ([[1.0, 2.0], [1.0]], {}, "a list of arrays for items of unequal length"),
    "four axes": (np.zeros((1, 2, 3, 4)), {}, "got float64 (1, 2, 3, 4)"),
    "array of dates": (np.zeros(3, dtype="M8[D]"), {}, "got datetime64[D] (3,)"),
    "text array": (np.array(["a", "b"]), {}, "expected real numbers (T,), (T, D) or (N, T, D), got <U1 (2,)"),
    "frequency of an array": (np.zeros((4, 2)), {"frequency": "h"}, "no dates for frequency= to apply to"),
    "a path": ("data.csv", {}, "got str; adapts.data.cards.read opens files"),
    "a panel read otherwise": (
        Panel.of(wide),
        {"frequency": "D"},
        "is 'h'), frequency= cannot change it: pass the frame",
    ),
    "a panel to be mended": (Panel.of(wide), {"regularise": True}, "a Panel is already read"),
    "a number": (3, {}, "got int"),
    "a mapping": ({"x": wide}, {}, "or a gluonts dataset, got dict; pass its values as a list"),
    "other channels in a list": ([wide, wide.rename(columns={"b": "c"})], {}, "missing: b; not fitted: c"),
    "other frequencies in a list": ([wide, frame(frequency="D")], {}, "items of one frequency, got D, h"),
    "a panel in a list": ([np.zeros((2, 3, 1))], {}, "entry 0 holds 2 items"),
    "columns of an array": (
        np.zeros((4, 2)),
        {"item_column": "shop"},
        "the data have no columns, of which item_column='shop' could be one: leave it out",
    ),
    "a path as it is": (Path("data.csv"), {}, "Path; adapts.data.cards.read opens files"),
    # gluonts
    "columns of gluonts entries": (
        [{"target": [1.0, 2.0], "start": pd.Period("2024-01-01", "h")}],
        {"timestamp_column": "ds"},
        "the data have no columns, of which timestamp_column='ds' could be one",
    ),
    "half a gluonts entry": ([{"target": [1.0]}], {}, "gluonts entries with 'target' and 'start'; entry 0 has target"),
    "a start without a frequency": (
        [{"target": [1.0, 2.0], "start": "2024-01-01"}],
        {},
        "entry 0 starts at '2024-01-01', no Period with a frequency: give frequency= (--frequency)",
    ),
    "a start that is no date": (
        [{"target": [1.0, 2.0], "start": "soon"}],
        {"frequency": "h"},
        "the start 'soon' could not be read as a date: write it as 2024-01-31",
    ),
    "an empty target": ([{"target": [], "start": "2024-01-01"}], {"frequency": "h"}, "entry 0 has shape (1, 0)"),
    "a target of text": ([{"target": ["x"], "start": "2024-01-01"}], {"frequency": "h"}, "expected numbers in a (T,)"),
    "other channels in an entry": (
        [{"target": np.ones((d, 3)), "start": pd.Period("2024-01-01", "h")} for d in (2, 3)],
        {},
        "expected as many channels in each entry, got 2 in entry 0 and 3 in entry 1",
    ),
    "other frequencies in entries": (
        [{"target": np.ones(3), "start": pd.Period("2024-01-01", f)} for f in ("h", "D")],
        {},
        "expected items of one frequency, got D, h",
    ),
    "another frequency than the periods'": (
        [{"target": np.ones(3), "start": pd.Period("2024-01-01", "h")}],
        {"frequency": "D"},
        "frequency='D' is not that of the periods of Period('2024-01-01 00:00', 'h'): leave it out, or resample",
    ),
    "an infinite entry": (
        [{"target": [1.0, np.inf], "start": pd.Period("2024-01-01", "h")}],
        {},
        "column '0' is infinite, first in row 1",
    ),
    # files
    "another ending": (
        File("data.xlsx", b""),
        {},
        "cannot read 'data.xlsx' by its ending: expected one of .csv, .tsv, .parquet, .pq, .arrow, .feather, .jsonl, "
        ".json, .tsf (.csv, .tsv, .jsonl, .json, .tsf also as .gz)",
    ),
    "packed Parquet": (File("data.parquet.gz", b""), {}, "cannot read 'data.parquet.gz' by its ending"),
    "no file": (Name("there/is/none.csv"), {}, "there is no file there/is/none.csv; the cards, for data without a"),
    "an empty CSV": (File("data.csv", b""), {}, "data.csv cannot be read as CSV (No columns to parse"),
    "a ragged CSV": (
        File("data.csv", b"a,b\n1,2\n1,2,3\n"),
        {},
        "data.csv cannot be read as CSV (Error tokenizing data",
    ),
    "a CSV without rows": (File("data.csv", b"a,b\n"), {}, "data.csv: expected at least one row, got an empty frame"),
    "a CSV in Latin 1": (File("data.csv", "a,b\n1,2\n3,ü\n".encode("latin-1")), {}, "data.csv is not UTF-8 text"),
    "text in a CSV": (File("data.csv", b"a,b\n1,2\n3,x\n"), {}, "data.csv: expected numbers, but column 'b' holds"),
    "a CSV with a gap": (
        File("data.csv", wide.drop(wide.index[5]).to_csv().encode()),
        {},
        "data.csv: the dates are not regular at frequency 'h': 1 missing (first: 2024-01-01 05:00:00). regularise=True",
    ),
    "no such column in a CSV": (File("data.csv", b"a,b\n1,2\n"), {"columns": "z"}, "data.csv: there is no column z"),
    "no name in a CSV": (
        File("data.csv", b"unique_id,ds,y\n,2024-01-01,1\nx,2024-01-02,2\nx,2024-01-03,2\n"),
        {},
        "data.csv: column 'unique_id' names no item in row 0",
    ),
    "CSV that is not packed": (File("data.csv.gz", b"a,b\n1,2\n"), {}, "data.csv.gz cannot be unpacked (Not a gzipped"),
    "half a packed CSV": (File("data.csv.gz", gzip.compress(b"a,b\n1,2\n")[:-4]), {}, "data.csv.gz cannot be unpacked"),
    "not Parquet": (File("data.parquet", b"PAR?"), {}, "data.parquet cannot be read as Parquet"),
    "not Arrow": (File("data.arrow", b"ARROW1 or not"), {}, "data.arrow cannot be read as Arrow"),
    "not Feather": (File("data.feather", b""), {}, "data.feather cannot be read as Arrow"),
    "empty JSON": (File("data.jsonl", b"\n"), {}, "data.jsonl is empty: expected one record a line"),
    "not JSON": (
        File("data.jsonl", b'{"a": 1}\n{"a": \n'),
        {},
        "cannot be read as JSON lines (Expecting value in line 2",
    ),
    "JSON without records": (File("data.jsonl", b"1\n2\n"), {}, "expected a record {...} a line, got 1 as number 0"),
    "a frame as one mapping": (
        File("data.json", b'{"a": {"0": 1.0, "1": 2.0}}'),
        {},
        "data.json: expected one record a line, got a mapping in a mapping: write the frame with to_json(...",
    ),
    "numbers as dates in JSON": (
        File("data.jsonl", b'{"ds": 1704067200000.5, "y": 1}\n{"ds": 1704070800000, "y": 2}'),
        {},
        "data.jsonl: column 'ds' could not be read as dates (first: '1704067200000.5' in row 0)",
    ),
    "gluonts lines without a frequency": (
        File("data.jsonl", b'{"start": "2024-01-01", "target": [1, 2]}'),
        {},
        "data.jsonl: entry 0 starts at '2024-01-01', no Period with a frequency: give frequency= (--frequency)",
    ),
    # the Monash archive
    **{
        f"tsf: {name}": (File("data.tsf", text.encode()), {}, words)
        for name, text, words in (
            ("no series", "@data\n", "data.tsf cannot be read as tsf: it holds no series after @data"),
            ("no header", "1,2,3\n", "line 1: expected @data before the series, got '1,2,3'"),
            ("an unknown key", "@frequenzy daily\n", "line 1: expected one of @relation, @attribute, @frequency, @hor"),
            ("no key", "@\n@data\n1,2\n", "line 1: expected one of @relation, @attribute, @frequency, @hor"),
            (
                "digits that float reads",
                "@data\n1_0,2\n",
                "line 2: expected numbers or '?' with commas between them, g",
            ),
            ("a header below", "@data\n1,2\n@missing true\n", "line 3: expected one of @relation, @attribute"),
            ("an unknown type", "@attribute a text\n", "line 1: expected @attribute NAME string, numeric or date, got"),
            ("too few attributes", "@attribute a string\n@data\n1,2\n", "line 3: expected 1 attributes ('a'), got 0"),
            ("text", "@data\n\n1,x\n", "line 3: expected numbers or '?' with commas between them, could not convert"),
            ("missing, it says not", "@missing false\n@data\n1,?\n", "line 3: a value is missing, and the header says"),
            (
                "unequal, it says not",
                "@equallength true\n@data\n1\n1,2\n",
                "says @equallength true, and lengths differ",
            ),
            ("an unknown frequency", "@frequency often\n@data\n1\n", "expected a @frequency such as hourly, daily or"),
            (
                "no frequency",
                "@attribute d date\n@data\n2024-01-01:1,2\n",
                "no Period with a frequency: give frequency=",
            ),
            (
                "a start that is none",
                "@frequency daily\n@attribute d date\n@data\nx:1,2\n",
                "the start 'x' could not be",
            ),
        )
    },
    "zero bytes": (
        File("data.csv", b"date,a\n2024-01-01,12\x0034\n"),
        {},
        "data.csv is not text, byte 20 is zero: save",
    ),
    "a key twice": (File("data.jsonl", b'{"a": 1, "a": 2}'), {}, "it holds the key 'a' twice"),
    "tsf: a frequency for no dates": (File("data.tsf", b"@data\n1,2\n"), {"frequency": "h"}, "no dates for frequency="),
    # cards
    "no card": (Name("grensboro"), {}, "no data card is called 'grensboro'; known: "),
    "nearly a card": (Name("grensboro"), {}, "(did you mean 'greensboro'?)"),
    "a card without its file": (
        Name("etth1"),
        {},
        "the card 'etth1' reads ETTh1.csv, which adapts does not ship: fetch it (https",
    ),
    **{
        f"a card read with {option}": (
            Name("ETTh1"),
            {option: value},
            f"the card 'etth1' states how it is read, {option}= cannot change it: read the file",
        )
        for option, value in {
            "frequency": "h",
            "regularise": True,
            "timestamp_column": "date",
            "item_column": "item_id",
        }.items()
    },
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_line_that_says_what_to_do(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADAPTS_DATA", raising=False)
    given, options, words = WRONG[case]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        if isinstance(given, File):
            (tmp_path / given.name).write_bytes(given.content)
            read(tmp_path / given.name, **options)
        elif isinstance(given, Name):
            read(given.name, **options)
        else:
            Panel.of(given, **options)
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------------- later rows


def plain(frequency: str = "h", rows: int = 120, *, tz: str | None = None, last: int | None = None) -> pd.DataFrame:
    index = pd.date_range("2000-01-01", periods=rows, freq=frequency, tz=tz, name="timestamp")
    values = np.random.default_rng(2).normal(size=(rows, 2))
    return pd.DataFrame(values, index=index, columns=["a", "b"])[-(last or rows) :]


def fitted_on(series: Any, **options: Any) -> Adapter:
    bare: dict[str, Any] = {"copula": "independent", "recalibration": "none", "gate": False}
    one = Adapter("identity", foundation_model=SeasonalModel(4, 4), prediction_length=4, context_length=16, **bare)
    return one.fit(series, **options)


#: The ways in which later rows come in; a frequency is only said where the form must have one.
LATER: dict[str, Callable[[pd.DataFrame, str, Path], Any]] = {
    "a frame": lambda f, _, d: f,
    "a list of frames": lambda f, _, d: [f],
    "polars": lambda f, _, d: pl.from_pandas(f.reset_index()),
    "a path": lambda f, _, d: written(f, d, "later.csv", pd.DataFrame.to_csv),
    "a path as text": lambda f, _, d: str(written(f, d, "later.csv", pd.DataFrame.to_csv)),
    "a panel": lambda f, freq, d: Panel.of(f, frequency=freq),
    "a data set": lambda f, freq, d: read(written(f, d, "later.csv", pd.DataFrame.to_csv), frequency=freq),
}


@pytest.mark.parametrize("form", LATER)
@pytest.mark.parametrize(
    ("fit", "later"),
    [
        ("QS-JAN", "QS-APR"), ("QS-JAN", "QS-OCT"), ("YS-JAN", "YS"), ("7D", "W-SAT"), ("W-SAT", "7D"),
        ("60min", "h"), ("h", "60T"), ("D", "24h"), ("B", "B"), ("ME", "M"),
    ],
)  # fmt: skip
def test_later_rows_are_read_at_the_fitted_frequency_whatever_its_name(
    fit: str, later: str, form: str, tmp_path: Path
) -> None:
    whole = plain(fit)
    one = fitted_on(whole, frequency=fit)
    for rows in (20, 5, 1):
        forecast = one.predict(LATER[form](whole[-rows:], later, tmp_path), num_samples=2)
        forecast = forecast[0] if isinstance(forecast, list) else forecast
        assert forecast.frequency == one.predict(num_samples=2).frequency
        assert forecast.index.tolist() == one.predict(num_samples=2).index.tolist()


@pytest.mark.parametrize("form", LATER)
def test_columns_that_were_not_fitted_are_not_looked_at(form: str, tmp_path: Path) -> None:
    rows = plain()
    one = fitted_on(rows)
    more = rows.assign(c=1.0) if form in ("a panel", "a data set") else rows.assign(c="text")
    forecast = one.predict(LATER[form](more, "h", tmp_path), num_samples=2)
    forecast = forecast[0] if isinstance(forecast, list) else forecast
    assert forecast.channels == ("a", "b") and np.array_equal(forecast.mean, one.predict(num_samples=2).mean)


def test_channels_without_names_are_as_many_as_were_fitted() -> None:
    with pytest.raises(ValueError, match="expected the 2 channels of the fit .*not fitted: 2"):
        fitted_on(plain().to_numpy()).predict(np.zeros((20, 3)))


#: What was fitted, what came later, with which options, and words of the answer.
NOT_LATER: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "days after hours": (plain("h"), plain("D"), {}, "expected rows of the fitted frequency, 'h', got 'D': resample"),
    "a panel of days": (plain("h"), Panel.of(plain("D")), {}, "the fitted frequency, 'h', got 'D'"),
    "one row of days": (plain("h"), plain("D", last=1), {"frequency": "D"}, "the fitted frequency, 'h', got 'D'"),
    "weeks of other days": (plain("W-MON"), plain("W-WED"), {}, "the fitted frequency, 'W-MON', got 'W-WED'"),
    "quarters of other months": (plain("QS-JAN"), plain("QS-FEB"), {}, "the fitted frequency, 'QS-OCT', got 'QS-NOV'"),
    "no zone any more": (
        plain(tz="Europe/Berlin"),
        plain(),
        {},
        "was fitted on dates in the time zone Europe/Berlin, and these dates have none: use frame.tz_localize('E",
    ),
    "a zone on a sudden": (
        plain(),
        plain(tz="UTC"),
        {},
        "was fitted on dates without a time zone, and these are in UTC: use frame.tz_convert(zone).tz_localize(None",
    ),
    "a panel without a zone": (plain(tz="UTC"), Panel.of(plain()), {}, "in the time zone UTC, and these dates have no"),
}


@pytest.mark.parametrize("case", NOT_LATER)
def test_later_rows_that_do_not_follow_get_one_line(case: str) -> None:
    before, later, options, words = NOT_LATER[case]
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        fitted_on(before).predict(later, **options)
    assert "\n" not in str(caught.value)


def test_later_rows_in_another_zone_are_the_same_instants() -> None:
    rows = plain(tz="UTC")
    one = fitted_on(rows)
    there = one.predict(rows.tz_convert("Asia/Tokyo"))
    assert np.array_equal(there.mean, one.predict().mean) and there.index.equals(one.predict().index)


def wide_by_day(rows: int = 2400, tz: str | None = "America/New_York") -> pd.DataFrame:
    r"""Independent noise, ten times as wide from six to eighteen o'clock, local time."""
    index = pd.date_range("2024-01-01", periods=rows, freq="h", tz=tz)
    by_day = (index.hour >= 6) & (index.hour < 18)
    noise = np.random.default_rng(0).normal(size=(rows, 2))
    return pd.DataFrame(noise * np.where(by_day, 3.0, 0.3)[:, None], index, columns=["a", "b"])


def test_the_season_of_widths_is_that_of_the_fitted_zone(caplog: pytest.LogCaptureFixture) -> None:
    rows = wide_by_day()
    one = Adapter("identity", foundation_model=SeasonalModel(24, 12), prediction_length=12, max_windows=200).fit(rows)
    assert "the season" in one.summary().stages["confirmation"]
    here, there = one.predict(rows[:2000]), one.predict(rows[:2000].tz_convert("UTC"))
    assert np.array_equal(here.samples, there.samples) and here.index.equals(there.index)
    low, high = here.interval(0.8)
    by_day = (here.index.hour >= 6) & (here.index.hour < 18)
    assert 0 < by_day.sum() < 12 and (high - low)[by_day].min() > 2 * (high - low)[~by_day].max()
    # Without dates nobody knows the hour: widths lie between, and that is said.
    low, high = one.predict(rows[:2000].reset_index(drop=True)).interval(0.8)
    assert "rows without dates" in caplog.text and (high - low).max() < 2 * (high - low).min()
