r"""Values that nobody should pass, and that somebody does: cells, names, options, objects whose methods fail."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import types
import uuid
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import torch

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "+05:30")
FREQUENCIES = (
    "s min 5min 15min h 2h 6h 12h D 2D 7D B C W W-WED MS ME 2MS QS QE QS-FEB YS YE YE-JUN BMS BME BQE bh cbh SMS SME "
    "WOM-3MON LWOM-FRI ms us ns 90s 1.5h 36h 100D 10000D T H M Q Y A AS L U N RE-N-DEC-MON REQ-N-DEC-MON-1"
).split()
ODD_FREQUENCIES = (
    "", " ", "-1D", "0D", "0h", "-0h", "nope", "W-XXX", "QS-FOO", "9" * 30 + "D", "9" * 18 + "ns", "10000000Y", "1e3h",
    "１h", "h\n", "  D ", "1h30min", "1D12h", "D h", "D,h", "\x00", "\ud800", "h" * 5000, "1.5.5h", "1_0h", "+2h",
    "0.1ns", "1e-9s", "99999999999999YE", "2147483648MS", "WOM-9MON", "D-D", "-", "1", "NaN", "None", "P1D", "PT1H",
    "inf h",
)  # fmt: skip


class Mood(enum.Enum):
    GOOD = 1
    BAD = "b"


def failing(*methods: str, error: type[BaseException] = RuntimeError, **returns: Any) -> Any:
    r"""Makes an object some of whose methods raise, or return what they must not.

    Arguments:
        *methods: The methods that raise, without underscores.
        error: What they raise.
        **returns: What other methods return.

    Returns:
        The object.
    """

    def fails(*_: object, **__: object) -> Any:
        raise error("a method that fails")

    names: dict[str, Any] = {f"__{name}__": fails for name in methods}
    names |= {f"__{name}__": (lambda *_, _value=value, **__: _value) for name, value in returns.items()}
    if "eq" in methods and "hash" not in methods:
        names["__hash__"] = object.__hash__
    return type("Hostile", (), names)()


def hostile(random: Random) -> Any:
    r"""An object whose methods fail."""
    error = random.choice([RuntimeError, ZeroDivisionError, KeyError, OSError, AttributeError, ValueError, TypeError])
    choices: Sequence[Callable[[], Any]] = (
        lambda: failing("repr", "str", error=error),
        lambda: failing("eq", error=error),
        lambda: failing("hash", error=error),
        lambda: failing("bool", error=error),
        lambda: failing("len", "iter", error=error),
        lambda: failing("iter", len=3, error=error),
        lambda: failing("iter", "getitem", len=-1, error=error),
        lambda: failing("float", "int", "index", error=error),
        lambda: failing(float="1.0"),
        lambda: failing(len=10**30, getitem=1.0),
        lambda: failing(str=5, repr=b"x"),
        lambda: failing(iter=5),
        lambda: failing(len=3, getitem=1.0),
        lambda: failing("array", error=error),
        lambda: failing(array=[1.0, 2.0]),
        lambda: failing(array=np.array(["x"], dtype=object)),
        lambda: failing("dataframe", error=error),
        lambda: failing(dataframe=5),
        lambda: failing("arrow_c_stream", error=error),
        lambda: failing("narwhals_dataframe", error=error),
        lambda: failing(fspath=5),
        lambda: failing("fspath", error=error),
        lambda: failing("contains", "getitem", error=error),
        lambda: type("Lies", (), {"__class__": property(lambda self: pd.DataFrame)})(),
        lambda: type("NoModule", (), {"__module__": None})(),
        lambda: type("Modules", (), {"__module__": 5, "__getattr__": lambda self, name: 1 / 0})(),
        lambda: type("Pretends", (), {"__module__": "pyarrow.lib", "to_pandas": lambda self: 5})(),
        lambda: type("Pretends", (), {"__module__": "polars.frame", "to_pandas": lambda self: 1 / 0})(),
        lambda: type("Interface", (), {"__array_interface__": {"shape": (2,), "typestr": "<f8", "data": 5}})(),
        lambda: type("Text", (str,), {"lower": lambda self: 1 / 0, "strip": lambda self: 5})("h"),
        lambda: type("Number", (int,), {"__index__": lambda self: 1 / 0, "__lt__": lambda self, other: 1 / 0})(3),
        lambda: type("Rows", (list,), {"__iter__": lambda self: 1 / 0, "__len__": lambda self: 2})([1.0, 2.0]),
        lambda: type("Names", (dict,), {"items": lambda self: 1 / 0, "keys": lambda self: None})(a=1),
    )
    return random.choice(choices)()


def nested(depth: int) -> list[Any]:
    r"""A list in a list in a list ..."""
    value: list[Any] = [1.0]
    for _ in range(depth):
        value = [value]
    return value


def recursive() -> list[Any]:
    r"""A list that holds itself."""
    value: list[Any] = [1.0, 2.0]
    value.append(value)
    return value


def number(random: Random) -> Any:
    r"""A number of any type and size."""
    choices: Sequence[Callable[[], Any]] = (
        lambda: random.choice([0, 1, -1, 2, 3, 5, 7, 24, 100]),
        lambda: random.choice([0.0, -0.0, 0.5, 1.5, -2.5, 1e-9, 1e9, math.pi, 1.0, 2.0]),
        lambda: random.choice([math.nan, math.inf, -math.inf]),
        lambda: random.choice([1e-323, 1e-308, 1e-162, 1e153, 1e300, 1.7976931348623157e308, -1e308]),
        lambda: random.choice([2**31, 2**31 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**25, 10**400]),
        lambda: random.choice([10**5000, -(10**309), 10**12, 10**9, 10**6]),
        lambda: random.choice([True, False]),
        lambda: decimal.Decimal(random.choice(["1.5", "NaN", "sNaN", "Infinity", "1E+999999", "1E-999999", "-0"])),
        lambda: random.choice([fractions.Fraction(1, 3), fractions.Fraction(10**400, 3), fractions.Fraction(0)]),
        lambda: random.choice([1 + 2j, complex("nan"), 0j]),
        lambda: random.choice([np.float16, np.float32, np.float64, np.longdouble, np.int8, np.int64, np.bool_])(1),
        lambda: random.choice([np.uint64(2**64 - 1), np.float16("inf"), np.float32("nan"), np.longdouble("1e4000")]),
        lambda: random.choice(
            [np.array(3), np.array([3]), np.array([[1.0]]), torch.tensor(3), torch.tensor([1.0, 2.0])]
        ),
    )
    return random.choice(choices)()


TEXTS = (
    "", " ", "a", "b", "abc", "x y", "1", "1.5", "-2", "+3", "0", "1e5", "1E-5", "nan", "NaN", "NA", "N/A", "null",
    "None", "inf", "-Infinity", "True", "yes", "1,5", "1,000", "1.234,5", "1 000", "12 %", "5%", "€5", "½", "∞", "１２",
    "١٢٣", "0x1F", "0b1", "1_000", "1e400", "1e-400", "1e99999999999", "1e4294967297", "2e-99999999999", "9" * 30,
    "9" * 400, "9" * 5000, "1e", "e5", ".", "-", "+", "..", "1.2.3", "1d5", "1f", "--1", "a\x00b", "\x00", "\ud800",
    "a\udfffb", "\u202e", "😀", "é", "e\u0301", "ß", "ı", "a,b", 'a"b', "a;b", "a\nb", "\r", "\t", "\ufeff", "#",
    "=1+1", "../x", "/", "C:\\x", "~", "%s", "{0}", "{x}", "__class__", "x" * 5000, "all", "group", "adapter",
    "frozen model", "mean", "0.5", "item_id", "timestamp", "target", "date", "id", "start", "ds", "auto", "none",
    "residual", "cpu", "cuda:99", "meta", "mps", "mse", "h", "D", "train",
)  # fmt: skip
DATES = (
    "2024-01-31", "2024-01-31 12:00", "2024-02-30", "2024-13-01", "31.01.2024", "31.01.24", "01/31/2024", "1/2/3",
    "2024-01-31T12:00:00Z", "2024-01-31T12:00:00+02:00", "2024-01-31T24:00:00", "2024-W05", "2024-W05-3", "2024Q1",
    "2024", "20240131", "Jan 2024", "31 January 2024", "0001-01-01", "1500-01-01", "2262-04-12", "9999-12-31",
    "10000-01-01", "NaT", "-0001-01-01", "2024-01-31T12:00:00.123456789123", "12:00", "1704067200", "1704067200000",
    "1e9", "Mon, 01 Jan 2024 00:00", "2024-01-31 12:00 CET", "2024-01-31 25:00", "2024-01-31  1:00", "1677-09-21",
    "0000-00-00", "2024-1", "24-01-31", "2024-01-31T12:00:00+99:99", "2024-366", "1.1.1", "２０２４-01-01",
    "2024/01/31 12h", "99999999999999999999-01-01",
)  # fmt: skip


def text(random: Random) -> str:
    r"""A text that is not what is expected."""
    if random.random() < 0.1:
        return "".join(random.choice("0123456789abcdef") for _ in range(random.choice([2, 8, 16, 20, 32])))
    if random.random() < 0.15:
        digits = str(random.randrange(10**5))
        return (
            random.choice("+- ") + digits + random.choice(["e", "E", "e+", "e-", ".e"]) + str(random.randrange(10**12))
        )
    if random.random() < 0.2:
        return "".join(chr(random.choice([random.randrange(32, 127), random.randrange(0x3000)])) for _ in range(5))
    return random.choice(TEXTS)


def date(random: Random) -> Any:
    r"""A date of any type."""
    stamp = pd.Timestamp("2024-03-31 01:30") + pd.Timedelta(hours=random.randrange(-(10**5), 10**5))
    choices: Sequence[Callable[[], Any]] = (
        lambda: random.choice(DATES),
        lambda: stamp,
        lambda: stamp.tz_localize("UTC").tz_convert(random.choice(ZONES)),
        lambda: stamp.as_unit(random.choice(["s", "ms", "us", "ns"])),
        lambda: stamp.to_pydatetime(),
        lambda: stamp.to_pydatetime().replace(tzinfo=ZoneInfo("Europe/Paris")),
        lambda: stamp.to_pydatetime().replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=7))),
        lambda: stamp.date(),
        lambda: stamp.time(),
        lambda: random.choice([datetime.date.min, datetime.date.max, datetime.datetime.min, datetime.datetime.max]),
        lambda: np.datetime64(random.choice(["NaT", "2024", "2024-01", "2024-01-01T00:00:00.1", "-5000", "300000"])),
        lambda: np.datetime64(random.randrange(2**62), random.choice(["D", "s", "ns", "as", "Y"])),
        lambda: np.timedelta64(random.randrange(100), random.choice(["h", "Y", "ns"])),
        lambda: pd.NaT,
        lambda: pd.Period(stamp, random.choice(["D", "h", "M", "W", "Q", "Y", "Y-JUN", "W-TUE", "B", "2D", "s"])),
        lambda: pd.Period(year=random.choice([-5000, 1, 12000]), freq="Y"),
        lambda: pd.Timedelta(hours=random.randrange(100)),
        lambda: pd.Interval(stamp, stamp + pd.Timedelta(days=1)),
        lambda: random.choice([pd.Timestamp.min, pd.Timestamp.max, pd.Timestamp("9999-12-31").as_unit("s")]),
        lambda: int(stamp.timestamp()),
        lambda: stamp.timestamp() * 1000,
        lambda: random.choice([45000, 45000.5, 20240131, 2024]),
        lambda: stamp.to_pydatetime().timetuple(),
    )
    return random.choice(choices)()


def container(random: Random, inner: Callable[[Random], Any] | None = None) -> Any:
    r"""Several values in whatever holds several."""
    inner = inner or value
    values = [inner(random) for _ in range(random.choice([0, 1, 1, 2, 2, 3, 5]))]
    choices: Sequence[Callable[[], Any]] = (
        lambda: values,
        lambda: tuple(values),
        lambda: (each for each in values),
        lambda: dict(enumerate(values)),
        lambda: {str(number): each for number, each in enumerate(values)},
        lambda: {random.choice(["a", "b", "item_id"]): each for each in values},
        lambda: {number for number in range(len(values))},
        lambda: frozenset("ab"),
        lambda: collections.deque(values),
        lambda: collections.OrderedDict(a=values),
        lambda: collections.defaultdict(list, a=values),
        lambda: types.MappingProxyType({"a": 1.0}),
        lambda: collections.UserList(values),
        lambda: collections.namedtuple("Pair", "a b")(1.0, values),
        lambda: array.array("d", [1.0, 2.0]),
        lambda: bytearray(b"abc"),
        lambda: memoryview(b"abc"),
        lambda: range(random.choice([0, 1, 5])),
        lambda: map(float, ["1", "x"]),
        lambda: zip("ab", [1, 2], strict=True),
        lambda: iter(values),
        lambda: np.array(values[:1] * 3, dtype=object),
        lambda: np.array(["a", "b"]),
        lambda: np.arange(random.choice([0, 2, 3])),
        lambda: np.ones((2, 2)),
        lambda: pd.Series(["a", "b"]),
        lambda: pd.Index(["a", "a"]),
        lambda: pd.DataFrame({"a": [1.0]}),
        lambda: pd.date_range("2024", periods=2),
        lambda: pd.array([1, None], dtype="Int64"),
        lambda: pd.Categorical(["a", "b"]),
        lambda: torch.ones(2),
        lambda: (1 / 0 for _ in range(2)),
        lambda: nested(random.choice([3, 40, 3000])),
        recursive,
        lambda: [recursive()],
        lambda: ["a", ["b"]],
        lambda: [["a", "b"]],
    )
    return random.choice(choices)()


def value(random: Random) -> Any:
    r"""Anything at all."""
    choices: Sequence[Callable[[], Any]] = (
        lambda: None,
        lambda: number(random),
        lambda: number(random),
        lambda: text(random),
        lambda: text(random),
        lambda: date(random),
        lambda: container(random),
        lambda: container(random),
        lambda: hostile(random) if random.random() < 0.5 else None,
        lambda: random.choice([b"a", b"\xff", b"", "a".encode("utf-16")]),
        lambda: random.choice([object(), object, int, len, lambda: 1, print, type, Ellipsis, NotImplemented, math]),
        lambda: random.choice([Mood.GOOD, Mood.BAD, uuid.UUID(int=1), slice(2), pd.NA, np.ma.masked]),
        lambda: pathlib.Path(random.choice(["a", ".", "", "/nope/x.csv", "\x00", "x" * 300])),
        lambda: random.choice([pd.offsets.Day(), pd.offsets.Hour(2), pd.offsets.MonthEnd(), pd.Timedelta("1h")]),
        lambda: random.choice([ZoneInfo("Europe/Rome"), datetime.UTC, torch.device("cpu"), np.dtype("f4")]),
        lambda: random.choice([np.nan, np.datetime64("NaT"), pd.NaT, float("nan")]),
        lambda: Random(0),
        lambda: np.random.default_rng(0),
        lambda: ValueError("x"),
    )
    return random.choice(choices)()
