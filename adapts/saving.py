r"""Saved adapters: a readable config beside the adapter's own tensors, no pickle, no frozen weights."""

from __future__ import annotations

__all__ = ["load", "pack", "save", "unpack", "write"]

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from . import __version__
from .adapters import AdapterModule, make
from .distribution.copula import Independent
from .distribution.recalibration import Recalibration
from .fitting import Fitted
from .ownership import CONFIG, GROUPS, SAVED, TENSORS, replaced, standing
from .panel import Item, Panel

if TYPE_CHECKING:
    from .adapter import Adapter
    from .foundation import FoundationModel

ROLES = ("past_covariates", "known_covariates", "calendar")
FORMAT = 2


def pack(fitted: Fitted, adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    r"""Takes a fitted adapter apart into what is saved of it.

    Arguments:
        fitted: What its fit left behind.
        adapter: The adapter, for its options.

    Returns:
        The config, of what JSON can hold, and the tensors.
    """
    options = {**adapter.get_params(deep=False), **adapter._training}
    named = isinstance(options["foundation_model"], str | Path)
    options["foundation_model"] = str(options["foundation_model"]) if named else None  # a live model has no address
    for name in ("family", "trainer_options"):  # told apart; objects of Lightning's, which matter to fit alone
        del options[name]
    config = {
        "format": FORMAT,
        "adapts": __version__,
        "family": adapter.family.family,
        "family_options": adapter.family.options(),
        "options": {**options, "support": _finite(options["support"]), "device": "auto"},
        "foundation_model": adapter.model.fingerprint(),
        "channels": list(fitted.panel.channels),
        **{role: list(getattr(fitted.panel, role)) for role in ROLES},
        "static": dict(fitted.panel.static),
        "frequency": fitted.panel.frequency,
        "single": fitted.panel.single,
        "items": [{"item_id": i.item_id, **_index_config(i.index)} for i in fitted.panel.items],
        "context_length": fitted.context_length,
        "season_length": fitted.season_length,
        "windows": fitted.windows,
        "spans": fitted.spans,
        "stages": fitted.stages,
    }
    # Forecasts plot four prediction lengths of history, and updates score those that are not whole yet.
    keep = max(fitted.context_length + fitted.copula.prediction_length, 4 * fitted.copula.prediction_length)
    tensors: dict[str, Tensor] = {
        "location": torch.from_numpy(fitted.location),
        "scale": torch.from_numpy(fitted.scale),
        "support": torch.from_numpy(np.stack(fitted.support)),
        **fitted.state(),
        **{f"rows.{n}": torch.from_numpy(item.values[-keep:].copy()) for n, item in enumerate(fitted.panel.items)},
    }
    if fitted.panel.frequency is not None:
        tensors |= {f"clock.{n}": torch.from_numpy(i.clock()[-keep:].copy()) for n, i in enumerate(fitted.panel.items)}
    return config, tensors


def save(fitted: Fitted, adapter: Adapter, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    r"""Writes a fitted adapter to its place.

    Arguments:
        fitted: What its fit left behind.
        adapter: The adapter, for its options.
        path: The folder.
        overwrite: Whether to replace the folder if it exists.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If the folder exists and may not be replaced, or holds what no adapter wrote.
    """
    with replaced(path, SAVED, overwrite=overwrite) as folder:
        write(fitted, adapter, folder)


def write(fitted: Fitted, adapter: Adapter, folder: Path) -> None:
    r"""Writes a fitted adapter into a new folder that is moved to its place later, such as one that `replaced` gives.

    Arguments:
        fitted: What its fit left behind.
        adapter: The adapter, for its options.
        folder: The folder, made where there is none.
    """
    from safetensors.torch import save as as_bytes

    config, tensors = pack(fitted, adapter)
    folder.mkdir(parents=True, exist_ok=True)
    content = as_bytes({name: tensor.contiguous() for name, tensor in tensors.items()})
    (folder / TENSORS).write_bytes(content)
    config["sha256"] = hashlib.sha256(content).hexdigest()
    text = json.dumps(config, indent=2, default=_plain, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def load(
    adapter_class: type[Adapter],
    path: str | Path,
    *,
    foundation_model: Any,
    device: str,
    loaded: FoundationModel | None = None,
) -> Adapter:
    r"""Reads a saved adapter.

    Arguments:
        adapter_class: The class to make.
        path: The folder.
        foundation_model: Another frozen model to use, or None.
        device: Where the frozen model runs.
        loaded: The frozen model, where it is loaded already.

    Returns:
        The fitted adapter.

    Raises:
        ValueError: If the folder is not a saved adapter, is corrupt, or its foundation model is not the one found.
    """
    config, tensors = _read(standing(path))
    if foundation_model is None and config.get("options", {}).get("foundation_model", "") is None:
        raise ValueError(
            f"{path} was fitted around a live model ({config['foundation_model']['name']}): "
            "pass it to Adapter.load(path, foundation_model=...)"
        )
    try:
        family = make(config["family"], config["family_options"])
        options = {**config["options"], "device": device}
        options["support"] = _support_option(options["support"])
        if foundation_model is not None:
            options["foundation_model"] = foundation_model
        adapter = adapter_class(family, **options)
        fitted = unpack(config, tensors, family)
        expected = config["foundation_model"]
        address = expected["name"], expected["version"], expected["sha256"][:12]
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is a corrupt adapter, or another version's: {error!r}") from error
    adapter._model = loaded
    found = adapter.model.fingerprint()
    if foundation_model is None and found["sha256"] != expected["sha256"]:
        raise ValueError(
            f"{path} was fitted around the foundation model {address[0]} {address[1]} (sha256 {address[2]}), "
            f"found {found['name']} {found['version']} (sha256 {found['sha256'][:12]}): "
            "fit again, or name the model to use with Adapter.load(path, foundation_model=...)"
        )
    fitted.headed(adapter.model)  # another model may have no place for the head
    adapter._fitted = fitted
    return adapter


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in (CONFIG, TENSORS):
        if not (path / name).is_file():
            what = "is no folder" if not path.is_dir() else f"has no {name}"
            if (path / GROUPS).is_dir():
                what = "is a grouped one: GroupedAdapter.load reads it"
            raise ValueError(f"expected a folder that Adapter.save wrote ({CONFIG} and {TENSORS}), but {path} {what}")
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(path / TENSORS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(f"{path} is a corrupt adapter: {error}") from error
    if not isinstance(config, dict) or "format" not in config or "family" not in config:
        raise ValueError(f"{path / CONFIG} is not the config of an adapter: it names no format and family")
    if hashlib.sha256((path / TENSORS).read_bytes()).hexdigest() != config.get("sha256"):
        raise ValueError(f"{path} is a corrupt adapter: {TENSORS} is not the file that {CONFIG} was saved with")
    if config["format"] != FORMAT:
        raise ValueError(
            f"{path} was saved in format {config['format']} by adapts {config.get('adapts')}; adapts {__version__} "
            f"reads format {FORMAT}: load it with that version, or fit again"
        )
    return config, tensors


def unpack(config: Mapping[str, Any], tensors: Mapping[str, Tensor], family: AdapterModule) -> Fitted:
    r"""Puts together what `pack` took apart.

    Arguments:
        config: The config.
        tensors: The tensors.
        family: The adapter's family.

    Returns:
        What the fit left behind, its rows cut to those that prediction needs.
    """
    items = tuple(
        _item(entry, tensors[f"rows.{n}"], tensors.get(f"clock.{n}")) for n, entry in enumerate(config["items"])
    )
    low, high = tensors["support"].numpy()
    panel = Panel(items, tuple(config["channels"]), config["frequency"], config["single"])
    past, known, calendar = (tuple(config.get(role, ())) for role in ROLES)
    static = {name: None if held is None else tuple(held) for name, held in config.get("static", {}).items()}
    panel = replace(panel, past_covariates=past, known_covariates=known, calendar=calendar, static=static)
    fitted = Fitted(
        panel=panel,
        context_length=config["context_length"],
        season_length=config["season_length"],
        support=(low, high),
        location=tensors["location"].numpy(),
        scale=tensors["scale"].numpy(),
        constant=np.zeros(len(panel.targets), dtype=bool),  # until `restore`
        module=family.build(len(panel.targets) + len(panel.past_covariates)),
        copula=Independent(config["options"]["prediction_length"], len(panel.targets)),
        recalibration=Recalibration.identity(),
        windows=config["windows"],
        spans=config.get("spans", {}),
        stages=config["stages"],
    )
    fitted.restore(tensors)
    fitted.module.requires_grad_(False)
    return fitted


def _index_config(index: pd.Index[Any]) -> dict[str, Any]:
    r"""What dates the rows that are kept: the unit and zone of their clock, or the number of the last row."""
    if isinstance(index, pd.DatetimeIndex):
        return {"unit": index.unit, "zone": str(index.tz) if index.tz else None}
    return {"stop": int(index.stop) if isinstance(index, pd.RangeIndex) else len(index)}


def _item(entry: dict[str, Any], rows: Tensor, clock: Tensor | None) -> Item:
    index: pd.Index[Any]
    if clock is None:
        index = pd.RangeIndex(entry["stop"] - len(rows), entry["stop"])
    else:
        index = pd.DatetimeIndex(clock.numpy()).as_unit(entry["unit"])
        if entry["zone"]:
            index = index.tz_localize("UTC").tz_convert(entry["zone"])
    return Item(entry["item_id"], rows.numpy(), index)


def _plain(value: Any) -> Any:
    r"""JSON's form of a numpy number."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a config")


def _finite(support: Any) -> Any:
    r"""A support as JSON can hold it: None where there is no bound."""
    if isinstance(support, Mapping):
        return {name: _finite(bounds) for name, bounds in support.items()}
    return None if support is None else [float(bound) if math.isfinite(bound) else None for bound in support]


def _support_option(support: Any) -> Any:
    r"""The support that `_finite` wrote."""
    if isinstance(support, Mapping):
        return {name: _support_option(bounds) for name, bounds in support.items()}
    if support is None:
        return None
    low, high = support
    return (-math.inf if low is None else low, math.inf if high is None else high)
