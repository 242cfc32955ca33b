r"""What the commands share: from options to an adapter and a data set, and from a result to JSON and a folder."""

from __future__ import annotations

__all__ = [
    "READING",
    "adapter_of",
    "add",
    "data_of",
    "draw",
    "hand_over",
    "reading_of",
    "report",
    "require_place",
    "scores_of",
    "unsaid",
]  # fmt: skip

import hashlib
import json
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import typer

from .._version import __version__
from .options import family_options, support

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ..adapter import Adapter
    from ..data.cards import Dataset
    from ..foundation import FoundationModel
    from ..persistence.ownership import Folder

READING = ("timestamp_column", "item_column", "frequency", "regularise")
LIBRARIES = ("torch", "numpy", "pandas", "chronos-forecasting", "transformers", "scoringrules")


def require_place(
    output: Path,
    kind: Folder,
    read: Iterable[str | Path | None],
    checkpoints: Iterable[Path] = (),
    *,
    overwrite: bool,
) -> None:
    r"""Refuses an output before any work is done for it.

    Arguments:
        output: The folder to write.
        kind: What a run writes there; a folder that holds anything else is never replaced.
        read: What the run reads: paths, or texts that may name no file.
        checkpoints: The folders in which it keeps what is finished.
        overwrite: Whether an earlier run may be replaced.

    Raises:
        ValueError: If the folder may not be replaced, holds what is to be read, or cannot be written; or if the folders
            of checkpoints hold anything else.
    """
    from ..persistence.checkpoints import require_usable
    from ..persistence.ownership import as_path, named, require_replaceable

    checkpoints = list(checkpoints)
    output = as_path("--output", output)
    for path in [*read, *checkpoints]:
        if path is None or (isinstance(path, str) and not os.path.exists(path)):
            continue
        if not output.is_file() and output.resolve() in [Path(path).resolve(), *Path(path).resolve().parents]:
            raise ValueError(f"{named(path)} lies in {named(output)}, which would be replaced: name another folder")
    require_replaceable(output, kind, overwrite=overwrite)
    for folder in checkpoints:
        require_usable(folder)
    above = next(path for path in output.absolute().parents if path.exists())
    try:
        TemporaryDirectory(prefix=f".{output.name}-adapts-", dir=above).cleanup()
    except OSError as error:
        raise ValueError(
            f"{named(output)} cannot be written, for {named(above)} takes no new folder ({error.strerror}): "
            "name another place"
        ) from error


def adapter_of(asked: Mapping[str, Any], recipe: str | Path, model: FoundationModel | None = None) -> Adapter:
    r"""Makes the adapter that was asked for.

    Arguments:
        asked: The options, by name.
        recipe: The name of a recipe on the shelf, or the path of one.
        model: The frozen model, if it is loaded.

    Returns:
        The adapter, not fitted, with its frozen model loaded.
    """
    from ..adapter import Adapter
    from ..adapters import make
    from ..options import FIELDS, TRAINING
    from ..presets import family_of, is_trained

    family, recipe_training = family_of(recipe)
    if given := family_options(family.family, asked["option"] or ()):
        family = make(family.family, {**family.options(), **given})
    if not is_trained(family):  # the options that were typed leave nothing to train
        recipe_training = {}
    training: dict[str, Any] = {
        name: recipe_training.get(name) if asked[name] is None else asked[name] for name in TRAINING
    }
    own = {name: asked[name] for name in FIELDS if name in asked and name not in ("family", "support", *TRAINING)}
    own["foundation_model"] = asked["foundation_model"] if model is None else model
    adapter = Adapter(family, support=support(asked["support"] or ()), **{**own, **training})
    adapter.model  # noqa: B018  what cannot be loaded is told before any work
    return adapter


def reading_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    r"""Finds the options that say how data are read.

    Arguments:
        asked: The options, by name.

    Returns:
        Those of `Panel.of`, but for the columns to forecast.
    """
    return {name: asked[name] for name in READING} | {"item_column": _names(asked, "item_column") or None}


def data_of(asked: Mapping[str, Any], adapter: Adapter | None = None) -> Dataset:
    r"""Reads the data that were asked for.

    Arguments:
        asked: The options, by name.
        adapter: A fitted adapter whose channels to read; those of the options if None.

    Returns:
        The data set.
    """
    from ..data.schema import Schema, read_dataset

    reading = reading_of(asked)
    if adapter is not None:
        return Schema(adapter.require_fitted("predict").panel).read(asked["data"], **reading)
    past, known, static = (_names(asked, role) for role in ("past_covariates", "known_covariates", "static"))
    return read_dataset(
        asked["data"], target=_names(asked, "columns") or None, past_covariates=past, known_covariates=known,
        calendar=asked["calendar"], static=static, **reading,
    )  # fmt: skip


def _names(asked: Mapping[str, Any], role: str) -> list[str]:
    r"""The columns of a role, which may come one by one or with commas between."""
    columns: list[str] = []
    for given in asked[role] or ():
        named = "," not in given or _is_column(given, asked["data"])
        columns += [given] if named else [name.strip() for name in given.split(",")]
    return columns


def _is_column(name: str, data: str) -> bool:
    r"""Whether a name with a comma in it is that of one column."""
    import pandas as pd

    from ..data.cards import read, read_table

    try:
        if not os.path.isfile(data):
            return name in read(data).panel.channels
        frame = read_table(Path(data)).series
    except ValueError:
        return False
    return isinstance(frame, pd.DataFrame) and name in map(str, [*frame.columns, *frame.index.names])


def report(asked: Mapping[str, Any], dataset: Dataset, model: FoundationModel) -> dict[str, Any]:
    r"""Tells what a result was made of: nothing in it differs between two runs of the same settings and software.

    Arguments:
        asked: The options, by name.
        dataset: The data.
        model: The frozen model.

    Returns:
        The settings, the data and the versions, as JSON can hold them.
    """
    panel = dataset.panel
    return {
        "settings": dict(asked),
        "data": {
            "name": dataset.name,
            "sha256": _fingerprint(asked["data"], dataset.name),
            "items": len(panel),
            "rows": sum(panel.lengths),
            "channels": list(panel.targets),
            "frequency": panel.frequency,
        },
        "versions": {
            "adapts": __version__,
            "python": sys.version.split()[0],
            **{name: version(name) for name in LIBRARIES},
            "foundation_model": model.fingerprint(),
        },
    }


def _fingerprint(data: str, name: str) -> str | list[str]:
    r"""The sha256 of a file; for a card those of the files that it accepts, one of which its reader found."""
    from ..registry import load_card

    path = Path(data)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    accepted: list[str] = load_card(name)["sha256"]
    return accepted


def scores_of(frame: pd.DataFrame) -> dict[str, Any]:
    r"""Lays a tidy frame of scores out by model, channel, block of leads and metric; NaN becomes None.

    Arguments:
        frame: What a backtest returns.

    Returns:
        The scores.
    """
    scores: dict[str, Any] = {}
    for model, channel, lead_block, metric, value in frame.itertuples(index=False):
        block = scores.setdefault(model, {}).setdefault(channel, {}).setdefault(lead_block, {})
        block[metric] = value if math.isfinite(value) else None
    return scores


def add(path: Path, content: Mapping[str, Any]) -> None:
    r"""Writes JSON.

    Arguments:
        path: The file.
        content: What it holds.
    """
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def draw(path: Path, figure: Figure) -> None:
    r"""Writes a picture, by whose note of its software `ownership` knows it.

    Arguments:
        path: The file.
        figure: The picture.
    """
    figure.savefig(path, metadata={"Software": "adapts"})


@contextmanager
def unsaid() -> Iterator[None]:
    r"""Keeps back the warnings of fits while it is open: `hand_over` tells the notices that they are made of.

    Yields:
        Nothing.
    """
    from ..notices import FitWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        yield


def hand_over(
    content: Mapping[str, Any],
    written: Iterable[Path],
    *,
    as_json: bool,
    lines: Iterable[str],
    notes: Iterable[str] = (),
) -> None:
    r"""Prints a result.

    Arguments:
        content: The result.
        written: The files that hold it.
        as_json: Whether to print it as JSON, with the paths; the lines otherwise.
        lines: The same to read.
        notes: What there is to know, which the JSON holds too, for the standard error.
    """
    if as_json:
        typer.echo(json.dumps({**content, "written": [str(path) for path in written]}, indent=1, allow_nan=False))
    else:
        typer.echo("\n".join(line for line in lines if line), nl=any(lines))
        for note in dict.fromkeys(notes):
            typer.echo(f"adapts: note: {note}".encode(errors="backslashreplace").decode(), err=True)
