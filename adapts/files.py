r"""Files: each ending has its reader, which makes a frame or gluonts entries of it."""

from __future__ import annotations

__all__ = ["ENDINGS", "Table", "ending", "read_file"]

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .arrow import size_of_arrow
from .errors import reading, shown
from .panel.columns import listed, text_as_numbers
from .panel.options import ITEM_NAMES
from .schemas import once
from .tsf import read_tsf

#: The most text that is read of a file once it is unpacked, in bytes; less where each value becomes an object.
MOST_TEXT, MOST_TEXT_OF_OBJECTS = 2**30, 2**28
#: How many times its size a packed file may hold, and how much it may in any case, in bytes.
MOST_TIMES_PACKED, LEAST_UNPACKED = 100, 2**26
#: The most values that a table of a file may have, 2 GiB as float64, and the most columns.
MOST_VALUES, MOST_COLUMNS = 2**28, 100_000
SEPARATORS = ",;\t|"
#: How many values a table of records may have for each that they hold, and how many more.
CELLS_PER_VALUE, CELLS_MORE = 20, 1_000_000


@dataclass(frozen=True)
class Table:
    r"""What a file holds.

    Arguments:
        series: A frame, gluonts entries, or a mapping of names to arrays where the file has no dates.
        frequency: The frequency that the file states, None if it does not.
    """

    series: Any
    frequency: str | None = None


def ending(path: Path) -> str | None:
    r"""Finds the ending that says how a file is read.

    Arguments:
        path: The path of the file.

    Returns:
        The ending, without a `.gz` behind it, or None if no reader is known for it.

    Example:
        >>> ending(Path("a/Sales.CSV.gz")), ending(Path("sales.xlsx"))
        ('.csv', None)
    """
    name = path.name.lower()
    packed = name.endswith(".gz")
    found = Path(name.removesuffix(".gz")).suffix
    return found if found in ENDINGS and not (packed and found in BINARY) else None


def read_file(path: Path, item_column: str | None) -> Table:
    r"""Reads a file by its ending.

    Arguments:
        path: The path of the file.
        item_column: The column of a CSV whose entries are names, text as it stands: `001` is not `1`. If None, those
            that `Panel.of` may recognise.

    Returns:
        What it holds.

    Raises:
        ValueError: If the file cannot be read.
    """
    kind = ending(path)
    assert kind is not None
    table = ENDINGS[kind](path, item_column)
    frame = table.series
    if isinstance(frame, pd.DataFrame) and {"start", "target"} <= set(frame.columns) and len(frame):
        if isinstance(frame["target"].iloc[0], list | np.ndarray):  # gluonts' own way with Parquet and Arrow
            with reading(f"the gluonts entries of {path.name} cannot be read", "write the file anew"):
                return Table(_entries(frame))
    return table


# ---------------------------------------------------------------------------------------------------- text


def _raw(path: Path, most: int) -> bytes | bytearray:
    r"""The bytes of a file of text, unpacked, at most so many."""
    raw = bytearray()
    packed = path.suffix.lower() == ".gz"
    with (
        reading(f"{path.name} cannot be {'unpacked' if packed else 'read'}", "fetch or write the file anew"),
        gzip.open(path, "rb") if packed else path.open("rb") as file,
    ):
        size = path.stat().st_size
        allowed = min(most, max(LEAST_UNPACKED, MOST_TIMES_PACKED * size)) if packed else most
        while len(raw) <= allowed and (chunk := file.read(2**22)):
            raw += chunk
    if len(raw) > most:
        raise ValueError(
            f"{path.name} holds more than {most >> 20} MiB of text: write it as Parquet, or cut it into several files"
        )
    if len(raw) > allowed:
        raise ValueError(
            f"{path.name} holds more than {MOST_TIMES_PACKED} times its own size of {size} bytes, more than data do: "
            "unpack it with gunzip first if it is as it should be"
        )
    return raw


def _decoded(path: Path, raw: bytes | bytearray, errors: str = "strict") -> str:
    if (place := raw.find(b"\0")) >= 0:  # readers of CSV end a number there
        raise ValueError(f"{path.name} is not text, byte {place} is zero: save it as UTF-8 text, or fetch it again")
    try:
        return raw.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error


def _require_size(path: Path, rows: int, columns: int, values: int) -> None:
    r"""Checks that a table is not large beyond all proportion to the values that its file holds."""
    cells = rows * columns
    if columns > MOST_COLUMNS or max(cells, values) > MOST_VALUES:
        raise ValueError(
            f"{path.name} would be a table of {max(cells, values)} values: at most {MOST_VALUES} values and "
            f"{MOST_COLUMNS} columns are read; cut it into several files"
        )
    if cells > CELLS_PER_VALUE * values + CELLS_MORE:
        raise ValueError(
            f"{path.name} holds {values} values, and as a table of {rows} rows and {columns} columns would hold "
            f"{cells}: write the same columns in each row, and a long table where there are many series"
        )


def _csv(path: Path, item_column: str | None) -> Table:
    r"""Reads a CSV, its separator (comma, semicolon, tab, bar) by the header and a decimal comma by the first rows."""
    raw = _raw(path, MOST_TEXT)
    text = _decoded(path, raw)
    first, second = _first_lines(text)
    widest = max(line.count(mark) + 1 for line in (first, second) for mark in SEPARATORS)
    _require_size(path, 1, widest, widest)
    with reading(f"{path.name} cannot be read as CSV", "check its separators and quotes"):
        separator = max(SEPARATORS, key=lambda mark: len(_fields(first, mark)) if mark in first else 1)
    rows = text.count("\n")
    _require_size(path, rows, first.count(separator) + 1, text.count(separator) + rows)
    head = text[:100_000].splitlines()[:20]
    comma = separator != "," and re.search(r"[;\t|]\s*-?\d+,\d+\s*([;\t|]|$)", "\n".join(head), re.M)
    with reading(f"{path.name} cannot be read as CSV", "check its separators and quotes"):
        columns = _fields(first, separator)
        long = len(_fields(second, separator)) - len(columns)
    if long > 1:
        raise ValueError(
            f"{path.name} cannot be read as CSV: its first row has {len(columns) + long} fields, and its header names "
            f"{len(columns)}: name each column"
        )
    called = [name for name in map(str.strip, columns) if name]
    twice = [name for name in dict.fromkeys(called) if called.count(name) > 1] if len(set(called)) < len(called) else []
    if twice:
        raise ValueError(f"expected columns of different names, but {listed(twice)} came more than once: rename them")
    names = [
        name
        for name in columns
        if name.strip() == item_column or (not item_column and name.strip().lower() in ITEM_NAMES)
    ]
    with reading(f"{path.name} cannot be read as CSV", "check its separators and quotes"):
        frame = pd.read_csv(
            io.BytesIO(raw),
            encoding="utf-8-sig",
            sep=separator,
            decimal="," if comma else ".",
            skipinitialspace=True,
            converters={name: _name for name in names},
            float_precision="round_trip",  # pandas's default is off by a last bit, and crashes on long exponents
        )
    frame.columns = frame.columns.str.strip()
    for name in [name.strip() for name in names] if item_column is None else ():
        frame[name] = text_as_numbers(frame[name])
    # pandas writes the index of a frame under an empty name.
    return Table(
        frame.set_index(frame.columns[0]) if frame.columns[0] == "Unnamed: 0" and frame.shape[1] > 1 else frame
    )


def _first_lines(text: str) -> tuple[str, str]:
    r"""The first two lines of a text that are not blank, "" where there is none."""
    lines, end = [], 0
    for _ in range(2):
        found = re.compile(r"\S").search(text, end)
        start = len(text) if found is None else max(text.rfind(mark, 0, found.start()) for mark in "\r\n") + 1
        ends = [place for mark in "\r\n" if (place := text.find(mark, start)) >= 0]
        end = min(ends, default=len(text))
        lines.append(text[start:end])
    return lines[0], lines[1]


def _fields(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _name(text: str) -> str | None:
    return text.strip() or None


def _json(path: Path, item_column: str | None) -> Table:
    r"""Reads one record a line, or an array of records: rows of a table, or gluonts entries."""
    text = _decoded(path, _raw(path, MOST_TEXT_OF_OBJECTS))
    with reading(f"{path.name} cannot be read as JSON lines", "write one record {...} a line"):
        records = json.loads(text, object_pairs_hook=once) if text.lstrip().startswith("[") else list(_records(text))
    if not records:
        raise ValueError(f"{path.name} is empty: expected one record a line")
    for number, record in enumerate(records):
        if not isinstance(record, dict) or not record:
            raise ValueError(f"{path.name}: expected a record {{...}} a line, got {shown(record)} as number {number}")
    if any(isinstance(value, dict) for value in records[0].values()):
        raise ValueError(
            f"{path.name}: expected one record a line, got a mapping in a mapping: write the frame with "
            "to_json(..., orient='records', lines=True, date_format='iso')"
        )
    if isinstance(records[0].get("target"), list):
        return Table(records)
    columns: set[str] = set()
    for record in records:
        columns.update(record)
    _require_size(path, len(records), len(columns), sum(map(len, records)))
    with reading(f"{path.name} cannot be read as a table", "write the same columns in each record"):
        return Table(pd.DataFrame.from_records(records))


def _records(text: str) -> Iterator[Any]:
    r"""The JSON values of a text, one a line, up to the first that is no record."""
    for line in re.compile(r"\S[^\n]*").finditer(text):
        try:
            record = json.loads(line[0], object_pairs_hook=once)
        except json.JSONDecodeError as error:
            number = text.count("\n", 0, line.start()) + 1
            raise ValueError(f"{error.msg} in line {number}") from error
        yield record
        if not isinstance(record, dict) or not record:
            return


# -------------------------------------------------------------------------------------------------- binary


def _parquet(path: Path, item_column: str | None) -> Table:
    _require_arrow(path)
    from pyarrow import parquet

    with reading(f"{path.name} cannot be read as Parquet", "write the file anew"):
        about = parquet.read_metadata(path)
        groups = [about.row_group(number) for number in range(about.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(about.num_columns)]
        values = sum(chunk.num_values for chunk in chunks)
        size = sum(chunk.total_uncompressed_size for chunk in chunks)
    _require_size(path, about.num_rows, about.num_columns, max(values, size // 8))
    with reading(f"{path.name} cannot be read as Parquet", "write the file anew"):
        return _of_arrow(parquet.read_table(path))


def _arrow(path: Path, item_column: str | None) -> Table:
    r"""Reads an Arrow table, in the file format (Feather) or as a stream."""
    _require_arrow(path)
    from pyarrow import feather, ipc

    with reading(f"{path.name} cannot be read as Arrow", "write the file anew"):
        with path.open("rb") as file:
            magic = file.read(4)
        values, size = size_of_arrow(path) if magic != b"FEA1" else (0, 0)
    if magic == b"FEA1":  # which pyarrow reads without any check: a damaged one ends the process
        raise ValueError(
            f"{path.name} is of the first version of Feather, of before 2020: write it anew with to_feather"
        )
    _require_size(path, 1, 1, max(values, size // 8))
    with reading(f"{path.name} cannot be read as Arrow", "write the file anew"):
        if magic == b"ARRO":
            return _of_arrow(feather.read_table(path))
        with ipc.open_stream(path) as stream:
            return _of_arrow(stream.read_all())


def _of_arrow(table: Any) -> Table:
    r"""A frame of an Arrow table; a damaged one, of which pyarrow would make a frame all the same, raises its error."""
    table.validate(full=True)
    return Table(table.to_pandas())


def _require_arrow(path: Path) -> None:
    if find_spec("pyarrow") is None:
        raise ValueError(f"reading {path.name} needs pyarrow: pip install 'adapts[parquet]'")


def _entries(frame: pd.DataFrame) -> list[dict[str, Any]]:
    r"""One entry a row of a table that gluonts wrote: targets of several channels lie flat beside their shape."""
    entries: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    for entry in entries:
        shape = entry.pop("target._np_shape", None)
        if shape is not None:
            entry["target"] = np.asarray(entry["target"]).reshape(shape)
    return entries


def _tsf(path: Path, item_column: str | None) -> Table:
    text = _decoded(path, _raw(path, MOST_TEXT_OF_OBJECTS), "replace")  # the archive has comments in other encodings
    series, frequency = read_tsf(path.name, text)
    return Table(series, frequency)


BINARY = (".parquet", ".pq", ".arrow", ".feather")
ENDINGS: dict[str, Callable[[Path, str | None], Table]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".jsonl": _json,
    ".json": _json,
    ".tsf": _tsf,
}
