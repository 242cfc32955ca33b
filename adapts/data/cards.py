r"""Readers of files and data cards: a panel, with the metadata of its data set."""

from __future__ import annotations

__all__ = ["Dataset", "read", "read_table"]

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import shown, unknown
from ..registry import FILE_FORMATS, cards, load_card
from .frequency import alias, season_length
from .from_files import BINARY, Table, ending, read_file
from .from_memory import read_series
from .item import Categories
from .options import column_names, label, reading_options
from .panel import Panel
from .roles import assign


@dataclass(frozen=True, eq=False)
class Dataset:
    r"""Panel with the metadata of its data set.

    Arguments:
        name: The name of the data set.
        panel: The panel.
        borders: The rows where the train and the validation split end, or None where no card states them.
        end: The row where the test split ends, or None.
        season_length: The number of steps in a season; derived from the panel's frequency if None.
        support: The smallest and largest possible value of each channel for which they are known.
    """

    name: str
    panel: Panel
    borders: tuple[int, int] | None = None
    end: int | None = None
    season_length: int | None = None
    support: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.season_length is None:
            object.__setattr__(self, "season_length", season_length(self.panel.frequency))


def read(
    data: str | Path,
    *,
    timestamp_column: str | None = None,
    frequency: str | None = None,
    columns: str | Sequence[str] | None = None,
    item_column: str | Sequence[str] | None = None,
    regularise: bool = False,
    static: str | Sequence[str] | Mapping[str, Categories | None] = (),
) -> Dataset:
    r"""Read a file, or the data set that a card describes.

    A card is a YAML file in the registry `datasets/`; it states how its data set is read. Case, hyphens and
    underscores in the names of cards do not matter: `ETTh1` and `etth1` are the same.

    Arguments:
        data: The path of a file (.csv, .tsv, .parquet, .pq, .arrow, .feather, .jsonl, .json, .tsf; text files also
            compressed, as .csv.gz), or the name of a card. JSON holds one record a line: a row or a gluonts entry.
        timestamp_column: The column of the dates, for a file; see `Panel.of`.
        frequency: The pandas alias of the time step, for a file; by default the one that the file states, or inferred.
        columns: The channels to forecast, all by default.
        item_column: The column, or columns, that name the item in a long file; recognised by default, see `Panel.of`.
        regularise: Whether to make irregular dates regular, for a file; see `Panel.of`.
        static: The columns that are constant within each item, for a long file; see `Panel.of`.

    Returns:
        The data set.

    Raises:
        ValueError: If there is no such file or card, the file cannot be read, or its content makes no panel.
    """
    return read_with(
        data, (), target=columns, item_column=item_column, timestamp_column=timestamp_column, frequency=frequency,
        regularise=regularise, static=static,
    )  # fmt: skip


def read_with(data: str | Path, covariates: Sequence[str], **options: Any) -> Dataset:
    r"""Read as `read` does, with the covariates named in addition to the columns to forecast.

    Arguments:
        data: As for `read`.
        covariates: The columns that the caller names as covariates. They may repeat what the dates say.
        options: The options of `Panel.of`.

    Returns:
        The data set.

    Raises:
        ValueError: As for `read`.
    """
    if not isinstance(data, str | Path):
        raise ValueError(f"expected the path of a file or the name of a card, got {shown(data)}")
    options = reading_options(**options)
    known = {_plain(name): name for name in cards()}
    name = known.get(_plain(str(data)))
    if name is not None and not os.path.isfile(data):
        for option, value in options.items():
            if option != "target" and value:
                raise ValueError(f"the card {name!r} states how it is read, {option}= cannot change it: read the file")
        return _read_card(load_card(name), options["target"])
    path = Path(data)
    table = read_table(path, options["item_column"])
    try:
        return Dataset(Path(path.name.removesuffix(".gz")).stem, **_panel(table, {**options, "covariates": covariates}))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def read_table(path: Path, item_column: str | Sequence[str] | None = None) -> Table:
    r"""Read the content of a file without making a panel of it.

    Arguments:
        path: The path of the file; see `read`.
        item_column: As for `read`.

    Returns:
        The content.

    Raises:
        ValueError: If there is no such file, or it cannot be read.
    """
    _require_file(path, list(cards()))
    return read_file(path, item_column)


def _panel(table: Table, options: dict[str, Any]) -> dict[str, Any]:
    r"""Return the panel of a table, and the season where the file states a frequency, as fields of `Dataset`."""
    if isinstance(table.series, Mapping):  # named series without dates: the frequency can set the season only
        panel = read_series(list(table.series.values()), Panel, **options)
        pairs = zip(panel.items, table.series, strict=True)
        panel = replace(panel, items=tuple(replace(item, item_id=label(name, "a series")) for item, name in pairs))
        return {"panel": panel, "season_length": table.frequency and season_length(alias(table.frequency))}
    frequency = options["frequency"] or table.frequency
    return {"panel": read_series(table.series, Panel, **{**options, "frequency": frequency})}


def _require_file(path: Path, names: Sequence[str]) -> None:
    r"""Check that a path names a readable file; `names` are those of the cards, for messages."""
    if "\0" in str(path) or len(path.name.encode(errors="surrogatepass")) > 255:
        raise ValueError(f"there is no file {shown(str(path))}: a name has at most 255 bytes, and none of them is NUL")
    if os.path.isdir(path):
        inside = sorted(child.name for child in path.iterdir() if ending(child))
        raise ValueError(
            f"{path} is a folder: name one file"
            + (f" in it ({', '.join(inside[:8])}{', ...' if len(inside) > 8 else ''})" if inside else "; it holds none")
        )
    if not os.path.exists(path) and path.suffix == "" and path.name == str(path):
        raise unknown("data card", str(path), names)
    if not os.path.exists(path):
        siblings = [child.name for child in path.parent.iterdir()] if os.path.isdir(path.parent) else []
        nearest = get_close_matches(path.name, siblings, n=1)
        raise ValueError(
            f"there is no file {path if str(path).isprintable() and len(str(path)) < 300 else shown(str(path))}"
            + (f" (did you mean {nearest[0]!r}?)" if nearest else "")
            + f"; the cards, for data without a path: {', '.join(names)}"
        )
    if not os.path.isfile(path):
        raise ValueError(
            f"{shown(str(path))} is no file but a pipe, a socket or a device: write the data to a file first"
        )
    if ending(path) is None:
        packed = ", ".join(name for name in FILE_FORMATS if name not in BINARY)
        raise ValueError(
            f"cannot read {path.name!r} by its ending: expected one of {', '.join(FILE_FORMATS)} ({packed} also as .gz)"
        )


def _read_card(card: dict[str, Any], columns: str | Sequence[str] | None) -> Dataset:
    r"""Read the data set that a card describes."""
    path = _card_file(card)
    frame = {"csv": _frame_of_csv, "tmy3": _frame_of_tmy3}[card["reader"]](path, card)
    frame = frame.mask(frame.isin(card.get("missing", [])))
    covariates, calendar = card.get("known_covariates", []), card.get("calendar", False)
    target = columns if columns is None or not covariates else [*column_names("target", columns), *covariates]
    panel = Panel.of(frame, frequency=card["frequency"], target=target)
    if covariates or calendar:
        panel = assign(panel, target=columns, past_covariates=(), known_covariates=covariates, calendar=calendar)
    borders = card["borders"]
    return Dataset(
        card["name"],
        panel,
        borders=(borders["train"], borders["validation"]),
        end=borders["test"],
        season_length=card["season_length"],
        support={
            channel: (float(low), float(high))
            for channel, (low, high) in card.get("support", {}).items()
            if channel in panel.channels
        },
    )


def _card_file(card: dict[str, Any]) -> Path:
    r"""Find the file of a card, in the package that ships it or under $ADAPTS_DATA, and check its SHA-256 hash."""
    name, file = str(card["name"]), str(card["file"])
    if "package" in card:
        package = find_spec(card["package"])
        if package is None or package.origin is None:
            raise ValueError(
                f"the data of card {name!r} ship inside the package {card['package']!r}, which is not installed: "
                f"pip install 'adapts[{card['extra']}]'"
            )
        path = Path(package.origin).parent / file
        if not path.is_file():
            raise ValueError(f"the installed {card['package']!r} does not hold {file}: install another release of it")
    else:
        folder = os.environ.get("ADAPTS_DATA")
        if not folder:
            raise ValueError(
                f"the card {name!r} reads {file}, which adapts does not ship: fetch it ({card['source']}) and name its "
                "folder in the environment variable ADAPTS_DATA"
            )
        path = Path(folder) / file
        if not path.is_file():
            raise ValueError(f"the folder {folder} that ADAPTS_DATA names holds no {file}: fetch it ({card['source']})")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found not in card["sha256"]:
        raise ValueError(
            f"{path} is not the file that the card {name!r} describes: expected sha256 {' or '.join(card['sha256'])}, "
            f"found {found}. Fetch it again ({card['source']}), or read it by its path, without the card"
        )
    return path


def _frame_of_csv(path: Path, card: dict[str, Any]) -> pd.DataFrame:
    r"""Read the channels of a CSV: a list renames all columns in the file's order, a mapping selects from them."""
    frame = pd.read_csv(path, index_col=card["timestamp_column"], float_precision="round_trip")
    frame.index = pd.to_datetime(frame.index, format=card.get("date_format"))
    if "hour_column" in card:
        frame.index += pd.to_timedelta(frame.pop(card["hour_column"]), unit="h").to_numpy()
    covariates = card.get("known_covariates", [])
    if isinstance(card["channels"], list):
        assert frame.shape[1] == len(card["channels"])
        frame.columns = pd.Index(card["channels"])
    else:
        names = card["channels"]
        frame = frame[[*names.values(), *covariates]].rename(columns={column: name for name, column in names.items()})
    if card.get("timestamps") == "as-rows":
        frame.index = pd.date_range(frame.index[0], periods=len(frame), freq=card["frequency"])
    frame = frame.asfreq(card["frequency"])
    frame[covariates] = frame[covariates].ffill()
    return frame


def _frame_of_tmy3(path: Path, card: dict[str, Any]) -> pd.DataFrame:
    r"""Read the channels of a typical meteorological year (TMY3), with all months assigned to one year."""
    # The file stamps hours at their end, 01:00 to 24:00 local standard time, and months with their original years.
    frame = pd.read_csv(path, skiprows=1, float_precision="round_trip")
    days = pd.to_datetime(frame["Date (MM/DD/YYYY)"], format="%m/%d/%Y")
    hours = frame["Time (HH:MM)"].str[:2].astype(int) - 1
    days = pd.to_datetime(pd.DataFrame({"year": card["coerce_year"], "month": days.dt.month, "day": days.dt.day}))
    index = pd.DatetimeIndex(days + pd.to_timedelta(hours, unit="h"))
    names = {column: channel for channel, column in card["channels"].items()}
    return frame[list(names)].rename(columns=names).set_index(index).astype(float)


def _plain(name: str) -> str:
    r"""Return a name in lower case without hyphens, underscores and spaces."""
    return re.sub(r"[-_ ]", "", name).lower()
