r"""Files read into frames or gluonts entries, with one reader for each file name extension."""

from __future__ import annotations

__all__ = ["BINARY", "Table", "ending", "read_file"]

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import few, reading, shown
from ..persistence.schemas import once
from ..registry import FILE_FORMATS, resolve
from .arrow import size_of_arrow
from .columns import COMMA, NUMBER, are_grouped, text_as_numbers
from .options import ITEM_NAMES
from .tsf import read_tsf

#: The most bytes of decompressed text that are read; less where each value becomes an object.
MOST_TEXT, MOST_TEXT_OF_OBJECTS = 2**30, 2**28
#: The largest ratio of decompressed to compressed size, and the bytes that any compressed file may hold.
MOST_TIMES_PACKED, LEAST_UNPACKED = 100, 2**26
#: The most values in a table (2 GiB as float64), and the most columns.
MOST_VALUES, MOST_COLUMNS = 2**28, 100_000
SEPARATORS = ",;\t|"
#: Texts of missing values in a table, in lower case.
NOTHING = ("", "na", "n/a", "nan", "null", "none", "-", "--", "?", "<na>")
#: Temporary name of the column beyond the header, which must be empty.
_BEYOND = "\0beyond"
#: The most cells of a table for each value that its file holds, and the number of cells that are always allowed.
CELLS_PER_VALUE, CELLS_MORE = 20, 1_000_000


@dataclass(frozen=True)
class Table:
    r"""Content of a file.

    Arguments:
        series: A frame, gluonts entries, or a mapping of names to arrays if a file of series has no dates.
        frequency: The frequency that the file states, None if it states none.
    """

    series: Any
    frequency: str | None = None


def ending(path: Path) -> str | None:
    r"""Return the extension that determines how a file is read.

    Arguments:
        path: The path of the file.

    Returns:
        The extension in lower case, without a final `.gz`; None if there is no reader for it.

    Example:
        >>> ending(Path("a/Sales.CSV.gz")), ending(Path("sales.xlsx"))
        ('.csv', None)
    """
    name = path.name.lower()
    compressed = name.endswith(".gz")
    extension = Path(name.removesuffix(".gz")).suffix
    return extension if extension in FILE_FORMATS and not (compressed and extension in BINARY) else None


def read_file(path: Path, item_column: str | Sequence[str] | None) -> Table:
    r"""Read a file by its extension.

    Arguments:
        path: The path of the file.
        item_column: The column of a CSV, or several, whose entries are names and stay text: `001` is not `1`. If None,
            the columns that `Panel.of` may recognise as item columns.

    Returns:
        The content.

    Raises:
        ValueError: If the file cannot be read.
    """
    kind = ending(path)
    assert kind is not None
    table: Table = resolve(FILE_FORMATS[kind])(path, item_column)
    frame = table.series
    if isinstance(frame, pd.DataFrame) and {"start", "target"} <= set(frame.columns) and len(frame):
        if isinstance(frame["target"].iloc[0], list | np.ndarray):  # as gluonts writes Parquet and Arrow
            with reading(f"the gluonts entries of {path.name} cannot be read", "write the file anew"):
                return Table(_entries(frame))
    return table


# ---------------------------------------------------------------------------------------------------- text


def _raw(path: Path, most: int) -> bytes | bytearray:
    r"""Read the bytes of a text file, decompressed, at most `most`."""
    raw = bytearray()
    compressed = path.suffix.lower() == ".gz"
    with (
        reading(f"{path.name} cannot be {'unpacked' if compressed else 'read'}", "fetch or write the file anew"),
        gzip.open(path, "rb") if compressed else path.open("rb") as file,
    ):
        size = path.stat().st_size
        allowed = min(most, max(LEAST_UNPACKED, MOST_TIMES_PACKED * size)) if compressed else most
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
    r"""Decode UTF-8 text; refuse zero bytes and, unless `errors` allows them, other encodings."""
    if (place := raw.find(b"\0")) >= 0:  # CSV parsers truncate numbers there
        raise ValueError(f"{path.name} is not text, byte {place} is zero: save it as UTF-8 text, or fetch it again")
    try:
        return raw.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error


def _require_size(path: Path, rows: int, columns: int, values: int) -> None:
    r"""Check that a table has an acceptable size, also relative to the number of values in its file."""
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


def read_csv(path: Path, item_column: str | Sequence[str] | None) -> Table:
    r"""Read a CSV; detect its separator (comma, semicolon, tab, bar) and decimal mark from the first lines."""
    raw = _raw(path, MOST_TEXT)
    text = _decoded(path, raw)
    first, second = _first_lines(text)
    widest = max(line.count(mark) + 1 for line in (first, second) for mark in SEPARATORS)
    _require_size(path, 1, widest, widest)
    head = text[:100_000].splitlines()[:30]
    head = [line for line in (head if len(text) <= 100_000 else head[:-1] or head) if line.strip()][:20]
    with reading(f"{path.name} cannot be read as CSV", "check its separators and quotes"):
        separator = _separator(first, head)
        columns = _fields(first, separator)
        long = len(_fields(second, separator)) - len(columns)
        lines = [_fields(line, separator) for line in head]
    rows = text.count("\n")
    _require_size(path, rows, first.count(separator) + 1, text.count(separator) + rows)
    comma = separator != "," and bool(re.search(r"[;\t|]\s*-?\d+,\d+\s*([;\t|]|$)", "\n".join(head), re.M))
    _require_header(path, lines, separator)
    too_long = (
        f"{path.name} cannot be read as CSV: its {{}} row has {len(columns) + long} fields, and its header names "
        f"{len(columns)}: name each column"
        + (", and put numbers with a decimal comma in quotes or between semicolons" if separator == "," else "")
    )
    if long > 1 or (long == 1 and _fields(second, separator)[-1].strip()):
        raise ValueError(too_long.format("first"))
    _require_distinct(columns)
    keys = [item_column] if isinstance(item_column, str) else item_column or []
    names = [name for name in columns if name.strip() in keys or (not keys and name.strip().lower() in ITEM_NAMES)]
    options: dict[str, Any] = {"encoding": "utf-8-sig", "sep": separator, "skipinitialspace": True, "index_col": False}
    if len(columns) == 1:
        rows_of_text = text.strip().splitlines()
        double_spaced = len(rows_of_text) > 6 and any(not "".join(rows_of_text[start::2]).strip() for start in (1, 2))
        if not double_spaced:  # an empty line is a missing value
            raw, options["skip_blank_lines"] = "\n".join(rows_of_text).encode(), False
    with reading(f"{path.name} cannot be read as CSV", "check its separators and quotes"):
        if long == 1:  # the column beyond the header must be empty in all rows
            header = pd.read_csv(io.BytesIO(raw), nrows=0, **options).columns
            options |= {"header": 0, "names": [*header, _BEYOND]}
        frame = pd.read_csv(
            io.BytesIO(raw),
            decimal="," if comma else ".",
            converters={name: _name for name in names},
            float_precision="round_trip",  # the default of pandas errs in the last bit, and crashes on long exponents
            **options,
        )
    if long == 1 and (beyond := frame.pop(_BEYOND).notna()).any():
        raise ValueError(too_long.format(f"{int(beyond.to_numpy().argmax()) + 1}th"))
    frame.columns = frame.columns.str.strip()
    if columns and not columns[-1].strip() and len(columns) > 1 and frame.iloc[:, -1].isna().all() and len(frame):
        frame = frame.iloc[:, :-1]  # each line ends with a separator
    others = [name for name in frame.columns if name not in map(str.strip, names)]
    frame = _with_numbers(path, raw, frame, others, comma=comma, options=options)
    for name in [name.strip() for name in names] if not keys else ():
        frame[name] = text_as_numbers(frame[name])
    # pandas writes the index of a frame under an empty name.
    return Table(
        frame.set_index(frame.columns[0]) if frame.columns[0] == "Unnamed: 0" and frame.shape[1] > 1 else frame
    )


def _require_distinct(columns: list[str]) -> None:
    r"""Check that no two columns have the same name."""
    names = [name for name in map(str.strip, columns) if name]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(f"expected columns of different names, but {few(twice)} came more than once: rename them")


def _separator(first: str, lines: list[str]) -> str:
    r"""Return the separator: that of the header, unless only another one gives most lines the same width."""
    header = max(SEPARATORS, key=lambda mark: len(_fields(first, mark)) if mark in first else 1)
    widths = {mark: [len(_fields(line, mark)) for line in lines] for mark in SEPARATORS}
    usual = {mark: max(sorted(set(counts)), key=counts.count, default=1) for mark, counts in widths.items()}
    even = [mark for mark in SEPARATORS if usual[mark] > 1 and 10 * widths[mark].count(usual[mark]) >= 6 * len(lines)]
    if len(lines) < 4 or header in even or not even:
        return header
    return max(even, key=lambda mark: usual[mark])


def _require_header(path: Path, lines: list[list[str]], separator: str) -> None:
    r"""Check that the first line of a table, and only the first, names its columns."""
    texts = [[cell.strip() for cell in row] for row in lines]
    widths = [len(row) for row in texts]
    usual = max(sorted(set(widths)), key=widths.count, default=1)
    if usual < 2 or len(texts) < 4:
        return
    has_numbers = [any(map(_is_numeric_field, row)) for row in texts]
    amounts = [bool(re.fullmatch(r"[-+]?\d*[.,]\d+|\d\d?", cell)) for cell in texts[0]]
    if len(texts[0]) == usual and all(map(_is_numeric_field, texts[0])) and any(amounts):
        raise ValueError(
            f"{path.name} has no header, for its first line is {shown(separator.join(lines[0]))}: put a line above it "
            "that names the columns"
        )
    filled = [len(row) == usual and sum(map(bool, row)) >= max(2, usual - 1) for row in texts]
    headers = [n for n in range(len(texts) - 1) if filled[n] and not has_numbers[n] and has_numbers[n + 1]]
    if headers and headers[0] and (len(texts[0]) < usual or 2 * sum(map(bool, texts[0])) <= usual):
        above = headers[0]
        raise ValueError(
            f"{path.name} has {above} line{'s' if above > 1 else ''} above what looks like its header, "
            f"{shown(separator.join(lines[above]))}: delete {'them' if above > 1 else 'it'}"
        )
    first = has_numbers.index(True) if True in has_numbers else 0
    body = [row for row in texts[first:] if len(row) == usual]
    if first < 2 or len(texts[0]) != usual or len(body) < 2:
        return
    for place in range(usual):
        values = [row[place] for row in body if row[place].lower() not in NOTHING]
        names = [row[place] for row in texts[1:first] if len(row) > place and row[place].lower() not in NOTHING]
        if names and values and all(map(_is_numeric_field, values)):
            raise ValueError(
                f"{path.name} has {first} lines above its numbers, from {shown(separator.join(lines[0]))} to "
                f"{shown(separator.join(lines[first - 1]))}: keep the one that names the columns, and delete the others"
            )


def _is_numeric_field(cell: str) -> bool:
    r"""Return whether a field holds digits and no words: a number in some notation, or a date."""
    return bool(re.fullmatch(r"[-+\d.,' :/TZ%]*\d[-+\d.,' :/TZ%]*(?:e[-+]?\d+)?", cell, re.IGNORECASE))


def _with_numbers(
    path: Path, raw: bytes | bytearray, frame: pd.DataFrame, names: list[str], *, comma: bool, options: dict[str, Any]
) -> pd.DataFrame:
    r"""Read each column of numbers in its own notation: decimal comma or point, thousands separators.

    Arguments:
        path: The path of the file.
        raw: Its bytes.
        frame: The table, read with one decimal mark.
        names: The columns that may hold numbers.
        comma: Whether that decimal mark is the comma.
        options: The options by which pandas read the table.

    Returns:
        The table.

    Raises:
        ValueError: If the marks of a column may stand for thousands or for decimals.
    """
    textual = [name for name in names if frame[name].dtype == object and options["sep"] != ","]
    texts = {name: frame[name].dropna().astype(str).str.strip() for name in textual}
    texts = {name: column for name, column in texts.items() if len(column)}
    floats = [name for name in names if frame[name].dtype == np.float64]
    doubtful = [name for name in floats if _may_be_thousands(frame[name])]
    if doubtful:
        with reading(f"{path.name} cannot be read as CSV", "check its separators and quotes"):
            again = pd.read_csv(io.BytesIO(raw), dtype=str, **options)
        again.columns = again.columns.str.strip()
        texts |= {name: again[name].dropna().str.strip() for name in doubtful}
    unclear = {name: mark for name, column in texts.items() for mark in ".," if are_grouped(column, mark)}
    if options["sep"] == ",":  # then decimals have a point, unless 974 stands beside 1.210
        unclear = {name: mark for name, mark in unclear.items() if _is_mixed(texts[name])}
    commas = [
        name for name, column in texts.items() if column.str.fullmatch(COMMA).all() and column.str.contains(",").any()
    ]
    points = [name for name, column in texts.items() if name not in commas and column.str.fullmatch(NUMBER).all()]
    # The unambiguous columns show which decimal marks the file uses.
    clear = [name for name in floats if name not in doubtful and (frame[name].dropna() % 1).any()]
    seen = {
        ",": any(name not in unclear for name in commas) or comma and bool(clear),
        ".": any(name not in unclear and texts[name].str.contains(".", regex=False).any() for name in points)
        or not comma
        and bool(clear),
    }
    seen[","] |= any(column.str.match(r"\d\d?\.\d\d?\.\d{4}\b").all() for column in texts.values())  # German dates
    decimal = {} if options["sep"] == "," else dict.fromkeys(commas, ",") | dict.fromkeys(points, ".")
    for name, mark in unclear.items():
        other_mark = "." if mark == "," else ","
        column_texts = texts[name]
        if column_texts.str.count(re.escape(mark)).max() > 1 or seen[other_mark] and not seen[mark]:
            decimal[name] = other_mark
        elif seen[mark] and not seen[other_mark]:
            decimal[name] = mark
        else:
            first = column_texts[column_texts.str.contains(mark, regex=False)]
            column, read = f"frame[{name!r}]", f"frame = pd.read_csv({path.name!r}, sep={options['sep']!r}"
            raise ValueError(
                f"column {shown(name)} may hold thousands or decimals, for three figures are behind each {shown(mark)} "
                f"(first: {shown(first.iloc[0])} in row {first.index[0]}). If these are thousands, {read}, "
                f"dtype={{{name!r}: str}}) and {column} = {column}.str.replace({mark!r}, '').astype(float) read them; "
                f"if they are decimals, {read}{', decimal=' + repr(mark) if mark == ',' else ''}) does"
            )
    converted = {name: _as_floats(texts[name], mark).reindex(frame.index) for name, mark in decimal.items()}
    return frame.assign(**converted)


def _as_floats(texts: pd.Series[Any], decimal: str) -> pd.Series[Any]:
    r"""Convert texts with a known decimal mark to numbers; `float` is exact to the last bit."""
    thousands = "," if decimal == "." else "."
    plain = texts.str.replace(thousands, "", regex=False).str.replace(decimal, ".", regex=False)
    return plain.astype(object).map(float).astype(np.float64)


def _may_be_thousands(column: pd.Series[Any]) -> bool:
    r"""Return whether numbers read with a decimal point may have had dots for thousands: 1.043 beside 974."""
    numbers = column.dropna().to_numpy()
    if not (np.abs(numbers) < 1000).all() or not (numbers % 1).any():
        return False
    return bool((np.abs(numbers * 1000 - np.round(numbers * 1000)) < 1e-6).all())


def _is_mixed(texts: pd.Series[Any]) -> bool:
    r"""Return whether some numbers have no dot and others end in zero after one, unlike any decimal notation."""
    dotted = texts.str.contains(".", regex=False)
    return bool((~dotted).any() and texts[dotted].str.endswith("0").any())


def _first_lines(text: str) -> tuple[str, str]:
    r"""Return the first two lines of a text that are not blank, "" if there are fewer."""
    lines, end = [], 0
    for _ in range(2):
        found = re.compile(r"\S").search(text, end)
        start = len(text) if found is None else max(text.rfind(mark, 0, found.start()) for mark in "\r\n") + 1
        ends = [place for mark in "\r\n" if (place := text.find(mark, start)) >= 0]
        end = min(ends, default=len(text))
        lines.append(text[start:end])
    return lines[0], lines[1]


def _fields(line: str, separator: str) -> list[str]:
    r"""Split a line of a CSV into its fields."""
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _name(text: str) -> str | None:
    r"""Return an entry of an item column: stripped, None if blank."""
    return text.strip() or None


def read_json(path: Path, item_column: str | Sequence[str] | None) -> Table:
    r"""Read one record a line, or an array of records: rows of a table, or gluonts entries."""
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
    r"""Yield the JSON values of a text, one a line, up to the first that is no record."""
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


def read_parquet(path: Path, item_column: str | Sequence[str] | None) -> Table:
    r"""Read a Parquet file, once its metadata show an acceptable size."""
    _require_arrow(path)
    from pyarrow import parquet

    with reading(f"{path.name} cannot be read as Parquet", "write the file anew"):
        metadata = parquet.read_metadata(path)
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        chunks = [group.column(number) for group in groups for number in range(metadata.num_columns)]
        values = sum(chunk.num_values for chunk in chunks)
        size = sum(chunk.total_uncompressed_size for chunk in chunks)
    _require_size(path, metadata.num_rows, metadata.num_columns, max(values, size // 8))
    with reading(f"{path.name} cannot be read as Parquet", "write the file anew"):
        return _of_arrow(parquet.read_table(path))


def read_arrow(path: Path, item_column: str | Sequence[str] | None) -> Table:
    r"""Read an Arrow table, in the file format (Feather) or the stream format."""
    _require_arrow(path)
    from pyarrow import feather, ipc

    with reading(f"{path.name} cannot be read as Arrow", "write the file anew"):
        with path.open("rb") as file:
            magic = file.read(4)
        values, size = size_of_arrow(path) if magic != b"FEA1" else (0, 0)
    if magic == b"FEA1":  # pyarrow reads this format unchecked: a damaged file crashes the process
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
    r"""Convert an Arrow table to a frame; a damaged one, which pyarrow would convert all the same, raises its error."""
    table.validate(full=True)
    return Table(table.to_pandas())


def _require_arrow(path: Path) -> None:
    r"""Check that pyarrow is installed."""
    if find_spec("pyarrow") is None:
        raise ValueError(f"reading {path.name} needs pyarrow: pip install 'adapts[parquet]'")


def _entries(frame: pd.DataFrame) -> list[dict[str, Any]]:
    r"""Return the entries of a table that gluonts wrote, one a row; flat multivariate targets get their shape."""
    entries: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    for entry in entries:
        shape = entry.pop("target._np_shape", None)
        if shape is not None:
            entry["target"] = np.asarray(entry["target"]).reshape(shape)
    return entries


def read_tsf_file(path: Path, item_column: str | Sequence[str] | None) -> Table:
    r"""Read a file of the Monash archive."""
    text = _decoded(path, _raw(path, MOST_TEXT_OF_OBJECTS), "replace")  # some comments have other encodings
    series, frequency = read_tsf(path.name, text)
    return Table(series, frequency)


BINARY = (".parquet", ".pq", ".arrow", ".feather")
