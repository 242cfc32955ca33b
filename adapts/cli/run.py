r"""Common steps of the commands: options to adapter and data set, and results to JSON and a folder."""

from __future__ import annotations

__all__ = [
    "READING",
    "adapter_of",
    "data_of",
    "emit",
    "nested_scores",
    "reading_of",
    "report",
    "require_output",
    "save_figure",
    "without_fit_warnings",
    "write_json",
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


def require_output(
    output: Path,
    kind: Folder,
    read: Iterable[str | Path | None],
    checkpoints: Iterable[Path] = (),
    *,
    overwrite: bool,
) -> None:
    r"""Check that an output folder can be written, before any computation.

    Arguments:
        output: The folder to write.
        kind: The content that a run writes there; a folder that holds anything else is never replaced.
        read: The inputs of the run: paths, or texts that may name no file.
        checkpoints: The checkpoint folders of the run.
        overwrite: Whether an earlier run may be replaced.

    Raises:
        ValueError: If the folder may not be replaced, holds an input, or cannot be written; or if a checkpoint folder
            holds anything else.
    """
    from ..persistence.checkpoints import require_usable
    from ..persistence.ownership import as_path, named, require_replaceable

    checkpoints = list(checkpoints)
    output = as_path("--output", output)
    for path in [*read, *checkpoints]:
        if path is None or (isinstance(path, str) and not os.path.exists(path)):
            continue
        if not output.is_file() and output.resolve() in [Path(path).resolve(), *Path(path).resolve().parents]:
            raise ValueError(
                f"{named(path)} lies in {named(output)}, which would be replaced: choose another output folder"
            )
    require_replaceable(output, kind, overwrite=overwrite)
    for folder in checkpoints:
        require_usable(folder)
    above = next(path for path in output.absolute().parents if path.exists())
    try:
        TemporaryDirectory(prefix=f".{output.name}-adapts-", dir=above).cleanup()
    except OSError as error:
        raise ValueError(
            f"{named(output)} cannot be written, as {named(above)} takes no new folder ({error.strerror}): "
            "choose another place"
        ) from error


def adapter_of(arguments: Mapping[str, Any], recipe: str | Path, model: FoundationModel | None = None) -> Adapter:
    r"""Create the adapter from the options.

    Arguments:
        arguments: The options, by name.
        recipe: The name of a preset, or the path of a recipe.
        model: The frozen model, if it is already loaded.

    Returns:
        The unfitted adapter, with its frozen model loaded.
    """
    from ..adapter import Adapter
    from ..adapters import make
    from ..options import FIELDS, TRAINING
    from ..presets import family_of, is_trained

    family, recipe_training = family_of(recipe)
    if given := family_options(family.family, arguments["option"] or ()):
        family = make(family.family, {**family.options(), **given})
    if not is_trained(family):  # with the given options, nothing is trained by gradient
        recipe_training = {}
    training: dict[str, Any] = {
        name: recipe_training.get(name) if arguments[name] is None else arguments[name] for name in TRAINING
    }
    own = {
        name: arguments[name] for name in FIELDS if name in arguments and name not in ("family", "support", *TRAINING)
    }
    own["foundation_model"] = arguments["foundation_model"] if model is None else model
    adapter = Adapter(family, support=support(arguments["support"] or ()), **{**own, **training})
    adapter.model  # noqa: B018  errors in loading are raised before any computation
    return adapter


def reading_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    r"""Select the options for reading data.

    Arguments:
        arguments: The options, by name.

    Returns:
        The options of `Panel.of`, except for the columns to forecast.
    """
    return {name: arguments[name] for name in READING} | {"item_column": _names(arguments, "item_column") or None}


def data_of(arguments: Mapping[str, Any], adapter: Adapter | None = None) -> Dataset:
    r"""Read the data.

    Arguments:
        arguments: The options, by name.
        adapter: A fitted adapter whose channels are read; if None, those of the options.

    Returns:
        The data set.
    """
    from ..data.schema import Schema, read_dataset

    reading = reading_of(arguments)
    if adapter is not None:
        return Schema(adapter.require_fitted("predict").panel).read(arguments["data"], **reading)
    past, known, static = (_names(arguments, role) for role in ("past_covariates", "known_covariates", "static"))
    return read_dataset(
        arguments["data"], target=_names(arguments, "columns") or None, past_covariates=past, known_covariates=known,
        calendar=arguments["calendar"], static=static, **reading,
    )  # fmt: skip


def _names(arguments: Mapping[str, Any], role: str) -> list[str]:
    r"""Return the columns of a role, given one by one or comma-separated."""
    columns: list[str] = []
    for given in arguments[role] or ():
        named = "," not in given or _is_column(given, arguments["data"])
        columns += [given] if named else [name.strip() for name in given.split(",")]
    return columns


def _is_column(name: str, data: str) -> bool:
    r"""Return whether a name that contains a comma is that of one column."""
    import pandas as pd

    from ..data.cards import read, read_table

    try:
        if not os.path.isfile(data):
            return name in read(data).panel.channels
        frame = read_table(Path(data)).series
    except ValueError:
        return False
    return isinstance(frame, pd.DataFrame) and name in map(str, [*frame.columns, *frame.index.names])


def report(arguments: Mapping[str, Any], dataset: Dataset, model: FoundationModel) -> dict[str, Any]:
    r"""Describe how a result was computed; equal for two runs with the same settings, data and software.

    Arguments:
        arguments: The options, by name.
        dataset: The data.
        model: The frozen model.

    Returns:
        The settings, the data and the versions, as JSON values.
    """
    panel = dataset.panel
    return {
        "settings": dict(arguments),
        "data": {
            "name": dataset.name,
            "sha256": _fingerprint(arguments["data"], dataset.name),
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
    r"""Return the sha256 of a file; for a card, those of the files that it accepts."""
    from ..registry import load_card

    path = Path(data)
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    accepted: list[str] = load_card(name)["sha256"]
    return accepted


def nested_scores(frame: pd.DataFrame) -> dict[str, Any]:
    r"""Convert a tidy frame of scores to nested mappings by model, channel, lead block and metric; NaN becomes None.

    Arguments:
        frame: The frame of a backtest.

    Returns:
        The scores.
    """
    scores: dict[str, Any] = {}
    for model, channel, lead_block, metric, value in frame.itertuples(index=False):
        block = scores.setdefault(model, {}).setdefault(channel, {}).setdefault(lead_block, {})
        block[metric] = value if math.isfinite(value) else None
    return scores


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    r"""Write a JSON file.

    Arguments:
        path: The file.
        content: Its content.
    """
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def save_figure(path: Path, figure: Figure) -> None:
    r"""Write a plot; its metadata name adapts, so that `ownership` recognises the file.

    Arguments:
        path: The file.
        figure: The plot.
    """
    figure.savefig(path, metadata={"Software": "adapts"})


@contextmanager
def without_fit_warnings() -> Iterator[None]:
    r"""Suppress `FitWarning` within a `with` block, as `emit` prints the notices.

    Yields:
        Nothing.
    """
    from ..notices import FitWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        yield


def emit(
    content: Mapping[str, Any],
    written: Iterable[Path],
    *,
    as_json: bool,
    lines: Iterable[str],
    notes: Iterable[str] = (),
) -> None:
    r"""Print a result.

    Arguments:
        content: The result.
        written: The files that were written.
        as_json: Whether to print it as JSON, with the paths; otherwise the lines are printed.
        lines: The result as text.
        notes: The notices of the fit, printed on stderr; JSON contains them already.
    """
    if as_json:
        typer.echo(json.dumps({**content, "written": [str(path) for path in written]}, indent=1, allow_nan=False))
    else:
        typer.echo("\n".join(line for line in lines if line), nl=any(lines))
        for note in dict.fromkeys(notes):
            typer.echo(f"adapts: note: {note}".encode(errors="backslashreplace").decode(), err=True)
