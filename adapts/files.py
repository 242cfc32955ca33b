r"""Files: each ending has its reader, which makes a frame or gluonts entries of it."""

from __future__ import annotations

__all__ = ["ENDINGS", "Table", "ending", "read_file"]

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .panel.reader import ITEM_NAMES
from .tsf import read_tsf


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
            return Table(_entries(frame))
    return table


# ---------------------------------------------------------------------------------------------------- text


def _text(path: Path, errors: str = "strict") -> str:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw).decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error
    except (OSError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be unpacked: {error}") from error


def _csv(path: Path, item_column: str | None) -> Table:
    r"""Reads a CSV, its separator (comma, semicolon, tab, bar) by the header and a decimal comma by the first rows."""
    text = _text(path)
    head = text[:100_000].splitlines()[:20]
    try:
        header = next((line for line in head if line.strip()), "")
        separator = max(",;\t|", key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
        comma = separator != "," and re.search(r"[;\t|]\s*-?\d+,\d+\s*([;\t|]|$)", "\n".join(head), re.M)
        columns = next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
        names = [
            name
            for name in columns
            if name.strip() == item_column or (not item_column and name.strip().lower() in ITEM_NAMES)
        ]
        frame = pd.read_csv(
            io.StringIO(text),
            sep=separator,
            decimal="," if comma else ".",
            skipinitialspace=True,
            converters={name: _name for name in names},
            float_precision="round_trip",  # pandas's default is off by a last bit
        )
    except (pd.errors.EmptyDataError, pd.errors.ParserError, csv.Error) as error:
        raise ValueError(f"{path.name} cannot be read as CSV: {str(error).strip()}") from error
    frame.columns = frame.columns.str.strip()
    for name in [name.strip() for name in names] if item_column is None else ():
        frame[name] = _unless_names(frame[name])
    # pandas writes the index of a frame under an empty name.
    return Table(
        frame.set_index(frame.columns[0]) if frame.columns[0] == "Unnamed: 0" and frame.shape[1] > 1 else frame
    )


def _name(text: str) -> str | None:
    return text.strip() or None


def _unless_names(column: pd.Series[Any]) -> pd.Series[Any]:
    r"""Text as numbers, if these say all that the text did."""
    present = column.dropna()
    numbers = pd.to_numeric(present, errors="coerce")
    told = numbers.notna().all() and (numbers.astype(str) == present).all()
    return pd.to_numeric(column) if told else column


def _json(path: Path, item_column: str | None) -> Table:
    r"""Reads one record a line, or an array of records: rows of a table, or gluonts entries."""
    text = _text(path)
    records: list[Any]
    try:
        if text.lstrip().startswith("["):
            records = json.loads(text)
        else:
            lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
            records = []
            for number, line in lines:  # noqa: B007  the message names the line
                records.append(json.loads(line))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno if text.lstrip().startswith('[') else number}"
        raise ValueError(f"{path.name} cannot be read as JSON lines: {error.msg} in {where}") from error
    if not records:
        raise ValueError(f"{path.name} is empty: expected one record a line")
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise ValueError(
                f"{path.name}: expected a record {{...}} a line, got {str(record)[:40]!r} as number {number}"
            )
    if any(isinstance(value, dict) for value in records[0].values()):
        raise ValueError(
            f"{path.name}: expected one record a line, got a mapping in a mapping: write the frame with "
            "to_json(..., orient='records', lines=True, date_format='iso')"
        )
    if isinstance(records[0].get("target"), list):
        return Table(records)
    return Table(pd.DataFrame.from_records(records))


# -------------------------------------------------------------------------------------------------- binary


def _parquet(path: Path, item_column: str | None) -> Table:
    _require_arrow(path)
    try:
        return Table(pd.read_parquet(path, engine="pyarrow"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path.name} cannot be read as Parquet: {error}") from error


def _arrow(path: Path, item_column: str | None) -> Table:
    r"""Reads an Arrow table, in the file format (Feather) or as a stream."""
    _require_arrow(path)
    import pyarrow
    from pyarrow import feather, ipc

    try:
        with path.open("rb") as file:
            magic = file.read(6)
        if magic[:4] in (b"ARRO", b"FEA1"):
            return Table(feather.read_table(path).to_pandas())
        with ipc.open_stream(path) as stream:
            return Table(stream.read_all().to_pandas())
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} cannot be read as Arrow: {error}") from error


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
    series, frequency = read_tsf(path.name, _text(path, "replace"))  # the archive has comments in other encodings
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
