r"""Series in every form: frames nearly right, arrays, tensors, lists, gluonts entries, and what is no series."""

from __future__ import annotations

import copy
import reprlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch

from adapts import Panel
from adapts.data.options import ITEM_NAMES

from . import odd
from .judge import Case, Unbuilt, Wrong

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 150
_SHORT.maxlevel = 3

NAMES = (
    "a",
    "b",
    "c",
    "load",
    "temp",
    "item_id",
    "unique_id",
    "series_id",
    "ts_id",
    "series_name",
    "id",
    "ID",
    "Id",
    "timestamp",
    "date",
    "Date",
    "time",
    "ds",
    "datetime",
    "target",
    "start",
    "feat_dynamic_real",
    "index",
    "level_0",
    "level_1",
    "0",
    "1",
    "Unnamed: 0",
    "group",
    "y",
    "ended_at",
    "kind",
    " a",
    "a ",
)


def shown(value: object) -> str:
    r"""Shows a value in a line, whatever its `repr` does."""
    try:
        if isinstance(value, pd.DataFrame):
            kinds = {str(name): str(kind) for name, kind in zip(value.columns, value.dtypes, strict=True)}
            return f"frame {value.shape} {_SHORT.repr(kinds)} index {value.index.dtype}"
        if isinstance(value, np.ndarray | torch.Tensor):
            return f"{type(value).__name__} {value.dtype} {tuple(value.shape)}"
        return " ".join(_SHORT.repr(value).split())[:300]
    except BaseException:
        return f"<{type(value).__name__}>"


# ---------------------------------------------------------------------------------------------------- numbers


def sizes(random: Random, shape: tuple[int, ...]) -> np.ndarray:
    r"""Ordinary numbers, of one size or of many."""
    rng = np.random.default_rng(random.randrange(2**32))
    values = rng.normal(size=shape)
    what = random.random()
    if what < 0.5:
        return values
    if what < 0.7:
        return values * 10.0 ** random.randrange(-320, 309)
    if what < 0.8:
        return values * 10.0 ** rng.integers(-300, 300, size=shape)
    if what < 0.9:
        return np.rint(10 * values)
    return np.full(shape, random.choice([0.0, 1.0, -0.0, 5e-324, 1e300, 0.1]))


def spoiled(random: Random, values: np.ndarray) -> np.ndarray:
    r"""Numbers some of which are missing, infinite or far out."""
    flat = values.reshape(-1)
    for _ in range(random.choice([0, 0, 1, 3])):
        if flat.size:
            place = random.randrange(flat.size)
            flat[place : place + random.choice([1, 1, 5])] = random.choice(
                [np.nan, np.nan, np.nan, np.inf, -np.inf, 1e200]
            )
    return values


# ---------------------------------------------------------------------------------------------------- columns


def _cells(random: Random, rows: int) -> list[Any]:
    kinds: Sequence[Callable[[Random], Any]] = (odd.number, odd.text, odd.date, odd.container, odd.value)
    one, two = random.choice(kinds), random.choice(kinds)
    pattern = random.random()
    if pattern < 0.3:
        cell = one(random)
        return [cell] * rows
    if pattern < 0.6:
        return [one(random) for _ in range(rows)]
    if pattern < 0.8:
        return [one(random) if random.random() < 0.8 else two(random) for _ in range(rows)]
    base = random.choice([1.5, "1.5", "x", 3, None, pd.Timestamp("2024-01-01")])
    return [base if random.random() < 0.8 else one(random) for _ in range(rows)]


DTYPES: tuple[Any, ...] = (
    None,
    object,
    "Int64",
    "UInt8",
    "Float32",
    "boolean",
    "string",
    "string[pyarrow]",
    "category",
    "datetime64[s]",
    "datetime64[ns]",
    "datetime64[ns, Europe/Berlin]",
    "datetime64[us, UTC]",
    "timedelta64[ns]",
    "period[M]",
    "period[h]",
    "Sparse[float]",
    "float16",
    "float32",
    "longdouble",
    "complex128",
    "bool",
    "uint64",
    "int8",
    "str",
    "S3",
    "interval[int64, right]",
    "int64[pyarrow]",
    "float[pyarrow]",
    "bool[pyarrow]",
    "timestamp[us][pyarrow]",
    "timestamp[ns, tz=UTC][pyarrow]",
    "date32[day][pyarrow]",
    "time64[us][pyarrow]",
    "duration[ns][pyarrow]",
    "binary[pyarrow]",
    "null[pyarrow]",
    "halffloat[pyarrow]",
    "decimal128(38, 3)[pyarrow]",
)
ARROW = (
    lambda: pd.ArrowDtype(pa.decimal128(20, 2)),
    lambda: pd.ArrowDtype(pa.decimal256(60, 5)),
    lambda: pd.ArrowDtype(pa.list_(pa.float64())),
    lambda: pd.ArrowDtype(pa.struct({"x": pa.float64()})),
    lambda: pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())),
    lambda: pd.ArrowDtype(pa.large_string()),
    lambda: pd.ArrowDtype(pa.date64()),
    lambda: pd.ArrowDtype(pa.timestamp("s")),
    lambda: pd.ArrowDtype(pa.float16()),
    lambda: pd.CategoricalDtype(["x", "y", "1"], ordered=True),
    lambda: pd.SparseDtype("int64", 0),
)


def _column(random: Random, rows: int) -> Any:
    r"""A column of any dtype."""
    what = random.random()
    if what < 0.1:
        numbers = np.random.default_rng(random.randrange(2**32)).integers(0, 3, size=rows)
        cells: Any = random.choice([numbers, [f"s{n}" for n in numbers], numbers / 2, pd.Series(numbers)])
    else:
        cells = _cells(random, rows)
    kind = random.choice(DTYPES) if random.random() < 0.8 else random.choice(ARROW)()
    if isinstance(kind, pd.ArrowDtype) and any(isinstance(cell, str | bytes | Decimal) for cell in cells):
        kind = object  # pandas crashes or hangs where it makes Arrow's numbers of some texts
    for dtype in (kind, object):
        try:
            return pd.Series(cells, dtype=dtype)
        except BaseException:
            continue
    made = np.empty(rows, dtype=object)
    for place in range(rows):
        made[place] = cells[place]
    return pd.Series(made)


def _name(random: Random) -> Any:
    what = random.random()
    if what < 0.75:
        return random.choice(NAMES)
    if what < 0.85:
        return odd.text(random)
    name = random.choice([odd.number, odd.date, odd.value])(random)
    try:
        hash(name)
    except BaseException:
        return (1, "a")
    return name


def _index(random: Random, rows: int) -> Any:
    r"""An index: mostly regular dates, in any type."""
    what = random.random()
    frequency = random.choice(["h", "D", "15min", "MS", "W", "B", "QS", "YS", "s", "ME", "7D", "bh"])
    start = random.choice(["2024-01-01", "2024-03-30 22:00", "1999-12-31", "1678-01-01", "2261-01-01", "0001-01-01"])
    if what < 0.12:
        return random.choice([pd.RangeIndex(rows), pd.RangeIndex(5, 5 + rows), pd.RangeIndex(0, 3 * rows, 3)])
    if what < 0.2:
        return pd.Index(_cells(random, rows), dtype=object)
    if what < 0.25:
        return pd.PeriodIndex(
            pd.period_range("2024", periods=rows, freq=random.choice(["D", "M", "W", "Q", "Y-JUN", "h", "2D"]))
        )
    if what < 0.3:
        return random.choice(
            [
                lambda: pd.timedelta_range("0h", periods=rows, freq="h"),
                lambda: pd.interval_range(0, rows),
                lambda: pd.CategoricalIndex(["a"] * rows),
                lambda: pd.Index(np.arange(rows) / 2),
                lambda: pd.Index(range(1990, 1990 + rows)),
                lambda: pd.Index([20240101 + n for n in range(rows)]),
                lambda: pd.Index([False] * rows),
                lambda: pd.Index(np.arange(rows, dtype="uint8")),
            ]
        )()
    unit = random.choice(["ns", "ns", "us", "ms", "s"])
    dates = pd.date_range(start, periods=rows, freq=frequency, unit=unit)
    if random.random() < 0.25:
        dates = dates.tz_localize(random.choice(odd.ZONES), nonexistent="shift_forward", ambiguous="NaT")
    if random.random() < 0.15:
        return pd.Index(
            dates.strftime(random.choice(["%Y-%m-%d %H:%M", "%d.%m.%Y", "%m/%d/%y", "%Y%m%d", "%c", "%d.%m.%y %H:%M"]))
        )
    if random.random() < 0.1:
        return pd.Index(_dates(dates), dtype=object)
    return dates


def _dates(index: pd.Index[Any]) -> list[Any]:
    r"""The entries of an index. Pandas crashes over those before 1893 in some time zones."""
    early = isinstance(index, pd.DatetimeIndex) and index.tz is not None and (index.asi8 < 0).any()
    return list(index.tz_localize(None) if early else index)


def _long(random: Random, rows: int | None = None) -> pd.DataFrame:
    r"""A long frame as it should be."""
    items, rows, channels = random.choice([1, 2, 3]), rows or random.choice([3, 4, 6, 9]), random.choice([1, 2])
    dates = pd.date_range("2024-01-01", periods=rows, freq=random.choice(["h", "D", "MS", "W", "15min"]))
    if random.random() < 0.15:
        dates = dates.tz_localize(random.choice(odd.ZONES), nonexistent="shift_forward", ambiguous="NaT")
    names = random.choice(
        [["u", "v", "w"], [1, 2, 3], ["1", "2", "3"], ["x" * 300, "", " "], [1.0, 2.0, np.nan], [True, False, 5]]
    )
    frame = pd.DataFrame(
        {
            random.choice(["item_id", "unique_id", "id", "shop"]): np.repeat(
                np.array(names[:items], dtype=object), rows
            ),
            random.choice(["timestamp", "ds", "date", "when"]): np.tile(
                dates.to_numpy() if dates.tz is None else dates, items
            ),
        }
    )
    for name in ("a", "b")[:channels]:
        frame[name] = spoiled(random, sizes(random, (items * rows,)))
    if random.random() < 0.3:
        frame["kind"] = np.repeat(random.choice([["p", "q", "p"], [1, 2, 1], [1.5, np.nan, 2.0]])[:items], rows)
    return frame.infer_objects()


def _wide(random: Random, rows: int | None = None) -> pd.DataFrame:
    r"""A wide frame as it should be, but perhaps for its index."""
    rows, channels = rows or random.choice([0, 1, 2, 3, 4, 5, 5, 6, 9, 20]), random.choice([1, 2, 3])
    frame = pd.DataFrame(spoiled(random, sizes(random, (rows, channels))), columns=list("abc"[:channels]))
    frame.index = _index(random, rows)
    if random.random() < 0.3:
        frame = frame.rename_axis(random.choice(["date", "a", None, "item_id", "timestamp", "index"])).reset_index()
    return frame


def _distorted(random: Random, frame: pd.DataFrame) -> pd.DataFrame:
    r"""A frame with one thing made odd."""
    rows, columns = frame.shape
    place = random.randrange(columns) if columns else 0
    how = random.randrange(24)
    if how <= 3:
        frame.insert(
            random.randint(0, columns),
            _name(random),
            _column(random, rows).set_axis(frame.index),
            allow_duplicates=True,
        )
    elif how == 4 and columns:
        frame = frame.drop(columns=frame.columns[place])
        frame.insert(0, random.choice(NAMES), _column(random, rows).set_axis(frame.index), allow_duplicates=True)
    elif how == 5 and columns:
        names = list(frame.columns)
        names[place] = _name(random)
        frame.columns = pd.Index(names, dtype=object) if random.random() < 0.8 else pd.Index(names)
    elif how == 6 and columns and rows:
        column = frame.iloc[:, place].astype(object)
        for _ in range(random.choice([1, 1, 3])):
            column.iat[random.randrange(rows)] = random.choice([odd.number, odd.text, odd.date, odd.value])(random)
        frame.isetitem(place, column)
    elif how == 7 and columns:
        dtype = random.choice(DTYPES) if random.random() < 0.7 else random.choice(ARROW)()
        frame.isetitem(place, frame.iloc[:, place].astype(dtype))
    elif how == 8 and rows:
        frame = frame.iloc[random.choices(range(rows), k=random.choice([1, rows, rows + 2]))]
    elif how == 9 and rows:
        left_out = random.randrange(rows)  # by its place: pandas crashes on the labels of some indices
        frame = frame.iloc[[row for row in range(rows) if row != left_out]]
    elif how == 10:
        frame = frame.iloc[:: random.choice([-1, 2, -2])]
    elif how == 11 and rows:
        index = _dates(frame.index)
        index[random.randrange(rows)] = odd.date(random) if random.random() < 0.7 else odd.value(random)
        frame.index = pd.Index(index, dtype=object)
        if random.random() < 0.5:
            frame.index = frame.index.infer_objects()
    elif how == 12:
        frame.index = pd.MultiIndex.from_arrays(
            [_cells(random, rows) if random.random() < 0.3 else ["u"] * rows, _index(random, rows)],
            names=random.choice([None, ["item_id", "timestamp"], ["a", "a"], ["id", None], [5, "a"]]),
        )
    elif how == 13:
        frame = frame.set_index(random.sample(list(frame.columns), k=min(columns, random.choice([1, 2]))))
    elif how == 14:
        frame = frame.T
    elif how == 15:
        frame = pd.concat([frame] * 2, axis=random.choice([0, 1]))
    elif how == 16:
        frame.columns = random.choice(
            [
                lambda: pd.MultiIndex.from_product([["x"], frame.columns]),
                lambda: pd.RangeIndex(columns),
                lambda: pd.date_range("2024", periods=columns),
                lambda: pd.interval_range(0, columns),
                lambda: pd.CategoricalIndex(frame.columns),
                lambda: pd.Index([np.nan] * columns),
                lambda: pd.Index(["a"] * columns),
                lambda: pd.Index([pd.NaT] * columns),
                lambda: pd.Index([b"a"] * columns),
            ]
        )()
    elif how == 17:
        frame = frame.iloc[: random.choice([0, 1, 2])]
    elif how == 18:
        frame = frame.iloc[:, : random.choice([0, 1])]
    elif how == 19 and isinstance(frame.index, pd.DatetimeIndex):
        frame.index = random.choice(
            [
                lambda: frame.index.tz_localize(None),
                lambda: frame.index.shift(10**5, freq="h"),
                lambda: frame.index.astype(str),
                lambda: frame.index.to_period("M"),
                lambda: frame.index.astype("int64"),
                lambda: frame.index.astype(object),
                lambda: pd.Index([each.to_pydatetime() for each in _dates(frame.index)], dtype=object),
                lambda: frame.index.rename("a"),
            ]
        )()
    elif how == 20:
        frame = type("Own", (pd.DataFrame,), {})(frame)
    elif how == 21 and columns:
        frame = frame.astype({frame.columns[place]: "category"})
    elif how == 22:
        frame = frame.rename_axis(index=_name(random), columns=_name(random))
    else:
        frame = frame.sample(frac=1, random_state=random.randrange(100)) if rows else frame
    return frame


def frame(random: Random, rows: int | None = None) -> pd.DataFrame:
    r"""A frame of pandas, nearly right or far from it; of few rows, or of so many an item before it is distorted."""
    made = _long(random, rows) if random.random() < 0.4 else _wide(random, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(random.choice([0, 0, 1, 1, 2, 3])):
            try:
                made = _distorted(random, made.copy())  # pandas may leave half a column where it fails, and then crash
            except BaseException:
                continue
    return made


def foreign_frame(random: Random) -> Any:
    r"""A frame or series of another library."""
    made = _long(random) if random.random() < 0.5 else frame(random).reset_index(drop=random.random() < 0.5)
    stamps = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 2), "6h", eager=True)
    choices: Sequence[Callable[[], Any]] = (
        lambda: pl.DataFrame(made),
        lambda: pl.from_pandas(made),
        lambda: pl.from_pandas(made).lazy(),
        lambda: pl.from_pandas(made).lazy().select(pl.col("nope")),
        lambda: pl.from_pandas(made)[random.choice(made.columns)],
        lambda: pa.Table.from_pandas(made),
        lambda: pa.Table.from_pandas(made).to_batches()[0],
        lambda: pa.Table.from_pandas(made).column(0),
        lambda: pa.table([[1.0, 2.0], [3.0, 4.0]], names=["a", "a"]),
        lambda: pa.array([random.choice([1.0, "x", None, [1.0]])] * 3),
        lambda: pa.scalar(1.0),
        lambda: pl.DataFrame({"t": stamps, "a": [1.0, None, 3.0, 4.0, 5.0]}),
        lambda: pl.DataFrame({"t": stamps.dt.replace_time_zone("Europe/Berlin"), "a": range(5)}),
        lambda: pl.DataFrame({"date": stamps.cast(pl.Date), "a": range(5)}),
        lambda: pl.DataFrame(
            {"a": pl.Series([1.0, 2.0]).cast(random.choice([pl.Decimal(10, 2), pl.Int128, pl.Float32]))}
        ),
        lambda: pl.DataFrame({"a": pl.Series(["x", "y"], dtype=random.choice([pl.Categorical, pl.Enum(["x", "y"])]))}),
        lambda: pl.DataFrame({"a": [[1.0], [2.0]]}),
        lambda: pl.DataFrame({"a": [{"x": 1.0}, {"x": 2.0}]}),
        lambda: pl.DataFrame({"a": [object(), object()]}, schema={"a": pl.Object}),
        lambda: pl.DataFrame({"a": [None, None]}),
        lambda: pl.DataFrame({"a": [b"x", b"y"]}),
        lambda: pl.DataFrame({"a": pl.Series([1, 2]).cast(pl.Duration), "time": pl.Series([1, 2]).cast(pl.Time)}),
        lambda: pl.DataFrame(),
        lambda: pl.Series("a", []),
        lambda: pl.col("a"),
        lambda: made.groupby(list(made.columns)[:1]),
        lambda: made.style,
        lambda: made.rolling(2),
        lambda: made.iloc[:, -1],
        lambda: made.iloc[:, 0],
        lambda: pd.Series(_cells(random, 4), index=_index(random, 4)),
        lambda: pd.Series([1.0, 2.0], name=random.choice([None, 5, ("a", "b"), np.nan, "date"])),
    )
    return random.choice(choices)()


# ----------------------------------------------------------------------------------------------------- arrays


def array(random: Random) -> Any:
    r"""An array of numpy, or what passes for one."""
    shape = tuple(random.choice([0, 1, 1, 2, 3, 5, 7]) for _ in range(random.choice([0, 1, 2, 2, 2, 3, 3, 4])))
    base = np.asarray(spoiled(random, sizes(random, shape)))
    dtypes = "f2 f4 f8 >f8 g i1 u8 i8 ? c16 M8[D] M8[ns] m8[h] U5 S5 O V8".split()
    choices: Sequence[Callable[[], Any]] = (
        lambda: base,
        lambda: base,
        lambda: base.astype(random.choice(dtypes)),
        lambda: base.astype(random.choice(dtypes)),
        lambda: base.T,
        lambda: base[..., ::-1],
        lambda: np.asfortranarray(base),
        lambda: np.broadcast_to(base, (3, *base.shape)),
        lambda: np.ma.masked_array(base, mask=np.asarray(base) > 0),
        lambda: np.ma.masked_array(base.astype(random.choice(dtypes)), mask=random.random() < 0.5),
        lambda: np.ma.masked_array([1.0, 2.0], mask=[True, False], fill_value=1e300, hard_mask=True),
        lambda: np.asmatrix(base),
        lambda: np.array([(1.0, 2), (2.0, 3)], dtype=[("a", "f8"), ("b", "i4")]),
        lambda: np.rec.array([(1.0, 2)], dtype=[("a", "f8"), ("b", "i4")]),
        lambda: base.view(type("Own", (np.ndarray,), {"__array_function__": lambda *_: 1 / 0})),
        lambda: base.view(type("Own", (np.ndarray,), {"__array_ufunc__": lambda *_, **__: 1 / 0})),
        lambda: base.view(type("Own", (np.ndarray,), {"astype": lambda *_, **__: None})),
        lambda: np.lib.stride_tricks.as_strided(base.reshape(-1)[:1], (4, 2), (0, 0)) if base.size else base,
        lambda: np.array(_cells(random, 4) + [None], dtype=object),
        lambda: np.array([[odd.number(random) for _ in range(2)] for _ in range(3)], dtype=object),
        lambda: np.array([np.ones(2), np.ones(3), None], dtype=object)[: random.choice([0, 1, 2, 3])],
        lambda: np.array([np.ones((2, 2)), np.ones((3, 2))], dtype=object),
        lambda: np.array([odd.number(random)] * 3),
        lambda: _read_only(base),
        lambda: pd.array(_cells(random, 3), dtype=random.choice(DTYPES)),
        lambda: pd.array([1.5, None, 2.0], dtype=random.choice(["Float64", "float64[pyarrow]"])),
        lambda: memoryview(np.ascontiguousarray(base)),
        lambda: np.random.default_rng(0),
        lambda: np.nditer(base),
        lambda: np.float64(3.0),
    )
    return random.choice(choices)()


def _read_only(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.flags.writeable = False
    return values


def tensor(random: Random) -> Any:
    r"""A tensor of any layout and dtype."""
    shape = tuple(random.choice([0, 1, 2, 3, 5]) for _ in range(random.choice([0, 1, 2, 2, 3, 4])))
    base = torch.from_numpy(np.asarray(sizes(random, shape), dtype=np.float64).copy())
    dtypes = [
        torch.bfloat16,
        torch.half,
        torch.float32,
        torch.complex64,
        torch.bool,
        torch.int8,
        torch.int64,
        torch.uint8,
    ]
    dtypes += [torch.float8_e4m3fn, torch.uint16, torch.complex32]
    choices: Sequence[Callable[[], Any]] = (
        lambda: base,
        lambda: base.to(random.choice(dtypes)),
        lambda: base.to(random.choice(dtypes)),
        lambda: base.to_sparse(),
        lambda: base.to_sparse_csr(),
        lambda: base.to("meta"),
        lambda: base.clone().requires_grad_(),
        lambda: torch.nn.Parameter(base),
        lambda: base.T,
        lambda: base.flip(0),
        lambda: base.expand(4, *base.shape),
        lambda: torch.complex(base, base).conj(),
        lambda: torch.complex(base, base).conj().imag,
        lambda: torch._neg_view(base),
        lambda: torch.quantize_per_tensor(base.float(), 0.1, 0, torch.qint8),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        lambda: base.float().to_mkldnn(),
        lambda: base.as_subclass(type("Own", (torch.Tensor,), {})),
        lambda: base.as_subclass(
            type("Own", (torch.Tensor,), {"__torch_function__": classmethod(lambda *_, **__: 1 / 0)})
        ),
        lambda: torch.full(shape, float("nan")),
        lambda: torch.Size([2, 3]),
        lambda: torch.empty(3, 2, names=("T", "D")),
    )
    return random.choice(choices)()


# ---------------------------------------------------------------------------------------------------- entries


def _target(random: Random) -> Any:
    choices: Sequence[Callable[[], Any]] = (
        lambda: sizes(random, (random.choice([0, 1, 5, 9]),)),
        lambda: sizes(random, (random.choice([1, 2]), random.choice([0, 1, 5]))),
        lambda: [1.0, 2.0, random.choice([3.0, None, "x", float("nan"), 10**400, [1.0], {}])],
        lambda: [[1.0, 2.0], [3.0, 4.0][: random.choice([1, 2])]],
        lambda: np.array(3.0),
        lambda: array(random),
        lambda: tensor(random),
        lambda: odd.container(random, odd.number),
        lambda: odd.value(random),
    )
    return random.choice(choices[:2] if random.random() < 0.6 else choices)()


def entry(random: Random) -> Any:
    r"""A gluonts entry, with some of its fields wrong."""
    made: dict[Any, Any] = {
        "start": random.choice(
            ["2024-01-01", pd.Period("2024-01-01", "D"), pd.Timestamp("2024-01-01"), pd.Period("2024", "M")]
        ),
        "target": _target(random),
    }
    if random.random() < 0.3:
        made["start"] = odd.date(random) if random.random() < 0.7 else odd.value(random)
    if random.random() < 0.5:
        made["item_id"] = random.choice(["u", "v", 1, 1.0]) if random.random() < 0.6 else odd.value(random)
    for name in (
        "freq",
        "feat_dynamic_real",
        "feat_static_cat",
        "past_feat_dynamic_real",
        "feat_static_real",
        "source",
    ):
        if random.random() < 0.1:
            made[name] = (
                random.choice([[[1.0, 2.0, 3.0]], [0], "D", np.ones((1, 5))])
                if random.random() < 0.5
                else odd.value(random)
            )
    if random.random() < 0.05:
        made.pop(random.choice(list(made)))
    if random.random() < 0.03:
        made[odd.number(random) if random.random() < 0.5 else None] = 1
    return made


def entries(random: Random) -> Any:
    r"""Several entries in whatever holds them."""
    alike = entry(random)
    made = [copy.copy(alike) if random.random() < 0.6 else entry(random) for _ in range(random.choice([0, 1, 2, 3]))]
    choices: Sequence[Callable[[], Any]] = (
        lambda: made,
        lambda: made,
        lambda: tuple(made),
        lambda: (each for each in made),
        lambda: iter(made),
        lambda: dict(enumerate(made)),
        lambda: {each: each for each in "ab"},
        lambda: [*made, odd.value(random)],
        lambda: _list_dataset(made, random.choice(["D", "h", "M", "W"])),
        lambda: _pandas_dataset(random),
        lambda: _failing_dataset(made),
    )
    return random.choice(choices)()


def _list_dataset(made: list[Any], frequency: str) -> Any:
    from gluonts.dataset.common import ListDataset

    return ListDataset(made, freq=frequency)


def _pandas_dataset(random: Random) -> Any:
    from gluonts.dataset.pandas import PandasDataset

    long = _long(random)
    item, stamp, *targets = list(long.columns)
    return PandasDataset.from_long_dataframe(
        long, item_id=item, timestamp=stamp, target=targets[0], freq=random.choice(["D", "h"])
    )


def _failing_dataset(made: list[Any]) -> Iterable[Any]:
    yield from made
    raise OSError("the data set ends in the middle")


# ------------------------------------------------------------------------------------------------ all of them


def few(random: Random) -> Any:
    r"""A list of series, or of numbers, or of both."""
    parts: Sequence[Callable[[Random], Any]] = (frame, array, tensor, foreign_frame, odd.number, odd.value, entry)
    what, count = random.choice(parts), random.choice([0, 1, 2, 3])
    if random.random() < 0.4:
        lengths = [random.choice([3, 4, 5]) for _ in range(count)]
        wide = [
            pd.DataFrame(sizes(random, (rows, 2)), columns=["a", "b"], index=_index(random, rows)) for rows in lengths
        ]
        values = random.choice([wide, [each.to_numpy() for each in wide], [each["a"] for each in wide]])
    else:
        values = [what(random) if random.random() < 0.9 else random.choice(parts)(random) for _ in range(count)]
    holder = random.random()
    if holder < 0.7:
        return values
    return random.choice(
        [tuple(values), iter(values), dict(enumerate(values)), {"a": values}, [values], (each for each in values)]
    )


def panel(random: Random) -> Panel:
    r"""What was read before."""
    made = random.choice(
        [
            lambda: Panel.of(np.ones((2, 4, 2))),
            lambda: Panel.of(pd.DataFrame({"a": [1.0, 2.0, 3.0]}, pd.date_range("2024", periods=3))),
            lambda: Panel.of(_static_frame(), static="kind"),
            lambda: Panel.of([1.0, 2.0]),
        ]
    )()
    return made


def _static_frame() -> pd.DataFrame:
    dates = pd.date_range("2024", periods=3)
    return pd.DataFrame(
        {"item_id": ["u"] * 3 + ["v"] * 3, "date": [*dates, *dates], "a": range(6), "kind": ["p"] * 3 + ["q"] * 3}
    )


def series(random: Random) -> Any:
    r"""Anything that `Panel.of` may be given."""
    share = random.random()
    parts: Sequence[tuple[float, Callable[[Random], Any]]] = (
        (0.55, frame),
        (0.63, foreign_frame),
        (0.72, array),
        (0.78, tensor),
        (0.85, entries),
        (0.92),
        (0.93, panel),
        (0.97, odd.container),
        (1.0, odd.value),
    )
    make = next(make for bound, make in parts if share <= bound)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = make(random)
        except BaseException as error:  # panics of Rust are no Exception
            raise Unbuilt(str(error)) from error
    if isinstance(made, pd.DataFrame) and isinstance(made.columns, pd.DatetimeIndex):
        years = made.columns.asi8.view(f"M8[{made.columns.unit}]").astype("M8[Y]").astype(int) + 1970
        if len(years) and years.min() < 2:
            raise Unbuilt("pandas crashes where it iterates over dates before the year 1")
    return made


def reading_options(random: Random, made: Any) -> dict[str, Any]:
    r"""Options of `Panel.of`: mostly none, or names of columns, or anything."""
    names = list(made.columns) if isinstance(made, pd.DataFrame) and len(made.columns) else ["a", "b"]
    options: dict[str, Any] = {}
    if random.random() < 0.5:
        return options
    for option in ("target", "item_column", "timestamp_column", "frequency", "regularise", "static"):
        if random.random() < 0.82:
            continue
        name = random.choice(names) if random.random() < 0.8 else random.choice(NAMES)
        if random.random() < 0.3:
            options[option] = odd.value(random) if random.random() < 0.8 else odd.container(random, odd.text)
        elif option == "frequency":
            options[option] = random.choice(odd.FREQUENCIES if random.random() < 0.75 else odd.ODD_FREQUENCIES)
        elif option == "regularise":
            options[option] = True
        elif option in ("target", "static"):
            options[option] = random.choice(
                [name, [name], [name, random.choice(names)], (name,), [], {name: None}, {name: ("p", "q")}]
            )
        else:
            options[option] = name
    return options


def reading(random: Random, _: Any = None) -> Case:
    r"""A case of `Panel.of`."""
    given = series(random)
    options = reading_options(random, given)
    what = f"Panel.of({shown(given)}{''.join(f', {name}={shown(each)}' for name, each in options.items())})"

    def run() -> object:
        made = Panel.of(given, **options)
        require_sound(made)
        require_read_back(made)
        return made

    return Case(what, run)


def require_sound(made: Panel) -> None:
    r"""Checks what every panel promises."""
    if not made.items or not made.channels or not all(type(name) is str for name in made.channels):
        raise Wrong("a panel without items or with channels that are no text")
    if len(set(made.channels)) < len(made.channels):
        raise Wrong("a panel with two channels of one name")
    for item in made.items:
        if type(item.item_id) is not str or not len(item) or np.isinf(item.values).any():
            raise Wrong("a panel with an item that is not text, empty or infinite")
        if made.frequency is not None and not (item.index.is_unique and item.index.is_monotonic_increasing):
            raise Wrong("a panel with dates that are not sorted")
        if made.frequency is not None and item.index.hasnans:
            raise Wrong("a panel with missing dates")


def require_read_back(made: Panel) -> None:
    r"""Checks that `to_pandas` writes what `Panel.of` reads, to the bit."""
    if made.static or len({item.item_id for item in made.items}) < len(made):  # gluonts entries may share a name
        return
    if len(made) == 1 and {name.lower() for name in made.channels} & {*ITEM_NAMES}:  # the options said that it is none
        return
    long = made.to_pandas()
    again = Panel.of(long, item_column=made.item_column if len(made) > 1 else None, frequency=made.frequency)
    if (again.channels, again.frequency, len(again)) != (made.channels, made.frequency, len(made)):
        raise Wrong(
            f"to_pandas is read back otherwise: {again.channels, again.frequency} was {made.channels, made.frequency}"
        )
    for one, other in zip(made.items, again.items, strict=True):
        if one.item_id != other.item_id and len(made) > 1:
            raise Wrong(f"to_pandas is read back with another item: {one.item_id!r} as {other.item_id!r}")
        if one.values.tobytes() != other.values.tobytes() and not np.array_equal(
            one.values, other.values, equal_nan=True
        ):
            raise Wrong("to_pandas is read back with other values")
        dated = made.frequency is not None  # rows without dates are numbered anew
        if dated and not np.array_equal(one.index.to_numpy(), other.index.to_numpy()):  # in whatever unit
            raise Wrong(f"to_pandas is read back with other dates: {one.index[:2]} as {other.index[:2]}")
