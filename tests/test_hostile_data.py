r"""Data that no reader may trip over: each gets its panel, or one error of ours that names what is wrong."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapts import Adapter, Panel
from adapts.data import from_files, from_memory
from adapts.data.cards import read
from adapts.fitting.update import extend

DAYS = pd.date_range("2024-01-01", periods=4, freq="D")
LONG_EXPONENTS = ("1e33694426776", "1e4294967296", "-1.5E+99999", "12e3369442677")


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": np.arange(4.0), **columns}, index=DAYS)


# ---------------------------------------------------------------------------------------------------- text as numbers


@pytest.mark.parametrize("text", LONG_EXPONENTS)
def test_a_long_exponent_ends_no_process(text: str, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text(f"a,b\n{text},x\n1,y\n")
    (tmp_path / "ids.csv").write_text(f"item_id,timestamp,a\n{text},2024-01-01,1\n{text},2024-01-02,2\n")
    (tmp_path / "one.jsonl").write_text(json.dumps({"a": text}) + "\n" + json.dumps({"a": "1"}))
    code = f"""
import pandas as pd
from adapts import Panel
from adapts.data.cards import read
column = [{text!r}] + ["1"] * 9
mixed = pd.DataFrame({{"a": column}})
days = pd.DataFrame({{"date": pd.date_range("2024", periods=10), "hour": column, "a": 1.0}})
parts = pd.DataFrame({{"year": 2024, "month": column, "day": column, "a": 1.0}})
for reader, given in [(Panel.of, mixed), (Panel.of, days), (Panel.of, parts), (read, "one.csv"), (read, "one.jsonl")]:
    try:
        reader(given)
    except ValueError as error:
        assert "to_numeric" not in str(error), error
    else:
        raise SystemExit("no error")
assert [item.item_id for item in read("ids.csv").panel.items] == [{text!r}]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_remedy_for_numbers_as_text_works_on_them() -> None:
    column = pd.Series(["1", "2.5", "1e3", " .5", "1E-9999"])
    with pytest.raises(ValueError, match="holds numbers as text .*convert it with pd.to_numeric"):
        Panel.of(column.to_frame("a"))
    assert Panel.of(pd.to_numeric(column).to_frame("a")).items[0].values[:, 0].tolist() == [1, 2.5, 1000, 0.5, 0]


def test_item_names_in_a_csv_stay_the_text_that_they_are(tmp_path: Path) -> None:
    for names, held in ((("1", "2"), ["1", "2"]), (("001", "1"), ["001", "1"]), (("1.5", "2.5"), ["1.5", "2.5"])):
        rows = "".join(f"{name},2024-01-0{day},1\n" for name in names for day in (1, 2, 3))
        (tmp_path / "items.csv").write_text(f"item_id,date,a\n{rows}")
        assert [item.item_id for item in read(tmp_path / "items.csv").panel.items] == held


# ---------------------------------------------------------------------------------------------------- dates


@pytest.mark.parametrize(("stray", "frequency"), [("2261-01-01", "s"), ("2024-06-01", "ms"), ("1700-01-01", "min")])
@pytest.mark.parametrize("regularise", [False, True])
def test_a_stray_date_is_named_and_no_grid_laid_out(stray: str, frequency: str, regularise: bool) -> None:
    index = pd.date_range("2024", periods=600, freq=frequency).append(pd.DatetimeIndex([stray]))
    rows = pd.DataFrame({"a": np.arange(601.0)}, index=index)
    with pytest.raises(ValueError, match=f"span about .* steps of frequency '{frequency}'.*correct or drop {stray}"):
        Panel.of(rows, frequency=frequency, regularise=regularise)


def test_gaps_of_years_are_filled() -> None:
    for frequency, end in (("D", "2024"), ("h", "2009"), ("B", "2020")):
        index = pd.date_range("2000-01-03", periods=50, freq=frequency)
        index = index.append(pd.date_range(pd.Timestamp(end), periods=50, freq=frequency))
        panel = Panel.of(pd.DataFrame({"a": np.ones(100)}, index=index), frequency=frequency, regularise=True)
        assert np.nansum(panel.items[0].values) == 100 and panel.lengths[0] > 1000


def test_the_gaps_of_all_items_are_counted_together() -> None:
    dates = pd.DatetimeIndex(["2015-01-01 00:00", "2015-01-01 01:00", "2020-01-01 00:00"])
    rows = pd.concat([pd.DataFrame({"item_id": str(n), "date": dates, "a": 1.0}) for n in range(5)])
    assert Panel.of(rows[:3], frequency="h", regularise=True).lengths[0] == 43825
    with pytest.raises(ValueError, match="regularise=True makes .* rows or more of 15"):
        Panel.of(rows, frequency="h", regularise=True)


def test_an_update_fills_no_gap_that_is_long_beside_the_new_rows() -> None:
    known = pd.DataFrame({"a": np.arange(100.0)}, index=pd.date_range("2024", periods=100, freq="h"))
    days = known.set_axis(pd.date_range(known.index[-1] + pd.Timedelta("1h"), periods=100, freq="D"), axis=0)
    later = Panel.of(days, frequency="h", regularise=True)
    with pytest.raises(ValueError, match="regularise=True adds 2277 missing rows to the 100 new ones of '0'"):
        extend(Panel.of(known), later, filled=True)
    few = Panel.of(days[:5], frequency="h", regularise=True)
    assert extend(Panel.of(known), few, filled=True).lengths == (100 + 97,)


def test_a_later_stray_date_is_refused_at_the_fitted_frequency() -> None:
    index = pd.date_range("2024", periods=120, freq="s")
    series = pd.DataFrame({"a": np.random.default_rng(0).normal(size=120)}, index=index)
    adapter = Adapter("residual", prediction_length=2, context_length=16, max_windows=10).fit(series)
    stray = series.rename({index[-1]: pd.Timestamp("2200-01-01")})
    with pytest.raises(ValueError, match="no regular frequency fits the dates .* to 2200-01-01"):
        adapter.predict(stray)
    with pytest.raises(ValueError, match="no regular frequency fits the dates .* to 2200-01-01"):
        adapter.update(stray, regularise=True)
    with pytest.raises(ValueError, match="correct or drop 2200-01-01"):
        adapter.predict(stray, frequency="s")


# ---------------------------------------------------------------------------------------------------- sizes


def packed(path: Path, head: bytes, unit: bytes, times: int) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(times):
            file.write(unit)
    return path


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".tsf"])
def test_a_packed_file_holds_no_more_than_data_do(tmp_path: Path, ending: str) -> None:
    bomb = packed(tmp_path / f"bomb{ending}.gz", b"", b"1,2\n" * 2**18, 80)
    with pytest.raises(ValueError, match=r"^bomb.*gz holds more than 100 times its own size of \d+ bytes.*gunzip"):
        read(bomb)


def test_text_beyond_the_most_that_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_files, "MOST_TEXT", 2**20)
    (tmp_path / "large.csv").write_text("a,b\n" + "1,2\n" * 2**19)
    with pytest.raises(ValueError, match="large.csv holds more than 1 MiB of text: write it as Parquet"):
        read(tmp_path / "large.csv")


def test_a_key_for_each_record_makes_no_table_of_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "keys.jsonl").write_text("\n".join(json.dumps({f"k{n}": 1}) for n in range(10_000)))
    with pytest.raises(
        ValueError, match="keys.jsonl holds 10000 values, and as a table of 10000 rows and 10000 columns"
    ):
        read(tmp_path / "keys.jsonl")


@pytest.mark.parametrize("head", ["," * 200_000, "a,b\n" + "," * 200_000, "," * 50_000 + "\n" + "1\n" * 10_000])
def test_a_csv_is_measured_before_it_is_parsed(tmp_path: Path, head: str) -> None:
    (tmp_path / "wide.csv").write_text(head + "\n")
    with pytest.raises(ValueError, match="wide.csv (would be a table of|holds .* as a table)"):
        read(tmp_path / "wide.csv")


@pytest.mark.parametrize("ending", ["parquet", "feather", "stream.arrow", "nulls.feather", "lists.parquet"])
def test_a_binary_file_is_measured_before_it_is_unpacked(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, ipc, parquet

    monkeypatch.setattr(from_files, "MOST_VALUES", 2**16)
    path, table = tmp_path / f"zeros.{ending}", pyarrow.table({"a": np.zeros(2**17)})
    if ending == "nulls.feather":
        table = pyarrow.table({"a": pyarrow.nulls(2**17)})
    if ending == "lists.parquet":
        table = pyarrow.table({"target": [np.zeros(2**17)]})
    if "parquet" in ending:
        parquet.write_table(table, path)
    elif "feather" in ending:
        feather.write_feather(table, path, compression="zstd")
    else:
        with ipc.new_stream(path, table.schema, options=ipc.IpcWriteOptions(compression="zstd")) as stream:
            stream.write_table(table)
    with pytest.raises(ValueError, match=f"zeros.{ending} would be a table of 131072 values: at most 65536"):
        read(path)


def test_more_columns_than_a_fit_can_hold_are_refused() -> None:
    wide = np.zeros((3, from_memory.MOST_CHANNELS + 1))
    for given in (wide, wide[None], pd.DataFrame(wide), [{"start": pd.Period("2024", "D"), "target": wide.T}]):
        with pytest.raises(ValueError, match="expected at most 5000 columns to forecast, got 5001"):
            Panel.of(given)
    assert Panel.of(pd.DataFrame(wide), target=["0", "5000"]).channels == ("0", "5000")


# ---------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timestamp_column": ["date"]}, r"expected timestamp_column to be the name of one column, got \['date'\]"),
        ({"item_column": {}}, "expected item_column to be the name of one column, got {}"),
        ({"target": 5}, "expected target to name columns, as 'a' or .*, got 5"),
        ({"target": [["a"]]}, r"expected target to name columns, .*, got \['a'\] among them"),
        ({"target": {"a"}}, "expected target to name columns"),
        ({"target": np.array(1)}, "expected target to name columns"),
        ({"target": ["a", "a"]}, "expected target to name columns, each once"),
        ({"static": None}, "expected static to name columns, as 'a' or .*, got None"),
        ({"static": 5}, "expected static to name columns"),
        ({"static": {"kind": 5}}, "expected static to map names of columns to their categories"),
        ({"frequency": 5}, "expected frequency to be a pandas alias .* or an offset, got 5"),
        ({"frequency": ["D"]}, "expected frequency to be a pandas alias"),
        ({"frequency": "D" * 5000}, "expected frequency to be a pandas alias"),
        ({"frequency": "99999999999999999999D"}, "pandas knows no frequency '99999999999999999999D'"),
        ({"frequency": "1000000YS"}, "pandas knows no frequency '1000000YS' of at most 250 years"),
        ({"regularise": "x"}, "expected regularise to be True or False, got 'x'"),
        ({"regularise": None}, "expected regularise to be True or False, got None"),
        ({"timestamp_column": "x" * 5000}, "a name has at most 500 characters, this one has 5000"),
    ],
)
def test_options_are_checked_by_their_type(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "a.csv")
    given = {"columns" if name == "target" else name: value for name, value in options.items()}
    for door in (lambda: Panel.of(frame(), **options), lambda: read(tmp_path / "a.csv", **given)):
        with pytest.raises(ValueError, match=says) as caught:
            door()
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("frequency", [pd.offsets.Day(), pd.Timedelta("1D"), DAYS.freq, "D"])
def test_a_frequency_may_be_an_offset(frequency: Any) -> None:
    assert Panel.of(frame(), frequency=frequency).frequency == "D"


def test_options_of_the_adapter_are_checked_likewise() -> None:
    adapter = Adapter("residual", prediction_length=1)
    for options in (
        {"regularise": 5},
        {"frequency": []},
        {"static": None},
        {"past_covariates": 5},
        {"item_column": [[1]]},
    ):
        for door in (adapter.fit, adapter.backtest):
            with pytest.raises(ValueError, match=f"expected {next(iter(options))} to"):
                door(frame(), **options)


# ---------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("entry", [[1], {1}, {"a": 1}, np.array([1, 2]), object()])
@pytest.mark.parametrize("name", ["a", "id", "item_id", "date"])
def test_columns_of_other_objects_are_refused_by_name(entry: Any, name: str) -> None:
    rows = pd.DataFrame({"b": np.arange(4.0), name: pd.Series([entry] * 4, dtype=object)})
    with pytest.raises(ValueError, match=f"column '{name}' holds {type(entry).__name__} .*in row 0"):
        Panel.of(rows)
    if name == "a":
        assert Panel.of(rows, target="b").channels == ("b",)


def test_a_column_of_missing_dates_alone_is_named() -> None:
    with pytest.raises(ValueError, match="column 'ended_at' holds no value at all, and is datetime64.*: drop it"):
        Panel.of(frame(ended_at=[pd.NaT] * 4))


@pytest.mark.parametrize("given", [[10**400, 1], pd.DataFrame({"a": [10**400, 1]}, dtype=object)])
def test_integers_beyond_float64_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="too large to convert to float") as caught:
        Panel.of(given)
    assert isinstance(caught.value.__cause__, OverflowError)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (torch.ones(3).to_sparse(), "the tensor cannot be read as an array .*: pass a dense tensor"),
        (memoryview(np.ones((2, 2))), "reading the memoryview failed"),
        ((1 / 0 for _ in range(2)), r"reading the generator failed \(division by zero\)"),
        (
            np.ma.masked_array(np.array([["x"]], dtype=object), mask=[[False]]),
            "the masked array does not hold real num",
        ),
        (np.array(5.0), "expected real numbers"),
        (pd.DataFrame({"date": np.arange(4, dtype=np.float16), "a": 1.0}), "column 'date' could not be read as dates"),
        (pd.DataFrame({"a\ud800": [1.0]}), "which UTF-8 cannot write"),
        (pd.DataFrame({"item_id": ["x\ud800", "y"], "a": [1.0, 2.0]}), "which UTF-8 cannot write"),
        (
            pd.DataFrame({"item_id": ["a", "b"], "a": [1.0, 2.0]}, index=pd.Index(["u", "v"], name="item_id")),
            "the index and a column are both called 'item_id'",
        ),
        ([{"start": [1], "target": [1.0]}], r"entry 0 starts at \[1\]: expected a Period, a date or its text"),
        ([{"start": DAYS[0].to_period("D"), "target": [1.0], "item_id": [1]}], r"entry 0 has the item_id \[1\]"),
    ],
)
def test_what_is_no_series_gets_one_error(given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Panel.of(given)


def test_a_frame_goes_out_and_back_beside_a_channel_called_timestamp() -> None:
    panel = Panel.of(frame(timestamp=np.arange(4.0), date=np.arange(4.0)))
    assert panel.channels == ("a", "timestamp", "date")
    back = Panel.of(panel.to_pandas(long=True))
    assert back.channels == panel.channels and np.array_equal(back.items[0].values, panel.items[0].values)
    assert (back.items[0].index == DAYS).all()


# ---------------------------------------------------------------------------------------------------- files


def test_two_columns_of_one_name_are_refused_in_a_csv(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("date,a,a \n2024-01-01,1,2\n2024-01-02,3,4\n")
    with pytest.raises(ValueError, match=r"expected columns of different names, but a came more than once"):
        read(tmp_path / "twice.csv")


def test_a_row_of_more_fields_than_the_header_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("a,b\n" + "1," * 50 + "\n")
    with pytest.raises(ValueError, match="its first row has 51 fields, and its header names 2"):
        read(tmp_path / "long.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes of a name")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ValueError, match="pipe.csv' is no file but a pipe, a socket or a device"):
        read(tmp_path / "pipe.csv")


@pytest.mark.parametrize("name", ["a\0.csv", "x" * 300 + ".csv", "x/" * 3000 + "a.csv", "\ud800.csv", 5, None])
def test_names_that_no_file_has(name: Any) -> None:
    with pytest.raises(ValueError, match="there is no file|expected the path of a file") as caught:
        read(name)
    assert len(str(caught.value)) < 1000


def test_a_damaged_stream_is_named_with_its_cause(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 500)
    (tmp_path / "x.csv.gz").write_bytes(whole[:10] + b"\xff" + whole[11:])  # a kind of block that there is not
    with pytest.raises(ValueError, match="^x.csv.gz cannot be unpacked") as caught:
        read(tmp_path / "x.csv.gz")
    assert isinstance(caught.value.__cause__, zlib.error)


@pytest.mark.parametrize(
    "record", ['{"a":' + "[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": 1', "{}", "[]", "null"]
)
def test_a_damaged_record_is_named_by_its_file(tmp_path: Path, record: str) -> None:
    (tmp_path / "x.jsonl").write_text(record + "\n")
    with pytest.raises(ValueError, match=r"^x\.jsonl"):
        read(tmp_path / "x.jsonl")


def write_all(folder: Path) -> list[Path]:
    r"""One small file of each kind."""
    pytest.importorskip("pyarrow")
    from pyarrow import Table, ipc

    long = frame(item_id="x", kind=pd.Categorical(list("uvuv"))).rename_axis("date").reset_index()
    long.to_csv(folder / "a.csv", index=False)
    (folder / "a.csv.gz").write_bytes(gzip.compress((folder / "a.csv").read_bytes()))
    long.to_parquet(folder / "a.parquet")
    long.to_feather(folder / "a.feather")
    table = Table.from_pandas(long)
    with ipc.new_stream(folder / "a.arrow", table.schema) as stream:
        stream.write_table(table)
    long.to_json(folder / "a.jsonl", orient="records", lines=True, date_format="iso")
    (folder / "a.tsf").write_text(
        "@attribute start_timestamp date\n@frequency daily\n@data\n2024-01-01 00-00-00:1,2,3\n"
    )
    return sorted(folder.iterdir())


def test_damaged_files_raise_nothing_but_value_errors_that_name_them(tmp_path: Path) -> None:
    for path in write_all(tmp_path):
        whole, chance = path.read_bytes(), random.Random(path.name)
        for _ in range(40):
            raw = bytearray(whole)
            for _ in range(chance.choice([1, 1, 3])):
                place = chance.randrange(len(raw))
                if chance.random() < 0.2:
                    del raw[place:]
                    raw += b"\0"
                else:
                    raw[place] = chance.randrange(256)
            path.write_bytes(raw)
            try:
                read(path)
            except ValueError as error:
                assert type(error) is ValueError and path.name in str(error)


class Endless:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, row: int) -> float:
        return 1.0


@pytest.mark.parametrize(
    "given",
    [
        [{"start": DAYS[0].to_period("D"), "target": Endless()}],
        [{"start": DAYS[0].to_period("D"), "target": [1.0, Endless()]}],
        [[1.0, 2.0], [1.0, Endless()]],
    ],
)
def test_what_can_be_indexed_without_end_ends(given: Any) -> None:
    with pytest.raises(ValueError, match="an object of type 'Endless' for numbers"):
        Panel.of(given)


class Broken(np.ndarray):
    @property
    def dtype(self) -> None:  # type: ignore[override]
        return None


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Raises(dict[str, Any]):
    def items(self) -> Any:
        raise Silent


@pytest.mark.parametrize("given", [np.zeros((5, 2)).view(Broken), pd.DataFrame({"a": [1.0, 2.0]}, dtype=object)])
def test_what_no_check_has_foreseen_is_one_error_with_its_cause(given: Any) -> None:
    options = {} if isinstance(given, np.ndarray) else {"static": Raises(a=None)}
    with pytest.raises(ValueError, match="cannot be read .*: pass ") as found:
        Panel.of(given, **options)
    assert isinstance(found.value.__cause__, AttributeError | Silent)


def test_items_of_one_name_are_no_long_frame() -> None:
    entries = [{"start": pd.Period("2024-01-01", "D"), "target": np.arange(9.0), "item_id": "u"}] * 2
    panel = Panel.of(entries)  # as the rolled test sets of gluonts have them
    assert len(panel) == 2
    with pytest.raises(ValueError, match="several are called 'u': give entries different item_ids"):
        panel.to_pandas()


@pytest.mark.parametrize("what", ["columns", "index", "array", "groups", "static"])
def test_dates_that_pandas_crashes_on_end_no_process(what: str) -> None:
    script = f"""
import numpy as np, pandas as pd
from adapts import Panel
far = np.array(["0001-01-01T13:59:59", "1500-01-01"], dtype="datetime64[s]")
dates = pd.DatetimeIndex(far).tz_localize("UTC").tz_convert("Europe/Berlin")
frame = pd.DataFrame({{"a": [1.0, 2.0], "item_id": ["u", "v"], "k": dates}})
given = {{"columns": pd.DataFrame(np.zeros((5, 2))).set_axis(dates, axis=1), "index": dates, "array": dates.array,
         "groups": frame.groupby("k"), "static": frame}}[{what!r}]
try:
    print(Panel.of(given, static=["k"] if {what!r} == "static" else ()).channels)
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize("huge", ["1e400", "9" * 5000, "-1e33694426776"])
def test_a_number_that_no_float64_holds_is_the_one_that_is_named(huge: str) -> None:
    with pytest.raises(ValueError, match=r"first: '-?[19].* in row 1\): correct those that are larger"):
        Panel.of(pd.DataFrame({"a": ["0.5", huge, "3", "4"]}))


@pytest.mark.parametrize("year", [-5000, 300_000])
@pytest.mark.parametrize("kind", ["index", "column", "category", "level"])
def test_dates_that_python_has_none_of_end_no_process(year: int, kind: str) -> None:
    dates = pd.DatetimeIndex(np.datetime64(year - 1970, "Y").astype("M8[s]") + np.arange(3) * np.timedelta64(1, "D"))
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    if kind == "index":
        frame.index = dates
    elif kind == "level":
        frame.index = pd.MultiIndex.from_arrays([["u"] * 3, dates], names=["item_id", "timestamp"])
    else:
        frame["timestamp"] = dates if kind == "column" else pd.Categorical.from_codes([0, 1, 2], dates)
    with pytest.raises(ValueError, match="outside of the years 2 to 9998: dates lie between 1677-09-22 and 2262"):
        Panel.of(frame)


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["0,534", "1,234"], [0.534, 1.234]),
        (["1 000,5", "2 000,25"], [1000.5, 2000.25]),
        (["1\u00a0000", "2\u00a0500"], [1000, 2500]),
        (["1\u202f000,5", "3"], [1000.5, 3]),
        (["1\u2019000,5"], [1000.5]),
        (["1'000", "999"], [1000, 999]),
        (["1,234.5", "12"], [1234.5, 12]),
        (["1.000.000", "2.500"], [1_000_000, 2500]),
        (["1.234,5", "7,25"], [1234.5, 7.25]),
        ([",5", "1,25"], [0.5, 1.25]),
        (["12%", "3.5 %"], [12, 3.5]),
    ],
)
def test_the_remedy_for_a_notation_reads_these_very_numbers(texts: list[str], numbers: list[float]) -> None:
    column = pd.Series(texts * 4)
    with pytest.raises(ValueError, match="holds (percents|what looks like numbers)") as found:
        Panel.of(pd.DataFrame({"a": column}))
    (code,) = re.findall(r"(pd\.to_numeric\(column\S*(?: '\))?.*?\))(?:;|\. target|$)", str(found.value))
    assert eval(code, {"pd": pd, "column": column}).tolist() == numbers * 4


def test_a_comma_that_may_stand_before_thousands_or_decimals_is_asked_about() -> None:
    with pytest.raises(ValueError, match=r"', ''\)\) if these are thousands, .*'\.'\)\) if they are decimals"):
        Panel.of(pd.DataFrame({"a": ["1,234", "2,345"]}))
